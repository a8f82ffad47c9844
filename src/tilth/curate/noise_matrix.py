"""How wrong the labels of a set are: noise matrix and share of wrong labels, with intervals.

Counting confident examples finds too many errors: a doubtful example is counted whole. So the joint
of given and true labels is summed from the examples' posteriors, which count a doubt for what it is
worth; on data whose errors are known it lies about half as far from the truth (and a second
round of the same, with its own joint for a start, further off again).

The intervals are of the Poisson bootstrap, in which every example is drawn a Poisson(1) number of
times. A cell of the joint is then a sum over examples of weight w, of mean sum w and variance
sum w^2, and examples of different given labels are independent; it is drawn from the gamma
distribution of that mean and variance, so that one reading of the data serves any number of draws.
They say how far another sample of the same source would lie, judged by the same model. How far the
model errs they cannot say.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tilth.curate.noise_posterior import noise_matrix_of
from tilth.errors import SettingsError
from tilth.seeding import generator

__all__ = ["NoiseEstimate", "estimate_noise"]

# Entries that all draws of the noise matrix may have: one or two seconds of drawing.
MOST_ENTRIES = 2**24


@dataclass(frozen=True, kw_only=True, eq=False)
class NoiseEstimate:
    """What is known of the noise; an interval is its low and its high end.

    Attributes:
        joint: float64 [k, k], share of all examples by given (row) and true label (column).
        noise_matrix: float64 [k, k], p(given i | true j); columns add up to 1.
        noise_matrix_interval: float64 [2, k, k]; None without draws, or for too many classes.
        correction_matrix: float64 [k, k], p(true j | given i); rows add up to 1, of zeros for a
            class that no example carries.
        share_wrong: of all labels.
        share_wrong_interval: of that.
        class_share_wrong: float64 [k], of the labels of each class; NaN for a class without any.
        class_share_wrong_interval: float64 [2, k].
        confidence: of the intervals.
    """

    joint: NDArray[np.float64]
    noise_matrix: NDArray[np.float64]
    noise_matrix_interval: NDArray[np.float64] | None
    correction_matrix: NDArray[np.float64]
    share_wrong: float
    share_wrong_interval: tuple[float, float]
    class_share_wrong: NDArray[np.float64]
    class_share_wrong_interval: NDArray[np.float64]
    confidence: float


def estimate_noise(
    sums: NDArray[np.float64],
    squares: NDArray[np.float64],
    *,
    draws: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> NoiseEstimate:
    """The noise of a set of labels.

    Args:
        sums: float64 [k, k], posteriors summed by given label; see
            `tilth.curate.noise_posterior.LabelPosterior`.
        squares: float64 [k, k], of their squares.
        draws: of the bootstrap; 0 for no interval (both ends are then the estimate itself).
        confidence: share of the draws that lies between the two ends.

    Raises:
        SettingsError: fewer than 0 draws, or a confidence that is no share.

    >>> sums = np.array([[90.0, 10.0], [0.0, 100.0]])
    >>> noise = estimate_noise(sums, sums)
    >>> round(noise.share_wrong, 3), noise.noise_matrix.round(3).tolist()
    (0.05, [[1.0, 0.091], [0.0, 0.909]])
    """
    if draws < 0 or not 0 < confidence < 1:
        raise SettingsError(
            "the bootstrap cannot be drawn",
            expected="0 draws or more, a confidence between 0 and 1",
            got=f"{draws} draws, confidence {confidence}",
        )
    counts = sums.sum(axis=1)
    joint = sums / counts.sum()
    wrong = counts - np.diagonal(sums)
    shares = _ratio(wrong, counts)
    total = float(wrong.sum() / counts.sum())
    ends = ((1 - confidence) / 2, (1 + confidence) / 2)
    class_ends, total_ends = np.stack([shares, shares]), (total, total)
    matrix_ends = None
    if draws:
        stream = generator(seed, "noise matrix")
        spread = _spread_of_wrong(np.diagonal(sums), np.diagonal(squares), counts)
        class_draws = _gamma(stream, wrong, spread, draws)
        class_ends = np.quantile(_ratio(class_draws, counts), ends, axis=0)
        over_all = np.diagonal(squares).sum() - np.diagonal(sums).sum() ** 2 / counts.sum()
        of_total = _gamma(stream, wrong.sum(), over_all, draws) / counts.sum()
        low, high = np.quantile(np.minimum(of_total, 1), ends)
        total_ends = (float(low), float(high))
        if draws * sums.size <= MOST_ENTRIES:
            drawn = noise_matrix_of(_gamma(stream, sums, squares, draws))
            matrix_ends = np.quantile(drawn, ends, axis=0)
    return NoiseEstimate(
        joint=joint,
        noise_matrix=noise_matrix_of(joint),
        noise_matrix_interval=matrix_ends,
        correction_matrix=np.divide(
            sums, counts[:, None], out=np.zeros_like(sums), where=counts[:, None] > 0
        ),
        share_wrong=total,
        share_wrong_interval=total_ends,
        class_share_wrong=shares,
        class_share_wrong_interval=class_ends,
        confidence=confidence,
    )


def _ratio(wrong: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """``wrong`` [..., k] over ``counts`` [k], 1 at most; NaN for classes without an example."""
    nothing = np.full(wrong.shape, np.nan)
    return np.minimum(np.divide(wrong, counts, out=nothing, where=counts > 0), 1)


def _spread_of_wrong(
    sums: NDArray[np.float64], squares: NDArray[np.float64], counts: NDArray[np.float64]
) -> NDArray[np.float64]:
    """float64 [k]: variance of the number of wrong labels when the class is drawn anew."""
    mean_square = np.divide(sums**2, counts, out=np.zeros_like(sums), where=counts > 0)
    return squares - mean_square


def _gamma(
    stream: np.random.Generator,
    mean: NDArray[np.float64] | np.float64,
    variance: NDArray[np.float64] | np.float64,
    draws: int,
) -> NDArray[np.float64]:
    """float64 [r, ...]: drawn with this mean and variance; the mean itself without variance."""
    varies = (np.asarray(mean) > 0) & (np.asarray(variance) > 1e-12)
    scale = np.where(varies, variance, 0.0) / np.where(varies, mean, 1.0)
    shape = np.where(varies, mean, 1.0) / np.where(varies, scale, 1.0)
    drawn = stream.standard_gamma(shape, size=(draws, *np.shape(mean))) * scale
    return np.where(varies, drawn, mean)
