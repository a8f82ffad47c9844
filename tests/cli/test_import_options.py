"""import: recognised formats, pre-annotations, overwriting, kinds of tasks, labels behind a URL."""

from __future__ import annotations

import functools
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_runs import Tilth
from coco_sets import write_coco_set

from tilth.data.project import Project
from tilth.data.records import ReviewState, Source, TaskKind


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return write_coco_set(tmp_path, 6)


@pytest.fixture
def field(tilth: Tilth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tilth:
    """Inside an empty project beside the labels."""
    assert tilth("init", "field").code == 0
    monkeypatch.chdir(tmp_path / "field")
    return tilth


def done(tilth: Tilth, *arguments: object) -> dict[str, Any]:
    ended = tilth(*arguments, "--json")
    assert ended.code == 0, ended.err
    return ended.document


def edited(labels: Path, name: str, keep: int = 6, **fields: Any) -> Path:
    """A copy of the label file with the first labels only, and with fields changed in all."""
    document = json.loads(labels.read_text())
    document["annotations"] = [row | fields for row in document["annotations"][:keep]]
    path = labels.with_name(name)
    path.write_text(json.dumps(document))
    return path


def test_the_format_is_recognised(field: Tilth, labels: Path) -> None:
    document = done(field, "import", labels, "--images", labels.parent / "photos")
    assert (document["format"], document["task"]) == ("coco", "detection")


def test_preannotations_are_a_models_and_keep_their_scores(field: Tilth, labels: Path) -> None:
    photos = ("--images", labels.parent / "photos")
    done(field, "import", labels, *photos)
    found = edited(labels, "found.json", score=0.75)
    document = done(field, "import", found, *photos, "--as-preannotation", "--origin", "yolo")
    assert document["annotations_added"] == 6, "the same boxes again: another's opinion"
    rows = Project.open(Path()).catalogue.read().annotations
    made = rows.source == Source.MODEL
    assert made.sum() == 6
    assert rows.score[made].tolist() == [0.75] * 6
    assert (rows.review_state[made] == ReviewState.UNREVIEWED).all()


def test_overwriting_is_asked_for(field: Tilth, labels: Path) -> None:
    photos = ("--images", labels.parent / "photos")
    done(field, "import", labels, *photos)
    project = Project.open(Path())
    ids = project.catalogue.read().annotations.id
    project.catalogue.update_boxes(ids[:1], [[1.0, 1.0, 5.0, 5.0]])
    fewer = edited(labels, "fewer.json", keep=5)
    plain = done(field, "import", fewer, *photos, "--origin", "labels")
    assert (plain["annotations_kept"], plain["annotations_absent"]) == (1, 1)
    over = field("import", fewer, *photos, "--origin", "labels", "--overwrite")
    assert over.code == 0
    assert "no longer in the file: 1 annotations, deleted" in over.out
    assert len(Project.open(Path()).catalogue.read().annotations) == 5


@pytest.mark.parametrize(
    ("arguments", "task", "kind"),
    [
        ((), "detection", TaskKind.OBJECT_DETECTION),
        (("--kind", "segmentation"), "segmentation", TaskKind.SEGMENTATION),
        (("--kind", "instance-segmentation", "--task", "cells"), "cells", 3),
    ],
)
def test_a_task_has_a_kind(
    arguments: tuple[str, ...], task: str, kind: int, field: Tilth, labels: Path
) -> None:
    photos = ("--images", labels.parent / "photos")
    assert done(field, "import", labels, *photos, *arguments)["task"] == task
    assert Project.open(Path()).catalogue.task_kinds() == {task: kind}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_labels_and_pictures_may_be_remote(field: Tilth, labels: Path, server: str) -> None:
    document = json.loads(labels.read_text())
    for image in document["images"]:
        image["file_name"] = f"{server}/photos/{image['file_name']}"
    labels.write_text(json.dumps(document))
    imported = done(field, "import", f"{server}/labels.json")
    assert (imported["media_added"], imported["problems"]) == (6, [])
    measured = done(field, "metrics")
    assert (measured["pictures"], measured["boxes"], measured["errors"]) == (6, 6, [])
    missing = field("import", f"{server}/none.json", "--json")
    assert (missing.code, missing.document["error"]["kind"]) == (4, "MediaError")
