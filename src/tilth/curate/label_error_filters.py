"""Which labels are taken for wrong: one function a rule, and the table of them.

All but the first are those of confident learning; every rule is a mask over the examples. None
accuses a label that the model itself would give, except the posterior, which may know better: where
class 3 is often labelled 7, an example that the model calls 7 may still be a 3.

Source: Northcutt, Jiang, Chuang, 2021, Confident Learning: Estimating Uncertainty in Dataset
    Labels, arXiv 1911.00068v4.
Follows: section 3.2, C_confusion -> `predicted_neq_given`; C_confident joint ->
    `confident_learning`; PBC -> `prune_by_class`; PBNR -> `prune_by_noise_rate`; C+NR -> `both`.
Symbols: joint = Q = share of examples by given (row) and true (column) label; own = probability of
    the given label.
Differs: an example is accused of being class j only where j is likelier than its own label, which
    in PBNR only bounds the largest margins from below; `posterior` is ours, see
    `tilth.curate.noise_posterior`.
Checked by: `test_prune_by_noise_rate_matches_plain_loop`, `test_prune_by_class_matches_plain_loop`,
    `test_filters_agree_with_their_definitions`, `test_posterior_accuses_as_many_as_it_expects`
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tilth.curate.confident_learning import ScannedLabels
from tilth.curate.noise_posterior import own_posterior

__all__ = [
    "FILTERS",
    "both",
    "confident_learning",
    "least_likely",
    "low_normalised_margin",
    "low_self_confidence",
    "posterior",
    "predicted_neq_given",
    "prune_by_class",
    "prune_by_noise_rate",
    "wrong_counts",
]

Mask = NDArray[np.bool_]
Joint = NDArray[np.float64]


def posterior(scan: ScannedLabels, joint: Joint) -> Mask:
    """As many as are wrong in expectation, those first that are least likely to be right."""
    return least_likely(own_posterior(scan, joint))


def least_likely(own: NDArray[np.floating]) -> Mask:
    """bool [n]: the labels that are least likely right, as many as the doubts add up to.

    >>> least_likely(np.array([0.1, 0.9, 1.0, 1.0]))
    array([ True, False, False, False])
    """
    return _lowest(own, round(float((1 - own.astype(np.float64)).sum())))


def prune_by_noise_rate(scan: ScannedLabels, joint: Joint) -> Mask:
    """For each given i and true j, n Q_ij examples of label i with the largest p_j - p_i."""
    wanted = wrong_counts(scan, joint)
    accused = np.zeros(len(scan), dtype=np.bool_)
    doubted = np.flatnonzero(scan.predicted != scan.labels)
    for label, rows in _by_label(scan, doubted):
        block, own = scan.probabilities[rows], scan.own[rows]
        # Places in the block: few, since few classes are likelier than the given one.
        places = np.flatnonzero(block > own[:, None])
        row, true = np.divmod(places, scan.num_classes)
        margins = (block.ravel()[places] - own[row]).astype(np.float64)
        keys = true + (1 - margins) / 2
        accused[rows[row[_first_of_each(keys, true, wanted[label])]]] = True
    return accused


def prune_by_class(scan: ScannedLabels, joint: Joint) -> Mask:
    """For each given i, as many as its row of Q has wrong, those with the lowest p_i."""
    wanted = wrong_counts(scan, joint).sum(axis=1)
    keys = scan.labels + scan.own.astype(np.float64) / 2
    accused = _first_of_each(keys, scan.labels, wanted)
    return accused & (scan.predicted != scan.labels)


def both(scan: ScannedLabels, joint: Joint) -> Mask:
    """Accused by class and by noise rate."""
    return prune_by_class(scan, joint) & prune_by_noise_rate(scan, joint)


def confident_learning(scan: ScannedLabels, joint: Joint) -> Mask:
    """Confidently of another class: the off-diagonal cells of the confident joint."""
    return (scan.confident >= 0) & (scan.confident != scan.labels)


def predicted_neq_given(scan: ScannedLabels, joint: Joint) -> Mask:
    """Another class is likelier."""
    return scan.predicted != scan.labels


def low_self_confidence(scan: ScannedLabels, joint: Joint) -> Mask:
    """As many as the joint has wrong, those with the lowest probability of the given label."""
    number = int(wrong_counts(scan, joint).sum())
    return _lowest(scan.own, number) & (scan.predicted != scan.labels)


def low_normalised_margin(scan: ScannedLabels, joint: Joint) -> Mask:
    """As many as the joint has wrong, those furthest below the likeliest other class."""
    number = int(wrong_counts(scan, joint).sum())
    doubted = np.flatnonzero(scan.predicted != scan.labels)
    # Where another class leads, the margin is negative: no other label can be lower.
    top = scan.probabilities[doubted, scan.predicted[doubted]]
    accused = np.zeros(len(scan), dtype=np.bool_)
    accused[doubted[_lowest(scan.own[doubted] - top, number)]] = True
    return accused


def wrong_counts(scan: ScannedLabels, joint: Joint) -> NDArray[np.int64]:
    """int64 [k, k]: n Q to whole examples, 0 on the diagonal."""
    counts = np.round(joint * len(scan)).astype(np.int64)
    np.fill_diagonal(counts, 0)
    return counts


def _lowest(values: NDArray[np.floating], number: int) -> Mask:
    """bool [n]: the ``number`` lowest values; among equals, the first."""
    accused = np.zeros(len(values), dtype=np.bool_)
    number = min(number, len(values))
    if number <= 0:
        return accused
    bound = np.partition(values, number - 1)[number - 1]
    accused[values < bound] = True
    equal = np.flatnonzero(values == bound)
    accused[equal[: number - int(accused.sum())]] = True
    return accused


def _first_of_each(
    keys: NDArray[np.float64], groups: NDArray[np.int64], wanted: NDArray[np.int64]
) -> Mask:
    """bool [m]: of each group the ``wanted`` lowest keys, and all that equal the last of them.

    Args:
        keys: float64 [m], the number of the group and below 1 beside it.
        groups: int64 [m].
        wanted: int64 [g].
    """
    counts = np.bincount(groups, minlength=len(wanted))
    taken = np.minimum(wanted, counts)
    last = np.cumsum(counts) - counts + taken - 1
    bounds = np.full(len(wanted), -np.inf)
    some = taken > 0
    bounds[some] = np.sort(keys)[last[some]]  # sorting values takes a third of sorting places
    return keys <= bounds[groups]


def _by_label(scan: ScannedLabels, rows: NDArray[np.int64]) -> list[tuple[int, NDArray[np.int64]]]:
    """Those of ``rows`` that carry each label, for the labels that have some."""
    kind = np.min_scalar_type(scan.num_classes)  # small integers are sorted by radix
    labels = scan.labels[rows]
    order = np.argsort(labels.astype(kind), kind="stable")
    counts = np.bincount(labels, minlength=scan.num_classes)
    parts = np.split(rows[order], np.cumsum(counts)[:-1])
    return [(label, part) for label, part in enumerate(parts) if len(part)]


FILTERS: dict[str, Callable[[ScannedLabels, Joint], Mask]] = {
    "posterior": posterior,
    "prune_by_noise_rate": prune_by_noise_rate,
    "prune_by_class": prune_by_class,
    "both": both,
    "confident_learning": confident_learning,
    "predicted_neq_given": predicted_neq_given,
    "low_normalised_margin": low_normalised_margin,
    "low_self_confidence": low_self_confidence,
}
"""Name -> rule; the first is the default."""
