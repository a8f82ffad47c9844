"""train, evaluate, detect infer, report, demo: what they ask of the recipes; stand-ins answer.

The recipes have tests of their own; these hold the command line to what it passes on.
"""

from __future__ import annotations

import json
import typing
from pathlib import Path
from types import SimpleNamespace
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
    "mode": "coco",
    "protocol": {"mode": "coco", "score_threshold": 0.001, "detector": None, "bootstrap": 200},
    "latency": None,
    "ap": 0.25,
    "ap50": 0.5,
    "ap75": None,
    "ap_small": None,
    "ap_medium": 0.125,
    "ap_large": 0.5,
    "ar": 0.375,
    "ap_interval": [0.125, 0.3125],
    "ap50_interval": None,
    "per_class": {"cat": 0.25, "unseen": None},
    "per_class_ap50": {"cat": 0.75, "unseen": None},
    "per_class_ar": {"cat": 0.625, "unseen": None},
    "per_class_truths": {"cat": 9, "unseen": 0},
    "best_f1": {
        "cat": {"score": 0.375, "precision": 0.5, "recall": 1.0, "f1": 0.875},
        "unseen": None,
    },
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
    "failed": [],
    "drawn_in": "drawn",
    "labels": None,
    "lines": None,
}


OPENED = SimpleNamespace(detector="the detector", name="first")


class Recipes:
    """Answers in the place of `lazy.attribute`, and keeps what it was asked."""

    REAL = ("tilth.recipes.experiment:ExperimentResult", "tilth.recipes.report:results_table")
    ANSWERS: ClassVar[dict[str, Any]] = {
        "tilth.recipes.detect:experiment": RESULT,
        "tilth.recipes.demo:demo": RESULT,
        "tilth.recipes.detect_settings:settings": "the settings",
        "tilth.recipes.detector_runs:train": {"steps": 7},
        "tilth.recipes.detector_evaluation:evaluate": SCORES,
        "tilth.recipes.detector_evaluation:evaluate_file": SCORES,
        "tilth.recipes.detector_evaluation:evaluate_predictions": SCORES,
        "tilth.recipes.detector_inference:infer": FOUND,
        "tilth.recipes.detector_inference:InferenceSettings": "how",
        "tilth.ops.nms:Suppression": "suppression",
        "tilth.recipes.evaluation_settings:evaluation_settings": "the protocol",
        "tilth.recipes.detector_source:open_detector": OPENED,
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
    assert recipes.asked["tilth.recipes.detector_evaluation:evaluate"] == (
        (project,),
        {"run": "first", "split": "val", "settings": "the protocol", "progress": False},
    )


def test_evaluate_passes_the_protocol(tilth: Tilth, recipes: Recipes, project: Path) -> None:
    arguments = ("--mode", "area", "--like", "darknet-map", "--iou", "0.4", "--bootstrap", "0")
    assert tilth("detect", "evaluate", "--project", project, *arguments).code == 0
    _, named = recipes.asked["tilth.recipes.evaluation_settings:evaluation_settings"]
    assert named == {
        "constants": "darknet-map",
        "score_threshold": None,
        "iou_threshold": 0.4,
        "kind": None,
        "class_agnostic": False,
        "mode": "area",
        "bootstrap": 0,
        "latency": 0,
    }


def test_evaluate_of_a_file_of_detections(tilth: Tilth, recipes: Recipes, project: Path) -> None:
    own = ("evaluate", "--predictions", "found.json")
    assert tilth(*own, "--project", project, "--split", "val").code == 0
    (root,), named = recipes.asked["tilth.recipes.detector_evaluation:evaluate_predictions"]
    assert (root, named["predictions"], named["split"]) == (project, Path("found.json"), "val")
    # With labels of its own it needs no project.
    assert tilth(*own, "--labels", "labels.json", "--format", "kitti").code == 0
    (labels,), named = recipes.asked["tilth.recipes.detector_evaluation:evaluate_file"]
    assert (labels, named["format_name"]) == (Path("labels.json"), "kitti")


@pytest.mark.usefixtures("recipes")
@pytest.mark.parametrize(
    ("arguments", "got"),
    [
        (["--run", "first", "--predictions", "found.json"], "--run and --predictions"),
        (["--run", "first", "--set", "model.size=64"], "--run and --settings or --set"),
        (["--labels", "labels.json"], None),
    ],
)
def test_evaluate_refuses_two_things_at_once(
    arguments: list[str], got: str | None, tilth: Tilth, project: Path
) -> None:
    ended = tilth("evaluate", "--project", project, *arguments, "--json")
    assert ended.code == 2
    assert ended.document["error"].get("got") == got


@pytest.mark.usefixtures("recipes")
def test_evaluate_shows_overall_class_and_cluster_but_no_curve(tilth: Tilth, project: Path) -> None:
    text = tilth("evaluate", "--project", project).out
    rows = [line.split() for line in text.splitlines() if line.strip()]
    assert text.startswith("run 'first' on split val: 4 pictures, 9 boxes\n")
    assert ["AP", "0.25", "0.125", "to", "0.312", "IoU", "0.50", "to", "0.95"] in rows
    assert ["AP50", "0.5", "-", "IoU", "0.50"] in rows
    assert ["AP75", "-", "IoU", "0.75"] in rows
    assert ["AP", "medium", "0.125", "up", "to", "96", "x", "96", "pixels"] in rows
    assert ["cat", "9", "0.25", "0.75", "0.625", "0.875", "0.375"] in rows
    assert ["unseen", "0", "-", "-", "-", "-", "-"] in rows
    assert "Scored by COCO, 101 recalls; score from 0.001." in text
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
def test_infer_shows_one_line_a_picture(tilth: Tilth, project: Path) -> None:
    ended = tilth("detect", "infer", "a.jpg", "b", "--project", project, "--draw", "drawn")
    assert ended.out.splitlines() == [
        "a.jpg: 3 objects, cat 1, dog 2",
        "b/c.jpg: 0 objects",
        "3 objects in 2 pictures",
        "drawn in drawn",
    ]


@pytest.mark.usefixtures("recipes")
def test_infer_lists_what_was_not_read_and_says_so_in_its_exit_code(
    tilth: Tilth, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = {"picture": "d.jpg", "message": "the picture is truncated or broken"}
    monkeypatch.setitem(FOUND, "failed", [broken])
    ended = tilth("detect", "infer", "a.jpg", "--project", project)
    assert ended.code == 4
    assert "d.jpg: not read: the picture is truncated or broken" in ended.err


def test_infer_with_a_bare_name_looks_in_the_project(
    tilth: Tilth, recipes: Recipes, project: Path
) -> None:
    own = ("--run", "first", "--project", project)
    assert tilth("detect", "infer", "a.jpg", "b", *own).code == 0
    assert recipes.asked["tilth.recipes.detector_source:open_detector"] == (
        (project,),
        {"run": project / "runs" / "first", "model": None, "overrides": ()},
    )
    positional, named = recipes.asked["tilth.recipes.detector_inference:infer"]
    assert positional == ("the detector", ["a.jpg", "b"], "how")
    assert named["name"] == "first"


def test_infer_with_the_path_of_a_run_needs_no_project(
    tilth: Tilth, recipes: Recipes, tmp_path: Path
) -> None:
    (tmp_path / "first").mkdir()
    choices = ("--score", "0.5", "--tile", "512", "--every", "3", "--strict")
    assert tilth("detect", "infer", "a.jpg", "--run", "first", *choices).code == 0
    assert recipes.asked["tilth.recipes.detector_source:open_detector"][1]["run"] == Path("first")
    _, named = recipes.asked["tilth.recipes.detector_inference:InferenceSettings"]
    assert (named["score_threshold"], named["tile"], named["every"]) == (0.5, 512, 3)
    assert named["is_strict"] is True


def test_infer_with_weights_from_elsewhere_needs_no_project(tilth: Tilth, recipes: Recipes) -> None:
    assert tilth("detect", "infer", "a.jpg", "--set", "model.weights=a.weights").code == 0
    _, named = recipes.asked["tilth.recipes.detector_source:open_detector"]
    assert named == {"run": None, "model": None, "overrides": ("model.weights=a.weights",)}


def test_choices_of_the_command_line_are_those_of_the_recipe() -> None:
    from tilth.cli.evaluate import MODE_WORDS, command
    from tilth.metrics.average_precision import MODES
    from tilth.recipes.evaluation_settings import CONSTANTS

    hints = typing.get_type_hints(command)
    assert typing.get_args(hints["like"]) == tuple(CONSTANTS)
    assert typing.get_args(hints["mode"]) == MODES == tuple(MODE_WORDS)


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
