"""Wrong labels on purpose, for experiments that must know which are wrong.

`inject_label_noise` takes clean labels and gives noisy ones with the record of what was done. Every
draw follows from the seed and the place of the label alone: with the same seed, more noise of the
same kind keeps every wrong label of less, so that curves over the rate compare like with like.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tilth.data.instance_noise import checked_features, flip_rates, wrong_class_chances
from tilth.data.label_noise_draws import aimed, drawn_labels, draws, exact_labels
from tilth.data.label_noise_matrices import (
    DEFINITIONS,
    checked_matrix,
    destinations,
    transitions,
)
from tilth.errors import DataError, EmptyDatasetError, SettingsError

__all__ = ["NOISE_KINDS", "LabelNoise", "RateOf", "inject_label_noise"]

NOISE_KINDS = tuple(DEFINITIONS)

RateOf = Literal["class", "set", "half_set"]
_RATE_OF: dict[str, str] = {
    "class": "",
    "set": "; the rate is the share of the whole set, all taken from the classes that flip",
    "half_set": "; the rate is twice the share of the whole set, all taken from the classes that "
    "flip: on CIFAR-10, half of whose classes flip, the rate of those classes",
}
_ALIASES = {
    "symmetric": "symmetric_flip (always a wrong class) or symmetric_uniform (any class, its own "
    "included: at 0.8 and ten classes 72 % are wrong)",
    "uniform": "symmetric_uniform",
    "pair": "pair_flip",
    "instance": "instance_dependent",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelNoise:
    """What was done to n labels of k classes.

    Attributes:
        kind: one of `NOISE_KINDS`.
        definition: the same in words; tables of papers compare only where these agree.
        rate: as asked for; None for a matrix, which says it itself.
        seed: of all draws.
        exact: whether counts were held to what is expected, and not drawn.
        transition_matrix: float64 [k, k], P(given | true) that the labels were drawn from; of
            instance-dependent noise the mean over the examples of each class.
        counts: int64 [k, k], labels by true (row) and given class, as they came out.
        changed: bool [n], where the label is wrong now.
    """

    kind: str
    definition: str
    rate: float | None
    seed: int
    exact: bool
    transition_matrix: NDArray[np.float64]
    counts: NDArray[np.int64]
    changed: NDArray[np.bool_]

    @property
    def num_classes(self) -> int:
        """Classes, k."""
        return len(self.counts)

    @property
    def realised_rate(self) -> float:
        """The share of labels that is wrong now."""
        return float(self.changed.mean())

    @property
    def expected_rate(self) -> float:
        """The share that is wrong on average over seeds."""
        per_class = self.counts.sum(axis=1) / self.counts.sum()
        return float(1 - per_class @ np.diag(self.transition_matrix))

    @property
    def realised_matrix(self) -> NDArray[np.float64]:
        """float64 [k, k]: `counts` by row; a class without labels has NaN."""
        totals = self.counts.sum(axis=1, keepdims=True).astype(np.float64)
        return self.counts / np.where(totals > 0, totals, np.nan)

    def document(self, class_names: Sequence[str] = ()) -> dict[str, Any]:
        """Plain values of all but `changed`, for JSON."""
        return {
            "kind": self.kind,
            "definition": self.definition,
            "rate": self.rate,
            "seed": self.seed,
            "exact": self.exact,
            "labels": len(self.changed),
            "changed": int(self.changed.sum()),
            "expected_rate": self.expected_rate,
            "realised_rate": self.realised_rate,
            "class_names": list(class_names),
            "transition_matrix": self.transition_matrix.tolist(),
            "counts": self.counts.tolist(),
        }


def inject_label_noise(
    labels: ArrayLike,
    num_classes: int,
    *,
    kind: str,
    rate: float | None = None,
    seed: int = 0,
    flips: Mapping[int, int] | str | None = None,
    superclasses: ArrayLike | str | None = None,
    matrix: ArrayLike | None = None,
    features: ArrayLike | None = None,
    rate_of: RateOf = "class",
    rate_spread: float = 0.1,
    exact: bool = False,
) -> tuple[NDArray[np.int64], LabelNoise]:
    """Labels with noise, and what was done.

    Args:
        labels: int [n], 0 to ``num_classes`` - 1; they are taken for the true ones.
        kind: one of `NOISE_KINDS`; `tilth.data.label_noise_matrices.DEFINITIONS` says what each is.
        rate: 0 to 1, see the definitions; of "matrix" none, which has its own.
        flips: of "asymmetric": class -> class, or the map of a data set ("cifar10", "mnist").
        superclasses: of "superclass": a number a class, or "cifar100".
        matrix: of "matrix": P(given | true) [k, k]; of "asymmetric", in place of ``flips``: where
            the labels that flip go.
        features: of "instance_dependent": [n, ...], pixels or an embedding, scaled alike.
        rate_of: what the rate is a share of, where not every class flips: "class", each class that
            flips; "set", all labels; "half_set", as the release of the CIW paper has it for
            CIFAR-10: half the rate of all labels, which there is the rate of each class that flips.
        rate_spread: of "instance_dependent": deviation of the examples' rates; the paper's is 0.1.
        exact: hold the counts of wrong labels, of each class and each pair of classes, to what is
            expected, up to rounding; the seed then chooses only which labels.

    Raises:
        SettingsError: a kind, rate, map or matrix that cannot be used.
        DataError: labels outside the classes, features that do not fit.
        EmptyDatasetError: no label.

    >>> clean = [0, 1] * 50
    >>> noisy, noise = inject_label_noise(clean, 2, kind="symmetric_flip", rate=0.3, exact=True)
    >>> noise.realised_rate, int((noisy != clean).sum())
    (0.3, 30)
    """
    true = _checked_labels(labels, num_classes)
    _check(kind, rate, rate_of, rate_spread)
    definition = DEFINITIONS[kind] + _RATE_OF[rate_of]
    if kind == "instance_dependent":
        assert rate is not None
        rows = checked_features(features, len(true))
        noisy, expected = _instance_dependent(
            true, num_classes, rows, rate, rate_spread, seed=seed, exact=exact
        )
    else:
        if kind == "matrix":
            expected = checked_matrix(_given(matrix), num_classes)
        else:
            assert rate is not None
            where = destinations(
                kind, num_classes, flips=flips, superclasses=superclasses, matrix=matrix
            )
            expected = transitions(_touched_rates(true, where, rate, rate_of), where)
        noisy = (exact_labels if exact else drawn_labels)(true, expected, seed=seed)
    counts = np.bincount(true * num_classes + noisy, minlength=num_classes**2)
    return noisy, LabelNoise(
        kind=kind,
        definition=definition,
        rate=rate,
        seed=seed,
        exact=exact,
        transition_matrix=expected,
        counts=counts.reshape(num_classes, num_classes).astype(np.int64),
        changed=noisy != true,
    )


def _instance_dependent(
    true: NDArray[np.int64],
    num_classes: int,
    features: NDArray[np.float64],
    rate: float,
    spread: float,
    *,
    seed: int,
    exact: bool,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Noisy labels, and the mean of P(given | true, example) over the examples of each class."""
    rates = flip_rates(len(true), rate, spread, seed=seed)
    touch, aim = draws(len(true), seed=seed)
    if exact:  # the smallest draws beside their own rate: likelier where the rate is high
        beside = np.divide(touch, rates, out=np.full(len(true), np.inf), where=rates > 0)
        touched = np.zeros(len(true), dtype=np.bool_)
        touched[np.argsort(beside, kind="stable")[: round(rate * len(true))]] = True
    else:
        touched = touch < rates
    noisy, expected = true.copy(), np.eye(num_classes)
    for true_class in np.unique(true).tolist():
        rows = np.flatnonzero(true == true_class)
        chances = wrong_class_chances(features[rows], true_class, num_classes, seed=seed)
        expected[true_class] = (rates[rows][:, None] * chances).mean(axis=0)
        expected[true_class, true_class] = 1 - rates[rows].mean()
        hit = np.flatnonzero(touched[rows])
        noisy[rows[hit]] = aimed(chances[hit], aim[rows[hit]])
    return noisy, expected


def _touched_rates(
    true: NDArray[np.int64], where: NDArray[np.float64], rate: float, rate_of: RateOf
) -> NDArray[np.float64]:
    """float64 [k]: the rate within each class."""
    num_classes = len(where)
    if rate_of == "class":
        return np.full(num_classes, rate)
    flips = np.diag(where) < 1
    share = np.bincount(true, minlength=num_classes)[flips].sum() / len(true)
    wanted = rate / 2 if rate_of == "half_set" else rate
    if wanted > share:
        raise SettingsError(
            "the classes that flip have not so many labels",
            where=f"rate_of '{rate_of}'",
            expected=f"a share of the whole set up to {share:.3g}",
            got=f"{wanted:g}",
            fix="lower the rate, or let it be the rate of each class: rate_of='class'",
        )
    return np.where(flips, wanted / share if share else 0.0, 0.0)


def _checked_labels(labels: ArrayLike, num_classes: int) -> NDArray[np.int64]:
    given = np.asarray(labels)
    if num_classes < 2:
        raise SettingsError(
            "noise needs another class to go to", expected="2 classes or more", got=f"{num_classes}"
        )
    if not given.size:
        raise EmptyDatasetError("there is no label to change")
    if given.ndim != 1 or not np.issubdtype(given.dtype, np.integer):
        raise DataError(
            "labels are one whole number an example",
            expected="int [n]",
            got=f"{given.dtype} {list(given.shape)}",
        )
    outside = np.flatnonzero((given < 0) | (given >= num_classes))
    if len(outside):
        raise DataError(
            f"label {given[outside[0]]} is outside the {num_classes} classes",
            where=f"row {outside[0]}",
            expected=f"0 to {num_classes - 1}",
            got=f"{len(outside)} such labels",
        )
    return given.astype(np.int64)


def _check(kind: str, rate: float | None, rate_of: str, rate_spread: float) -> None:
    if kind not in DEFINITIONS:
        raise SettingsError(
            f"no noise is called '{kind}'",
            expected=", ".join(NOISE_KINDS),
            got=kind,
            fix=f"say {_ALIASES[kind]}" if kind in _ALIASES else None,
        )
    if kind == "matrix":
        if rate is not None:
            raise SettingsError("the matrix says the rate itself", got=f"rate {rate:g}")
    elif rate is None or not 0 <= rate <= 1:
        raise SettingsError(
            "the rate of a noise is a share",
            expected="0 to 1",
            got="none" if rate is None else f"{rate:g}",
        )
    if rate_of not in get_args(RateOf):
        raise SettingsError(
            "unknown base of the rate", expected=", ".join(get_args(RateOf)), got=rate_of
        )
    if rate_of != "class" and kind not in ("asymmetric", "superclass"):
        raise SettingsError(
            f"every class flips under '{kind}' noise",
            where=f"rate_of '{rate_of}'",
            expected="rate_of 'class'",
        )
    if not 0 <= rate_spread <= 1:
        raise SettingsError(
            "the spread of the rates cannot be used", expected="0 to 1", got=f"{rate_spread:g}"
        )


def _given(matrix: ArrayLike | None) -> ArrayLike:
    if matrix is None:
        raise SettingsError("matrix noise needs its matrix", expected="P(given | true), [k, k]")
    return matrix
