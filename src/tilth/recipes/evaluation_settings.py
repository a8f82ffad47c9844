"""How detections are made for an evaluation, and by which rules they are scored."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from tilth.errors import SettingsError
from tilth.metrics.accumulation import Interpolation
from tilth.ops.nms import Suppression

__all__ = ["CONSTANTS", "EvaluationSettings", "evaluation_settings"]

CONSTANTS: dict[str, tuple[float, Suppression]] = {
    "tilth": (0.001, Suppression()),
    "darknet-map": (0.005, Suppression(kind="diou", iou_threshold=0.45)),
    "darknet-valid": (0.001, Suppression(kind="diou", iou_threshold=0.6)),
    "darknet-demo": (0.25, Suppression(kind="diou", iou_threshold=0.45)),
}
"""Least score and suppression as published numbers were made: ours, and Darknet's three programs.

Darknet's `map` and `valid` differ in nothing else, and by about a point of AP50.
"""


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """How detections are made and scored.

    Attributes:
        mode: "coco" (101 recalls), "voc07" (11), "area"; see `tilth.metrics.average_precision`.
        score_threshold: weaker detections are not looked at.
        suppression: of several boxes for one object.
        bootstrap: resamplings of the pictures for the 95 % intervals.
        latency: pictures that are timed one by one; 0 for no timing.
    """

    mode: Interpolation = "coco"
    score_threshold: float = 0.001
    suppression: Suppression = field(default_factory=Suppression)
    bootstrap: int = 200
    latency: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.score_threshold <= 1:
            raise SettingsError(
                "no score can reach this threshold",
                expected="0 to 1",
                got=str(self.score_threshold),
            )
        for name in ("bootstrap", "latency"):
            if getattr(self, name) < 0:
                raise SettingsError(
                    f"setting '{name}' cannot be used",
                    expected="0 or more",
                    got=str(getattr(self, name)),
                )


def evaluation_settings(
    *,
    constants: str = "tilth",
    score_threshold: float | None = None,
    iou_threshold: float | None = None,
    kind: Literal["iou", "diou"] | None = None,
    class_agnostic: bool = False,
    **others: Any,
) -> EvaluationSettings:
    """Settings from a name in `CONSTANTS`, with what is given in its place.

    Raises:
        SettingsError: no such name, or a value that cannot be used.
    """
    if constants not in CONSTANTS:
        raise SettingsError(
            "unknown constants of evaluation", expected=", ".join(CONSTANTS), got=constants
        )
    score, usual = CONSTANTS[constants]
    return EvaluationSettings(
        score_threshold=score if score_threshold is None else score_threshold,
        suppression=Suppression(
            kind=kind or usual.kind,
            iou_threshold=usual.iou_threshold if iou_threshold is None else iou_threshold,
            class_agnostic=class_agnostic,
        ),
        **others,
    )
