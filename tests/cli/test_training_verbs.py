"""The verbs of training and of detectors on a small set, with the real recipes.

Detectors of a few steps find nothing worth having; what is held here is that every verb does its
part, says what it did, and refuses what it cannot use.
"""

from __future__ import annotations

import io
import json
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from cli_runs import Tilth
from coco_sets import write_coco_set

from tilth.cli.app import main

NUM_PICTURES = 20
TINY = (
    *("--set", "train.steps=4", "--set", "model.size=64"),
    *("--set", "model.width=0.125", "--set", "batch_size=4"),
)


def run_before_tests(*arguments: object) -> None:
    with pytest.raises(SystemExit) as exited:
        main([str(argument) for argument in arguments])
    assert exited.value.code == 0, arguments


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the project ``field`` as the verbs left it, its detector ``first`` trained."""
    folder = tmp_path_factory.mktemp("trained")
    labels, project = write_coco_set(folder, NUM_PICTURES), folder / "field"
    run_before_tests("init", project)
    here = ("--project", project)
    run_before_tests("import", labels, "--images", folder / "photos", *here)
    run_before_tests("split", "--fractions", "0.6,0.2,0.2", *here)
    run_before_tests("metrics", *here)
    run_before_tests("clusters", "--k", "2", *here)
    run_before_tests("train", "--name", "first", *TINY, *here)
    return folder


@pytest.fixture
def field(trained: Path, tilth: Tilth, monkeypatch: pytest.MonkeyPatch) -> Tilth:
    """Inside the project of `trained`; a test adds to it, and changes nothing."""
    monkeypatch.chdir(trained / "field")
    return tilth


@pytest.fixture
def unsplit(tilth: Tilth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tilth:
    """Inside a project whose pictures have no split yet."""
    labels = write_coco_set(tmp_path / "set", 4)
    run_before_tests("init", "field")
    monkeypatch.chdir(tmp_path / "field")
    run_before_tests("import", labels, "--images", labels.parent / "photos")
    return tilth


def done(tilth: Tilth, *arguments: object) -> dict[str, Any]:
    ended = tilth(*arguments, "--json")
    assert ended.code == 0, ended.err
    return ended.document


def refusal(tilth: Tilth, *arguments: object) -> tuple[int, dict[str, Any]]:
    ended = tilth(*arguments, "--json")
    assert "Traceback" not in ended.err
    return ended.code, ended.document["error"]


def test_train_again_finds_the_finished_run(field: Tilth, trained: Path) -> None:
    again = done(field, "train", "--name", "first", *TINY)
    number = done(field, "info")["media_by_split"]["train"]
    assert (again["pictures"], again["boxes"]) == (number, number)
    assert (again["steps"], again["resumed_from"]) == (4, 4)
    assert Path(again["folder"]) == trained / "field" / "runs" / "first"
    info = done(field, "info")
    assert "first" in info["runs"]
    assert "first" in info["versions"]


def test_train_with_a_plan_that_does_not_exist_is_refused(field: Tilth) -> None:
    arguments = ("train", "--name", "never", *TINY, "--with", "nothing")
    code, error = refusal(field, *arguments)
    assert (code, error["fix"]) == (3, "tilth rebalance --name nothing")
    assert not Path("runs/never").exists()
    code, error = refusal(field, *arguments, "--experiment")
    assert (code, error["got"]) == (2, "--with nothing")


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_evaluate_scores_the_split_that_is_named(split: str, field: Tilth) -> None:
    scores = done(field, "evaluate", "--run", "first", "--split", split)
    number = done(field, "info")["media_by_split"][split]
    assert (scores["pictures"], scores["boxes"]) == (number, number)
    assert set(scores["per_class"]) == {"cat", "dog"}
    assert set(scores["per_group"]) <= {"0", "1"}
    assert len(scores["recall"]) == len(scores["precision"]) == 101
    assert 0 <= scores["ap"] <= scores["ap50"] <= 1


def test_evaluate_in_words(field: Tilth) -> None:
    text = field("evaluate", "--run", "first").out
    assert text.startswith("run 'first' on split test: ")
    starts = [line.split()[0] for line in text.splitlines() if line.strip()]
    assert [word for word in starts if word in ("AP", "AP50", "AP75", "AR", "cat", "dog")] == [
        *("AP", "AP50", "AP75", "AP", "AP", "AP", "AR", "cat", "dog")
    ]
    assert len(starts) < 20


def test_evaluate_by_another_rule_writes_a_table(field: Tilth, tmp_path: Path) -> None:
    arguments = ("--mode", "voc07", "--like", "darknet-map", "--bootstrap", "0", "--latency", "2")
    table = tmp_path / "classes.csv"
    scores = done(field, "detect", "evaluate", "--run", "first", *arguments, "--csv", table)
    assert scores["mode"] == scores["protocol"]["mode"] == "voc07"
    assert scores["protocol"]["detector"]["suppression"]["kind"] == "diou"
    assert (scores["ap_interval"], scores["latency"]["pictures"]) == (None, 2)
    assert [line.split(",")[:2] for line in table.read_text().splitlines()[1:]] == [
        *(["cat", "voc07"], ["dog", "voc07"])
    ]


def test_what_infer_wrote_is_scored_as_the_run_is(
    field: Tilth, trained: Path, tmp_path: Path
) -> None:
    """Labels of one verb are the predictions of the other."""
    labels = tmp_path / "found.json"
    own = ("--score", "0.001", "--max-detections", "300", "--labels", labels)
    done(field, "detect", "infer", trained / "photos", "--run", "first", *own)
    scores = done(field, "evaluate", "--predictions", labels, "--format", "coco")
    of_run = done(field, "evaluate", "--run", "first")
    assert scores["ap"] == pytest.approx(of_run["ap"], abs=1e-3)
    assert scores["num_detections"] == of_run["num_detections"]


def test_infer_draws_every_picture_of_a_folder(field: Tilth, trained: Path, tmp_path: Path) -> None:
    drawn = tmp_path / "drawn"
    arguments = ("detect", "infer", trained / "photos", "--run", "first", "--draw", drawn)
    found = done(field, *arguments, "--score", "0")
    assert len(found["pictures"]) == NUM_PICTURES
    assert found["objects"] == sum(len(picture["objects"]) for picture in found["pictures"]) > 0
    for picture in found["pictures"]:
        for item in picture["objects"]:
            x0, y0, x1, y1 = item["box_xyxy"]
            assert 0 <= x0 <= x1 <= 64
            assert 0 <= y0 <= y1 <= 48
            assert item["class"] in ("cat", "dog")
    names = {f"{number}.jpg" for number in range(1, NUM_PICTURES + 1)}
    assert {path.name for path in drawn.iterdir()} == names
    lines = field(*arguments, "--score", "1").out.splitlines()
    assert f"{trained}/photos/7.png: 0 objects" in lines
    assert lines[-2:] == [f"0 objects in {NUM_PICTURES} pictures", f"drawn in {drawn}"]


def test_infer_without_a_project(
    tilth: Tilth, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run's folder that was copied elsewhere is all that is needed."""
    shutil.copytree(trained / "field" / "runs" / "first", tmp_path / "copied")
    photo = trained / "photos" / "1.png"
    found = done(tilth, "detect", "infer", photo, "--run", "copied", "--score", "0")
    assert Path(found["pictures"][0]["picture"]) == photo
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{photo}\n"))
    listed = done(tilth, "detect", "infer", "-", "--run", "copied", "--score", "0")
    assert listed["pictures"] == found["pictures"]


def test_anchors_are_written_as_settings(field: Tilth, tmp_path: Path) -> None:
    target = tmp_path / "anchors.toml"
    choices = ("--set", "model.size=64", "--k", "1", "--output", target)
    fitted = done(field, "detect", "anchors", *choices)
    assert fitted["fitted"]["mean_best_iou"] >= fitted["now"]["mean_best_iou"]
    written = tomllib.loads(target.read_text())["model"]
    assert (written["size"], written["anchors"]) == (64, fitted["fitted"]["anchors"])
    shown = field("detect", "anchors", *choices[:4]).out
    assert "mean best IoU" in shown
    assert shown.splitlines()[-1].startswith("model.anchors = [[")
    code, error = refusal(field, "detect", "anchors", "--set", "model.size=64")
    assert (code, error["got"]) == (3, "1")  # all boxes of this set are of one size


@pytest.mark.slow
def test_experiment_and_its_report(
    tilth: Tilth, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(trained / "field", tmp_path / "field")  # the experiment adds pictures
    monkeypatch.chdir(tmp_path / "field")
    monkeypatch.setattr(sys, "argv", ["tilth", "train", "--experiment"])
    ended = done(
        tilth,
        *("train", "--experiment", "--name", "small", *TINY, "--set", "train.steps=3"),
        *("--set", "experiment.seeds=[5]", "--set", "clusters.k=2"),
        *("--set", "experiment.workers=1"),
    )
    folder = tmp_path / "field" / "runs" / "small"
    assert [ended["html"], ended["json"]] == [f"{folder}/report.html", f"{folder}/report.json"]
    protocols = {arm["arm"]: arm["protocol"] for arm in ended["arms"]}
    held_out = {"pretrained", "raw", "random", "rebalanced"}
    assert {arm for arm, protocol in protocols.items() if protocol == "held-out"} == held_out
    assert all(arm["ap50"]["runs"] == 1 for arm in ended["arms"])
    assert json.loads((folder / "report.json").read_text())["seeds"] == [5]

    page = (folder / "report.html").read_bytes()
    (folder / "report.html").unlink()
    again = tilth("report", "small")
    assert again.code == 0, again.err
    assert (folder / "report.html").read_bytes() == page
    lines = again.out.splitlines()
    assert any("cluster-rebalanced" in line for line in lines)
    assert lines[-1] == f"report: {folder}/report.html"


def test_unknown_run_is_refused_with_its_place(field: Tilth, trained: Path) -> None:
    place = str(trained / "field" / "runs" / "frist")
    picture = trained / "photos" / "1.png"
    for arguments in (("evaluate",), ("detect", "infer", picture)):
        code, error = refusal(field, *arguments, "--run", "frist")
        assert (code, error["where"]) == (3, place), arguments
        assert "tilth train" in error["fix"]
    code, error = refusal(field, "report", "frist")
    assert (code, error["where"]) == (3, place)


@pytest.mark.parametrize("name", ["../elsewhere", "."])
@pytest.mark.parametrize("verb", ["train", "evaluate"])
def test_run_outside_the_runs_folder_is_refused(verb: str, name: str, field: Tilth) -> None:
    code, error = refusal(field, verb, "--name" if verb == "train" else "--run", name)
    assert code == 2
    assert error["got"].strip("'") == name


def test_a_missing_picture_is_refused_and_a_broken_one_listed(
    field: Tilth, trained: Path, tmp_path: Path
) -> None:
    infer = ("detect", "infer", "--run", "first")
    code, error = refusal(field, *infer, tmp_path / "none.jpg")
    assert (code, error["kind"], error["where"]) == (4, "MediaError", str(tmp_path / "none.jpg"))
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    ended = field(*infer, broken, trained / "photos" / "1.png", "--json")
    assert ended.code == 4
    assert len(ended.document["pictures"]) == 1
    (failed,) = ended.document["failed"]
    assert (failed["picture"], failed["where"]) == (str(broken), str(broken))
    code, error = refusal(field, *infer, broken, "--strict")
    assert (code, error["where"]) == (4, str(broken))


def test_folder_without_pictures_is_refused(field: Tilth, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    code, error = refusal(field, "detect", "infer", tmp_path / "empty", "--run", "first")
    assert (code, error["where"]) == (3, str(tmp_path / "empty"))
    assert ".jpg" in error["expected"]


@pytest.mark.parametrize("arguments", [["train"], ["train", "--experiment"]])
def test_training_without_a_split_is_refused(arguments: list[str], unsplit: Tilth) -> None:
    code, error = refusal(unsplit, *arguments, *TINY, "--set", "clusters.k=2")
    assert (code, error["fix"]) == (3, "tilth split")


def test_evaluation_of_an_empty_split_is_refused(field: Tilth, trained: Path) -> None:
    other = trained / "unsplit"
    if not other.exists():
        run_before_tests("init", other)
        labels = trained / "labels.json"
        run_before_tests("import", labels, "--images", trained / "photos", "--project", other)
        shutil.copytree(trained / "field" / "runs" / "first", other / "runs" / "first")
    code, error = refusal(field, "evaluate", "--run", "first", "--project", other)
    assert (code, error["fix"]) == (3, "tilth split")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.step=4", "train.step"),
        ("train.steps=many", "train.steps"),
        ("model.size=65", "model.size"),
        ("model.variant=yolov9", "model.variant"),
    ],
)
def test_setting_that_cannot_be_used_is_refused(override: str, message: str, field: Tilth) -> None:
    code, error = refusal(field, "train", "--name", "never", "--set", override)
    assert code == 2
    assert message in json.dumps(error)
    assert not Path("runs/never").exists()
