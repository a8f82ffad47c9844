"""The truths of a batch as a set-predicting detector of transformers is told them.

Its loss knows one kind of truth: a box that counts in full. Places where nothing may be learned
(crowds, difficult objects, boxes of weight 0) are therefore painted over in the picture.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from tilth.errors import DataError, SettingsError

__all__ = [
    "DetectionTargets",
    "labels_of",
    "painted_over",
    "refuse_outside",
    "split_by_weight",
]


class DetectionTargets(NamedTuple):
    """The truths of a batch, row by row, in pixels of the network's input.

    Attributes:
        image_index: row of each truth's picture in the batch.
        box_weights: 1 for a truth that counts, 0 for a place where nothing is learned.
        ignore_boxes_xyxy, ignore_image_index: such places too: crowds, difficult objects.
    """

    boxes_xyxy: Float[Tensor, "n 4"]
    class_index: Int64[Tensor, "n"]
    image_index: Int64[Tensor, "n"]
    box_weights: Float[Tensor, "n"] | None = None
    ignore_boxes_xyxy: Float[Tensor, "m 4"] | None = None
    ignore_image_index: Int64[Tensor, "m"] | None = None

    @classmethod
    def of_batch(cls, batch: Mapping[str, Any]) -> "DetectionTargets":
        """The entries of a training batch that have the names of these fields."""
        return cls(**{name: batch[name] for name in cls._fields if name in batch})


def split_by_weight(targets: DetectionTargets) -> tuple[DetectionTargets, DetectionTargets]:
    """Truths that count, and places where nothing is learned (boxes whose class means nothing).

    Raises:
        SettingsError: a weight that is neither 1 nor 0.
    """
    boxes, classes, images = targets.boxes_xyxy, targets.class_index, targets.image_index
    places, whose = [boxes.new_zeros(0, 4)], [images.new_zeros(0)]
    if targets.ignore_boxes_xyxy is not None and targets.ignore_image_index is not None:
        places.append(targets.ignore_boxes_xyxy)
        whose.append(targets.ignore_image_index)
    if targets.box_weights is not None:
        counts, dropped = targets.box_weights == 1, targets.box_weights == 0
        _refuse_shares(targets.box_weights, counts | dropped)
        places.append(boxes[dropped])
        whose.append(images[dropped])
        boxes, classes, images = boxes[counts], classes[counts], images[counts]
    picture = torch.cat(whose)
    ignored = DetectionTargets(torch.cat(places), torch.zeros_like(picture), picture)
    return DetectionTargets(boxes, classes, images), ignored


def painted_over(
    images: Tensor, ignored: DetectionTargets, counted: DetectionTargets, *, fill: Tensor
) -> Tensor:
    """Pictures whose ignored places show the mean colour, except where a truth that counts lies.

    The loss has no place for "do not punish here", but what is not to be seen is not found either.
    """
    if not len(ignored.boxes_xyxy):
        return images
    hidden = _covered(images, ignored) & ~_covered(images, counted)
    # Networks that take pictures as they are have no mean; grey is as good as any.
    colour = torch.where(fill > 0, fill, torch.full_like(fill, 0.5)).to(images.dtype)
    return torch.where(hidden[:, None], colour, images)


def labels_of(targets: DetectionTargets, images: Tensor) -> list[dict[str, Tensor]]:
    """One entry a picture: centres and sizes as shares of it, inside it."""
    height, width = images.shape[-2:]
    extent = targets.boxes_xyxy.new_tensor([width, height, width, height])
    corners = (targets.boxes_xyxy / extent).clamp(0, 1).float()
    low, high = corners[:, :2], corners[:, 2:]
    boxes = torch.cat([(low + high) / 2, high - low], dim=1)
    rows = [targets.image_index == number for number in range(len(images))]
    return [{"class_labels": targets.class_index[row], "boxes": boxes[row]} for row in rows]


def refuse_outside(name: str, index: Tensor, count: int) -> None:
    """Stop at a truth of a class or a picture that is not there.

    Raises:
        DataError: with its row.
    """
    outside = (index < 0) | (index >= count)
    if outside.any():
        row = int(outside.nonzero()[0])
        raise DataError(
            f"a truth is of a {name} that the network does not have",
            expected=f"0 to {count - 1}",
            got=str(int(index[row])),
            where=f"truth {row} of the batch",
        )


def _covered(images: Tensor, boxes: DetectionTargets) -> Bool[Tensor, "b h w"]:
    """Pixels whose centre lies in one of the boxes of their picture."""
    batch, _, height, width = images.shape
    covered = torch.zeros(batch, height, width, dtype=torch.bool, device=images.device)
    corners = boxes.boxes_xyxy.round().long().clamp(min=0).tolist()
    for (left, top, right, bottom), image in zip(corners, boxes.image_index.tolist(), strict=True):
        covered[image, top:bottom, left:right] = True
    return covered


def _refuse_shares(weights: Tensor, usable: Tensor) -> None:
    if not usable.all():
        raise SettingsError(
            "this detector's loss knows no weights of single boxes",
            expected="1, or 0 for a place where nothing is learned",
            got=f"{float(weights[~usable][0]):g}",
            fix="train without mixup and without reweighting of boxes, or choose YOLOv4",
        )
