"""`tilth detect prune` and `tilth detect export` on a trained run: shown, recorded, refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_runs import Tilth
from coco_sets import write_coco_set

from tilth.cli.app import main

TINY = (
    *("--set", "train.steps=4", "--set", "model.size=64"),
    *("--set", "model.width=0.125", "--set", "batch_size=4"),
)
SLIM = ("--keep-flops", "0.7", "--granularity", "2", "--min-filters", "4")


def run_before_tests(*arguments: object) -> None:
    with pytest.raises(SystemExit) as exited:
        main([str(argument) for argument in arguments])
    assert exited.value.code == 0, arguments


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose run ``first`` is trained, and pruned as ``slim``."""
    folder = tmp_path_factory.mktemp("exported")
    labels, project = write_coco_set(folder, 12), folder / "field"
    here = ("--project", project)
    run_before_tests("init", project)
    run_before_tests("import", labels, "--images", folder / "photos", *here)
    run_before_tests("split", "--fractions", "0.5,0.25,0.25", *here)
    run_before_tests("detect", "train", "--name", "first", *TINY, *here)
    run_before_tests("detect", "prune", "first", "--name", "slim", *SLIM, *here)
    return project


@pytest.fixture
def field(trained: Path, tilth: Tilth, monkeypatch: pytest.MonkeyPatch) -> Tilth:
    monkeypatch.chdir(trained)
    return tilth


def test_pruning_shows_what_is_left(field: Tilth) -> None:
    ended = field("detect", "prune", "first", "--name", "shown", *SLIM)
    assert ended.code == 0, ended.err
    for word in ("filters", "parameters", "operations a picture", "bytes of the Darknet file"):
        assert word in ended.out
    assert "pruned from 'first'" in ended.out


def test_pruned_training_goes_on_and_is_scored(field: Tilth, trained: Path) -> None:
    settings = ("--settings", "runs/slim/retrain.toml", "--set", "train.steps=4")
    ended = field("detect", "train", "--name", "again", *settings, "--json")
    assert ended.code == 0, ended.err
    cfgs = [(trained / "runs" / run / "network.cfg").read_text() for run in ("slim", "again")]
    assert cfgs[0] == cfgs[1]
    for run in ("slim", "again"):
        scored = field("detect", "evaluate", "--run", run, "--json")
        assert scored.code == 0, scored.err
        assert scored.document["held_out"] is True


def test_pruning_is_refused_with_a_reason(field: Tilth) -> None:
    taken = field("detect", "prune", "first", "--name", "slim", "--json")
    assert (taken.code, taken.document["error"]["kind"]) == (2, "SettingsError")
    unreachable = field("detect", "prune", "first", "--name", "x", "--keep-flops", "0.01", "--json")
    assert unreachable.code == 2
    assert "keep_flops of" in unreachable.document["error"]["expected"]
    unusable = field("detect", "prune", "first", "--name", "x", "--granularity", "0", "--json")
    assert "granularity" in unusable.document["error"]["message"]
    missing = field("detect", "prune", "nowhere", "--name", "x", "--json")
    assert missing.code == 3


@pytest.mark.parametrize("run", ["first", "slim"])
def test_an_exported_run_says_how_near_it_is(field: Tilth, trained: Path, run: str) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    ended = field("detect", "export", run, "--nms", "--int8", "--calibration-pictures", 3)
    assert ended.code == 0, ended.err
    for word in ("largest differences", "3 at once: the same detections", "int8", "AP50"):
        assert word in ended.out
    folder = trained / "runs" / run / "export"
    assert {path.name for path in folder.iterdir()} == {
        "detector.onnx",
        "detector.int8.onnx",
        "detector.onnx.json",
    }
    written = json.loads((folder / "detector.onnx.json").read_bytes())
    assert [row["batch"] for row in written["parity"]] == [1, 2, 3]


def test_darknets_files_are_written_where_they_are_wanted(field: Tilth, tmp_path: Path) -> None:
    ended = field("detect", "export", "first", "--to", "darknet", "--output", tmp_path, "--json")
    assert ended.code == 0, ended.err
    assert ended.document["parity"][0]["boxes_max_abs"] == 0
    names = {"detector.cfg", "detector.weights", "detector.names", "detector.cfg.json"}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_export_is_refused_with_a_reason(field: Tilth) -> None:
    ended = field("detect", "export", "first", "--to", "darknet", "--nms", "--json")
    assert (ended.code, ended.document["error"]["kind"]) == (2, "SettingsError")
    assert field("detect", "export", "nowhere", "--json").code == 3
