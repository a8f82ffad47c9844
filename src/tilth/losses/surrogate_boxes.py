"""What a metric of sets of boxes is predicted from: every found box against every true one."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tilth.errors import DataError
from tilth.losses.surrogate_layers import Build, dense
from tilth.ops.boxes import aligned_giou

__all__ = ["BoxPairs", "box_channels"]

CHANNELS = 7


def box_channels(prediction: Tensor, target: Tensor) -> Float[Tensor, "n m q 7"]:
    """What is to be said of each pair of a found and a true box.

    Its channels: generalised IoU, which has a gradient where boxes do not meet; score; chance of
    the true box's class; the score of what meets it and is of its class; the true box's share of
    the largest one; and whether there are a found and a true box at all.

    Args:
        prediction: [n, m, 5 + k]: x0 y0 x1 y1 in pixels, score, and the chances of k classes; rows
            without area are none.
        target: [n, q, 5]: x0 y0 x1 y1 in pixels, class; rows without area are none.

    Raises:
        DataError: shapes that do not fit.
    """
    fits = prediction.ndim == target.ndim == 3 and len(prediction) == len(target)
    if not fits or prediction.shape[2] < 5 or target.shape[2] != 5:
        raise DataError(
            "sets of boxes have shapes that do not fit",
            expected="found boxes [n, m, 5 + k], true ones [n, q, 5]",
            got=f"{list(prediction.shape)} and {list(target.shape)}",
        )
    target = target.to(prediction.dtype)
    found, true = _with_one(prediction)[:, :, None], _with_one(target)[:, None]
    is_found, is_true = _has_area(found), _has_area(true)
    both = is_found * is_true
    overlap = aligned_giou(found[..., :4], true[..., :4]) * both
    score = found[..., 4] * is_found
    agreed = _class_chance(found[..., 5:], true[..., 4]) * both
    met = score * agreed * overlap.clamp_min(0)
    area = _area(true)
    relative = (area / area.amax(dim=2, keepdim=True).clamp_min(1)).sqrt()
    columns = (overlap, score, agreed, met, relative, is_found, is_true)
    return torch.stack([column.expand_as(both) for column in columns], dim=3)


def _with_one(boxes: Tensor) -> Tensor:
    """At least one row, so that what is pooled over rows has something to pool."""
    if boxes.shape[1]:
        return boxes
    return boxes.new_zeros(boxes.shape[0], 1, boxes.shape[2])


def _area(boxes: Tensor) -> Tensor:
    sides = (boxes[..., 2:4] - boxes[..., :2]).clamp_min(0)
    return sides.prod(dim=-1)


def _has_area(boxes: Tensor) -> Tensor:
    return (_area(boxes) > 0).to(boxes.dtype)


def _class_chance(chances: Tensor, classes: Tensor) -> Tensor:
    """Of each pair [n, m, q]; 1 where there are no classes."""
    if chances.shape[-1] == 0:
        return torch.ones_like(chances[..., 0] + classes)
    places = classes.long().clamp(0, chances.shape[-1] - 1)
    whole = chances.expand(*chances.shape[:2], places.shape[2], -1)
    return whole.gather(3, places.expand(*whole.shape[:3])[..., None])[..., 0]


class BoxPairs(nn.Module):
    """Features of two sets, whatever the order within each: of pairs, then of what is best for each
    box, then over all of them."""

    def __init__(self, build: Build) -> None:
        super().__init__()
        width = 2 * build.channels
        self.of_pairs = dense((CHANNELS, width, width), build)
        self.activation = build.activation()
        self.num_features = 4 * width + 2

    def forward(self, channels: Float[Tensor, "n m q 7"]) -> Float[Tensor, "n d"]:
        """Features [n, d]: means over true boxes and found ones (by score), sums, and counts."""
        values = self.activation(self.of_pairs(channels))
        is_found, is_true = channels[:, :, :1, 5], channels[:, :1, :, 6]  # [n, m, 1], [n, 1, q]
        score = channels[:, :, :1, 1]
        pairs = is_found[..., None] * is_true[..., None]  # [n, m, q, 1]
        by_true = _best(values, pairs, dim=1)
        by_found = _best(values, pairs, dim=2) * score
        num_true = is_true.sum(dim=(1, 2))
        of_true = by_true.sum(dim=1) / num_true.clamp_min(1)[:, None]
        of_found = by_found.sum(dim=1) / score.sum(dim=1).clamp_min(1e-3)
        best = torch.cat(
            [_best(by_true, is_true.transpose(1, 2), dim=1), _best(by_found, is_found, dim=1)],
            dim=1,
        )
        counts = torch.stack([num_true, score.sum(dim=(1, 2))], dim=1).log1p()
        return torch.cat([of_true, of_found, best, counts], dim=1)


def _best(values: Tensor, there: Tensor, *, dim: int) -> Tensor:
    """The largest over those that there are; 0 where there is none."""
    largest = values.masked_fill(there == 0, -torch.inf).amax(dim=dim)
    return torch.where(there.any(dim=dim), largest, 0.0)
