"""A batch is a function of its number: complete epochs, exact boxes, reasons for bad input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tilth.data.dataset import AnnotationColumns, Dataset, MediaColumns
from tilth.data.records import Category, Geometry
from tilth.errors import DataError, EmptyDatasetError, MediaError, SettingsError
from tilth.train.jitter import NO_JITTER, JitterSettings
from tilth.train.loading import DetectionBatches, epoch_order


def _dataset(sizes, boxes):
    """``sizes``: (width, height) a medium; ``boxes``: (medium, class, box, crowd, geometry)."""
    media_index = np.array([row[0] for row in boxes], dtype=np.int64)
    m, n = len(boxes), len(sizes)
    media = MediaColumns(
        id=np.arange(n),
        uri=[f"{i}.png" for i in range(n)],
        width=np.array([w for w, _ in sizes], dtype=np.int32),
        height=np.array([h for _, h in sizes], dtype=np.int32),
        split=np.zeros(n, dtype=np.int8),
        parent_id=np.full(n, -1),
    )
    annotations = AnnotationColumns(
        id=np.arange(m),
        media_index=media_index,
        category_index=np.array([row[1] for row in boxes], dtype=np.int64),
        boxes_xyxy=np.array([row[2] for row in boxes], dtype=np.float64).reshape(m, 4),
        area=np.ones(m),
        is_crowd=np.array([row[3] for row in boxes], dtype=bool),
        score=np.full(m, np.nan, dtype=np.float32),
        source=np.zeros(m, dtype=np.uint8),
        review_state=np.zeros(m, dtype=np.uint8),
        geometry=np.array([row[4] for row in boxes], dtype=np.uint8),
        segmentation=[None] * m,
        attributes=[None] * m,
    )
    categories = (Category(name="dog", origin_id=1), Category(name="cat", origin_id=2))
    return Dataset(categories=categories, media=media, annotations=annotations)


@pytest.fixture
def pictures(tmp_path):
    """Five pictures, each with a bright rectangle where its box is; picture 4 has no box."""
    sizes = [(64, 48), (48, 64), (100, 100), (30, 90), (64, 64)]
    boxes = []
    for row, (width, height) in enumerate(sizes):
        image = np.full((height, width, 3), 20 + row, dtype=np.uint8)
        if row < 4:
            x0, y0, x1, y1 = width // 4, height // 4, width // 2, height // 2
            image[y0:y1, x0:x1] = (255, 30, 30)
            boxes.append((row, row % 2, (x0, y0, x1, y1), False, Geometry.BOX))
        Image.fromarray(image).save(tmp_path / f"{row}.png")
    boxes.insert(1, (0, 0, (0, 0, 64, 48), True, Geometry.BOX))
    boxes.insert(2, (0, 1, (0, 0, 64, 48), False, Geometry.LABEL))
    return [tmp_path / f"{row}.png" for row in range(5)], _dataset(sizes, boxes)


def _batches(pictures, **options):
    images, dataset = pictures
    options = {"size": 64, "batch_size": 2, "seed": 0, "settings": NO_JITTER, **options}
    return DetectionBatches(images, dataset, **options)


def _assert_equal(left, right):
    assert left.keys() == right.keys()
    for name, value in left.items():
        same = value == right[name] if name == "names" else torch.equal(value, right[name])
        assert same, name


def test_shapes_types_and_order(pictures):
    batch = _batches(pictures, batch_size=5).batch(0)
    assert batch["images"].shape == (5, 3, 64, 64)
    assert batch["images"].dtype == torch.float32
    assert batch["images"].is_contiguous(memory_format=torch.channels_last)
    assert 0 <= batch["images"].min() < batch["images"].max() <= 1
    assert batch["boxes_xyxy"].shape == (4, 4)
    assert batch["boxes_xyxy"].dtype == torch.float32
    assert batch["class_index"].dtype == batch["image_index"].dtype == torch.int64
    assert sorted(batch["media_index"].tolist()) == [0, 1, 2, 3, 4]
    images, _ = pictures
    assert batch["names"] == [str(images[row]) for row in batch["media_index"]]


@pytest.mark.parametrize("settings", [NO_JITTER, JitterSettings(hue=0, saturation=0)])
def test_boxes_lie_around_the_pixels_of_their_object(pictures, settings):
    batches = _batches(pictures, batch_size=5, settings=settings)
    for step in range(6):
        batch = batches.batch(step)
        for box, image_index in zip(batch["boxes_xyxy"], batch["image_index"], strict=True):
            image = batch["images"][image_index]
            red = image[0] - image[1] > 0.35
            ys, xs = torch.nonzero(red, as_tuple=True)
            extent = torch.stack([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
            assert (box - extent).abs().max() <= 1.5


def test_class_follows_its_picture(pictures):
    batch = _batches(pictures, batch_size=5).batch(0)
    media = batch["media_index"][batch["image_index"]]
    assert torch.equal(batch["class_index"], media % 2)


def test_crowds_and_labels_without_a_box_are_no_targets(pictures):
    batch = _batches(pictures, batch_size=5).batch(0)
    place = batch["media_index"].tolist().index(0)
    assert (batch["image_index"] == place).sum() == 1


def test_targets_end_at_the_border_of_their_picture(tmp_path):
    Image.new("RGB", (60, 30)).save(tmp_path / "0.png")
    boxes = [
        (0, 0, (10, 5, 20, 15), False, Geometry.BOX),  # inside: as it is
        (0, 1, (-20, 20, 12, 80), False, Geometry.BOX),  # mostly outside: cut
        (0, 0, (10, 31, 20, 60), False, Geometry.BOX),  # wholly below, on the padding: gone
        (0, 1, (59.5, 5, 90, 15), False, Geometry.BOX),  # half a pixel left of it: gone
        (0, 1, (59, 29, 90, 45), False, Geometry.BOX),  # a whole pixel left of it
    ]
    batch = DetectionBatches(
        [tmp_path / "0.png"],
        _dataset([(60, 30)], boxes),
        size=60,
        batch_size=1,
        seed=0,
        settings=NO_JITTER,
    ).batch(0)
    # At this size the picture is not resized; 15 pixels of padding lie above it.
    expected = [[10, 20, 20, 30], [0, 35, 12, 45], [59, 44, 60, 45]]
    assert batch["boxes_xyxy"].tolist() == expected
    assert batch["class_index"].tolist() == [0, 1, 1]


def test_pictures_without_a_box_are_trained_on(tmp_path):
    Image.new("RGB", (20, 20)).save(tmp_path / "0.png")
    batch = DetectionBatches(
        [tmp_path / "0.png"], _dataset([(20, 20)], []), size=32, batch_size=1, seed=0
    ).batch(0)
    assert batch["boxes_xyxy"].shape == (0, 4)
    assert batch["class_index"].shape == batch["image_index"].shape == (0,)


def test_same_number_same_batch_in_any_order(pictures):
    settings = JitterSettings()
    forwards = [_batches(pictures, settings=settings).batch(step) for step in range(8)]
    again = _batches(pictures, settings=settings, cache_bytes=0)
    for step in reversed(range(8)):
        _assert_equal(again.batch(step), forwards[step])


def test_epochs_differ_and_so_does_another_seed(pictures):
    batches = _batches(pictures, batch_size=5, settings=JitterSettings())
    first, second = batches.batch(0), batches.batch(1)
    by_media = [b["images"][b["media_index"].argsort()] for b in (first, second)]
    assert not torch.equal(*by_media)
    other = _batches(pictures, batch_size=5, settings=JitterSettings(), seed=1).batch(0)
    assert not torch.equal(first["images"], other["images"])


def test_two_small_batches_are_one_large_one(pictures):
    settings = JitterSettings()
    small = _batches(pictures, batch_size=2, settings=settings)
    large = _batches(pictures, batch_size=4, settings=settings).batch(1)
    halves = [small.batch(2), small.batch(3)]
    assert torch.equal(torch.cat([half["images"] for half in halves]), large["images"])
    assert torch.equal(torch.cat([half["boxes_xyxy"] for half in halves]), large["boxes_xyxy"])
    assert halves[0]["names"] + halves[1]["names"] == large["names"]


@given(num_images=st.integers(1, 40), batch_size=st.integers(1, 40), seed=st.integers(0, 3))
def test_every_picture_comes_once_an_epoch(num_images, batch_size, seed):
    batch_size = min(batch_size, num_images)
    dataset = _dataset([(8, 8)] * num_images, [])
    batches = DetectionBatches(
        [None] * num_images, dataset, size=8, batch_size=batch_size, seed=seed
    )
    seen = [batches._media_at(position) for position in range(3 * num_images)]
    for epoch in range(3):
        order = seen[epoch * num_images : (epoch + 1) * num_images]
        assert sorted(order) == list(range(num_images))
        assert order == epoch_order(num_images, seed, epoch).tolist()


def test_identity_names_data_and_settings(pictures):
    images, dataset = pictures
    identity = _batches(pictures).identity
    assert identity == _batches(pictures, cache_bytes=1).identity
    assert identity != _batches(pictures, seed=1).identity
    assert identity != _batches(pictures, settings=replace(NO_JITTER, scale=0.1)).identity
    moved = dataset.annotations.boxes_xyxy.copy()
    moved[0, 0] += 1
    changed = replace(dataset, annotations=replace(dataset.annotations, boxes_xyxy=moved))
    assert identity["digest"] != _batches((images, changed)).identity["digest"]


def test_empty_set_is_refused():
    with pytest.raises(EmptyDatasetError, match="no picture"):
        DetectionBatches([], _dataset([], []), size=64, batch_size=1, seed=0)


@pytest.mark.parametrize("batch_size", [0, 6])
def test_batch_size_outside_the_set_is_refused(pictures, batch_size):
    with pytest.raises(SettingsError, match="batch size") as caught:
        _batches(pictures, batch_size=batch_size)
    assert caught.value.expected == "1 to 5, the number of training pictures"


def test_paths_that_do_not_match_the_labels_are_refused(pictures):
    images, dataset = pictures
    with pytest.raises(DataError, match="do not belong together"):
        DetectionBatches(images[:4], dataset, size=64, batch_size=1, seed=0)


def test_missing_picture_names_its_path(pictures):
    images, _ = pictures
    images[3].unlink()
    with pytest.raises(MediaError) as caught:
        _batches(pictures, batch_size=5).batch(0)
    assert str(images[3]) in caught.value.where


def test_picture_of_another_size_than_its_labels_is_refused(pictures):
    images, _ = pictures
    Image.fromarray(np.zeros((96, 128, 3), dtype=np.uint8)).save(images[0])  # labels say 64 x 48
    with pytest.raises(MediaError, match="another size") as caught:
        _batches(pictures, batch_size=5).batch(0)
    assert caught.value.where == str(images[0])
