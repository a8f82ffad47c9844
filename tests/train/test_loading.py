"""A batch is a function of its number: complete epochs, exact boxes, reasons for bad input."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from labelled_pictures import labelled
from PIL import Image

from tilth.data.records import Geometry
from tilth.errors import DataError, EmptyDatasetError, MediaError, SettingsError
from tilth.train.augment_settings import LIGHT, NO_AUGMENT, AugmentSettings
from tilth.train.loading import DetectionBatches, epoch_order
from tilth.train.picture_cache import CacheSettings
from tilth.train.sampling import WeightedSampler

EVERYTHING = AugmentSettings(
    fill="mean",
    vertical_flip_probability=0.5,
    jitter=0.3,
    rotation_degrees=20.0,
    shear_degrees=10.0,
    perspective=0.2,
    brightness=0.2,
    saturation=0.2,
    contrast=0.2,
    mosaic=0.7,
    mixup=0.5,
    cutout=0.5,
    copy_paste=0.7,
    blur=0.5,
    noise=0.5,
    jpeg=0.5,
    multi_scale=2.0,
    multi_scale_every=2,
    min_visible=0.1,
)


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
    return [tmp_path / f"{row}.png" for row in range(5)], labelled(sizes, boxes)


def _batches(pictures, **options):
    images, dataset = pictures
    options = {"size": 64, "batch_size": 2, "seed": 0, "settings": NO_AUGMENT, **options}
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


@pytest.mark.parametrize("settings", [NO_AUGMENT, replace(LIGHT, hue=0, saturation=0)])
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


def test_crowds_and_difficult_objects_are_regions_to_ignore(tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "0.png")
    boxes = [
        (0, 0, (0, 0, 16, 16), False, Geometry.BOX),
        (0, 0, (16, 0, 32, 16), True, Geometry.BOX),
        (0, 1, (32, 0, 48, 16), False, Geometry.BOX),
        (0, 1, (48, 0, 64, 16), False, Geometry.BOX),
    ]
    marks = [None, None, {"difficult": True}, {"difficult": 0, "pose": "left"}]
    dataset = labelled([(64, 64)], boxes, attributes=marks)
    options = {"size": 64, "batch_size": 1, "seed": 0, "settings": NO_AUGMENT}
    batch = DetectionBatches([tmp_path / "0.png"], dataset, **options).batch(0)
    assert batch["boxes_xyxy"][:, 0].tolist() == [0, 48]
    assert batch["ignore_boxes_xyxy"].tolist() == [[16, 0, 32, 16], [32, 0, 48, 16]]
    assert batch["ignore_image_index"].tolist() == [0, 0]
    batch = DetectionBatches(
        [tmp_path / "0.png"], dataset, include_difficult=True, **options
    ).batch(0)
    assert batch["boxes_xyxy"][:, 0].tolist() == [0, 32, 48]
    assert batch["ignore_boxes_xyxy"].tolist() == [[16, 0, 32, 16]]


def test_weights_of_annotations_reach_their_boxes(pictures):
    weights = np.array([0.5, 9, 9, 2, 3, 4])  # rows 1 and 2 are a crowd and a label
    batch = _batches(pictures, batch_size=5, weights=weights).batch(0)
    media = batch["media_index"][batch["image_index"]]
    expected = {0: 0.5, 1: 2.0, 2: 3.0, 3: 4.0}
    assert batch["box_weights"].tolist() == [expected[row] for row in media.tolist()]
    assert batch["box_weights"].dtype == torch.float32


@pytest.mark.parametrize("weights", [np.ones(4), np.array([1, 1, 1, 1, 1, -1.0])])
def test_weights_that_cannot_be_used_are_refused(pictures, weights):
    with pytest.raises(DataError, match="weights of the annotations"):
        _batches(pictures, weights=weights)


def test_the_last_part_of_a_run_has_no_mosaic_and_no_mixture(pictures):
    settings = AugmentSettings(mosaic=1.0, mixup=1.0, close_mosaic=0.25)
    batches = _batches(pictures, settings=settings, num_batches=20)
    samples = [batches.parameters_of(position) for position in range(40)]
    assert [len(sample.pictures) for sample in samples] == [4] * 30 + [1] * 10
    assert [sample.other is not None for sample in samples] == [True] * 30 + [False] * 10
    unknown = _batches(pictures, settings=settings)
    assert len(unknown.parameters_of(10_000).pictures) == 4


def test_what_is_logged_says_what_is_done(pictures):
    batches = _batches(pictures, settings=EVERYTHING)
    logged = batches.parameters_of(7).to_dict()
    assert msgspec.json.decode(msgspec.json.encode(logged))["size"] == batches.size_of(3)
    assert logged["pictures"][0]["row"] == int(batches.batch(3)["media_index"][1])


def test_sizes_of_unlabelled_media_are_looked_up(pictures):
    images, dataset = pictures
    zero = np.zeros(5, dtype=np.int32)
    boxes = dataset.annotations.boxes_xyxy.copy()
    boxes[0, 2] = 500.0  # beyond the picture
    unknown = replace(
        dataset,
        media=replace(dataset.media, width=zero, height=zero),
        annotations=replace(dataset.annotations, boxes_xyxy=boxes),
    )
    known = replace(dataset, annotations=replace(dataset.annotations, boxes_xyxy=boxes))
    _assert_equal(_batches((images, unknown)).batch(0), _batches((images, known)).batch(0))
    _assert_equal(_batches((images, unknown)).batch(1), _batches((images, known)).batch(1))


def test_an_empty_file_names_its_path(pictures):
    images, _ = pictures
    images[2].write_bytes(b"")
    with pytest.raises(MediaError, match="empty") as caught:
        _batches(pictures, batch_size=5).batch(0)
    assert caught.value.where == str(images[2])


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
        labelled([(60, 30)], boxes),
        size=60,
        batch_size=1,
        seed=0,
        settings=NO_AUGMENT,
    ).batch(0)
    # At this size the picture is not resized; 15 pixels of padding lie above it.
    expected = [[10, 20, 20, 30], [0, 35, 12, 45], [59, 44, 60, 45]]
    assert batch["boxes_xyxy"].tolist() == expected
    assert batch["class_index"].tolist() == [0, 1, 1]


def test_pictures_without_a_box_are_trained_on(tmp_path):
    Image.new("RGB", (20, 20)).save(tmp_path / "0.png")
    batch = DetectionBatches(
        [tmp_path / "0.png"], labelled([(20, 20)], []), size=32, batch_size=1, seed=0
    ).batch(0)
    assert batch["boxes_xyxy"].shape == (0, 4)
    assert batch["class_index"].shape == batch["image_index"].shape == (0,)


@pytest.mark.parametrize("settings", [LIGHT, AugmentSettings(), EVERYTHING])
def test_same_number_same_batch_in_any_order(pictures, settings):
    forwards = [_batches(pictures, settings=settings).batch(step) for step in range(8)]
    again = _batches(pictures, settings=settings, cache=CacheSettings(gigabytes=0))
    for step in reversed(range(8)):
        _assert_equal(again.batch(step), forwards[step])


def test_epochs_differ_and_so_does_another_seed(pictures):
    batches = _batches(pictures, batch_size=5, settings=AugmentSettings())
    first, second = batches.batch(0), batches.batch(1)
    by_media = [b["images"][b["media_index"].argsort()] for b in (first, second)]
    assert not torch.equal(*by_media)
    other = _batches(pictures, batch_size=5, settings=AugmentSettings(), seed=1).batch(0)
    assert not torch.equal(first["images"], other["images"])


@pytest.mark.parametrize("settings", [LIGHT, EVERYTHING])
def test_two_small_batches_are_one_large_one(pictures, settings):
    options = {"settings": settings, "num_batches": 4}
    small = _batches(pictures, batch_size=2, batches_per_step=2, **options)
    large = _batches(pictures, batch_size=4, **{**options, "num_batches": 2}).batch(1)
    halves = [small.batch(2), small.batch(3)]
    assert torch.equal(torch.cat([half["images"] for half in halves]), large["images"])
    assert torch.equal(torch.cat([half["boxes_xyxy"] for half in halves]), large["boxes_xyxy"])
    assert halves[0]["names"] + halves[1]["names"] == large["names"]


@given(num_images=st.integers(1, 40), batch_size=st.integers(1, 40), seed=st.integers(0, 3))
def test_every_picture_comes_once_an_epoch(num_images, batch_size, seed):
    batch_size = min(batch_size, num_images)
    dataset = labelled([(8, 8)] * num_images, [])
    batches = DetectionBatches(
        [None] * num_images, dataset, size=8, batch_size=batch_size, seed=seed
    )
    seen = [batches.parameters_of(position).pictures[0].row for position in range(3 * num_images)]
    for epoch in range(3):
        order = seen[epoch * num_images : (epoch + 1) * num_images]
        assert sorted(order) == list(range(num_images))
        assert order == epoch_order(num_images, seed, epoch).tolist()


def test_identity_names_data_and_settings(pictures):
    images, dataset = pictures
    identity = _batches(pictures).identity
    assert identity == _batches(pictures, cache=CacheSettings(gigabytes=1e-9)).identity
    assert identity != _batches(pictures, seed=1).identity
    assert identity != _batches(pictures, settings=replace(NO_AUGMENT, scale=0.1)).identity
    weighted = WeightedSampler(np.arange(5), seed=0)
    assert identity != _batches(pictures, sampler=weighted).identity
    assert identity != _batches(pictures, weights=np.full(6, 0.5)).identity
    moved = dataset.annotations.boxes_xyxy.copy()
    moved[0, 0] += 1
    changed = replace(dataset, annotations=replace(dataset.annotations, boxes_xyxy=moved))
    assert identity["digest"] != _batches((images, changed)).identity["digest"]


def test_empty_set_is_refused():
    with pytest.raises(EmptyDatasetError, match="no picture"):
        DetectionBatches([], labelled([], []), size=64, batch_size=1, seed=0)


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
