"""When a run that no longer gains has been given enough time."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Patience"]


@dataclass(kw_only=True)
class Patience:
    """Counts evaluations without a gain; part of every checkpoint, so a resumed run goes on.

    Attributes:
        score: the last one that counted as a gain, None before the first.
        without_gain: evaluations since then.

    >>> patience = Patience()
    >>> for score in (0.5, 0.501, 0.502):
    ...     patience.note(score, 0.01)
    >>> patience.without_gain, patience.is_over(2), patience.is_over(0)
    (2, True, False)
    """

    score: float | None = None
    without_gain: int = 0

    def note(self, score: float, min_delta: float) -> None:
        """Take the score of one evaluation.

        A slow climb counts: each score is compared with the last gain, not with the one before.
        """
        if self.score is None or score > self.score + min_delta:
            self.score, self.without_gain = score, 0
        else:
            self.without_gain += 1

    def is_over(self, patience: int) -> bool:
        """Whether ``patience`` evaluations in a row brought nothing; 0 never ends."""
        return 0 < patience <= self.without_gain
