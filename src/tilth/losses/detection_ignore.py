"""Slots that are no background although they learn nothing.

Two kinds: a prediction that covers some truth well, though it is another slot's to learn; and one
that lies in a region nobody may judge, such as a crowd. Every slot meets every box of its picture,
which is most of the loss's work: boxes are taken a few at a time, so that memory stays bounded and
on a CPU inside its cache, and overlaps are compared without dividing.
"""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from tilth.losses.detection_assignment import Truths
from tilth.losses.slot_values import HeadMap
from tilth.ops.boxes import aligned_iou, box_area

__all__ = [
    "best_overlaps",
    "boxes_per_picture",
    "cover_a_truth",
    "covering",
    "lie_in_a_region",
    "unjudged",
]

# Pairs of a slot and a box worked on at once.
PAIRS_AT_ONCE = {"cpu": 2**18, "cuda": 2**24}
# A prediction with more of its area than this inside a region belongs to it.
REGION_SHARE = 0.5
# Darknet compares a prediction with the truths only if it names some class with this probability.
CLASS_PROBABILITY = 0.25


@torch.no_grad()
def unjudged(map_: HeadMap, truths: Truths, threshold: float) -> Bool[Tensor, "b a h w"]:
    """Slots whose objectness is not punished: they cover a truth well, or lie in a region."""
    found = covering(map_, truths, threshold)
    if truths.regions_xyxy.shape[1]:
        boxes = map_.boxes_xyxy.flatten(1, 3)
        found |= lie_in_a_region(boxes, truths.regions_xyxy).view_as(found)
    return found


@torch.no_grad()
def covering(map_: HeadMap, truths: Truths, threshold: float) -> Bool[Tensor, "b a h w"]:
    """Slots that name some class, and whose IoU with a truth is above the threshold."""
    least = CLASS_PROBABILITY
    if not map_.head.is_activated:
        least = math.log(CLASS_PROBABILITY / (1 - CLASS_PROBABILITY))
    covers = cover_a_truth(map_.boxes_xyxy.flatten(1, 3), truths.padded_xyxy, threshold)
    covers = covers.view(map_.shape)
    # Few do: only their classes are looked at.
    place = covers.nonzero(as_tuple=True)
    picture, anchor, row, column = place
    classes = map_.raw[picture, anchor, 5:, row, column]
    covers[place] = (classes > least).any(dim=1)
    return covers


def cover_a_truth(
    found_xyxy: Float[Tensor, "b s 4"], truths_xyxy: Float[Tensor, "b t 4"], threshold: float
) -> Bool[Tensor, "b s"]:
    """Predictions whose IoU with some box of their picture is above the threshold.

    intersection / (first + second - intersection) > q is intersection - k second > k first with
    k = q / (1 + q): the greatest left side over all boxes is enough to know.
    """
    share = threshold / (1 + threshold)
    excess = _greatest_excess(found_xyxy, truths_xyxy, share)
    return excess > share * box_area(found_xyxy)


def lie_in_a_region(
    found_xyxy: Float[Tensor, "b s 4"], regions_xyxy: Float[Tensor, "b r 4"]
) -> Bool[Tensor, "b s"]:
    """Predictions with more than half of their area inside one of their picture's regions.

    The area is the prediction's own, as the COCO protocol has it for crowds.
    """
    return _greatest_excess(found_xyxy, regions_xyxy, 0.0) > REGION_SHARE * box_area(found_xyxy)


def best_overlaps(
    found_xyxy: Float[Tensor, "k 4"],
    image_index: Int64[Tensor, "k"],
    truths_xyxy: Float[Tensor, "b t 4"],
) -> Float[Tensor, "k"]:
    """The greatest IoU of each prediction with a box of its picture, 0 where there is none."""
    best = found_xyxy.new_zeros(len(found_xyxy))
    for column in truths_xyxy.unbind(1):
        best = torch.maximum(best, aligned_iou(found_xyxy, column[image_index]))
    return best


def boxes_per_picture(
    boxes_xyxy: Float[Tensor, "n 4"], image_index: Int64[Tensor, "n"], batch: int
) -> Float[Tensor, "b t 4"]:
    """Each picture's boxes, filled up with empty ones, which overlap nothing."""
    order = torch.argsort(image_index, stable=True)
    picture = image_index[order]
    counts = torch.bincount(picture, minlength=batch)
    place = torch.arange(len(picture), device=picture.device)
    place = place - (counts.cumsum(0) - counts)[picture]
    padded = boxes_xyxy.new_zeros(batch, int(counts.max()), 4)
    padded[picture, place] = boxes_xyxy[order]
    return padded


def _greatest_excess(
    found_xyxy: Float[Tensor, "b s 4"], others_xyxy: Float[Tensor, "b t 4"], share: float
) -> Float[Tensor, "b s"]:
    """The greatest intersection less ``share`` of the other box's area; 0 where there is none."""
    # Slots last and every edge in its own memory: long loops, which vectorise.
    found = found_xyxy.movedim(-1, 0).contiguous()[:, :, None]
    greatest = found.new_zeros(found.shape[1], found.shape[3])
    for boxes in _a_few_at_a_time(others_xyxy, slots=greatest.numel()):
        x0, y0, x1, y1 = boxes.movedim(-1, 0)[..., None]
        wide = torch.minimum(found[2], x1).sub_(torch.maximum(found[0], x0)).clamp_(min=0)
        high = torch.minimum(found[3], y1).sub_(torch.maximum(found[1], y0)).clamp_(min=0)
        excess = wide.mul_(high)
        if share:
            excess.sub_(share * box_area(boxes)[..., None])
        greatest = torch.maximum(greatest, excess.amax(dim=1))
    return greatest


def _a_few_at_a_time(boxes: Float[Tensor, "b t 4"], *, slots: int) -> Iterator[Tensor]:
    at_once = PAIRS_AT_ONCE.get(boxes.device.type, PAIRS_AT_ONCE["cuda"])
    if boxes.shape[1]:
        yield from boxes.split(max(1, at_once // max(1, slots)), dim=1)
