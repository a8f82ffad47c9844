"""train, evaluate, predict, report, demo: what they ask of the recipes, which stand-ins answer.

The recipes have tests of their own; these hold the command line to what it passes on.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

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


SCORES = {
    "run": "first",
    "split": "val",
    "pictures": 4,
    "held_out": True,
    "boxes": 9,
    "ap": 0.25,
    "ap50": 0.5,
    "ap75": None,
    "ar": 0.375,
    "ap_interval": [0.125, 0.3125],
    "ap50_interval": None,
    "per_class": {"cat": 0.25, "unseen": None},
    "per_class_ap50": {"cat": 0.75, "unseen": None},
    "per_group": {"0": 0.8125},
    "recall": [0.0, 1.0],
    "precision": [1.0, None],
}
FOUND = {
    "run": "first",
    "objects": 3,
    "pictures": [
        {"picture": Path("a.jpg"), "objects": [{"class": name} for name in ("dog", "cat", "dog")]},
        {"picture": Path("b/c.jpg"), "objects": []},
    ],
}


class Recipes:
    """Answers in the place of `lazy.attribute`, and keeps what it was asked."""

    REAL = ("tilth.recipes.experiment:ExperimentResult", "tilth.recipes.report:results_table")
    ANSWERS: ClassVar[dict[str, Any]] = {
        "tilth.recipes.detect:experiment": RESULT,
        "tilth.recipes.demo:demo": RESULT,
        "tilth.recipes.detect_settings:settings": "the settings",
        "tilth.recipes.detector_runs:train": {"steps": 7},
        "tilth.recipes.detector_runs:evaluate": SCORES,
        "tilth.recipes.detector_runs:predict": FOUND,
        "tilth.recipes.report:write_report": (Path("x/report.html"), Path("x/report.json")),
    }

    def __init__(self) -> None:
        self.asked: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}
        self.real = lazy.attribute

    def attribute(self, path: str) -> Any:
        if path in self.REAL:
            return self.real(path)

        def answer(*positional: Any, **named: Any) -> Any:
            self.asked[path] = (positional, named)
            return self.ANSWERS[path]

        return answer


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
    assert ended.document == {"steps": 7}
    values, overrides = recipes.asked["tilth.recipes.detect_settings:settings"][0]
    assert values == {"train": {"steps": 5}}
    assert overrides == ["train.steps=7", "seed=1"]
    (root,), named = recipes.asked["tilth.recipes.detector_runs:train"]
    assert root == tmp_path / "field"
    assert named["name"] == "first"
    assert named["progress"] is False  # the tests' standard error is no terminal


def test_train_finds_the_project_above_the_working_folder(
    tilth: Tilth, recipes: Recipes, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project / "deep")
    assert tilth("train").code == 0
    assert recipes.asked["tilth.recipes.detector_runs:train"][0] == (project,)


def test_train_without_settings_file_that_is_named(tilth: Tilth, project: Path) -> None:
    ended = tilth("train", "--project", project, "--settings", "none.toml", "--json")
    assert ended.code == 2
    assert ended.document["error"]["where"] == "none.toml"


def test_train_experiment_passes_its_name_and_writes_the_report_there(
    tilth: Tilth, recipes: Recipes, project: Path
) -> None:
    ended = tilth("train", "--experiment", "--name", "second", "--project", project, "--json")
    assert recipes.asked["tilth.recipes.detect:experiment"] == (
        (project,),
        {"settings": "the settings", "name": "second", "progress": False},
    )
    written = recipes.asked["tilth.recipes.report:write_report"][0]
    assert written == (RESULT, project / "runs" / "second")
    assert ended.document["html"] == "x/report.html"
    raw, rebalanced = ended.document["arms"]
    assert raw["ap50"] == {"mean": 0.25, "std": None, "low": 0.25, "high": 0.25, "runs": 1}
    assert rebalanced["ap50"]["mean"] == pytest.approx(0.6)
    assert rebalanced["ap50"]["std"] == pytest.approx(0.1414, abs=1e-4)


@pytest.mark.parametrize(
    "arguments", [["train", "--experiment"], ["report", "experiment"], ["demo"]]
)
def test_experiment_ends_with_the_table_of_the_report_and_its_path(
    arguments: list[str], tilth: Tilth, recipes: Recipes, project: Path, tmp_path: Path
) -> None:
    RESULT.to_json(project / "runs" / "experiment" / "report.json")
    own = [] if arguments == ["demo"] else ["--project", str(project)]
    lines = tilth(*arguments, *own).out.splitlines()
    assert lines[0].strip() == "Rebalancing"
    assert any("rebalanced" in line and "60.0 ± 14.1" in line for line in lines)
    assert lines[-1] == "report: x/report.html"


def test_evaluate_passes_run_and_split(tilth: Tilth, recipes: Recipes, project: Path) -> None:
    arguments = ("evaluate", "--project", project, "--run", "first", "--split", "val")
    assert tilth(*arguments, "--json").document == SCORES
    assert recipes.asked["tilth.recipes.detector_runs:evaluate"] == (
        (project,),
        {"run": "first", "split": "val", "progress": False},
    )


@pytest.mark.usefixtures("recipes")
def test_evaluate_shows_overall_class_and_cluster_but_no_curve(tilth: Tilth, project: Path) -> None:
    text = tilth("evaluate", "--project", project).out
    rows = [line.split() for line in text.splitlines() if line.strip()]
    assert text.startswith("run 'first' on split val: 4 pictures, 9 boxes\n")
    assert ["AP", "0.25", "0.125", "to", "0.312", "IoU", "0.50", "to", "0.95"] in rows
    assert ["AP50", "0.5", "-", "IoU", "0.50"] in rows
    assert ["AP75", "-", "IoU", "0.75"] in rows
    assert ["cat", "0.25", "0.75"] in rows
    assert ["unseen", "-", "-"] in rows
    assert ["0", "0.8125"] in rows
    assert "precision" not in text
    assert "may have seen" not in text


@pytest.mark.usefixtures("recipes")
def test_evaluate_says_when_a_run_may_have_seen_the_pictures(
    tilth: Tilth, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SCORES, "held_out", None)
    assert "it may have seen these pictures" in tilth("evaluate", "--project", project).out


@pytest.mark.usefixtures("recipes")
def test_predict_shows_one_line_a_picture(tilth: Tilth, project: Path) -> None:
    ended = tilth("predict", "a.jpg", "b", "--project", project, "--output", "drawn")
    assert ended.out.splitlines() == [
        "a.jpg: 3 objects, cat 1, dog 2",
        "b/c.jpg: 0 objects",
        "3 objects in 2 pictures",
        "drawn in drawn",
    ]


def test_predict_of_a_bare_name_looks_in_the_project(
    tilth: Tilth, recipes: Recipes, project: Path
) -> None:
    assert tilth("predict", "a.jpg", "b", "--run", "first", "--project", project).code == 0
    positional, named = recipes.asked["tilth.recipes.detector_runs:predict"]
    assert positional == (project,)
    assert named["run"] == "first"
    assert named["sources"] == [Path("a.jpg"), Path("b")]


def test_predict_with_the_path_of_a_run_needs_no_project(
    tilth: Tilth, recipes: Recipes, tmp_path: Path
) -> None:
    (tmp_path / "first").mkdir()
    assert tilth("predict", "a.jpg", "--run", "first", "--score", "0.5").code == 0
    positional, named = recipes.asked["tilth.recipes.detector_runs:predict"]
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
    written = recipes.asked["tilth.recipes.report:write_report"][0]
    assert written == (RESULT, Path("there/runs/demo"))
    assert ended.code == 0


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
