"""Detections are read from whatever wrote them, onto the rows of the labels, or refused by name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.data.dataset import AnnotationColumns, Dataset, MediaColumns
from tilth.data.detection_results import read_detections
from tilth.data.formats import load_format
from tilth.data.records import Category, Geometry, Split
from tilth.errors import DataError, LabelError


def labels_with(boxes, media, classes, scores=None) -> Dataset:
    count = len(media)
    corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    return Dataset(
        categories=(Category(name="cat", origin_id=17), Category(name="dog", origin_id=18)),
        media=MediaColumns(
            id=np.array([40, 50, 60]),
            uri=["photos/a.jpg", "photos/b.jpg", "photos/deep/c.png"],
            width=np.full(3, 640, np.int32),
            height=np.full(3, 480, np.int32),
            split=np.full(3, Split.NONE, np.int8),
            parent_id=np.full(3, -1),
        ),
        annotations=AnnotationColumns(
            id=np.arange(1, count + 1),
            media_index=np.asarray(media, np.int64),
            category_index=np.asarray(classes, np.int64),
            boxes_xyxy=corners,
            area=(corners[:, 2:] - corners[:, :2]).prod(axis=1),
            is_crowd=np.zeros(count, bool),
            score=np.full(count, np.nan, np.float32)
            if scores is None
            else np.asarray(scores, np.float32),
            source=np.zeros(count, np.uint8),
            review_state=np.zeros(count, np.uint8),
            geometry=np.full(count, Geometry.BOX, np.uint8),
            segmentation=[None] * count,
            attributes=[None] * count,
        ),
    )


TRUTH = labels_with([[0, 0, 9, 9]], [0], [0])
SCORED = labels_with(
    [[10, 20, 40, 60], [5, 5, 25, 30], [100, 50, 220, 180]], [0, 1, 2], [0, 1, 1], [0.5, 0.25, 0.75]
)


def write(path: Path, records) -> Path:
    path.write_text(json.dumps(records))
    return path


def record(**changes):
    return {"image_id": 50, "category_id": 18, "bbox": [1.5, 2, 10, 20], "score": 0.5} | changes


@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from([40, 50, 60]),
            st.sampled_from([17, 18]),
            st.tuples(*[st.floats(0, 300)] * 4),
            st.floats(0, 1),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_results_are_found_by_the_ids_of_the_labels(rows, tmp_path_factory):
    records = [
        {"image_id": image, "category_id": category, "bbox": box, "score": score}
        for image, category, box, score in rows
    ]
    path = write(tmp_path_factory.mktemp("results") / "results.json", records)
    found, outside = read_detections(path, TRUTH)
    assert outside == 0
    assert [int(TRUTH.media.id[row]) for row in found.media_index] == [row[0] for row in rows]
    origins = [TRUTH.categories[row].origin_id for row in found.category_index]
    assert origins == [row[1] for row in rows]
    for box, (_, _, (x, y, width, height), _) in zip(found.boxes_xyxy, rows, strict=True):
        assert box.tolist() == [x, y, x + width, y + height]
    assert found.score.tolist() == pytest.approx([row[3] for row in rows], abs=1e-7)


def test_pictures_may_be_named_instead(tmp_path: Path) -> None:
    path = write(tmp_path / "results.json", [record(image_id="c"), record(image_id="a")])
    assert read_detections(path, TRUTH)[0].media_index.tolist() == [2, 0]


def test_an_empty_list_is_no_detection(tmp_path: Path) -> None:
    found, outside = read_detections(write(tmp_path / "results.json", []), TRUTH)
    assert (len(found), outside) == (0, 0)
    assert found.boxes_xyxy.shape == (0, 4)


def test_detections_of_other_pictures_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "results.json", [record(), record(image_id=7), record(image_id=8)])
    found, outside = read_detections(path, TRUTH)
    assert (len(found), outside) == (1, 2)


@pytest.mark.parametrize("name", ["coco", "csv", "kitti", "labelme", "tilth"])
def test_labels_with_scores_are_detections(name: str, tmp_path: Path) -> None:
    writer = load_format(name)
    target = tmp_path / ("found" if writer.TARGET == "folder" else f"found.{name}.json")
    target = target.with_suffix(".csv") if name == "csv" else target
    target = target.with_suffix(".jsonl") if name == "tilth" else target
    writer.write(SCORED, target, media_root=Path("photos"))
    found, outside = read_detections(target, TRUTH, format_name=name)
    assert outside == 0
    order = np.argsort(found.score)[::-1]
    assert found.score[order].tolist() == pytest.approx([0.75, 0.5, 0.25], abs=1e-3)
    assert found.media_index[order].tolist() == [2, 0, 1]
    assert found.category_index[order].tolist() == [1, 0, 1]
    np.testing.assert_allclose(
        found.boxes_xyxy[order], SCORED.annotations.boxes_xyxy[[2, 0, 1]], atol=0.51
    )


def test_labels_without_scores_are_refused(tmp_path: Path) -> None:
    load_format("coco").write(TRUTH, tmp_path / "labels.json")
    with pytest.raises(LabelError, match="without a score") as caught:
        read_detections(tmp_path / "labels.json", TRUTH)
    assert caught.value.got == "1 of 1 boxes without one"


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([record(category_id=3)], "category that the labels do not have"),
        ([record(image_id=3)], "picture that the labels do not have"),
        ([{"image_id": 50, "category_id": 18, "score": 0.5}], "not a file of detections"),
        ([record(score=None)], "not a file of detections"),
        ([record(bbox=[1, 2, 3])], "not a file of detections"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(records, message, tmp_path: Path) -> None:
    path = write(tmp_path / "results.json", records)
    with pytest.raises(DataError, match=message) as caught:
        read_detections(path, TRUTH)
    assert caught.value.where == str(path)


def test_other_classes_are_refused_by_name(tmp_path: Path) -> None:
    others = replace(
        SCORED,
        categories=(Category(name="cat", origin_id=17), Category(name="horse", origin_id=18)),
    )
    load_format("coco").write(others, tmp_path / "found.json")
    with pytest.raises(DataError, match="category") as caught:
        read_detections(tmp_path / "found.json", TRUTH)
    assert str(caught.value.got).startswith("horse")


def test_a_missing_or_foreign_file(tmp_path: Path) -> None:
    with pytest.raises(LabelError):
        read_detections(tmp_path / "none.json", TRUTH, format_name="coco_results")
    (tmp_path / "half.json").write_text('[{"image_id": 50, ')
    with pytest.raises(LabelError, match="not a file of detections"):
        read_detections(tmp_path / "half.json", TRUTH)
