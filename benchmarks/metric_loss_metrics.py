"""The three slow metrics of the benchmark of learned metrics, of one example each; without torch.

Source: Huttenlocher, Klanderman and Rucklidge 1993, Comparing images using the Hausdorff distance,
    doi:10.1109/34.232073, the percentile and edges as MONAI 1.6 (`compute_hausdorff_distance`)
    takes them; Levenshtein 1966, by rapidfuzz; ITU-T P.862 (2001) and P.862.1 (2003), by pesq.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from metric_loss_peers import Peer
from metric_loss_sounds import sounds
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, distance_transform_edt

__all__ = ["CAP", "NONE", "EditDistance", "Pesq", "dice", "hausdorff95", "read_string"]

CAP = 14.0
"""Pixels: half of a picture. What a mask that is empty gets where the other is not."""
NONE = 10
"""The class of a frame without a digit."""


def hausdorff95(prediction: Float[NDArray, "... h w"], target: Float[NDArray, "... h w"]) -> float:
    """95th percentile of the distances between the edges of two masks, in pixels, at most `CAP`.

    The larger of both directions; an edge is what erosion by the four neighbours takes away.
    Predictions count from 0.5 on. Two empty masks are at 0, one empty mask is at `CAP`.
    """
    found, true = _mask(prediction), _mask(target)
    if not found.any() or not true.any():
        return CAP if found.any() != true.any() else 0.0
    edges = [mask ^ binary_erosion(mask) for mask in (found, true)]
    ways = (
        np.percentile(distance_transform_edt(~other)[own], 95)
        for own, other in (edges, edges[::-1])
    )
    return float(min(max(ways), CAP))


def dice(prediction: Float[NDArray, "... h w"], target: Float[NDArray, "... h w"]) -> float:
    """Twice the common pixels over those of both masks; 1 for two empty ones."""
    found, true = _mask(prediction), _mask(target)
    both = int(found.sum() + true.sum())
    return 2 * int((found & true).sum()) / both if both else 1.0


def _mask(values: NDArray) -> Bool[NDArray, "h w"]:
    return np.asarray(values).reshape(np.shape(values)[-2:]) >= 0.5


def read_string(frames: Float[NDArray, "time 11"]) -> list[int]:
    """The digits that frames spell out: the likeliest class of each, runs as one, "none" left out.

    >>> read_string(np.eye(11)[[1, 1, 10, 1, 7, 7, 2]])
    [1, 1, 7, 2]
    """
    likeliest = np.asarray(frames).argmax(axis=-1)
    starts = np.flatnonzero(np.diff(likeliest, prepend=-1))
    return [int(k) for k in likeliest[starts] if k != NONE]


@dataclass(frozen=True, kw_only=True)
class EditDistance:
    """Levenshtein distance of the string read from frames, over the true one's length, at most 1.

    Attributes:
        peers: a Python that has rapidfuzz.
    """

    peers: Path

    def __call__(self, prediction: Float[NDArray, "time 11"], target: NDArray[Any]) -> float:
        true = [int(k) for k in target if k >= 0]
        distance = Peer.of(self.peers).ask("levenshtein", read_string(prediction), true)
        return min(float(distance) / len(true), 1.0)


@dataclass(frozen=True, kw_only=True)
class Pesq:
    """PESQ (P.862.1, narrow band) of an example, 1.0 where it hears no speech at all.

    Attributes:
        peers: a Python that has pesq.
    """

    peers: Path

    def __call__(
        self, prediction: Float[NDArray, "1 f t"], target: Float[NDArray, "3 f t"]
    ) -> float:
        score = Peer.of(self.peers).ask("pesq_nb", *sounds(prediction, target))
        return 1.0 if score is None else float(score)
