"""Labels of a picture paired with a detector's boxes: which agree, which are moved or swapped.

Each label and each detection is used at most once. Pairs are taken greedily, the largest
score * iou first: a confident detection that overlaps well is the better witness. Order decides
only between equals.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tilth.errors import SettingsError

__all__ = [
    "AgreementSettings",
    "Finding",
    "PairedBoxes",
    "intersections",
    "pair_boxes",
    "pairwise_iou",
]


class Finding(IntEnum):
    """What may be wrong with a label; the numbers are kept in the catalogue, never change one."""

    AGREED = 0
    MISSED = 1  # a confident detection where nobody has drawn a box
    SPURIOUS = 2  # a box that no detection supports
    MOVED = 3  # the class is right, the place is not
    SWAPPED = 4  # the place is right, the class is not


@dataclass(frozen=True, kw_only=True)
class AgreementSettings:
    """When a label and a detection agree.

    Attributes:
        confident_score: a detection that accuses a label, or stands for a missing one, has at
            least this confidence.
        weak_score: detections below it are no evidence for a label either.
        agree_iou: the overlap from which on a label and a detection of its class agree.
        moved_iou: the overlap from which on a lone label and a lone detection of its class are
            taken for one object, drawn in the wrong place.
        same_place_iou: the overlap from which on boxes of two classes are of one object, and a
            lone detection is a second one of an object that has a label.
        error_rate: the share of labels that are taken to be spurious before looking: a silent
            detector says less about a label the more it misses.
        crowd_share: a detection of which this share lies in a crowd region is not missed.
        temperature: of the soft maximum over a picture's boxes; small for the worst alone.
    """

    confident_score: float = 0.5
    weak_score: float = 0.05
    agree_iou: float = 0.6
    moved_iou: float = 0.1
    same_place_iou: float = 0.5
    error_rate: float = 0.02
    crowd_share: float = 0.5
    temperature: float = 0.1

    def __post_init__(self) -> None:
        for name in ("weak_score", "moved_iou", "same_place_iou", "error_rate", "crowd_share"):
            self._require(name, 0 < getattr(self, name) <= 1, "above 0, up to 1")
        within = self.weak_score <= self.confident_score <= 1
        self._require("confident_score", within, f"{self.weak_score} (weak_score) to 1")
        within = self.moved_iou <= self.agree_iou <= 1
        self._require("agree_iou", within, f"{self.moved_iou} (moved_iou) to 1")
        self._require("temperature", self.temperature > 0, "above 0")

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise SettingsError(
                f"setting '{name}' of the agreement cannot be used",
                expected=expected,
                got=str(getattr(self, name)),
            )


class PairedBoxes(NamedTuple):
    """What became of the boxes of one picture.

    Attributes:
        kind: uint8 [n], a `Finding` for each label.
        partner: int64 [n], the detection that it was compared with, -1 for none.
        is_missed: bool [k], for each detection.
    """

    kind: NDArray[np.uint8]
    partner: NDArray[np.int64]
    is_missed: NDArray[np.bool_]


def pair_boxes(
    iou: NDArray[np.float64],
    same_class: NDArray[np.bool_],
    score: NDArray[np.float64],
    settings: AgreementSettings,
) -> PairedBoxes:
    """Pair the labels of one picture with its detections, each at most once, and judge every box.

    First labels and detections of one class that overlap enough, the largest score * iou first.
    Then, among those left over, the confident detections that accuse a label: of its class and
    near (moved), or of another class in its place (swapped). A label that agrees with a weak
    detection while a stronger one of another class lies in the same place is swapped too.

    Args:
        iou: float64 [n, k], of n labels with k detections.
        same_class: bool [n, k].
        score: float64 [k].
    """
    strength = score * iou
    confident = score >= settings.confident_score
    close = iou >= settings.same_place_iou
    agrees = same_class & (iou >= settings.agree_iou)
    partner = _greedy(strength, agrees, np.full(len(iou), -1))
    kind = np.where(partner >= 0, Finding.AGREED, Finding.SPURIOUS).astype(np.uint8)
    agreed = partner.copy()
    near = np.where(same_class, iou >= settings.moved_iou, close)
    partner = _greedy(strength, near & confident, partner)
    accused = np.flatnonzero((agreed < 0) & (partner >= 0))
    is_same = same_class[accused, partner[accused]]
    kind[accused] = np.where(is_same, Finding.MOVED, Finding.SWAPPED)
    _outvote(kind, partner, strength, ~same_class & close & confident)
    alone = confident & ~np.isin(np.arange(len(score)), partner)
    is_missed = alone & ~close.any(axis=0)
    return PairedBoxes(kind=kind, partner=partner, is_missed=is_missed)


def pairwise_iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64 [n, k]; 0 for two boxes without area."""
    inside = intersections(a, b)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (a, b)]
    union = areas[0][:, None] + areas[1][None] - inside
    return np.divide(inside, union, out=np.zeros_like(inside), where=union > 0)


def intersections(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64 [n, k]: areas that boxes [n, 4] and boxes [k, 4] share, square pixels."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    return np.maximum(high - low, 0).prod(axis=2)


def _greedy(
    strength: NDArray[np.float64], allowed: NDArray[np.bool_], partner: NDArray[np.int64]
) -> NDArray[np.int64]:
    """``partner`` with the strongest allowed pairs of free labels and free detections added."""
    partner = partner.copy()
    taken = set(partner[partner >= 0].tolist())
    rows, columns = np.nonzero(allowed)
    for at in np.argsort(-strength[rows, columns], kind="stable").tolist():
        row, column = int(rows[at]), int(columns[at])
        if partner[row] < 0 and column not in taken:
            partner[row] = column
            taken.add(column)
    return partner


def _outvote(
    kind: NDArray[np.uint8],
    partner: NDArray[np.int64],
    strength: NDArray[np.float64],
    accuses: NDArray[np.bool_],
) -> None:
    """Labels that agree with a detection weaker than a free one of another class are swapped."""
    taken = set(partner[kind != Finding.SPURIOUS].tolist())
    for row in np.flatnonzero((kind == Finding.AGREED) & accuses.any(axis=1)).tolist():
        rivals = [c for c in np.flatnonzero(accuses[row]).tolist() if c not in taken]
        if not rivals:
            continue
        best = max(rivals, key=lambda column: (strength[row, column], -column))
        if strength[row, best] > strength[row, partner[row]]:
            kind[row], partner[row] = Finding.SWAPPED, best
            taken.add(best)
