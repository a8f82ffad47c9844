"""The settings of self-adversarial training."""

from __future__ import annotations

from dataclasses import dataclass

from tilth.errors import SettingsError

__all__ = ["AdversarialSettings"]


@dataclass(frozen=True, kw_only=True)
class AdversarialSettings:
    """How far a detector may change its own pictures before it learns them.

    Attributes:
        learning_rate: of the picture, at the end of the run; it rises to it in proportion to the
            steps done. 0 leaves pictures as they are.
        share: of the steps that change their pictures, drawn anew for every step.
        max_change: of a pixel, in 0..1; Darknet has no such bound.
    """

    learning_rate: float = 0.0
    share: float = 0.5
    max_change: float = 0.1

    def __post_init__(self) -> None:
        limits = {"learning_rate": float("inf"), "share": 1.0, "max_change": 1.0}
        for name, limit in limits.items():
            value = getattr(self, name)
            if not 0 <= value <= limit or value == float("inf"):
                raise SettingsError(
                    f"setting '{name}' of self-adversarial training cannot be used",
                    expected="0 or more" if limit > 1 else "0 to 1",
                    got=str(value),
                )
