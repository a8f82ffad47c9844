"""Overlaps of boxes: counted pixels, a plain twin, and the properties that the papers promise."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tilth.ops.boxes import (
    aligned_ciou,
    aligned_diou,
    aligned_giou,
    aligned_iou,
    box_area,
    clip_boxes,
    cxcywh_to_xyxy,
    pairwise_iou,
    xyxy_to_cxcywh,
)

ALL = [aligned_iou, aligned_giou, aligned_diou, aligned_ciou]
LEAST = {aligned_iou: 0.0, aligned_giou: -1.0, aligned_diou: -1.0, aligned_ciou: -2.0}

coordinate = st.floats(-500, 500, width=32)
extent = st.floats(0.125, 600, width=32)
box = st.builds(lambda x, y, w, h: [x, y, x + w, y + h], coordinate, coordinate, extent, extent)
pixel_box = st.builds(
    lambda x, y, w, h: [x, y, x + w, y + h], *[st.integers(0, 8)] * 2, *[st.integers(1, 8)] * 2
)


def tensor(*boxes):
    return torch.tensor(boxes, dtype=torch.float64)


def plain_ciou(first, second):
    """The paper's Eq. 1, 6 and 8 to 11, one number at a time."""
    wide = max(0.0, min(first[2], second[2]) - max(first[0], second[0]))
    high = max(0.0, min(first[3], second[3]) - max(first[1], second[1]))
    sizes = [(b[2] - b[0], b[3] - b[1]) for b in (first, second)]
    iou = wide * high / (sum(w * h for w, h in sizes) - wide * high)
    centres = [((b[0] + b[2]) / 2, (b[1] + b[3]) / 2) for b in (first, second)]
    distance = math.dist(*centres) ** 2
    diagonal = (max(first[2], second[2]) - min(first[0], second[0])) ** 2
    diagonal += (max(first[3], second[3]) - min(first[1], second[1])) ** 2
    angles = [math.atan(w / h) for w, h in sizes]
    v = 4 / math.pi**2 * (angles[1] - angles[0]) ** 2
    alpha = v / (1 - iou + v) if v else 0.0
    return iou - distance / diagonal - alpha * v


@given(pixel_box, pixel_box)
def test_eq1_iou_by_counting_pixels(first, second):
    def pixels(b):
        return {(x, y) for x in range(b[0], b[2]) for y in range(b[1], b[3])}

    expected = len(pixels(first) & pixels(second)) / len(pixels(first) | pixels(second))
    assert aligned_iou(tensor(first), tensor(second)).item() == pytest.approx(expected)


def test_eq3_giou_by_hand():
    # Two unit squares, one empty unit square between them: 0 - 1 / 3.
    assert aligned_giou(tensor([0, 0, 1, 1]), tensor([2, 0, 3, 1])).item() == pytest.approx(-1 / 3)


def test_eq7_diou_by_hand():
    # Centres 2 apart; the box around both is 3 x 1, its diagonal squared 10: 0 - 4 / 10.
    assert aligned_diou(tensor([0, 0, 1, 1]), tensor([2, 0, 3, 1])).item() == pytest.approx(-0.4)


@given(box, box)
def test_eq10_ciou_matches_plain_twin(first, second):
    found = aligned_ciou(tensor(first), tensor(second)).item()
    assert found == pytest.approx(plain_ciou(first, second), abs=1e-7)


def test_eq11_trade_off_is_constant_to_the_gradient():
    # Same centre, so only IoU and the aspect term move; the twin freezes alpha by hand.
    first = tensor([-2.0, -1.0, 2.0, 1.0]).requires_grad_()
    second = tensor([-1.0, -2.0, 1.0, 2.0])
    aligned_ciou(first, second).sum().backward()

    twin = first.detach().clone().requires_grad_()
    width, height = twin[0, 2] - twin[0, 0], twin[0, 3] - twin[0, 1]
    v = 4 / math.pi**2 * (math.atan(0.5) - torch.atan(width / height)) ** 2
    iou = aligned_iou(twin, second)[0]
    alpha = (v / (1 - iou + v)).item()
    (aligned_diou(twin, second)[0] - alpha * v).backward()
    torch.testing.assert_close(first.grad, twin.grad)


@pytest.mark.parametrize("similarity", ALL)
@given(first=box, second=box)
def test_similarities_are_bounded_and_symmetric(similarity, first, second):
    there = similarity(tensor(first), tensor(second)).item()
    back = similarity(tensor(second), tensor(first)).item()
    assert LEAST[similarity] - 1e-9 <= there <= 1 + 1e-9
    assert there == pytest.approx(back, abs=1e-9)
    assert there <= aligned_iou(tensor(first), tensor(second)).item() + 1e-9


@pytest.mark.parametrize("similarity", ALL)
@given(first=box, second=box, factor=st.floats(0.25, 8))
def test_similarities_do_not_depend_on_scale(similarity, first, second, factor):
    plain = similarity(tensor(first), tensor(second))
    scaled = similarity(tensor(first) * factor, tensor(second) * factor)
    torch.testing.assert_close(plain, scaled, atol=1e-7, rtol=0)


@pytest.mark.parametrize("similarity", ALL)
@given(only=box)
def test_a_box_is_wholly_like_itself(similarity, only):
    assert similarity(tensor(only), tensor(only)).item() == pytest.approx(1.0)


DEGENERATE = [
    [5.0, 5.0, 5.0, 5.0],
    [5.0, 5.0, 9.0, 5.0],
    [5.0, 5.0, 5.0, 9.0],
    [9.0, 9.0, 5.0, 5.0],
    [0.0, 0.0, 1e6, 1e-6],
]


@pytest.mark.parametrize("similarity", ALL)
@pytest.mark.parametrize("broken", DEGENERATE)
@pytest.mark.parametrize("other", [*DEGENERATE, [0.0, 0.0, 10.0, 20.0]])
def test_gradients_are_finite_for_degenerate_boxes(similarity, broken, other):
    first = torch.tensor([broken], requires_grad=True)
    second = torch.tensor([other], requires_grad=True)
    value = similarity(first, second)
    value.sum().backward()
    assert value.isfinite().all()
    assert first.grad.isfinite().all()
    assert second.grad.isfinite().all()


@given(st.lists(box, min_size=1, max_size=5), st.lists(box, min_size=1, max_size=5))
def test_pairwise_is_aligned_for_every_pair(first, second):
    table = pairwise_iou(tensor(*first), tensor(*second))
    for row, one in enumerate(first):
        for column, other in enumerate(second):
            assert table[row, column] == aligned_iou(tensor(one), tensor(other))[0]


def test_pairwise_of_no_boxes_is_an_empty_table():
    assert pairwise_iou(torch.zeros(0, 4), torch.zeros(3, 4)).shape == (0, 3)


@given(box)
def test_centre_form_and_back(corners):
    there_and_back = cxcywh_to_xyxy(xyxy_to_cxcywh(tensor(corners)))
    torch.testing.assert_close(there_and_back, tensor(corners))


def test_area_of_a_box_turned_inside_out_is_zero():
    assert box_area(tensor([0, 0, 4, 3], [4, 3, 0, 0])).tolist() == [12, 0]


@given(box)
def test_clipped_boxes_lie_in_the_picture(corners):
    x0, y0, x1, y1 = clip_boxes(tensor(corners), 320, 200)[0].tolist()
    assert 0 <= x0 <= x1 <= 320
    assert 0 <= y0 <= y1 <= 200


def test_a_gradient_step_on_ciou_brings_boxes_together():
    target = tensor([10.0, 10.0, 50.0, 30.0])
    moving = tensor([40.0, 35.0, 60.0, 75.0]).requires_grad_()
    assert aligned_iou(moving, target).item() == 0
    optimiser = torch.optim.Adam([moving], lr=0.5)
    for _ in range(300):
        optimiser.zero_grad()
        (1 - aligned_ciou(moving, target)).sum().backward()
        optimiser.step()
    assert aligned_iou(moving, target).item() > 0.9
