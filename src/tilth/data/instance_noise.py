"""Wrong labels that follow from the example: some are mistaken more often, and for what they show.

Source: Xia, Liu, Han, Wang, Gong, Liu, Niu, Tao, Sugiyama, 2020, Part-dependent Label Noise:
    Towards Instance-dependent Label Noise, arXiv 2006.07836 (the algorithm that generates
    instance-dependent label noise for its experiments).
Follows: flip rates from a normal distribution cut to 0 to 1 -> `flip_rates`; one projection a class
    and the softmax of what it gives, without the true class -> `wrong_class_chances`.
Symbols: features = x [n, d]; rate = tau; spread = the standard deviation, 0.1; flip_rates = q [n];
    projection = w_y [d, k], standard normal, one for each true class y.
Differs: at a rate of 0 nothing changes (a normal distribution around 0, cut, has a mean of 0.08);
    the shares of the paper are otherwise kept, so that small rates come out larger: 0.05 gives
    0.10 on average. What came out is recorded. With ``exact`` the number of wrong labels is the
    rate's: the examples are those whose draw is smallest beside their own rate. Projections are
    drawn class by class from named streams, not from one after the other.
Checked by: `test_instance_noise_matches_a_plain_twin`, `test_flip_rates_are_a_cut_normal`,
    `test_instance_noise_depends_on_the_features`
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tilth.errors import DataError
from tilth.seeding import generator

__all__ = ["checked_features", "flip_rates", "wrong_class_chances"]

_BLOCK = 8192


def flip_rates(count: int, rate: float, spread: float, *, seed: int) -> NDArray[np.float64]:
    """float64 [n]: how often each example is mistaken; normal around ``rate``, cut to 0 to 1.

    >>> rates = flip_rates(1000, 0.3, 0.1, seed=0)
    >>> bool((rates >= 0).all()), round(float(rates.mean()), 2)
    (True, 0.3)
    """
    if rate == 0:
        return np.zeros(count)
    if spread == 0:
        return np.full(count, float(rate))
    draw = generator(seed, "label noise", "flip rates")
    rates = draw.normal(rate, spread, count)
    while len(again := np.flatnonzero((rates < 0) | (rates > 1))):
        rates[again] = draw.normal(rate, spread, len(again))
    return rates


def wrong_class_chances(
    features: NDArray[np.float64], true_class: int, num_classes: int, *, seed: int
) -> NDArray[np.float64]:
    """float64 [n, k]: which wrong class each example of one true class is taken for; rows sum to 1.

    Args:
        features: float64 [n, d], of the examples of this class.
    """
    draw = generator(seed, "label noise", "projection", true_class)
    projection = draw.standard_normal((features.shape[1], num_classes))
    chances = np.empty((len(features), num_classes))
    for start in range(0, len(features), _BLOCK):
        logits = features[start : start + _BLOCK] @ projection
        logits[:, true_class] = -np.inf
        logits -= logits.max(axis=1, keepdims=True)
        shares = np.exp(logits)
        chances[start : start + _BLOCK] = shares / shares.sum(axis=1, keepdims=True)
    return chances


def checked_features(features: ArrayLike | None, num_labels: int) -> NDArray[np.float64]:
    """float64 [n, d], once it is sure that there is a finite row for each label.

    Raises:
        DataError: none given, another number of rows, or a number that is not finite.
    """
    if features is None:
        raise DataError(
            "instance-dependent noise must see the examples",
            expected="features: numbers [n, d], a row for each label",
            fix="give pixels, an embedding or numeric columns, scaled alike (say, to deviation 1)",
        )
    rows = np.asarray(features, dtype=np.float64)
    rows = rows.reshape(len(rows), -1)
    if len(rows) != num_labels or not rows.shape[1]:
        raise DataError(
            "the features do not fit the labels",
            expected=f"{num_labels} rows with one number or more",
            got=" x ".join(map(str, rows.shape)),
        )
    broken = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(broken):
        raise DataError(
            "features that are no finite numbers",
            where=f"row {broken[0]}",
            got=f"{len(broken)} rows",
        )
    return rows
