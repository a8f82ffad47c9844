"""Darknet's derivatives of the overlap of two boxes, which are not quite the true ones.

Source: Zheng, Wang, Liu, Li, Ye, Ren, 2020, Distance-IoU Loss: Faster and Better Learning for
    Bounding Box Regression, arXiv 1911.08287v1, as the program Darknet computes it (box.c).
Follows: dx_box_iou -> `overlap_deltas`; Eq. 7 -> `distance_deltas`; Eq. 8 to 12 ->
    `aspect_deltas`.
Symbols: delta = derivative of the overlap, so what improves the box; shared = width and height of
    the intersection, below 0 where boxes are apart; outer = those of the smallest box around both.
Differs: from the true derivatives as Darknet does: those by size are twice as large for the IoU's
    and GIoU's part; the enclosing box's share in the derivative of the distance by the centre has
    the other sign; the factor 1 / (w^2 + h^2) of the aspect's is left out, as the paper advises;
    and where boxes are apart, a penalty's derivatives stand alone.
Checked by: `test_overlap_deltas_equal_the_plain_formulas`, `test_overlap_deltas_point_to_the_truth`
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["aspect_deltas", "distance_deltas", "overlap_deltas"]

TRADE_OFF_EPS = 1e-6


class Meeting(NamedTuple):
    """Two boxes in every row, along both axes."""

    centre: Float[Tensor, "k 2"]
    size: Float[Tensor, "k 2"]
    wanted_centre: Float[Tensor, "k 2"]
    wanted_size: Float[Tensor, "k 2"]
    shared: Float[Tensor, "k 2"]
    outer: Float[Tensor, "k 2"]
    low_is_inside: Bool[Tensor, "k 2"]
    high_is_inside: Bool[Tensor, "k 2"]
    low_is_outside: Bool[Tensor, "k 2"]
    high_is_outside: Bool[Tensor, "k 2"]

    @property
    def intersection(self) -> Float[Tensor, "k 1"]:
        """Its area; that of two negative sides is positive too, as in Darknet."""
        return _area(self.shared)

    @property
    def union(self) -> Float[Tensor, "k 1"]:
        """The area covered by either."""
        return _area(self.size) + _area(self.wanted_size) - self.intersection


def overlap_deltas(
    found_cxcywh: Float[Tensor, "k 4"], wanted_cxcywh: Float[Tensor, "k 4"], *, kind: str
) -> Float[Tensor, "k 4"]:
    """Derivatives of an overlap by centre x, y, width and height of the found box.

    Args:
        found_cxcywh, wanted_cxcywh: in fractions of the picture, as Darknet has them.
        kind: "iou", "giou", "diou" or "ciou".
    """
    pair = _meeting(found_cxcywh, wanted_cxcywh)
    is_apart = (pair.shared <= 0).any(dim=1, keepdim=True)
    low, high = _iou_by_edges(pair)
    if kind == "giou":
        low_penalty, high_penalty = _enclosing_by_edges(pair)
        low = torch.where(is_apart, 0.0, low) + low_penalty
        high = torch.where(is_apart, 0.0, high) + high_penalty
    deltas = torch.cat([low + high, high - low], dim=1)
    if kind in ("diou", "ciou"):
        deltas = torch.where(is_apart, 0.0, deltas) + distance_deltas(pair)
    if kind == "ciou":
        deltas = deltas + aspect_deltas(pair)
    return deltas


def distance_deltas(pair: Meeting) -> Float[Tensor, "k 4"]:
    """Of minus the squared distance of the centres over the squared diagonal around both."""
    shift = pair.wanted_centre - pair.centre
    distance = shift.square().sum(dim=1, keepdim=True)
    diagonal = pair.outer.square().sum(dim=1, keepdim=True)
    low, high = pair.low_is_outside.float(), pair.high_is_outside.float()
    by_centre = 2 * shift * diagonal - 2 * pair.outer * (high - low) * distance
    by_size = pair.outer * (high + low) * distance
    return torch.cat([by_centre, by_size], dim=1) / diagonal.square()


def aspect_deltas(pair: Meeting) -> Float[Tensor, "k 4"]:
    """Of minus alpha v, alpha being held constant."""
    angle = torch.atan(pair.wanted_size[:, :1] / pair.wanted_size[:, 1:])
    angle = angle - torch.atan(pair.size[:, :1] / pair.size[:, 1:])
    aspect = 4 / math.pi**2 * angle.square()  # Eq. 9
    trade_off = aspect / (1 - pair.intersection / pair.union + aspect + TRADE_OFF_EPS)  # Eq. 11
    slope = trade_off * 8 / math.pi**2 * angle
    width, height = pair.size.split(1, dim=1)
    none = torch.zeros_like(width)
    return torch.cat([none, none, slope * height, -slope * width], dim=1)  # Eq. 12


def _meeting(found_cxcywh: Float[Tensor, "k 4"], wanted_cxcywh: Float[Tensor, "k 4"]) -> Meeting:
    centre, size = found_cxcywh.split(2, dim=1)
    wanted_centre, wanted_size = wanted_cxcywh.split(2, dim=1)
    low, high = centre - size / 2, centre + size / 2
    wanted_low, wanted_high = wanted_centre - wanted_size / 2, wanted_centre + wanted_size / 2
    return Meeting(
        centre,
        size,
        wanted_centre,
        wanted_size,
        shared=torch.minimum(high, wanted_high) - torch.maximum(low, wanted_low),
        outer=torch.maximum(high, wanted_high) - torch.minimum(low, wanted_low),
        low_is_inside=low > wanted_low,
        high_is_inside=high < wanted_high,
        low_is_outside=low < wanted_low,
        high_is_outside=high > wanted_high,
    )


def _area(size: Float[Tensor, "k 2"]) -> Float[Tensor, "k 1"]:
    return size[:, :1] * size[:, 1:]


def _intersection_by_edges(pair: Meeting) -> tuple[Tensor, Tensor]:
    """An edge moves an area by the length of the other axis; only what lies inside moves it."""
    across = pair.shared.flip(1)
    return (
        torch.where(pair.low_is_inside, -across, 0.0),
        torch.where(pair.high_is_inside, across, 0.0),
    )


def _union_by_edges(pair: Meeting) -> tuple[Tensor, Tensor]:
    low, high = _intersection_by_edges(pair)
    return -pair.size.flip(1) - low, pair.size.flip(1) - high


def _iou_by_edges(pair: Meeting) -> tuple[Tensor, Tensor]:
    """Of the IoU by the low and the high edges, [k, 2] each; 0 where there is no union."""
    squared = torch.where(pair.union > 0, pair.union.square(), math.inf)
    edges = zip(_intersection_by_edges(pair), _union_by_edges(pair), strict=True)
    low, high = ((pair.union * i - pair.intersection * u) / squared for i, u in edges)
    return low, high


def _enclosing_by_edges(pair: Meeting) -> tuple[Tensor, Tensor]:
    """Of GIoU's penalty, union over enclosing area."""
    area, across = _area(pair.outer), pair.outer.flip(1)
    by_low = torch.where(pair.low_is_outside, -across, 0.0)
    by_high = torch.where(pair.high_is_outside, across, 0.0)
    edges = zip((by_low, by_high), _union_by_edges(pair), strict=True)
    low, high = ((area * u - pair.union * c) / area.square() for c, u in edges)
    return low, high
