"""Non-maximum suppression: of boxes that cover the same object, keep the best.

The result is exactly that of the greedy rule (take the best box, drop what overlaps it, repeat),
but no Python step is taken per box: boxes are worked through in blocks by falling score, and inside
a block the greedy answer is the fixed point that a few matrix operations reach.
"""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from tilth.ops.boxes import pairwise_iou

__all__ = ["non_maximum_suppression"]

BLOCK = 512


def non_maximum_suppression(
    boxes_xyxy: Float[Tensor, "n 4"],
    scores: Float[Tensor, "n"],
    class_index: Int64[Tensor, "n"],
    *,
    iou_threshold: float,
    max_kept: int = 300,
) -> Int64[Tensor, "k"]:
    """Rows of the boxes to keep, best first; only boxes of one class suppress each other.

    A box goes when its IoU with a kept box of its class is greater than ``iou_threshold``. Of equal
    scores the earlier row comes first, so the answer does not depend on the machine.

    >>> boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 10.0]])
    >>> scores, classes = torch.tensor([0.5, 0.9]), torch.tensor([0, 0])
    >>> non_maximum_suppression(boxes, scores, classes, iou_threshold=0.5)
    tensor([1])
    """
    order = torch.argsort(scores, descending=True, stable=True)
    kept = order[:0]
    for block in order.split(BLOCK):
        clashes = _clashes(boxes_xyxy, class_index, kept, block, iou_threshold)
        block = block[~clashes.any(dim=0)]
        clashes = _clashes(boxes_xyxy, class_index, block, block, iou_threshold)
        kept = torch.cat([kept, block[_greedy_fixed_point(clashes.triu(diagonal=1))]])
        if len(kept) >= max_kept:
            break
    return kept[:max_kept]


def _clashes(
    boxes_xyxy: Tensor, class_index: Tensor, first: Tensor, second: Tensor, iou_threshold: float
) -> Bool[Tensor, "i j"]:
    """Which of the rows ``first`` would suppress which of the rows ``second``."""
    overlaps = pairwise_iou(boxes_xyxy[first], boxes_xyxy[second]) > iou_threshold
    return overlaps & (class_index[first][:, None] == class_index[second])


def _greedy_fixed_point(suppresses: Bool[Tensor, "n n"]) -> Bool[Tensor, "n"]:
    """Which boxes the greedy rule keeps, where ``suppresses[i, j]`` may be true only for i < j.

    Box j stays if no box that stays suppresses it. Started from "all stay", round k settles every
    box that hangs on a chain of at most k suppressions; real pictures need a handful of rounds.
    """
    keep = torch.ones(len(suppresses), dtype=torch.bool, device=suppresses.device)
    while True:
        settled = ~(suppresses & keep[:, None]).any(dim=0)
        if torch.equal(settled, keep):
            return keep
        keep = settled
