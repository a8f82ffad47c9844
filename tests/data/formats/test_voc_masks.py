"""The masks of Pascal VOC: values are objects in their order, and what has no place is reported."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_sets import small_dataset
from voc_texts import DEVKIT, kinds, voc_object, voc_text, written

from tilth.data import rle
from tilth.data.dataset import Dataset
from tilth.data.formats import masks_semantic, pascal
from tilth.data.records import Geometry


def mask_set(folder: Path, values: np.ndarray[Any, Any], text: str) -> Path:
    written(folder, {"Annotations/a.xml": text})
    (folder / "SegmentationObject").mkdir(exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(folder / "SegmentationObject/a.png")
    return folder


def test_masks_belong_to_the_objects_in_their_order(tmp_path: Path) -> None:
    values = np.zeros((4, 5))
    values[:2, :2], values[3, 4], values[2, :] = 1, 3, 255
    objects = [
        voc_object(box=(0, 0, 3, 3)),
        voc_object(box=(1, 1, 2, 2)),
        voc_object("dog", (4, 3, 5, 4)),
    ]
    text = voc_text(*objects, width=5, height=4)
    dataset, report = pascal.read(mask_set(tmp_path, values, text))
    labels = dataset.annotations
    assert labels.geometry.tolist() == [Geometry.RLE, Geometry.BOX, Geometry.RLE]
    assert labels.area.tolist() == [4, 1, 1]
    assert labels.boxes_xyxy[0].tolist() == [0, 0, 3, 3], "the box is the XML file's"
    counts, height, width = rle.from_json(labels.segmentation[0] or b"")
    np.testing.assert_array_equal(rle.decode(counts, height, width), values == 1)
    assert report.problems == ()


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.full((4, 5), 2), "mask that no object of the XML file stands for"),
        (np.ones((5, 5)), "mask of another size than its XML file says"),
        (np.zeros((4, 5, 3)), "mask of colours, not of indices"),
    ],
)
def test_masks_that_do_not_fit_are_reported(tmp_path: Path, values: Any, kind: str) -> None:
    text = voc_text(voc_object(box=(0, 0, 3, 3)), width=5, height=4)
    dataset, report = pascal.read(mask_set(tmp_path, values, text))
    assert kinds(report) == {kind: 1}
    assert dataset.annotations.geometry.tolist() == [Geometry.BOX]


def test_a_broken_mask_costs_the_mask_alone(tmp_path: Path) -> None:
    text = voc_text(voc_object(box=(0, 0, 3, 3)), width=5, height=4)
    mask_set(tmp_path, np.ones((4, 5)), text)
    (tmp_path / "SegmentationObject/a.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    dataset, report = pascal.read(tmp_path)
    assert kinds(report) == {"mask that cannot be read": 1}
    assert len(dataset.annotations) == 1


def test_class_masks_alone_are_left_to_masks_semantic(tmp_path: Path) -> None:
    written(tmp_path, {"Annotations/a.xml": DEVKIT, "SegmentationClass/a.png": b""})
    _, report = pascal.read(tmp_path)
    assert any("masks_semantic" in note for note in report.notes)


def test_of_masks_that_overlap_the_smaller_is_seen(tmp_path: Path) -> None:
    values = np.zeros((80, 100), np.bool_)
    small, large = values.copy(), values.copy()
    small[:10, :10], large[:20, :20] = True, True
    dataset = with_masks([small, large, small])
    fitted, report = pascal.adapt(dataset)
    assert kinds(report)["masks that overlap"] == 2
    assert kinds(report)["mask that others cover"] == 1
    assert fitted.annotations.geometry.tolist() == [Geometry.BOX, Geometry.RLE, Geometry.RLE]
    assert fitted.annotations.area.tolist()[1:] == [300, 100]
    pascal.write(dataset, tmp_path / "out")
    back, _ = pascal.read(tmp_path / "out")
    ours, wanted = (
        [json.loads(text or b"null") for text in each.annotations.segmentation]
        for each in (back, fitted)
    )
    assert ours == wanted


def with_masks(masks: list[np.ndarray[Any, Any]]) -> Dataset:
    dataset = small_dataset(num_media=2, labels_each=len(masks), prefix="/p/")
    texts = [
        json.dumps({"size": list(mask.shape), "counts": rle.to_text(rle.encode(mask)).decode()})
        for mask in masks
    ]
    labels = replace(
        dataset.annotations,
        geometry=np.full(len(masks), Geometry.RLE, np.uint8),
        area=np.array([mask.sum() for mask in masks], np.float64),
        segmentation=[text.encode() for text in texts],
        is_crowd=np.zeros(len(masks), np.bool_),
    )
    return replace(dataset, annotations=labels)


def test_no_more_masks_than_a_picture_has_values(tmp_path: Path) -> None:
    masks = []
    for at in range(260):
        mask = np.zeros((80, 100), np.bool_)
        mask[at % 80, at // 80] = True
        masks.append(mask)
    dataset = with_masks(masks)
    pascal.write(dataset, tmp_path / "out")
    back, _ = pascal.read(tmp_path / "out")
    assert (back.annotations.geometry == Geometry.RLE).sum() == 254
    assert kinds(pascal.adapt(dataset)[1])["mask beyond the 254th object of its picture"] == 6


@pytest.mark.parametrize("size", [[10**9, 10**9], [1, 1], "x"])
def test_a_mask_of_an_absurd_size_becomes_a_box(size: Any) -> None:
    dataset = with_masks([np.ones((80, 100), np.bool_)])
    text = json.dumps({"size": size, "counts": [0, 10**18]}).encode()
    labels = replace(dataset.annotations, segmentation=[text])
    fitted, report = pascal.adapt(replace(dataset, annotations=labels))
    assert fitted.annotations.geometry.tolist() == [Geometry.BOX]
    assert any(kind.startswith("mask ") for kind in kinds(report))


def test_the_class_masks_are_what_masks_semantic_reads(tmp_path: Path) -> None:
    mask = np.zeros((80, 100), np.bool_)
    mask[5:9, 7:20] = True
    pascal.write(with_masks([mask]), tmp_path / "out")
    options = masks_semantic.ReadOptions(classes=str(tmp_path / "out/labelmap.txt"))
    dataset, _ = masks_semantic.read(tmp_path / "out/SegmentationClass", options=options)
    counts, height, width = rle.from_json(dataset.annotations.segmentation[0] or b"")
    np.testing.assert_array_equal(rle.decode(counts, height, width), mask)
    assert dataset.categories[0].name == "person"


def test_pedestrians_as_voc_masks(shared_data: Path, tmp_path: Path) -> None:
    """Penn-Fudan's masks have VOC's values: instance k is the k-th object."""
    total = 0
    for path in sorted((shared_data / "penn-fudan/masks").glob("*.png"))[:12]:
        values = np.asarray(Image.open(path))
        stem = path.stem.removesuffix("_mask")
        objects = []
        for value in range(1, int(values.max()) + 1):
            y, x = np.nonzero(values == value)
            objects.append(
                voc_object("person", (x.min() + 1, y.min() + 1, x.max() + 1, y.max() + 1))
            )
        total += len(objects)
        size = {"width": values.shape[1], "height": values.shape[0]}
        written(
            tmp_path,
            {f"Annotations/{stem}.xml": voc_text(*objects, filename=f"{stem}.png", **size)},
        )
        (tmp_path / "SegmentationObject").mkdir(exist_ok=True)
        Image.fromarray(values).save(tmp_path / f"SegmentationObject/{stem}.png")
    dataset, _ = pascal.read(tmp_path, options=pascal.ReadOptions(origin="voc1"))
    labels = dataset.annotations
    assert len(labels) == total
    assert (labels.geometry == Geometry.RLE).all()
    for row in range(total):
        counts, height, _ = rle.from_json(labels.segmentation[row] or b"")
        assert rle.box_xyxy(counts, height).tolist() == labels.boxes_xyxy[row].tolist()
