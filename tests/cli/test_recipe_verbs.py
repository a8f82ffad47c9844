"""train, evaluate, predict, report, demo: what they ask of the recipes, which stand-ins answer.

The recipes have tests of their own; these hold the command line to what it passes on.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cli_runs import Tilth

from tilth import lazy
from tilth.recipes.experiment import Arm, ExperimentResult, SeedScore


def score(seed: int, ap50: float) -> SeedScore:
    return SeedScore(seed=seed, ap=ap50 / 2, ap50=ap50, ap75=None)


RESULT = ExperimentResult(
    title="Rebalancing",
    arms=[
        Arm(name="raw", label="raw pictures", scores=[score(0, 0.25)]),
        Arm(name="rebalanced", label="rebalanced", scores=[score(0, 0.5), score(1, 0.7)]),
    ],
)


class Recipes:
    """Answers in the place of `lazy.attribute`, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}

    def attribute(self, path: str) -> Any:
        if path.endswith(":ExperimentResult"):
            return ExperimentResult

        def answer(*positional: Any, **named: Any) -> Any:
            self.asked[path] = (positional, named)
            return self.answer(path, positional)

        return answer

    def answer(self, path: str, positional: tuple[Any, ...]) -> Any:
        if path in ("tilth.recipes.detect:experiment", "tilth.recipes.demo:demo"):
            return RESULT
        if path == "tilth.recipes.report:write_report":
            folder: Path = positional[1]
            return folder / "report.html", folder / "report.json"
        return {"settings": positional} if path.endswith(":settings") else {"ap50": 0.5}


@pytest.fixture
def recipes(monkeypatch: pytest.MonkeyPatch) -> Recipes:
    stand_in = Recipes()
    monkeypatch.setattr(lazy, "attribute", stand_in.attribute)
    return stand_in


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "field" / "deep").mkdir(parents=True)
    (tmp_path / "field" / "tilth.toml").touch()
    return (tmp_path / "field").resolve()


@pytest.mark.usefixtures("project")
def test_train_merges_file_and_overrides(tilth: Tilth, recipes: Recipes, tmp_path: Path) -> None:
    (tmp_path / "detect.toml").write_text("[train]\nsteps = 5\n")
    ended = tilth(
        *("train", "--project", "field", "--name", "first", "--settings", "detect.toml"),
        *("--set", "train.steps=7", "--set", "seed=1", "--json"),
    )
    assert ended.code == 0, ended.err
    assert ended.document == {"ap50": 0.5}
    values, overrides = recipes.asked["tilth.recipes.detect:settings"][0]
    assert values == {"train": {"steps": 5}}
    assert overrides == ["train.steps=7", "seed=1"]
    (root,), named = recipes.asked["tilth.recipes.detect:train"]
    assert root == tmp_path / "field"
    assert named["name"] == "first"
    assert named["progress"] is False  # the tests' standard error is no terminal


def test_train_finds_the_project_above_the_working_folder(
    tilth: Tilth, recipes: Recipes, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project / "deep")
    assert tilth("train").code == 0
    assert recipes.asked["tilth.recipes.detect:train"][0] == (project,)


def test_train_without_settings_file_that_is_named(tilth: Tilth, project: Path) -> None:
    ended = tilth("train", "--project", project, "--settings", "none.toml", "--json")
    assert ended.code == 2
    assert ended.document["error"]["where"] == "none.toml"


def test_train_experiment_writes_the_report(tilth: Tilth, recipes: Recipes, project: Path) -> None:
    ended = tilth("train", "--experiment", "--project", project, "--json")
    assert recipes.asked["tilth.recipes.report:write_report"][0] == (
        RESULT,
        project / "runs" / "experiment",
    )
    assert ended.document["html"] == str(project / "runs" / "experiment" / "report.html")
    raw, rebalanced = ended.document["arms"]
    assert (raw["ap50"], raw["ap50_std"]) == (0.25, None)
    assert rebalanced["ap50"] == pytest.approx(0.6)
    assert rebalanced["ap50_std"] == pytest.approx(0.1414, abs=1e-4)


def test_experiment_is_shown_as_a_table_that_ends_with_the_path(
    tilth: Tilth, recipes: Recipes, project: Path
) -> None:
    lines = tilth("train", "--experiment", "--project", project).out.splitlines()
    assert lines[0].strip() == "Rebalancing"
    assert any("rebalanced" in line and "0.600 ± 0.141" in line for line in lines)
    assert lines[-1] == f"report: {project}/runs/experiment/report.html"


def test_evaluate_passes_run_and_split(tilth: Tilth, recipes: Recipes, project: Path) -> None:
    ended = tilth("evaluate", "--project", project, "--run", "first", "--split", "val")
    assert "ap50" in ended.out
    assert "0.5" in ended.out
    assert recipes.asked["tilth.recipes.detect:evaluate"] == (
        (project,),
        {"run": "first", "split": "val", "progress": False},
    )


def test_predict_of_a_bare_name_looks_in_the_project(
    tilth: Tilth, recipes: Recipes, project: Path
) -> None:
    assert tilth("predict", "a.jpg", "b", "--run", "first", "--project", project).code == 0
    positional, named = recipes.asked["tilth.recipes.detect:predict"]
    assert positional == (project,)
    assert named["run"] == "first"
    assert named["sources"] == [Path("a.jpg"), Path("b")]


def test_predict_with_the_path_of_a_run_needs_no_project(
    tilth: Tilth, recipes: Recipes, tmp_path: Path
) -> None:
    (tmp_path / "first").mkdir()
    assert tilth("predict", "a.jpg", "--run", "first", "--score", "0.5").code == 0
    positional, named = recipes.asked["tilth.recipes.detect:predict"]
    assert positional == (None,)
    assert named["run"] == Path("first")
    assert named["score_threshold"] == 0.5


def test_report_renders_the_json_of_a_run_again(
    tilth: Tilth, recipes: Recipes, project: Path
) -> None:
    RESULT.to_json(project / "runs" / "experiment" / "report.json")
    ended = tilth("report", "experiment", "--project", project, "--output", "page", "--json")
    assert ended.code == 0, ended.err
    assert recipes.asked["tilth.recipes.report:write_report"][0] == (RESULT, Path("page"))
    assert json.loads(ended.out)["title"] == "Rebalancing"


def test_report_of_a_run_without_result_is_refused(tilth: Tilth, project: Path) -> None:
    ended = tilth("report", "none", "--project", project, "--json")
    assert ended.code == 3
    assert ended.document["error"]["where"] == str(project / "runs" / "none")


def test_report_of_a_file_that_is_no_result_is_refused(tilth: Tilth, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("{}")
    ended = tilth("report", "other.json", "--json")
    assert ended.code == 3
    assert ended.document["error"]["where"] == "other.json"


def test_demo_makes_its_own_project(tilth: Tilth, recipes: Recipes) -> None:
    ended = tilth("demo", "there", "--seed", "3")
    assert recipes.asked["tilth.recipes.demo:demo"] == (
        (Path("there"),),
        {"seed": 3, "progress": False},
    )
    assert ended.out.splitlines()[-1].startswith("report: there/runs/demo/")


@pytest.mark.parametrize("verb", ["info", "train", "evaluate", "metrics", "split", "rebalance"])
def test_outside_a_project_the_answer_is_how_to_make_one(verb: str, tilth: Tilth) -> None:
    ended = tilth(verb, "--json")
    assert ended.code == 2
    assert ended.document["error"]["message"] == "not inside a project"
    assert "tilth init" in ended.document["error"]["fix"]


def test_named_folder_that_is_no_project_is_refused(tilth: Tilth, tmp_path: Path) -> None:
    ended = tilth("info", "--project", tmp_path, "--json")
    assert ended.code == 2
    assert ended.document["error"]["fix"] == f"tilth init {tmp_path}"
