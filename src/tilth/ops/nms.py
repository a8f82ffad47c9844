"""Non-maximum suppression: of boxes that cover the same object, keep the best.

The result is exactly that of the greedy rule (take the best box, drop what overlaps it, repeat),
but no Python step is taken per box: boxes are worked through in blocks by falling score, and inside
a block the greedy answer is the fixed point that a few matrix operations reach.

Source: Zheng, Wang, Liu, Li, Ye, Ren, 2020, Distance-IoU Loss: Faster and Better Learning for
    Bounding Box Regression, arXiv 1911.08287v1 (section 3.4, DIoU-NMS); the exponent is that of
    the program Darknet (box.c: greedynms has 0.6, diounms names it beta_nms).
Follows: section 3.4 (suppress where IoU - R_DIoU exceeds the threshold) ->
    `non_maximum_suppression`.
Symbols: iou_threshold = epsilon; beta = exponent of R_DIoU = squared distance of the centres over
    the squared diagonal of the box around both, 1 in the paper.
Differs: two boxes of equal score are taken in the order of their rows.
Checked by: `test_matches_greedy_loop`, `test_distance_keeps_a_neighbour_that_overlap_drops`
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from tilth.errors import SettingsError
from tilth.ops.boxes import distance_penalty, pairwise_iou

__all__ = ["Suppression", "SuppressionKind", "non_maximum_suppression", "strongest_boxes"]

SuppressionKind = Literal["iou", "diou"]

BLOCK = 512
# Weak boxes beyond these cannot reach the 100 a picture that the COCO protocol looks at.
MAX_CANDIDATES = 2000


@dataclass(frozen=True, kw_only=True)
class Suppression:
    """Which boxes of one object are dropped.

    Attributes:
        kind: "iou", plain overlap (OpenCV, Darknet's "default"); "diou" spares a neighbour whose
            centre is elsewhere (Darknet's "greedynms", which all its detectors use).
        iou_threshold: the overlap from which the weaker box goes.
        beta: exponent of the distance in "diou": 0.6 in Darknet, 1 in the paper.
        class_agnostic: boxes of different classes suppress each other, too.
        max_detections: kept in a picture.
    """

    kind: SuppressionKind = "iou"
    iou_threshold: float = 0.5
    beta: float = 0.6
    class_agnostic: bool = False
    max_detections: int = 300

    def __post_init__(self) -> None:
        for name, fits, expected in (
            ("iou_threshold", 0 <= self.iou_threshold <= 1, "0 to 1"),
            ("beta", self.beta > 0, "above 0"),
            ("max_detections", self.max_detections >= 1, "1 or more"),
        ):
            if not fits:
                raise SettingsError(
                    f"setting 'suppression.{name}' cannot be used",
                    expected=expected,
                    got=str(getattr(self, name)),
                )


def strongest_boxes(
    boxes_xyxy: Float[Tensor, "n 4"],
    scores: Float[Tensor, "n c"],
    *,
    score_threshold: float,
    max_candidates: int = MAX_CANDIDATES,
) -> tuple[Float[Tensor, "k 4"], Float[Tensor, "k"], Int64[Tensor, "k"]]:
    """Boxes, scores and classes above a score, best first; what suppression then looks at.

    A box may answer for several classes, and then stands there for each. Thousands of weak boxes
    are what makes suppression slow; the ``max_candidates`` best are enough for every protocol.

    >>> boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [4.0, 4.0, 6.0, 6.0]])
    >>> strongest_boxes(boxes, torch.tensor([[0.2, 0.9], [0.0, 0.3]]), score_threshold=0.1)[2]
    tensor([1, 1, 0])
    """
    strong = (scores > score_threshold).nonzero()
    strength = scores[strong[:, 0], strong[:, 1]]
    best = torch.argsort(strength, descending=True, stable=True)[:max_candidates]
    rows, class_index = strong[best].unbind(1)
    return boxes_xyxy[rows], strength[best], class_index


def non_maximum_suppression(
    boxes_xyxy: Float[Tensor, "n 4"],
    scores: Float[Tensor, "n"],
    class_index: Int64[Tensor, "n"],
    *,
    iou_threshold: float,
    max_kept: int = 300,
    kind: SuppressionKind = "iou",
    beta: float = 0.6,
    class_agnostic: bool = False,
) -> Int64[Tensor, "k"]:
    """Rows of the boxes to keep, best first; only boxes of one class suppress each other.

    A box goes when its IoU with a kept box of its class is greater than ``iou_threshold``; of kind
    "diou", when the IoU less (squared distance of centres / squared diagonal around both) ^ beta
    is. Of equal scores the earlier row comes first, so the answer does not depend on the machine.

    >>> boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 10.0]])
    >>> scores, classes = torch.tensor([0.5, 0.9]), torch.tensor([0, 0])
    >>> non_maximum_suppression(boxes, scores, classes, iou_threshold=0.5)
    tensor([1])
    """
    if class_agnostic:
        class_index = torch.zeros_like(class_index)
    exponent = beta if kind == "diou" else None
    order = torch.argsort(scores, descending=True, stable=True)
    kept = order[:0]
    for block in order.split(BLOCK):
        clashes = _clashes(boxes_xyxy, class_index, kept, block, iou_threshold, exponent)
        block = block[~clashes.any(dim=0)]
        clashes = _clashes(boxes_xyxy, class_index, block, block, iou_threshold, exponent)
        kept = torch.cat([kept, block[_greedy_fixed_point(clashes.triu(diagonal=1))]])
        if len(kept) >= max_kept:
            break
    return kept[:max_kept]


def _clashes(
    boxes_xyxy: Tensor,
    class_index: Tensor,
    first: Tensor,
    second: Tensor,
    iou_threshold: float,
    exponent: float | None,
) -> Bool[Tensor, "i j"]:
    """Which of the rows ``first`` would suppress which of the rows ``second``."""
    overlap = pairwise_iou(boxes_xyxy[first], boxes_xyxy[second])
    if exponent is not None:
        penalty = distance_penalty(boxes_xyxy[first][:, None], boxes_xyxy[second][None])
        overlap = overlap - penalty**exponent  # section 3.4
    return (overlap > iou_threshold) & (class_index[first][:, None] == class_index[second])


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
