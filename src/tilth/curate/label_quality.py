"""Scores of labels between 0 and 1: how well each given label fits the held-out probabilities.

Low is bad. `SCORES` is the table of them. Adjusted by class, a score asks how far the label lies
below what is usual for its class, so that a class the model is always unsure of is not all errors.

Source: Kuan, Mueller, 2022, Model-agnostic label quality scoring to detect real-world label errors,
    ICML DataPerf workshop.
Follows: self-confidence -> `self_confidence`; normalized margin -> `normalised_margin`;
    confidence-weighted entropy -> `confidence_weighted_entropy`; adjusted scores ->
    `adjusted_probabilities`.
Symbols: own = probability of the given label; other = largest probability of another class.
Differs: all scores are low for bad labels and lie in 0 to 1: the margin m in -1 to 1 becomes
    (m + 1) / 2, the ratio r = entropy / own of 0 and up becomes 1 / (1 + r), of equal order.
Checked by: `test_scores_by_hand`, `test_scores_lie_between_0_and_1`,
    `test_adjusted_probabilities_lift_a_class_that_is_always_unsure`
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tilth.curate.confident_learning import ScannedLabels, calibrated_joint, confident_joint
from tilth.curate.noise_posterior import own_posterior
from tilth.errors import SettingsError

__all__ = [
    "SCORES",
    "adjusted_probabilities",
    "confidence_weighted_entropy",
    "label_quality",
    "normalised_margin",
    "posterior",
    "self_confidence",
]

Block = NDArray[np.floating]

SMALLEST = 1e-12  # a sure model that is wrong still scores 0


def label_quality(
    scan: ScannedLabels, *, score: str = "posterior", adjusted: bool = False
) -> NDArray[np.float64]:
    """float64 [n]: the score of every label, low where it is likely to be wrong.

    Args:
        score: a key of `SCORES`.
        adjusted: first take from each class's probabilities what is usual for it.

    Raises:
        SettingsError: no such score, or an adjusted posterior, which knows the classes already.
    """
    if score not in SCORES:
        raise SettingsError("no such score of labels", expected=", ".join(SCORES), got=score)
    if score == "posterior":
        if adjusted:
            raise SettingsError(
                "the posterior is adjusted by class already",
                fix="leave out the adjustment, or choose score 'self_confidence'",
            )
        return posterior(scan)
    function: Callable[[Block, NDArray[np.int64]], Block] = SCORES[score]
    scores = np.empty(len(scan))
    # In blocks of its own, since a score needs a few times the block's memory.
    rows = max(1, 2**17 // scan.num_classes)
    kind = np.result_type(scan.probabilities.dtype, np.float32)
    for start in range(0, len(scan), rows):
        part = slice(start, start + rows)
        block = scan.probabilities[part].astype(kind, copy=False)
        if adjusted:
            block = adjusted_probabilities(block, scan.thresholds)
        scores[part] = function(block, scan.labels[part])
    return np.clip(scores, 0, 1)


def posterior(scan: ScannedLabels) -> NDArray[np.float64]:
    """float64 [n]: probability that the label is right; see `tilth.curate.noise_posterior`."""
    return own_posterior(scan, calibrated_joint(confident_joint(scan))).astype(np.float64)


def self_confidence(block: Block, labels: NDArray[np.int64]) -> Block:
    """[b]: the probability of the given label.

    >>> self_confidence(np.array([[0.25, 0.75]]), np.array([1]))
    array([0.75])
    """
    return block[np.arange(len(block)), labels]


def normalised_margin(block: Block, labels: NDArray[np.int64]) -> Block:
    """[b]: the probability of the given label less the largest of another class, in 0 to 1.

    >>> normalised_margin(np.array([[0.25, 0.75]]), np.array([0]))
    array([0.25])
    """
    every = np.arange(len(block))
    others = block.copy()
    others[every, labels] = -np.inf
    return (block[every, labels] - others.max(axis=1) + 1) / 2


def confidence_weighted_entropy(block: Block, labels: NDArray[np.int64]) -> Block:
    """[b]: 1 / (1 + entropy / self-confidence), the entropy as a share of the largest possible.

    >>> confidence_weighted_entropy(np.array([[0.5, 0.5], [0.0, 1.0]]), np.array([0, 1])).round(3)
    array([0.333, 1.   ])
    """
    own = self_confidence(block, labels)
    logs = np.log(np.maximum(block, np.finfo(block.dtype).tiny))
    entropy = -(block * logs).sum(axis=1) / np.log(block.shape[1])
    return own / (own + np.maximum(entropy, SMALLEST))


def adjusted_probabilities(block: Block, thresholds: NDArray[np.float64]) -> Block:
    """[b, k]: every class less its threshold, lifted above 0, and scaled to add up to 1.

    >>> adjusted_probabilities(np.array([[0.4, 0.6]]), np.array([0.4, 0.8])).round(3)
    array([[0.571, 0.429]])
    """
    usual = np.where(np.isfinite(thresholds), thresholds, 0).astype(block.dtype)
    lifted = block - usual + usual.max()
    return lifted / lifted.sum(axis=1, keepdims=True)


SCORES: dict[str, Callable[..., NDArray[np.floating]]] = {
    "posterior": posterior,
    "self_confidence": self_confidence,
    "normalised_margin": normalised_margin,
    "confidence_weighted_entropy": confidence_weighted_entropy,
}
"""Name -> function; the first takes the scan, the others a block [b, k] and its labels [b]."""
