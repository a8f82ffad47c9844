"""preannotate and agreement on a small set, with a real detector of a few steps."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from cli_runs import Tilth
from coco_sets import write_coco_set

from tilth.cli.app import main

GUIDE = Path(__file__).resolve().parents[2] / "docs/how-to/pre-annotate-and-find-wrong-labels.md"
NUM_PICTURES = 12
TINY = (
    *("--set", "train.steps=2", "--set", "model.size=64"),
    *("--set", "model.width=0.125", "--set", "batch_size=4"),
)


def run_before_tests(*arguments: object) -> None:
    with pytest.raises(SystemExit) as exited:
        main([str(argument) for argument in arguments])
    assert exited.value.code == 0, arguments


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project ``field`` with the detector ``first``; a project ``bare`` of the same pictures."""
    folder = tmp_path_factory.mktemp("reviewed")
    labels = write_coco_set(folder, NUM_PICTURES)
    document = json.loads(labels.read_text())
    del document["annotations"][-1]  # one picture has no label
    labels.write_text(json.dumps(document))
    bare = folder / "bare.json"
    bare.write_text(json.dumps(document | {"annotations": []}))
    for name, source in (("field", labels), ("bare", bare)):
        here = ("--project", folder / name)
        run_before_tests("init", folder / name)
        run_before_tests("import", source, "--images", folder / "photos", "--format", "coco", *here)
    here = ("--project", folder / "field")
    run_before_tests("split", "--fractions", "0.6,0.2,0.2", *here)
    run_before_tests("train", "--name", "first", *TINY, *here)
    return folder


@pytest.fixture
def field(trained: Path, tilth: Tilth, monkeypatch: pytest.MonkeyPatch) -> Tilth:
    monkeypatch.chdir(trained / "field")
    return tilth


def done(tilth: Tilth, *arguments: object) -> dict[str, Any]:
    ended = tilth(*arguments, "--json")
    assert ended.code == 0, ended.err
    return ended.document


def test_commands_of_the_guide_run(
    trained: Path, tilth: Tilth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that need no published weights, in the order of the page."""
    shutil.copytree(trained / "field", tmp_path / "field")
    monkeypatch.chdir(tmp_path / "field")
    lines = GUIDE.read_text(encoding="utf-8").splitlines()
    commands = [line.split()[1:] for line in lines if line.startswith("    tilth ")]
    commands = [words for words in commands if "--set" not in words]
    assert len(commands) == 6
    for words in commands:
        scored = ["--score", "0.001"] if words[0] == "preannotate" else []
        ended = tilth(*words, *scored)
        assert ended.code == 0, (words, ended.err)
    assert Path("findings.csv").exists()
    assert Path("findings.json").exists()


def refusal(tilth: Tilth, *arguments: object) -> tuple[int, dict[str, Any]]:
    ended = tilth(*arguments, "--json")
    assert "Traceback" not in ended.err
    return ended.code, ended.document["error"]


def test_proposals_come_into_an_unlabelled_project_once(trained: Path, tilth: Tilth) -> None:
    here = ("--project", trained / "bare")
    run = ("--run", trained / "field" / "runs" / "first", "--score", "0.001")
    first = done(tilth, "preannotate", *run, *here)
    assert first["pictures"] == NUM_PICTURES
    assert first["classes"] == {"cat": "cat", "dog": "dog"}
    info = done(tilth, "info", *here)
    assert info["annotations_by_source"]["model"] == first["added"] > 0
    again = done(tilth, "preannotate", *run, *here)
    assert (again["already"], again["added"]) == (NUM_PICTURES, 0)
    words = tilth("preannotate", *run, *here).out
    assert "0 proposals of 'model:first' in 0 pictures; 12 pictures were done already" in words


def test_agreement_lists_and_writes_every_finding(field: Tilth, tmp_path: Path) -> None:
    outputs = [tmp_path / "findings.csv", tmp_path / "findings.json"]
    document = done(
        field, "agreement", "--run", "first", "--output", outputs[0], "--output", outputs[1]
    )
    assert (document["pictures"], document["labels"]) == (NUM_PICTURES, NUM_PICTURES - 1)
    findings = document["findings"]
    assert sum(document["counts"].values()) == len(findings) > 0
    scores = [row["error_score"] for row in findings]
    assert scores == sorted(scores, reverse=True)
    with outputs[0].open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["picture"] for row in rows] == [row["picture"] for row in findings]
    written = json.loads(outputs[1].read_text())
    assert written["findings"] == findings
    assert written["settings"]["confident_score"] == 0.5
    text = field("agreement", "--run", "first", "--limit", "2").out
    assert text.startswith("11 labels of 12 pictures: ")
    assert "more: --limit" in text


def test_agreement_without_a_detector_reads_the_proposals(field: Tilth, trained: Path) -> None:
    code, error = refusal(field, "agreement")
    assert (code, error["kind"]) == (3, "EmptyDatasetError")
    assert "tilth preannotate" in error["fix"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("preannotate",), "one detector is needed"),
        (("preannotate", "--run", "first", "--set", "model.width=1"), "two detectors are named"),
        (("preannotate", "--run", "first", "--map", "cat"), "--map cannot be read"),
        (("preannotate", "--run", "first", "--map", "cat=cow"), "the task has no class 'cow'"),
        (("preannotate", "--run", "first", "--split", "dev"), "no such split"),
        (("preannotate", "--set", "model.width=1"), "a detector without weights"),
        (("agreement", "--run", "first", "--output", "a.txt"), "findings of this kind"),
        (("agreement", "--run", "first", "--split", "dev"), "no such split"),
        (("agreement", "--option", "confident=0.5"), "unknown setting 'confident'"),
        (("agreement", "--propose"), "proposals already"),
    ],
)
def test_what_cannot_be_used_is_refused(
    arguments: tuple[str, ...], expected: str, field: Tilth
) -> None:
    code, error = refusal(field, *arguments)
    assert code == 2
    assert expected in error["message"]


def test_an_unknown_run_is_refused_with_its_place(field: Tilth, trained: Path) -> None:
    for verb in ("preannotate", "agreement"):
        code, error = refusal(field, verb, "--run", "frist")
        assert (code, error["where"]) == (3, str(trained / "field" / "runs" / "frist"))
