"""What every detector gives, and how its boxes are read: candidates by score, then suppression."""

import math
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from tilth.errors import DataError
from tilth.ops.anchor_grid import Anchors
from tilth.ops.nms import (
    Suppression,
    SuppressionKind,
    non_maximum_suppression,
    strongest_boxes,
)

__all__ = [
    "AnchorGridNetwork",
    "DetectionNetwork",
    "carry_over_head",
    "detect",
    "start_head",
    "suppressed",
]

OBJECT_PRIOR = 0.01


@runtime_checkable
class DetectionNetwork(Protocol):
    """A module that finds objects.

    Attributes:
        num_classes: columns of its scores.
        suppresses: whether one object may get several boxes, of which the best is to be kept.
    """

    num_classes: int
    suppresses: bool

    def __call__(self, images: Tensor) -> Any:
        """From pictures [b, 3, h, w], RGB in 0..1, to whatever `decode` and the loss read."""
        ...

    def decode(self, outputs: Any) -> tuple[Tensor, Tensor]:
        """Boxes [b, n, 4] in pixels of the network's input, and scores [b, n, c], float32."""
        ...


@runtime_checkable
class AnchorGridNetwork(DetectionNetwork, Protocol):
    """A detector whose outputs are maps of cells with a few anchors each, one map a head.

    Attributes:
        anchors: width and height in pixels of the network's input.
        strides: pixels a cell.
        grid_scales: how far a centre may leave its cell.
        is_activated: whether the maps went through a sigmoid (Scaled-YOLOv4).
    """

    anchors: Sequence[Anchors]
    strides: Sequence[int]
    grid_scales: Sequence[float]
    is_activated: Sequence[bool]

    def head_convolutions(self) -> list[nn.Conv2d]:
        """The convolution that gives each head's map."""
        ...


@torch.no_grad()
def detect(
    model: nn.Module,
    images: Float[Tensor, "b 3 h w"],
    *,
    score_threshold: float = 0.001,
    iou_threshold: float = 0.5,
    max_detections: int = 300,
    kind: SuppressionKind = "iou",
    beta: float = 0.6,
    class_agnostic: bool = False,
) -> list[tuple[Float[Tensor, "k 4"], Float[Tensor, "k"], Int64[Tensor, "k"]]]:
    """Boxes in network pixels, scores and class indices of each picture, best first.

    A place may answer for several classes. The model, a `DetectionNetwork`, is run in evaluation
    mode and put back into the mode in which it was.

    Args:
        iou_threshold, max_detections, kind, beta, class_agnostic: see `Suppression`.
    """
    suppression = Suppression(
        kind=kind,
        iou_threshold=iou_threshold,
        beta=beta,
        class_agnostic=class_agnostic,
        max_detections=max_detections,
    )
    was_training = model.training
    model.eval()
    try:
        boxes, scores = model.decode(model(images))  # type: ignore[operator]
    finally:
        model.train(was_training)
    return [
        suppressed(
            model,
            *strongest_boxes(*of_picture, score_threshold=score_threshold),
            suppression,
        )
        for of_picture in zip(boxes, scores, strict=True)
    ]


def suppressed(
    model: nn.Module,
    boxes_xyxy: Float[Tensor, "n 4"],
    scores: Float[Tensor, "n"],
    class_index: Int64[Tensor, "n"],
    suppression: Suppression,
) -> tuple[Float[Tensor, "k 4"], Float[Tensor, "k"], Int64[Tensor, "k"]]:
    """Of one picture's boxes, best first, one for each object; all where the model gives no more.

    Args:
        model: a `DetectionNetwork`, asked whether it ``suppresses``.
    """
    if model.suppresses:
        kept = non_maximum_suppression(
            boxes_xyxy,
            scores,
            class_index,
            iou_threshold=suppression.iou_threshold,
            max_kept=suppression.max_detections,
            kind=suppression.kind,
            beta=suppression.beta,
            class_agnostic=suppression.class_agnostic,
        )
    else:
        kept = torch.arange(min(len(scores), suppression.max_detections), device=scores.device)
    return boxes_xyxy[kept], scores[kept], class_index[kept]


@torch.no_grad()
def start_head(convolution: nn.Conv2d, *, num_anchors: int, num_classes: int) -> None:
    """Boxes start as the anchors themselves, scores as their priors.

    The many cells without an object then do not swamp the first steps (Lin et al., 2017, Focal Loss
    for Dense Object Detection, arXiv 1708.02002v2, section 3.3).
    """
    assert convolution.bias is not None
    nn.init.normal_(convolution.weight, std=0.01)
    bias = convolution.bias.new_zeros(num_anchors, 5 + num_classes)
    bias[:, 4] = _logit(OBJECT_PRIOR)
    bias[:, 5:] = _logit(1 / max(2, num_classes))
    convolution.bias.copy_(bias.flatten())


@torch.no_grad()
def carry_over_head(
    target: nn.Conv2d,
    weight: Float[Tensor, "old_channels c 1 1"],
    bias: Float[Tensor, "old_channels"],
    *,
    num_anchors: int,
    class_rows: Sequence[int | None],
) -> None:
    """Give a head what another one with the same anchors learned, for other classes.

    Box and objectness of every anchor are taken, and the scores of the classes that both know; the
    others keep the values that ``target`` has.

    Args:
        class_rows: for each class of ``target`` its number in the other head, None for a new one.

    Raises:
        DataError: the other head reads other features, or has other anchors.
    """
    assert target.bias is not None
    fits = weight.shape[1:] == target.weight.shape[1:] and len(weight) % num_anchors == 0
    if not fits:
        raise DataError(
            "a head's weights are of another network",
            expected=f"a multiple of {num_anchors} rows of {tuple(target.weight.shape[1:])}",
            got=f"{len(weight)} rows of {tuple(weight.shape[1:])}",
        )
    rows = [(new, old) for new, old in enumerate(class_rows) if old is not None]
    new = [*range(5), *(5 + row for row, _ in rows)]
    old = [*range(5), *(5 + row for _, row in rows)]
    for into, given in ((target.weight, weight), (target.bias, bias)):
        by_anchor = into.unflatten(0, (num_anchors, -1))
        by_anchor[:, new] = given.to(into).unflatten(0, (num_anchors, -1))[:, old]


def _logit(probability: float) -> float:
    return math.log(probability / (1 - probability))
