"""Which slot of a detector's maps learns which truth.

A slot is one anchor in one cell of one head, Darknet's box index. Its number in a head counts
pictures, then anchors, then rows, then columns.

Source: Bochkovskiy, Wang, Liao, 2020, YOLOv4: Optimal Speed and Accuracy of Object Detection,
    arXiv 2004.10934v1 (section 3.4); the rules are those of the authors' program, Darknet
    (yolo_layer.c).
Follows: "multiple anchors for a single ground truth: IoU (truth, anchor) > IoU threshold" ->
    `matching_anchors`; the cell of a truth -> `slots_of_truths`.
Symbols: threshold = iou_thresh.
Differs: a truth whose best anchor belongs to no head (YOLOv4-tiny's smallest) goes to the best that
    does.
Checked by: `test_assignment_matches_plain_twin`, `test_shift_by_a_cell_shifts_the_assignment`,
    `test_an_anchor_that_two_heads_have_learns_in_both`
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from tilth.ops.anchor_grid import Anchors
from tilth.ops.boxes import pairwise_iou

__all__ = ["Truths", "last_truths", "matching_anchors", "slots_of_truths"]


class Truths(NamedTuple):
    """The boxes of a batch, row by row, in network pixels, and the regions left unjudged.

    Attributes:
        weights: of each box.
        class_weights: of each box's class.
        padded_xyxy: the boxes picture by picture, filled up with empty ones.
        regions_xyxy: likewise, the regions where nothing is background.
    """

    boxes_xyxy: Float[Tensor, "n 4"]
    class_index: Int64[Tensor, "n"]
    image_index: Int64[Tensor, "n"]
    weights: Float[Tensor, "n"]
    class_weights: Float[Tensor, "n"]
    padded_xyxy: Float[Tensor, "b t 4"]
    regions_xyxy: Float[Tensor, "b r 4"]


def matching_anchors(
    boxes_xyxy: Float[Tensor, "n 4"], anchors: Sequence[Anchors], threshold: float
) -> list[Bool[Tensor, "n a"]]:
    """For each head, which of its anchors learn which truth.

    Shapes are compared with their centres put together. The anchor of the greatest IoU over all
    heads matches (the first of equals, in every head that has it), and so does every other one
    above ``threshold``.

    >>> matching_anchors(torch.tensor([[0.0, 0.0, 9.0, 9.0]]), [[(10, 10), (40, 40)]], 0.213)
    [tensor([[ True, False]])]
    """
    sizes = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    flat = sizes.new_tensor([list(pair) for head in anchors for pair in head])
    overlaps = pairwise_iou(_centred(sizes), _centred(flat))
    matched = overlaps > threshold
    if len(sizes):
        best = flat[overlaps.argmax(dim=1)]
        matched |= (best[:, None] == flat).all(dim=-1)
    return list(matched.split([len(head) for head in anchors], dim=1))


def slots_of_truths(
    truths: Truths, matched: Bool[Tensor, "n a"], shape: Sequence[int], stride: int
) -> tuple[Int64[Tensor, "k"], Int64[Tensor, "k"]]:
    """Pairs of a truth (row) and a slot that it falls into, rows in ascending order.

    Args:
        matched: which anchors of the head learn which truth.
        shape: pictures, anchors, rows and columns of the head.
    """
    _, num_anchors, height, width = shape
    centres = (truths.boxes_xyxy[:, :2] + truths.boxes_xyxy[:, 2:]) / (2 * stride)
    # A centre on the far border belongs to the last cell.
    column = centres[:, 0].floor().long().clamp(0, width - 1)
    row = centres[:, 1].floor().long().clamp(0, height - 1)
    truth, anchor = matched.nonzero().unbind(1)
    slot = (truths.image_index[truth] * num_anchors + anchor) * height + row[truth]
    return truth, slot * width + column[truth]


def last_truths(
    truth: Int64[Tensor, "k"], slot: Int64[Tensor, "k"], num_slots: int
) -> Int64[Tensor, "s"]:
    """The last truth (row) of each slot, -1 for none."""
    owners = truth.new_full((num_slots,), -1)
    # The greatest row wins: deterministic, where plain indexing leaves the order open.
    return owners.scatter_reduce(0, slot, truth, reduce="amax")


def _centred(sizes: Float[Tensor, "n 2"]) -> Float[Tensor, "n 4"]:
    return torch.cat([-sizes / 2, sizes / 2], dim=1)
