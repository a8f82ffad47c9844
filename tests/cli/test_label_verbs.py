"""formats, check and convert: what a format holds, what is wrong, and what a conversion costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_runs import Tilth
from coco_sets import write_coco_set
from PIL import Image

from tilth.data.formats import FORMATS


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return write_coco_set(tmp_path, 6)


def changed(labels: Path, **lists: Any) -> Path:
    """The label file with some of its lists replaced."""
    labels.write_text(json.dumps(json.loads(labels.read_text()) | lists))
    return labels


def annotation(labels: Path, row: int, **fields: Any) -> list[dict[str, Any]]:
    rows = json.loads(labels.read_text())["annotations"]
    rows[row] |= fields
    return rows


def test_formats_lists_every_format_and_what_it_holds(tilth: Tilth) -> None:
    rows = {row["name"]: row for row in tilth("formats", "--json").document["formats"]}
    assert set(rows) == set(FORMATS)
    assert rows["coco"]["holds"]["crowd"] == "yes"
    assert rows["coco"]["holds"]["splits"] == "-"
    assert "coco" in tilth("formats").out


@pytest.mark.parametrize("name", list(FORMATS))
def test_formats_shows_one_format_with_its_options(name: str, tilth: Tilth) -> None:
    document = tilth("formats", name, "--json").document["formats"][0]
    assert set(document["options"]) == {"read", "write"}
    ended = tilth("formats", name)
    assert ended.code == 0
    assert document["summary"] in ended.out


def test_check_of_a_clean_set_finds_nothing(tilth: Tilth, labels: Path) -> None:
    ended = tilth("check", labels, "--images", labels.parent / "photos", "--decode", "--json")
    assert (ended.code, ended.document["findings"]) == (0, [])
    assert (ended.document["num_media"], ended.document["format"]) == (6, "coco")
    text = tilth("check", labels, "--images", labels.parent / "photos").out
    assert "6 pictures, 6 annotations (coco): no problems" in text


def spoil(labels: Path) -> Path:
    """One of each problem; the folder of the pictures."""
    photos = labels.parent / "photos"
    rows = annotation(labels, 0, bbox=[5, 5, 0, 9])
    rows[1]["bbox"] = [60, 40, 20, 20]
    rows[2]["category_id"] = 99
    rows.append(rows[3] | {"id": 70})
    changed(labels, annotations=rows)
    Image.fromarray(np.zeros((10, 12, 3), np.uint8)).save(photos / "orphan.png")
    (photos / "4.png").unlink()
    (photos / "5.png").write_bytes((photos / "5.png").read_bytes()[:60])
    Image.fromarray(np.ones((48, 60, 3), np.uint8)).save(photos / "6.png")
    (photos / "2.png").write_bytes((photos / "1.png").read_bytes())
    return photos


def test_check_names_every_problem_with_its_place(tilth: Tilth, labels: Path) -> None:
    photos = spoil(labels)
    ended = tilth("check", labels, "--images", photos, "--decode", "--json")
    assert ended.code == 3
    found = {(row["severity"], row["kind"]): row for row in ended.document["findings"]}
    places = {kind: row["place"] for (_, kind), row in found.items()}
    assert places == {
        "box without area": "1",
        "box that reaches outside its picture": "2",
        "label of an unknown category": "3",
        "label that its picture has twice": f"{photos}/4.png",
        "picture that is not there": f"{photos}/4.png",
        "picture that cannot be read": f"{photos}/5.png",
        "picture of another size than its labels say": f"{photos}/6.png",
        "picture that is there twice": f"{photos}/2.png",
        "picture that no label file names": f"{photos}/orphan.png",
    }
    warnings = {kind for severity, kind in found if severity == "warning"}
    assert warnings == {
        "box that reaches outside its picture",
        "picture that no label file names",
    }
    assert sum(ended.document["counts"].values()) == len(ended.document["findings"]) == 9
    text = tilth("check", labels, "--images", photos, "--decode")
    assert text.code == 3
    assert f"error: {photos}/4.png: picture that is not there" in text.out


def test_check_fails_on_what_is_asked(tilth: Tilth, labels: Path) -> None:
    photos = labels.parent / "photos"
    Image.fromarray(np.zeros((10, 12, 3), np.uint8)).save(photos / "orphan.png")
    here = ("check", labels, "--images", photos)
    assert tilth(*here).code == 0
    assert tilth(*here, "--fail-on", "warning").code == 3
    spoil(labels)
    assert tilth(*here, "--fail-on", "never").code == 0


def test_check_lists_places_beyond_the_first_five(tilth: Tilth, labels: Path) -> None:
    rows = [row | {"bbox": [1, 1, 0, 0]} for row in json.loads(labels.read_text())["annotations"]]
    changed(labels, annotations=rows)
    document = tilth("check", labels, "--no-images", "--json").document
    assert document["counts"] == {"box without area": 6}


def test_check_of_a_file_that_cannot_be_read_is_a_finding(tilth: Tilth, labels: Path) -> None:
    labels.write_text('{"images": [')
    ended = tilth("check", labels, "--format", "coco", "--json")
    assert ended.code == 3
    assert [row["severity"] for row in ended.document["findings"]] == ["error"]


def test_a_path_that_no_format_knows_is_refused(tilth: Tilth, tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("nothing")
    ended = tilth("check", "notes.md", "--json")
    assert (ended.code, ended.document["error"]["kind"]) == (2, "SettingsError")
    assert "--format" in ended.document["error"]["fix"]
    assert tilth("check", "missing.json", "--json").code == 3


def test_convert_says_what_is_lost_and_then_writes(tilth: Tilth, labels: Path) -> None:
    rows = annotation(labels, 0, segmentation=[[1, 1, 9, 1, 9, 9]], iscrowd=1, score=0.5)
    changed(labels, annotations=rows)
    arguments = ("convert", labels, "out.csv", "--to", "yolo_keras", "--from", "coco")
    photos = ("--images", labels.parent / "photos")
    dry = tilth(*arguments, *photos, "--dry-run", "--json").document
    kinds = {problem["kind"] for problem in dry["problems"]}
    assert {"polygon", "crowd flag", "score"} <= kinds
    assert (dry["written"], Path("out.csv").exists()) == (False, False)
    strict = tilth(*arguments, *photos, "--strict", "--json")
    assert (strict.code, Path("out.csv").exists()) == (3, False)
    assert "yolo_keras cannot hold this whole" in strict.document["error"]["where"]
    done = tilth(*arguments, *photos)
    assert done.code == 0
    assert "crowd flag (lost" in done.err
    assert "6 pictures, 6 annotations" in done.out
    assert len(Path("out.csv").read_text().splitlines()) == 6


def test_convert_keeps_the_names_of_pictures(tilth: Tilth, labels: Path) -> None:
    assert tilth("convert", labels, "again.json", "--to", "coco", "--strict").code == 0
    names = [image["file_name"] for image in json.loads(Path("again.json").read_text())["images"]]
    assert names == [f"{number}.png" for number in range(1, 7)]


def test_an_unknown_option_is_refused_with_the_nearest(tilth: Tilth, labels: Path) -> None:
    ended = tilth("convert", labels, "o", "--to", "pascal", "--write-option", "orign=voc1")
    assert ended.code == 2
    assert "origin" in ended.err


def test_a_folder_that_holds_something_is_not_replaced_unasked(tilth: Tilth, labels: Path) -> None:
    target = Path("kitti")
    target.mkdir()
    (target / "mine.txt").write_text("mine")
    arguments = ("convert", labels, target, "--to", "kitti")
    refused = tilth(*arguments)
    assert refused.code == 2
    assert "--overwrite" in refused.err
    assert (target / "mine.txt").read_text() == "mine"
    assert tilth(*arguments, "--overwrite").code == 0
    assert not (target / "mine.txt").exists()


def test_check_knows_masks_from_pictures(tilth: Tilth, labels: Path) -> None:
    photos = ("--images", labels.parent / "photos")
    assert tilth("convert", labels, "masks", "--to", "masks_semantic", *photos).code == 0
    ended = tilth("check", "masks", "--format", "masks_semantic", *photos, "--json")
    assert (ended.code, ended.document["findings"]) == (0, [])
    assert ended.document["num_media"] == 6


def test_check_looks_at_videos_for_their_frames(tilth: Tilth, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    rows = ["path,width,height,class,x0,y0,x1,y1", "clip.mp4#frame=0,64,48,cat,1,2,9,9"]
    (tmp_path / "labels.csv").write_text("\n".join([*rows, "none.mp4#frame=0,64,48,cat,1,2,9,9"]))
    ended = tilth("check", "labels.csv", "--format", "csv", "--json")
    found = [(row["kind"], row["place"]) for row in ended.document["findings"]]
    assert found == [("picture that is not there", f"{tmp_path}/none.mp4#frame=0")]
