"""Where wrong labels go, by the name of the noise: a row a true class, a column a given one.

Noise that does not look at the example has two parts: how many labels of a class are touched, and
where a touched one goes (`destinations`). A named noise says the second; `transitions` puts both
together. The same words mean different things in different papers, so each name has one meaning,
written out in `DEFINITIONS`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tilth.data.label_noise_maps import NAMED_FLIPS, cifar100_superclasses
from tilth.errors import SettingsError

__all__ = ["DEFINITIONS", "checked_matrix", "destinations", "transitions"]

DEFINITIONS: dict[str, str] = {
    "symmetric_flip": "each label is, at the rate, replaced by one of the other classes, all "
    "alike; never by its own, so the rate is the share of wrong labels",
    "symmetric_uniform": "each label is, at the rate, drawn anew from all classes alike, its own "
    "included; of k classes the share of wrong labels is the rate times (k - 1) / k",
    "asymmetric": "labels of some classes are, at the rate, replaced by the class that theirs is "
    "taken for; the other classes keep their labels",
    "pair_flip": "each label is, at the rate, replaced by the next class, the last by the first",
    "superclass": "each label is, at the rate, replaced by another class of the same superclass, "
    "all alike; a class that is alone in its superclass keeps its labels",
    "instance_dependent": "each example has a rate of its own, normal around the rate and cut to 0 "
    "to 1; where its label goes follows from its features through a random projection of its class",
    "matrix": "each label is drawn from the row of its true class in the given matrix",
}
"""Name of the noise -> what it means."""

_TOLERANCE = 1e-6  # rows written with six decimals still sum to one


def destinations(
    kind: str,
    num_classes: int,
    *,
    flips: Mapping[int, int] | str | None = None,
    superclasses: ArrayLike | str | None = None,
    matrix: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """float64 [k, k]: where a label that is touched goes; rows sum to 1.

    Args:
        flips: of "asymmetric": class -> class, or a name of `NAMED_FLIPS`.
        superclasses: of "superclass": int [k], the superclass of each class, or "cifar100".
        matrix: of "asymmetric", in place of ``flips``: the destinations themselves.

    Raises:
        SettingsError: what this noise needs is missing, or does not fit the classes.

    >>> destinations("pair_flip", 3)
    array([[0., 1., 0.],
           [0., 0., 1.],
           [1., 0., 0.]])
    """
    if kind == "symmetric_flip":
        return (1 - np.eye(num_classes)) / (num_classes - 1)
    if kind == "symmetric_uniform":
        return np.full((num_classes, num_classes), 1 / num_classes)
    if kind == "pair_flip":
        return np.roll(np.eye(num_classes), 1, axis=1)
    if kind == "superclass":
        return _within_superclasses(_superclasses(superclasses, num_classes))
    if (flips is None) == (matrix is None):
        raise SettingsError(
            "asymmetric noise must know which class is taken for which, in one way",
            expected=f"flips (class -> class, or {', '.join(NAMED_FLIPS)}) or matrix",
            got="both" if matrix is not None else "neither",
        )
    if matrix is not None:
        return checked_matrix(matrix, num_classes)
    return _along(_flips(flips or {}, num_classes), num_classes)


def transitions(
    touched_rates: NDArray[np.float64], where: NDArray[np.float64]
) -> NDArray[np.float64]:
    """float64 [k, k]: P(given | true) when ``touched_rates`` [k] of each class go ``where``.

    >>> transitions(np.array([0.2, 0.0]), np.array([[0.0, 1.0], [1.0, 0.0]]))
    array([[0.8, 0.2],
           [0. , 1. ]])
    """
    return np.diag(1 - touched_rates) + touched_rates[:, None] * where


def checked_matrix(matrix: ArrayLike, num_classes: int) -> NDArray[np.float64]:
    """float64 [k, k], once it is sure that each row is a distribution; rows then sum to exactly 1.

    Raises:
        SettingsError: another shape, a number outside 0 to 1, a row that does not sum to 1.
    """
    given = np.asarray(matrix, dtype=np.float64)
    if given.shape != (num_classes, num_classes):
        raise SettingsError(
            "the matrix of a noise has a row and a column for each class",
            expected=f"{num_classes} x {num_classes}",
            got=" x ".join(map(str, given.shape)),
        )
    outside = ~((given >= 0) & (given <= 1 + _TOLERANCE))  # a NaN is outside too
    sums = given.sum(axis=1)
    bad = np.flatnonzero(outside.any(axis=1) | ~(np.abs(sums - 1) <= _TOLERANCE))
    if len(bad):
        raise SettingsError(
            "the matrix of a noise is not stochastic: each row is P(given label | true label)",
            where=f"row {bad[0]}",
            expected="numbers from 0 to 1 that sum to 1",
            got=f"{given[bad[0]].tolist()}, sum {sums[bad[0]]:g}",
            fix="divide each row by its sum; transpose it if columns are the true classes",
        )
    return given / sums[:, None]


def _along(flips: Mapping[int, int], num_classes: int) -> NDArray[np.float64]:
    where = np.eye(num_classes)
    for source, target in flips.items():
        where[source] = np.eye(num_classes)[target]
    return where


def _flips(flips: Mapping[int, int] | str, num_classes: int) -> Mapping[int, int]:
    if isinstance(flips, str):
        if flips not in NAMED_FLIPS:
            raise SettingsError(
                "unknown map of classes", expected=", ".join(NAMED_FLIPS), got=flips
            )
        expected, named = NAMED_FLIPS[flips]
        if num_classes != expected:
            raise SettingsError(
                f"the map '{flips}' is of other classes",
                expected=f"{expected} classes, in the order of that data set",
                got=f"{num_classes} classes",
                fix="say which class is taken for which",
            )
        return named
    for source, target in flips.items():
        if not (0 <= source < num_classes and 0 <= target < num_classes) or source == target:
            raise SettingsError(
                "the map of an asymmetric noise cannot be used",
                where=f"{source} -> {target}",
                expected=f"two different classes from 0 to {num_classes - 1}",
            )
    if not flips:
        raise SettingsError("the map of an asymmetric noise is empty", expected="class -> class")
    return flips


def _superclasses(given: ArrayLike | str | None, num_classes: int) -> NDArray[np.int64]:
    if given is None:
        raise SettingsError(
            "superclass noise must know the superclass of each class",
            expected="superclasses: a number a class, or 'cifar100'",
        )
    if isinstance(given, str) and given != "cifar100":
        raise SettingsError("unknown superclasses", expected="cifar100", got=given)
    of_class = cifar100_superclasses() if isinstance(given, str) else np.asarray(given)
    if of_class.shape != (num_classes,):
        raise SettingsError(
            "the superclasses do not fit the classes",
            expected=f"one for each of the {num_classes} classes",
            got=f"{of_class.size}",
        )
    return np.unique(of_class, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _within_superclasses(of_class: NDArray[np.int64]) -> NDArray[np.float64]:
    same = (of_class[:, None] == of_class).astype(np.float64) - np.eye(len(of_class))
    others = same.sum(axis=1)
    if not others.any():
        raise SettingsError(
            "no class shares its superclass with another, so no label can change",
            expected="a superclass of two classes or more",
        )
    alone = np.diag((others == 0).astype(np.float64))
    return same / np.maximum(others, 1)[:, None] + alone
