"""What a metric of sequences is predicted from: every frame against every place of the target."""

from __future__ import annotations

import itertools

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tilth.errors import DataError
from tilth.losses.surrogate_layers import Build, one_hot, pooled

__all__ = ["SequencePairs", "match_channels", "read_channels", "soft_string"]

# Chances are raised to it: between what a network can follow and the likeliest class alone.
SHARPNESS = 4


def match_channels(prediction: Tensor, target: Tensor) -> Float[Tensor, "n c t l"]:
    """A table of frames against places, as a picture: an edit distance is a path through it.

    Its channels: the chance that the frame gives to the place's class; how alike the frame is to
    the one before it (a decoder that drops repetitions sees one letter); whether there is a place;
    and the k chances of the frame, the same at all places: c = 3 + k.

    Args:
        prediction: chances [n, t, k] of k classes, a blank among them where there is one.
        target: classes [n, l], below 0 beyond the end of the sequence.

    Raises:
        DataError: a class outside 0..k-1, or shapes that do not fit.
    """
    num_classes = prediction.shape[-1]
    _check(prediction, target, num_classes)
    places = one_hot(target, num_classes).to(prediction.dtype)  # [n, k, l]
    match = prediction @ places
    before = torch.cat([prediction[:, :1] * 0, prediction[:, :-1]], dim=1)
    repeat = (prediction * before).sum(dim=2)[:, :, None].expand_as(match)
    is_place = (target >= 0).to(prediction.dtype)[:, None, :].expand_as(match)
    frames = prediction.transpose(1, 2)[..., None].expand(-1, -1, -1, target.shape[1])
    return torch.cat([torch.stack([match, repeat, is_place], dim=1), frames], dim=1)


def soft_string(frames: Float[Tensor, "n t k"], slots: int) -> Float[Tensor, "n slots c"]:
    """How much of each class stands at each place of the string that frames spell: c = k - 1.

    Read as a greedy decoder reads: runs of one class are one place, and the last class is none. A
    run of class k starts at frame t with the chance p_t(k) (1 - p_(t-1)(k)); its place is the
    number of starts before it, and falls to the two nearest places. For frames that are sure it is
    the decoded string.

    Args:
        slots: places; what comes after is dropped.

    >>> frames = torch.eye(3)[[0, 0, 2, 0, 1]][None]
    >>> soft_string(frames, slots=3).argmax(dim=2)
    tensor([[0, 0, 1]])
    """
    classes = frames[..., :-1]
    before = torch.cat([classes[:, :1] * 0, classes[:, :-1]], dim=1)
    starts = classes * (1 - before)
    mass = starts.sum(dim=2)
    place = mass.cumsum(dim=1) - mass
    at = torch.arange(slots, dtype=frames.dtype, device=frames.device)
    share = (1 - (place[..., None] - at).abs()).clamp_min(0)  # [n, t, slots]
    return share.transpose(1, 2) @ starts


def read_channels(prediction: Tensor, target: Tensor) -> Float[Tensor, "n 3 slots l"]:
    """A table of the places of the string that was read against those of the true one.

    Its channels: how much of the true place's class stands there; how much of any class does; and
    whether there is a true place.

    Args:
        prediction: chances [n, t, k] by frame, the last class being none (a blank); all 0 beyond
            the end.
        target: classes [n, l], below 0 beyond the end of the sequence.

    Raises:
        DataError: a class outside 0..k-2, or shapes that do not fit.
    """
    _check(prediction, target, prediction.shape[-1] - 1)
    sharp = prediction.clamp_min(1e-6) ** SHARPNESS
    chances = sharp / sharp.sum(dim=2, keepdim=True)
    is_frame = (prediction > 0).any(dim=2, keepdim=True).to(prediction.dtype)
    found = soft_string(chances * is_frame, target.shape[1] + 2)
    places = one_hot(target, prediction.shape[2] - 1).to(prediction.dtype)  # [n, c, l]
    same = found @ places
    any_class = found.sum(dim=2, keepdim=True).expand_as(same)
    is_place = (target >= 0).to(prediction.dtype)[:, None, :].expand_as(same)
    return torch.stack([same, any_class, is_place], dim=1)


def _check(prediction: Tensor, target: Tensor, num_classes: int) -> None:
    if prediction.ndim != 3 or target.ndim != 2 or len(prediction) != len(target):
        raise DataError(
            "sequences have shapes that do not fit",
            expected="chances [n, t, k] and classes [n, l]",
            got=f"{list(prediction.shape)} and {list(target.shape)}",
        )
    if target.numel() and int(target.max()) >= num_classes:
        raise DataError(
            "a target names a class that the predictions do not have",
            expected=f"0 to {num_classes - 1}, below 0 beyond the end",
            got=str(int(target.max())),
        )


class SequencePairs(nn.Module):
    """Features of a table of frames against places.

    Args:
        channels: of the input, see `match_channels`.
    """

    def __init__(self, channels: int, build: Build) -> None:
        super().__init__()
        width = build.channels
        sizes = (channels, width, 2 * width, 2 * width)
        self.layers = nn.ModuleList()
        for number, (before, after) in enumerate(itertools.pairwise(sizes)):
            # Time is halved twice; places stay, each of them is one error at most.
            stride = (2 if number else 1, 1)
            layer = nn.Conv2d(before, after, 3, stride=stride, padding=1)
            self.layers.append(nn.Sequential(build.layer(layer), build.activation()))
        self.num_features = 3 * 2 * width + 2 * 2 * width + 3 * width

    def forward(self, channels: Float[Tensor, "n c t l"]) -> Float[Tensor, "n d"]:
        """Features [n, d]; of places beyond the end nothing is pooled by place."""
        is_place = channels[:, 2:3, :1].amax(dim=2)  # [n, 1, l]
        first = self.layers[0](channels)
        values = first
        for layer in self.layers[1:]:
            values = layer(values)
        by_place = values.amax(dim=2) * is_place
        by_frame = values.amax(dim=3).mean(dim=2)
        count = is_place.sum(dim=2).clamp_min(1)
        found = [pooled(first), pooled(values), by_place.sum(dim=2) / count, by_frame]
        return torch.cat(found, dim=1)
