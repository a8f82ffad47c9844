"""A letterboxed picture is whole, centred and unbent, and boxes come back as they were."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tilth.ops.letterbox import FILL, from_letterbox, letterbox, to_letterbox

side = st.integers(1, 90)


def picture(height, width, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=draw, dtype=torch.uint8)


@given(height=side, width=side, size=st.sampled_from([32, 64, 75]))
def test_boxes_come_back_exactly(height, width, size):
    _, placement = letterbox(picture(height, width), size)
    whole = [0.0, 0.0, width, height]
    boxes = torch.tensor([whole, [0.25, 0.5, 1.0, 1.0]], dtype=torch.float64)
    moved = to_letterbox(boxes, placement)
    torch.testing.assert_close(from_letterbox(moved, placement), boxes, rtol=0, atol=1e-9)


@given(height=side, width=side, size=st.sampled_from([32, 64, 75]))
def test_the_picture_fills_its_longer_side_and_is_centred(height, width, size):
    _, placement = letterbox(picture(height, width), size)
    whole = torch.tensor([[0.0, 0.0, width, height]], dtype=torch.float64)
    x0, y0, x1, y1 = to_letterbox(whole, placement)[0].tolist()
    assert max(x1 - x0, y1 - y0) == pytest.approx(size)
    assert abs((x0 + x1) - size) <= 1
    assert abs((y0 + y1) - size) <= 1


def test_a_picture_of_the_right_size_is_not_touched():
    image = picture(64, 64)
    square, placement = letterbox(image, 64)
    assert torch.equal(square, image)
    assert (placement.scale_x, placement.scale_y) == (1, 1)


def test_a_drawn_box_lands_where_its_corners_are_sent():
    image = torch.zeros(3, 100, 200, dtype=torch.uint8)
    image[:, 20:60, 40:120] = 255
    square, placement = letterbox(image, 128)
    corners = to_letterbox(torch.tensor([[40.0, 20.0, 120.0, 60.0]]), placement)[0]
    bright = (square[0] > 200).nonzero()
    (top, left), (bottom, right) = bright.amin(0).tolist(), (bright.amax(0) + 1).tolist()
    assert torch.allclose(corners, torch.tensor([left, top, right, bottom]).float(), atol=1.0)


def test_shrinking_averages_instead_of_skipping():
    # Black and white columns by turns: without antialiasing some would survive as stripes.
    image = torch.zeros(3, 512, 512, dtype=torch.uint8)
    image[:, :, ::2] = 255
    square, _ = letterbox(image, 64)
    assert square[:, :, 1:-1].float().std() < 4


@pytest.mark.parametrize(("padding", "expected"), [("grey", [FILL] * 3), ("mean", [10, 20, 30])])
def test_padding_colour(padding, expected):
    image = torch.tensor([10, 20, 30], dtype=torch.uint8)[:, None, None].expand(3, 10, 40)
    square, placement = letterbox(image, 40, padding=padding)
    assert placement.top == 15
    assert square[:, 0, 0].tolist() == expected
    assert square[:, 20, 20].tolist() == [10, 20, 30]
