"""What is pasted is where its box says, and has the outline that the labels say."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled_pictures import labelled
from PIL import Image

from tilth.data.masks import polygons_to_rle
from tilth.data.records import Geometry
from tilth.train.augment import draw_sample_pixels
from tilth.train.augment_parameters import Paste, PictureParameters, SampleParameters
from tilth.train.augment_settings import NO_AUGMENT
from tilth.train.copy_paste import outline_of
from tilth.train.loading import DetectionBatches

TRIANGLE = [[10, 10, 30, 10, 10, 30]]


@pytest.fixture(scope="module", params=["box", "polygon", "mask"])
def batches(request, tmp_path_factory):
    """Picture 0 is black with a box; picture 1 has a white square, labelled in three ways."""
    folder = tmp_path_factory.mktemp("paste")
    black, white = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64, 3), np.uint8)
    white[10:30, 10:30] = 255
    for row, image in enumerate((black, white)):
        Image.fromarray(image).save(folder / f"{row}.png")
    kinds = {"box": Geometry.BOX, "polygon": Geometry.POLYGON, "mask": Geometry.RLE}
    outline = None if request.param == "box" else TRIANGLE
    if request.param == "mask":
        outline = json.loads(polygons_to_rle(json.dumps(TRIANGLE).encode(), 64, 64))
    dataset = labelled(
        [(64, 64)] * 2,
        [
            (0, 0, (4, 4, 12, 12), False, Geometry.BOX),
            (1, 1, (10, 10, 30, 30), False, kinds[request.param]),
        ],
        polygons=[None, outline],
    )
    paths = [folder / "0.png", folder / "1.png"]
    made = DetectionBatches(paths, dataset, size=64, batch_size=1, seed=0, settings=NO_AUGMENT)
    return request.param, made


def _pasted(batches, **changes):
    paste = Paste(
        **{"row": 1, "choice": 0.0, "scale": 1.0, "flip": False, "x": 0, "y": 0} | changes
    )
    parameters = SampleParameters(size=64, pictures=(PictureParameters(row=0),), pastes=(paste,))
    sample = np.empty((64, 64, 3), dtype=np.uint8)
    return sample, draw_sample_pixels(sample, parameters, batches, batches.settings)


@settings(max_examples=20)
@given(x=st.floats(0, 1), y=st.floats(0, 1), scale=st.floats(0.75, 1.25), flip=st.booleans())
def test_pasted_pixels_and_box_agree(batches, x, y, scale, flip):
    _, made = batches
    sample, targets = _pasted(made, x=x, y=y, scale=scale, flip=flip)
    assert targets.class_index[-1] == 1
    rows, columns = np.nonzero(sample.min(axis=2) > 127)
    white = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    assert np.abs(targets.boxes_xyxy[-1] - white).max() <= 2.5  # a pointed corner is rounded


def test_outline_decides_which_pixels_are_pasted(batches):
    kind, made = batches
    sample, _ = _pasted(made, x=0.5, y=0.5)
    white = (sample.min(axis=2) > 127).sum()
    expected = {"box": 400, "polygon": 200, "mask": 200}[kind]
    assert white == pytest.approx(expected, rel=0.12)
    mirrored, _ = _pasted(made, x=0.5, y=0.5, flip=True)
    np.testing.assert_allclose(
        np.flatnonzero(mirrored.min(axis=2).any(axis=0))[[0, -1]],
        np.flatnonzero(sample.min(axis=2).any(axis=0))[[0, -1]],
        atol=1,
    )


def test_a_box_that_is_pasted_over_is_no_longer_asked_for(batches):
    _, made = batches
    _, targets = _pasted(made, x=0.0, y=0.0)
    assert targets.class_index.tolist() == [1]
    _, targets = _pasted(made, x=1.0, y=1.0)
    assert targets.class_index.tolist() == [0, 1]


def test_pictures_without_objects_give_nothing(batches):
    _, made = batches
    empty = labelled([(64, 64)] * 2, [])
    alone = DetectionBatches(made.images, empty, size=64, batch_size=1, seed=0, settings=NO_AUGMENT)
    sample, targets = _pasted(alone)
    assert not sample.any()
    assert len(targets.boxes_xyxy) == 0


def test_only_shapes_have_an_outline():
    assert outline_of(None, Geometry.BOX) is None
    assert outline_of(b"[[0, 0, 1, 1]]", Geometry.BOX) is None
    assert outline_of(b"[[0, 0, 1, 1]]", Geometry.POLYGON) == []  # two corners have no inside
