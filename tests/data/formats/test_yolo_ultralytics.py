"""Ultralytics sets: data.yaml in its forms, what the numbers of a row are, parts and bridges."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from any_dataset import comparable, datasets, write_pictures
from hypothesis import given
from hypothesis import strategies as st

from tilth.data import masks, rle
from tilth.data.dataset import Dataset
from tilth.data.formats import coco, kitti, yolo_darknet, yolo_ultralytics
from tilth.data.formats._bridges import joined, taken_apart
from tilth.data.formats._columns import annotation_columns, media_columns
from tilth.data.formats._polygon_columns import polygons_of_json
from tilth.data.formats.yolo_ultralytics import ReadOptions, WriteOptions
from tilth.data.holds import Holds
from tilth.data.images import write_jpeg
from tilth.data.problems import LabelReport
from tilth.data.records import Category, Geometry, Split
from tilth.errors import DataError, LabelError, PathEscapeError

WIDTH, HEIGHT = 200, 100
BOX = "0 0.5 0.5 0.5 0.5\n"
TRIANGLE = "1 0.1 0.1 0.5 0.1 0.5 0.5\n"


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_jpeg(path, np.zeros((HEIGHT, WIDTH, 3), np.uint8))


def ultralytics_set(root: Path, labels: Mapping[str, str | None], **fields: Any) -> Path:
    """Pictures in images/ with labels in labels/; data.yaml with train and val unless told."""
    for name, text in labels.items():
        picture(root / "images" / f"{name}.jpg")
        if text is not None:
            label = root / "labels" / f"{name}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text(text)
    fields = {"train": "images/train", "names": ["cat", "dog"]} | fields
    (root / "data.yaml").write_text(yaml.safe_dump(fields))
    return root


def one_file(tmp_path: Path, text: str) -> Path:
    return ultralytics_set(tmp_path, {"train/a": text})


def kinds(report: LabelReport) -> dict[str, tuple[str, ...]]:
    return {problem.kind: problem.examples for problem in report.problems}


def shapes_of(dataset: Dataset) -> list[Any]:
    return [json.loads(text or b"null") for text in dataset.annotations.segmentation]


def small(
    shapes: Sequence[list[list[float]] | None],
    boxes: list[list[float]] | None = None,
    *,
    uris: tuple[str, ...] = ("/p/a.jpg",),
    split: tuple[Split, ...] = (Split.TRAIN,),
    score: list[float] | None = None,
) -> Dataset:
    """One picture of 200 x 100 with outlines; a box where a shape is None."""
    count, size = len(shapes), len(uris)
    media = media_columns(uris, width=[WIDTH] * size, height=[HEIGHT] * size, split=split)
    if boxes is None:
        corners = [np.reshape(np.concatenate(parts or [[]]), (-1, 2)) for parts in shapes]
        boxes = [[*points.min(axis=0), *points.max(axis=0)] for points in corners]
    annotations = annotation_columns(
        media,
        media_index=np.zeros(count),
        category_index=np.zeros(count),
        boxes_xyxy=boxes,
        report=LabelReport(where="test"),
        place=str,
        geometry=[Geometry.BOX if shape is None else Geometry.POLYGON for shape in shapes],
        segmentation=[None if shape is None else json.dumps(shape).encode() for shape in shapes],
        score=score,
    )
    return Dataset(
        categories=(Category(name="cat", origin_id=0),), media=media, annotations=annotations
    )


def written_row(folder: Path, name: str = "train/a") -> list[float]:
    return [float(word) for word in (folder / f"labels/{name}.txt").read_text().split()]


def test_reads_boxes_and_outlines_by_their_length(tmp_path: Path) -> None:
    path = ultralytics_set(tmp_path, {"train/a": BOX, "train/b": TRIANGLE, "train/c": ""})
    dataset, report = yolo_ultralytics.read(path)
    labels = dataset.annotations
    assert labels.boxes_xyxy.tolist() == [[50, 25, 150, 75], [20, 10, 100, 50]]
    assert labels.geometry.tolist() == [Geometry.BOX, Geometry.POLYGON]
    assert shapes_of(dataset) == [None, [[20, 10, 100, 10, 100, 50]]]
    assert labels.area.tolist() == [5000, 1600]
    assert np.diff(dataset.offsets).tolist() == [1, 1, 0]
    assert report.problems == ()


@pytest.mark.parametrize("names", [["cat", "dog"], {0: "cat", 1: "dog"}, {"1": "dog", "0": "cat"}])
def test_names_are_a_list_or_a_mapping(tmp_path: Path, names: object) -> None:
    dataset, _ = yolo_ultralytics.read(ultralytics_set(tmp_path, {"train/a": BOX}, names=names))
    assert [(c.name, c.origin_id) for c in dataset.categories] == [("cat", 0), ("dog", 1)]


def test_names_stay_the_text_that_stands_there(tmp_path: Path) -> None:
    path = one_file(tmp_path, BOX)
    (path / "data.yaml").write_text(
        "train: images/train\nnames: [no, 007, 1.0, null, 2020-01-01]\n"
    )
    dataset, _ = yolo_ultralytics.read(path)
    assert [c.name for c in dataset.categories] == ["no", "007", "1.0", "null", "2020-01-01"]


def test_numbers_of_classes_may_have_gaps(tmp_path: Path) -> None:
    path = ultralytics_set(
        tmp_path, {"train/a": BOX.replace("0 ", "7 ", 1)}, names={3: "c", 7: "g"}
    )
    dataset, _ = yolo_ultralytics.read(path)
    assert dataset.annotations.category_index.tolist() == [1]
    path = ultralytics_set(tmp_path, {"train/a": BOX}, names={3: "c", 7: "g"})
    with pytest.raises(LabelError, match="class 0 is not among"):
        yolo_ultralytics.read(path)


def test_splits_are_folders_lists_or_several(tmp_path: Path) -> None:
    labels = {"train/a": BOX, "more/b": BOX, "val/c": BOX, "test/d": BOX}
    path = ultralytics_set(
        tmp_path,
        labels,
        path=str(tmp_path),
        train=["images/train", "images/more"],
        val="val.txt",
        test="./images/test",
    )
    (path / "val.txt").write_text("./images/val/c.jpg\n")
    dataset, report = yolo_ultralytics.read(path / "data.yaml")
    splits = {
        Path(uri).stem: Split(code)
        for uri, code in zip(dataset.media.uri, dataset.media.split.tolist(), strict=True)
    }
    assert splits == {"a": Split.TRAIN, "b": Split.TRAIN, "c": Split.VAL, "d": Split.TEST}
    assert len(dataset.annotations) == 4
    assert report.problems == ()


@pytest.mark.parametrize("value", ["../train/images", "train/images", "/content/data/train/images"])
def test_the_folder_is_found_where_an_export_wrote_it_wrongly(tmp_path: Path, value: str) -> None:
    picture(tmp_path / "train/images/a.jpg")
    (tmp_path / "train/labels").mkdir()
    (tmp_path / "train/labels/a.txt").write_text(BOX)
    (tmp_path / "data.yaml").write_text(
        f"train: {value}\nval: ../valid/images\nnames: [a]\nnc: 1\n"
    )
    dataset, report = yolo_ultralytics.read(tmp_path)
    assert dataset.media.uri == [str(tmp_path / "train/images/a.jpg")]
    assert len(dataset.annotations) == 1
    missing = ("data.yaml: val: ../valid/images",)
    assert kinds(report) == {"folder or list of a split that is not there": missing}


@pytest.mark.parametrize("path", ["../elsewhere", "/nowhere/coco8", "coco8"])
def test_a_path_that_is_not_there_or_outside_is_the_files_own_folder(
    tmp_path: Path, path: str
) -> None:
    (tmp_path / "elsewhere" / "images" / "train").mkdir(parents=True)
    ultralytics_set(tmp_path / "set", {"train/a": BOX}, path=path)
    dataset, report = yolo_ultralytics.read(tmp_path / "set")
    assert len(dataset.annotations) == 1
    assert any("is taken as" in note for note in report.notes)


def test_a_path_outside_is_followed_where_images_allow_it(tmp_path: Path) -> None:
    data = ultralytics_set(tmp_path / "data", {"train/a": BOX}) / "data.yaml"
    project = tmp_path / "project"
    project.mkdir()
    data.rename(project / "data.yaml")
    text = (project / "data.yaml").read_text()
    (project / "data.yaml").write_text(f"path: ../data\n{text}")
    with pytest.raises(LabelError, match="none of the folders"):
        yolo_ultralytics.read(project)
    dataset, _ = yolo_ultralytics.read(project, media_root=tmp_path / "data")
    assert dataset.media.uri == [str(tmp_path / "data/images/train/a.jpg")]


def test_labels_replace_the_last_folder_images(tmp_path: Path) -> None:
    root = tmp_path / "images" / "set"
    picture(root / "images/train/images/a.jpg")
    (root / "images/train/labels").mkdir(parents=True)
    (root / "images/train/labels/a.txt").write_text(BOX)
    (root / "data.yaml").write_text("train: images/train\nnames: [cat]\n")
    dataset, report = yolo_ultralytics.read(root)
    assert len(dataset.annotations) == 1
    assert report.problems == ()


def test_a_missing_file_is_no_objects_and_reported(tmp_path: Path) -> None:
    path = ultralytics_set(tmp_path, {"train/a": BOX, "train/b": None, "train/c": ""})
    dataset, report = yolo_ultralytics.read(path)
    assert np.diff(dataset.offsets).tolist() == [1, 0, 0]
    assert kinds(report) == {"picture without a label file": ("b.jpg",)}


def test_a_number_more_is_a_confidence_or_a_track_by_its_values(tmp_path: Path) -> None:
    path = one_file(tmp_path, "0 0.5 0.5 0.5 0.5 0.93\n0 0.5 0.5 0.5 0.4 1\n")
    dataset, report = yolo_ultralytics.read(path)
    assert dataset.annotations.score.tolist() == pytest.approx([0.93, 1])
    assert any("confidences" in note for note in report.notes)
    path = one_file(tmp_path, "0 0.5 0.5 0.5 0.5 12\n0 0.5 0.5 0.5 0.4 1\n")
    dataset, report = yolo_ultralytics.read(path)
    assert np.isnan(dataset.annotations.score).all()
    assert list(dataset.annotations.attributes) == [b'{"track_id":12}', b'{"track_id":1}']
    path = one_file(tmp_path, "0 0.5 0.5 0.5 0.5 1\n")
    dataset, _ = yolo_ultralytics.read(path, options=ReadOptions(last="track_id"))
    assert list(dataset.annotations.attributes) == [b'{"track_id":1}']
    path = one_file(tmp_path, "0 0.5 0.5 0.5 0.5 0.5\n0 0.5 0.5 0.5 0.4 7.5\n")
    dataset, report = yolo_ultralytics.read(path)
    assert len(dataset.annotations) == 1
    fault = "number after the shape that is neither a confidence nor a track"
    assert kinds(report) == {fault: ("labels/train/a.txt:2",)}


def test_six_numbers_are_a_triangle_or_a_tracked_box(tmp_path: Path) -> None:
    tracked = "0 0.5 0.5 0.5 0.5 0.25 7\n0 0.5 0.5 0.25 0.5 0.75 1\n"
    dataset, _ = yolo_ultralytics.read(one_file(tmp_path, tracked))
    assert dataset.annotations.geometry.tolist() == [Geometry.BOX] * 2
    assert dataset.annotations.score.tolist() == [0.25, 0.75]
    assert list(dataset.annotations.attributes) == [b'{"track_id":7}', b'{"track_id":1}']
    dataset, _ = yolo_ultralytics.read(one_file(tmp_path, TRIANGLE))
    assert dataset.annotations.geometry.tolist() == [Geometry.POLYGON]
    options = ReadOptions(rows="polygons")
    dataset, _ = yolo_ultralytics.read(one_file(tmp_path, tracked), options=options)
    assert dataset.annotations.geometry.tolist() == [Geometry.POLYGON] * 2


def test_an_outline_with_a_confidence(tmp_path: Path) -> None:
    dataset, _ = yolo_ultralytics.read(one_file(tmp_path, TRIANGLE.strip() + " 0.75\n"))
    assert shapes_of(dataset) == [[[20, 10, 100, 10, 100, 50]]]
    assert dataset.annotations.score.tolist() == [0.75]


def test_a_box_in_a_file_with_outlines_stays_a_box_and_is_reported(tmp_path: Path) -> None:
    dataset, report = yolo_ultralytics.read(one_file(tmp_path, TRIANGLE + BOX))
    assert sorted(dataset.annotations.geometry.tolist()) == [Geometry.BOX, Geometry.POLYGON]
    assert kinds(report) == {"box in a file with outlines": ("labels/train/a.txt:2",)}


def test_key_points_are_refused_unless_only_boxes_are_asked_for(tmp_path: Path) -> None:
    row = "0 0.5 0.5 0.5 0.5 " + " ".join("0.4 0.4 2" for _ in range(17))
    path = one_file(tmp_path, row + "\n")
    with pytest.raises(LabelError, match="key points") as caught:
        yolo_ultralytics.read(path)
    assert "rows=pose" in (caught.value.fix or "")
    dataset, report = yolo_ultralytics.read(path, options=ReadOptions(rows="pose"))
    assert dataset.annotations.boxes_xyxy.tolist() == [[50, 25, 150, 75]]
    assert kinds(report) == {"key points": ("labels/train/a.txt:1",)}
    path = ultralytics_set(tmp_path / "b", {"train/a": BOX}, kpt_shape=[17, 3])
    with pytest.raises(LabelError, match="a set of key points"):
        yolo_ultralytics.read(path)


def test_oriented_boxes_are_outlines_of_four_corners(tmp_path: Path) -> None:
    row = "0 0.1 0.1 0.5 0.2 0.4 0.6 0.05 0.5\n"
    dataset, report = yolo_ultralytics.read(one_file(tmp_path, row * 2))
    assert shapes_of(dataset)[0] == [[20, 10, 100, 20, 80, 60, 10, 50]]
    assert any("oriented boxes" in note for note in report.notes)


def test_rows_that_are_none_are_reported_with_file_and_line(tmp_path: Path) -> None:
    path = one_file(tmp_path, BOX + "cat 0.5 0.5 0.5 0.5\n0 0.5\n\n0 0.5 0.5 0.5 inf\n")
    dataset, report = yolo_ultralytics.read(path)
    assert len(dataset.annotations) == 1
    places = tuple(f"labels/train/a.txt:{line}" for line in (2, 3, 5))
    assert kinds(report) == {"row that is not a class and four or more numbers": places}


def test_numbers_outside_the_picture_are_kept_and_reported(tmp_path: Path) -> None:
    path = one_file(tmp_path, "0 0.1 0.1 1.25 0.1 0.5 0.5\n")
    dataset, report = yolo_ultralytics.read(path)
    assert shapes_of(dataset) == [[[20, 10, 250, 10, 100, 50]]]
    place = ("labels/train/a.txt:1",)
    assert kinds(report)["label with a number outside 0 to 1"] == place
    _, report = yolo_ultralytics.adapt(dataset)
    assert kinds(report) == {"label with a number outside 0 to 1": ("label 1",)}


SQUARES = [
    [10.0, 10, 30, 10, 30, 30, 10, 30],
    [50.0, 50, 60, 50, 60, 60],
    [80.5, 5, 90, 5, 90, 9.25],
]


def test_parts_are_joined_by_bridges_and_taken_apart_again(tmp_path: Path) -> None:
    dataset = small([SQUARES])
    report = yolo_ultralytics.write(dataset, tmp_path / "out")
    assert report.problems == ()
    assert any("1 labels of several parts" in note for note in report.notes)
    corners = np.reshape(written_row(tmp_path / "out")[1:], (-1, 2)) * (WIDTH, HEIGHT)
    walk = [10.0, 10, 30, 10, 30, 30, 10, 30, 10, 10, 50, 50, 60, 50, 60, 60, 50, 50, 10, 10]
    walk += [80.5, 5.0, 90, 5, 90, 9.25, 80.5, 5]
    assert np.allclose(corners.ravel(), walk)
    back, report = yolo_ultralytics.read(
        tmp_path / "out", options=ReadOptions(width=200, height=100)
    )
    assert shapes_of(back) == [SQUARES]
    assert back.annotations.area.tolist() == pytest.approx([400 + 50 + 9.5 * 4.25 / 2])
    assert any("taken apart into parts" in note for note in report.notes)


def test_a_bridge_to_a_hole_is_not_taken_apart() -> None:
    outer = [(0.0, 0.0), (9.0, 0.0), (9.0, 9.0), (0.0, 9.0)]
    hole = [(3.0, 3.0), (3.0, 6.0), (6.0, 6.0), (6.0, 3.0)]  # turns the other way
    outline = [*outer, outer[0], *hole, hole[0]]
    assert taken_apart(outline) == [outline]
    island = hole[::-1]
    assert taken_apart([*outer, outer[0], *island, island[0]]) == [outer, island]


def test_a_closed_outline_is_one_part() -> None:
    ring = [(0.0, 0.0), (9.0, 0.0), (9.0, 9.0), (0.0, 0.0)]
    assert taken_apart(ring) == [ring]
    assert taken_apart([]) == [[]]


corner = st.tuples(st.integers(0, 40), st.integers(0, 40))
triangles = st.lists(corner, min_size=3, max_size=3, unique=True).filter(
    lambda ring: (
        (ring[1][0] - ring[0][0]) * (ring[2][1] - ring[0][1])
        != (ring[2][0] - ring[0][0]) * (ring[1][1] - ring[0][1])
    )
)


@given(st.lists(triangles, min_size=1, max_size=5))
def test_what_is_joined_comes_apart_as_the_same_parts(parts: list[list[tuple[int, int]]]) -> None:
    as_floats = [[(float(x), float(y)) for x, y in ring] for ring in parts]
    back = taken_apart(joined(as_floats))
    if len({corner for ring in as_floats for corner in ring}) == 3 * len(as_floats):
        assert [set(ring) for ring in back] == [set(ring) for ring in as_floats]
    assert joined(back) == joined(as_floats)


@given(seed=st.integers(0, 10**6))
def test_masks_with_holes_and_parts_keep_their_pixels(
    seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    random = np.random.default_rng(seed)
    mask = random.random((9, 11)) < 0.6
    mask[4, 4] = True
    counts = rle.encode(mask)
    text = json.dumps({"size": [9, 11], "counts": rle.to_text(counts).decode()}).encode()
    polygons = json.loads(masks.rle_to_polygons(text))
    folder = tmp_path_factory.mktemp("masks") / "out"
    yolo_ultralytics.write(small([polygons]), folder)
    back, _ = yolo_ultralytics.read(folder, options=ReadOptions(width=WIDTH, height=HEIGHT))
    again = masks.polygons_to_rle(back.annotations.segmentation[0] or b"", 9, 11)
    assert np.array_equal(rle.from_json(again)[0], counts)


def test_boxes_beside_outlines_become_rectangles_and_only_there(tmp_path: Path) -> None:
    triangle = [[20.0, 10, 100, 10, 100, 50]]
    dataset = small([triangle, None], [[20, 10, 100, 50], [5, 6, 7, 8]])
    report = yolo_ultralytics.write(dataset, tmp_path / "out")
    assert kinds(report) == {"box in a picture with outlines": ("label 2",)}
    lengths = [len(line.split()) for line in (tmp_path / "out/labels/train/a.txt").open()]
    assert lengths == [7, 9]
    report = yolo_ultralytics.write(small([None], [[5, 6, 7, 8]]), tmp_path / "boxes")
    assert report.problems == ()
    assert written_row(tmp_path / "boxes") == pytest.approx([0, 0.03, 0.07, 0.01, 0.02])


def test_parts_without_three_corners_are_reported_for_they_would_be_boxes() -> None:
    triangle = [20.0, 10, 100, 10, 100, 50]
    shapes = [[triangle, [1.0, 1, 2, 2]], [[1.0, 1, 9, 9]]]
    fitted, report = yolo_ultralytics.adapt(small(shapes))
    assert kinds(report)["part of fewer than three corners"] == ("label 1", "label 2")
    assert fitted.annotations.boxes_xyxy.tolist() == [[20, 10, 100, 50], [1, 1, 9, 9]]
    assert polygons_of_json(fitted.annotations.segmentation).parts.tolist() == [1, 1]


def test_a_box_that_is_not_around_its_outline_is_reported() -> None:
    fitted, report = yolo_ultralytics.adapt(small([[[20.0, 10, 100, 10, 100, 50]]], [[0, 0, 9, 9]]))
    assert kinds(report) == {"box that is not the box around its outline": ("label 1",)}
    assert fitted.annotations.boxes_xyxy.tolist() == [[20, 10, 100, 50]]


def test_scores_are_lost_unless_asked_for(tmp_path: Path) -> None:
    dataset = small([None], [[50, 25, 150, 75]], score=[0.75])
    report = yolo_ultralytics.write(dataset, tmp_path / "a")
    assert "score" in kinds(report)
    assert len(written_row(tmp_path / "a")) == 5
    report = yolo_ultralytics.write(dataset, tmp_path / "b", options=WriteOptions(confidence=True))
    assert report.problems == ()
    assert written_row(tmp_path / "b") == [0, 0.5, 0.5, 0.5, 0.5, 0.75]
    back, _ = yolo_ultralytics.read(tmp_path / "b", options=ReadOptions(width=200, height=100))
    assert back.annotations.score.tolist() == [0.75]


def test_writes_the_layout_and_a_yaml_that_any_loader_reads(tmp_path: Path) -> None:
    uris, split = ("/p/a.jpg", "/p/sub/b.jpg"), (Split.TRAIN, Split.NONE)
    report = yolo_ultralytics.write(small([], [], uris=uris, split=split), tmp_path / "out")
    assert yaml.safe_load((tmp_path / "out/data.yaml").read_text()) == {
        "train": "images/train",
        "val": "images/val",
        "names": {0: "cat"},
    }
    files = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.txt")}
    assert files == {"labels/train/a.txt", "labels/train/sub/b.txt"}
    assert any("1 pictures of no split are written to train" in note for note in report.notes)
    assert any("no picture is in val" in note for note in report.notes)


@pytest.mark.parametrize("how", ["link", "copy"])
def test_pictures_can_be_put_where_a_trainer_looks(tmp_path: Path, how: str) -> None:
    picture(tmp_path / "p/images/a.jpg")
    dataset = small([None], [[50, 25, 150, 75]], uris=(str(tmp_path / "p/images/a.jpg"),))
    options = WriteOptions(pictures=how)  # type: ignore[arg-type]
    yolo_ultralytics.write(dataset, tmp_path / "out", media_root=tmp_path / "p", options=options)
    placed = tmp_path / "out/images/train/images/a.jpg"
    assert placed.is_file()
    assert placed.is_symlink() == (how == "link")
    assert (tmp_path / "out/images/train/labels/a.txt").is_file()  # where Ultralytics looks
    back, report = yolo_ultralytics.read(tmp_path / "out")
    assert back.media.uri == [str(placed)]
    assert back.annotations.boxes_xyxy.tolist() == [[50, 25, 150, 75]]
    assert report.problems == ()


def test_labels_alone_find_their_pictures_elsewhere(tmp_path: Path) -> None:
    picture(tmp_path / "p/images/a.jpg")
    dataset = small([None], [[50, 25, 150, 75]], uris=(str(tmp_path / "p/images/a.jpg"),))
    yolo_ultralytics.write(dataset, tmp_path / "out", media_root=tmp_path / "p")
    back, report = yolo_ultralytics.read(tmp_path / "out", media_root=tmp_path / "p")
    assert back.media.uri == dataset.media.uri
    assert back.annotations.boxes_xyxy.tolist() == [[50, 25, 150, 75]]
    assert report.problems == ()


def test_a_listed_path_cannot_leave_its_folder(tmp_path: Path) -> None:
    path = ultralytics_set(tmp_path / "set", {"train/a": BOX}, train="train.txt")
    (path / "train.txt").write_text("images/train/a.jpg\n../../../etc/passwd.jpg\n")
    with pytest.raises(PathEscapeError):
        yolo_ultralytics.read(path)


def test_labels_behind_a_link_out_of_the_set_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/a.txt").write_text(BOX)
    path = ultralytics_set(tmp_path / "set", {"train/a": None, "train/b": BOX})
    (path / "labels/train/a.txt").symlink_to(tmp_path / "outside/a.txt")
    dataset, report = yolo_ultralytics.read(path)
    assert len(dataset.annotations) == 1
    assert kinds(report)["link that leaves the folder"] == ("a.txt",)
    (path / "labels").rename(path / "moved")
    (path / "labels").symlink_to(tmp_path / "outside")
    (tmp_path / "outside/train").mkdir()
    (tmp_path / "outside/train/b.txt").write_text(BOX)
    dataset, report = yolo_ultralytics.read(path)
    assert len(dataset.annotations) == 0


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"- a\n",
        b"\xff\xfe",
        b"train: [\n",
        b"train: images/train\nnames: 3\n",
        b"train: images/train\nnames: [[a]]\n",
        b"train: images/train\nnames: [a, a]\n",
        b"train: images/train\nnames: {x: a}\n",
        b"train: images/train\nnames: {" + b"9" * 5000 + b": a}\n",
        b"train: {a: b}\nnames: [a]\n",
        b"train: ../../../../etc\nnames: [a]\n",
        b"train: /etc\nnames: [a]\n",
        b"names: [a]\n",
        b"train: " + b"[" * 5000,
        b"!!python/object/apply:os.system [ls]",
        b"a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\ntrain: [*c,*c]\nnames: [a]\n",
        b"train: images/train\0\nnames: [a]\n",
    ],
)
def test_a_yaml_that_is_no_set_is_an_error_of_ours(tmp_path: Path, text: bytes) -> None:
    path = one_file(tmp_path, BOX)
    (path / "data.yaml").write_bytes(text)
    with pytest.raises(LabelError):
        yolo_ultralytics.read(path)


def test_recognises_a_data_yaml_and_its_folder(tmp_path: Path) -> None:
    path = one_file(tmp_path, BOX)
    assert yolo_ultralytics.recognises(path)
    assert yolo_ultralytics.recognises(path / "data.yaml")
    assert not yolo_ultralytics.recognises(path / "labels")
    (path / "data.yaml").write_text("services: {}\n")
    assert not yolo_ultralytics.recognises(path)
    (path / "data.yaml").write_bytes(b"\0\xff")
    assert not yolo_ultralytics.recognises(path)


def test_a_polygon_that_is_no_json_is_an_error() -> None:
    with pytest.raises(DataError, match="not polygons"):
        polygons_of_json([b"[[1,2,x]]"])


@given(data=st.data())
def test_labelformat_and_supervision_find_the_same_boxes(
    data: st.DataObject,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    import supervision
    from labelformat.formats.yolov8 import YOLOv8ObjectDetectionInput

    root = tmp_path_factory.mktemp("yolo")
    holds = Holds(boxes=True)
    drawn = data.draw(datasets(root / "p", holds, max_media=2))
    write_pictures(drawn)
    options = WriteOptions(pictures="copy")
    out = root / "out"
    yolo_ultralytics.write(drawn, out, media_root=root / "p", options=options)
    names = [category.name for category in drawn.categories]
    flat = {Path(uri).name: row for row, uri in enumerate(drawn.media.uri) if "/sub/" not in uri}

    theirs = YOLOv8ObjectDetectionInput(out / "data.yaml", "train")
    for image in theirs.get_labels():
        if image.image.filename not in flat:
            continue
        rows = drawn.rows_of(flat[image.image.filename])
        boxes = [[o.box.xmin, o.box.ymin, o.box.xmax, o.box.ymax] for o in image.objects]
        expected = drawn.annotations.boxes_xyxy[rows]
        assert np.allclose(np.reshape(boxes, (-1, 4)), expected, atol=1e-9)
        found = [o.category.name for o in image.objects]
        assert found == [names[at] for at in drawn.annotations.category_index[rows]]

    loaded = supervision.DetectionDataset.from_yolo(
        str(out / "images/train"), str(out / "labels/train"), str(out / "data.yaml")
    )
    for name, detections in loaded.annotations.items():
        if Path(name).name in flat:
            expected = drawn.annotations.boxes_xyxy[drawn.rows_of(flat[Path(name).name])]
            assert np.allclose(np.reshape(detections.xyxy, (-1, 4)), expected, atol=1e-3)


@pytest.mark.parametrize("module", [yolo_ultralytics, yolo_darknet, kitti])
def test_coco128_comes_back_as_it_was_adapted(
    module: Any, shared_data: Path, tmp_path: Path
) -> None:
    """939 real labels: outlines of up to many parts, crowds, names of two words."""
    pictures = tmp_path / "pictures"
    source = shared_data / "formats" / "coco128" / "instances_train2017.json"
    dataset, _ = coco.read(source, media_root=pictures)
    write_pictures(dataset)
    fitted, _ = module.adapt(dataset)
    module.write(dataset, tmp_path / "out", media_root=pictures)
    back, report = module.read(tmp_path / "out", media_root=pictures)
    assert len(back.annotations) == 939
    assert comparable(back, pictures) == comparable(fitted, pictures)
    assert report.problems == ()
