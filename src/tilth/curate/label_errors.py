"""Wrong labels, the likeliest first: from labels and held-out probabilities of their classes.

The probabilities of an example must come from a model that has not seen its label; how to get them
is `tilth.recipes.label_errors`. Numbers in, numbers out: nothing here changes a label.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tilth.curate.confident_learning import calibrated_joint, confident_joint, scan_labels
from tilth.curate.label_error_filters import FILTERS, least_likely
from tilth.curate.label_inputs import warn_if_in_sample
from tilth.curate.label_quality import SCORES, label_quality
from tilth.curate.noise_matrix import NoiseEstimate, estimate_noise
from tilth.curate.noise_posterior import label_posterior
from tilth.errors import SettingsError

__all__ = ["LabelErrorSettings", "LabelErrors", "find_label_errors", "label_error_mask"]


@dataclass(frozen=True, kw_only=True)
class LabelErrorSettings:
    """How wrong labels are told from hard examples.

    Attributes:
        filter: which labels are taken for wrong, a key of
            `tilth.curate.label_error_filters.FILTERS`.
        score: what they are ranked by, a key of `tilth.curate.label_quality.SCORES`.
        adjusted: rank each class by what is usual for it; not with the posterior, which does.
        draws: of the bootstrap behind the intervals; 0 for none.
        confidence: of the intervals.
        seed: of the draws.
    """

    filter: str = "posterior"
    score: str = "posterior"
    adjusted: bool = False
    draws: int = 1000
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        self._require("filter", self.filter in FILTERS, ", ".join(FILTERS))
        self._require("score", self.score in SCORES, ", ".join(SCORES))
        within = not (self.adjusted and self.score == "posterior")
        self._require("adjusted", within, "false for the score 'posterior'")
        self._require("draws", self.draws >= 0, "0 or more")
        self._require("confidence", 0 < self.confidence < 1, "between 0 and 1")

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise SettingsError(
                f"setting '{name}' of the label errors cannot be used",
                expected=expected,
                got=str(getattr(self, name)),
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelErrors:
    """What is thought of n labels.

    Attributes:
        is_error: bool [n], taken for wrong by the filter.
        quality: float64 [n], 0 to 1, low where the label is likely to be wrong.
        ranked: int64 [e], the rows taken for wrong, the worst first.
        suggested: int64 [n], the likeliest other class.
        margin: float32 [n], probability of the suggested class less that of the given one, both
            corrected for the noise: -1 to 1, above 0 where the suggestion is the better label.
        predicted: int64 [n], the class that the model itself finds likeliest.
        noise: the noise matrix and the share of wrong labels.
        in_sample: the model agrees with so many labels that it must have seen them.
        missing_classes: int64, classes that no example carries: never suggested by counts.
    """

    is_error: NDArray[np.bool_]
    quality: NDArray[np.float64]
    ranked: NDArray[np.int64]
    suggested: NDArray[np.int64]
    margin: NDArray[np.float32]
    predicted: NDArray[np.int64]
    noise: NoiseEstimate
    in_sample: bool
    missing_classes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.is_error)


def find_label_errors(
    labels: NDArray[np.integer],
    probabilities: NDArray[np.floating],
    *,
    settings: LabelErrorSettings | None = None,
) -> LabelErrors:
    """Judge every label; warns where the model seems to have seen them.

    Args:
        labels: whole numbers [n], 0 to k - 1, as they were given.
        probabilities: floats [n, k] of any precision, of a model that has not seen these labels.

    Raises:
        DataError, EmptyDatasetError: input that cannot be used; says which row.

    >>> labels = np.array([0] * 8 + [1] * 8)
    >>> held_out = np.where(labels[:, None] == [0, 1], 0.9, 0.1)
    >>> labels[3] = 1
    >>> find_label_errors(labels, held_out).ranked.tolist()
    [3]
    """
    settings = settings or LabelErrorSettings()
    scan = scan_labels(labels, probabilities)
    joint = calibrated_joint(confident_joint(scan))
    chances = label_posterior(scan, joint)
    if settings.filter == "posterior":
        is_error = least_likely(chances.own)
    else:
        is_error = FILTERS[settings.filter](scan, joint)
    if settings.score == "posterior":
        quality = chances.own.astype(np.float64)
    else:
        quality = label_quality(scan, score=settings.score, adjusted=settings.adjusted)
    accused = np.flatnonzero(is_error)
    # Among labels of equal score the one that the model itself finds less likely comes first.
    order = np.lexsort((scan.own[accused], quality[accused]))
    return LabelErrors(
        is_error=is_error,
        quality=quality,
        ranked=accused[order],
        suggested=chances.suggested,
        margin=chances.suggested_probability - chances.own,
        predicted=scan.predicted,
        noise=estimate_noise(
            chances.sums,
            chances.squares,
            draws=settings.draws,
            confidence=settings.confidence,
            seed=settings.seed,
        ),
        in_sample=warn_if_in_sample(scan.labels, scan.predicted),
        missing_classes=np.flatnonzero(scan.counts == 0),
    )


def label_error_mask(
    labels: NDArray[np.integer], probabilities: NDArray[np.floating], *, filter: str = "posterior"
) -> NDArray[np.bool_]:
    """bool [n]: which labels are taken for wrong, and nothing else; the quickest answer.

    Raises:
        SettingsError: no such filter.
        DataError, EmptyDatasetError: input that cannot be used.

    >>> held_out = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.1, 0.9]])
    >>> label_error_mask(np.array([0, 1, 1, 1]), held_out, filter="predicted_neq_given")
    array([False, False,  True, False])
    """
    if filter not in FILTERS:
        raise SettingsError("no such filter", expected=", ".join(FILTERS), got=filter)
    scan = scan_labels(labels, probabilities)
    return FILTERS[filter](scan, calibrated_joint(confident_joint(scan)))
