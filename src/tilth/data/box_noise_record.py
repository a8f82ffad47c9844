"""How boxes are made wrong, and the record of which were: the truth of an experiment."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilth.data.dataset import Dataset
from tilth.errors import SettingsError

__all__ = ["BOX_NOISE_KINDS", "BoxNoise", "BoxNoiseSettings"]

BOX_NOISE_KINDS = {
    "missed": "boxes are taken away, though their objects are there",
    "spurious": "boxes are added where no object is, with the class, width and height of a box "
    "of the set; the rate is that of the boxes there were",
    "moved": "boxes are shifted, and made larger or smaller, by shares of their sides between half "
    "the setting and the whole, and stay inside the picture",
    "swapped": "boxes are given another class, all others alike unless a matrix says where they go",
}
"""Name of the fault -> what it means."""


@dataclass(frozen=True, kw_only=True)
class BoxNoiseSettings:
    """How many boxes are made wrong, and how far.

    Attributes:
        missed, spurious, moved, swapped: shares of the boxes; all but spurious together at most 1.
        shift: of moved boxes, the share of a side by which the centre leaves its place at most; at
            least half of it.
        scale: of moved boxes, the share by which a side grows at most, or shrinks alike (to
            1 / (1 + scale)); at least half of it, by the logarithm.
        largest_overlap: of spurious boxes, the IoU with any object that is still no object.
    """

    missed: float = 0.0
    spurious: float = 0.0
    moved: float = 0.0
    swapped: float = 0.0
    shift: float = 0.3
    scale: float = 0.3
    largest_overlap: float = 0.1

    def __post_init__(self) -> None:
        for name in (*BOX_NOISE_KINDS, "largest_overlap"):
            if not 0 <= getattr(self, name) <= 1:
                raise _refused(name, "0 to 1", getattr(self, name))
        for name in ("shift", "scale"):
            if not 0 <= getattr(self, name) <= 10:
                raise _refused(name, "0 to 10", getattr(self, name))
        if (together := self.missed + self.moved + self.swapped) > 1 + 1e-9:
            raise SettingsError(
                "a box has one fault at most",
                expected="missed, moved and swapped together at most 1",
                got=f"{together:g}",
            )
        if self.moved and not (self.shift or self.scale):
            raise _refused("shift", "above 0, or a scale above 0, where boxes are moved", 0.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class BoxNoise:
    """What was done to the boxes of a data set: a row a fault, by picture.

    Attributes:
        settings: as asked for.
        seed: of all draws.
        num_boxes: boxes that could have a fault, m.
        kind: c names of `BOX_NOISE_KINDS`.
        media_index: int64 [c], row of the picture.
        annotation_id: int64 [c], in the noisy set; of a missed box, in the clean one.
        old_category, new_category: int64 [c], rows of the categories; -1 where there is no box.
        old_boxes_xyxy, new_boxes_xyxy: float64 [c, 4], pixels; NaN where there is no box.
        iou: float64 [c], of the old and the new box; of a spurious one with the nearest object, of
            a missed one 0.
    """

    settings: BoxNoiseSettings
    seed: int
    num_boxes: int
    kind: NDArray[np.str_]
    media_index: NDArray[np.int64]
    annotation_id: NDArray[np.int64]
    old_category: NDArray[np.int64]
    new_category: NDArray[np.int64]
    old_boxes_xyxy: NDArray[np.float64]
    new_boxes_xyxy: NDArray[np.float64]
    iou: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.kind)

    def counts(self) -> dict[str, int]:
        """How many boxes have each fault."""
        return {name: int((self.kind == name).sum()) for name in BOX_NOISE_KINDS}

    def document(self) -> dict[str, Any]:
        """Plain values of everything but the rows, for JSON."""
        wanted = {name: getattr(self.settings, name) for name in BOX_NOISE_KINDS}
        return {
            "kind": "boxes",
            "definition": {name: BOX_NOISE_KINDS[name] for name, rate in wanted.items() if rate},
            "settings": asdict(self.settings),
            "seed": self.seed,
            "boxes": self.num_boxes,
            "changed": len(self),
            "counts": self.counts(),
            "realised_rates": {k: n / self.num_boxes for k, n in self.counts().items()},
        }

    def rows(self, dataset: Dataset) -> list[dict[str, Any]]:
        """A plain record a fault; ``dataset`` is the clean or the noisy one."""
        names = [category.name for category in dataset.categories]
        return [
            {
                "picture": dataset.media.uri[int(self.media_index[row])],
                "fault": str(self.kind[row]),
                "label": int(self.annotation_id[row]),
                "old_class": _name(names, self.old_category[row]),
                "new_class": _name(names, self.new_category[row]),
                "old_box": _edges(self.old_boxes_xyxy[row]),
                "new_box": _edges(self.new_boxes_xyxy[row]),
                "iou": round(float(self.iou[row]), 6),
            }
            for row in range(len(self))
        ]


def _name(names: list[str], category: np.int64) -> str | None:
    return names[int(category)] if category >= 0 else None


def _edges(box: NDArray[np.float64]) -> list[float] | None:
    return None if np.isnan(box).any() else [round(float(edge), 4) for edge in box]


def _refused(name: str, expected: str, got: float) -> SettingsError:
    return SettingsError(
        f"setting '{name}' of box noise cannot be used", expected=expected, got=f"{got:g}"
    )
