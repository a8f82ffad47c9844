"""Probabilities that say as much as they know: raised to the power that fits the given labels best.

Networks are too sure of themselves, networks kept from overfitting too unsure. Held-out
probabilities say how likely each label is to be *given*, and the given labels are there to check
it: p^b over its sum, with the b of the least cross-entropy, is temperature scaling. The function of
b is convex, so Newton's method finds it in a few steps from a few thousand rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tilth.seeding import generator

__all__ = ["fitting_exponent", "sharpened"]

SAMPLED_ROWS = 2048
# A probability of 0 would outweigh all others: one wrong label forbids what is only unlikely.
SMALLEST = 1e-6
RANGE = (0.05, 20.0)


def fitting_exponent(
    probabilities: NDArray[np.floating], labels: NDArray[np.int64], *, seed: int = 0
) -> float:
    """The exponent under which probabilities [n, k] fit labels [n] best; 1 leaves them as they are.

    >>> fair = np.array([[0.75, 0.25]] * 4)
    >>> round(fitting_exponent(fair, np.array([0, 0, 0, 1])), 3)
    1.0
    """
    rows = np.arange(len(labels))
    if len(labels) > SAMPLED_ROWS:
        rows = generator(seed, "sharpness").integers(len(labels), size=SAMPLED_ROWS)
    logs = _logs(probabilities[rows])
    logs -= logs.max(axis=1, keepdims=True)
    own = float(logs[np.arange(len(rows)), labels[rows]].mean(dtype=np.float64))
    exponent = 1.0
    for _ in range(30):
        weights = np.exp(exponent * logs)
        weights /= weights.sum(axis=1, keepdims=True)
        weights *= logs
        means = weights.sum(axis=1)
        slope = float(means.mean(dtype=np.float64)) - own
        weights *= logs
        curvature = float((weights.sum(axis=1) - means**2).mean())
        # Half way to 0 at most, twice as far at most: the function is flat far from its minimum.
        step = np.clip(-slope / max(curvature, 1e-12), -exponent / 2, exponent)
        exponent = float(np.clip(exponent + step, *RANGE))
        if abs(step) < 1e-3 * exponent:  # Newton's next step is a thousandth of a thousandth
            break
    return exponent


def sharpened(block: NDArray[np.floating], exponent: float) -> NDArray[np.floating]:
    """[b, k]: the probabilities to that power, adding up to 1.

    >>> sharpened(np.array([[0.75, 0.25]]), 2.0)
    array([[0.9, 0.1]])
    """
    kind = np.result_type(block.dtype, np.float32)
    raised = np.maximum(block.astype(kind, copy=False), SMALLEST)
    np.power(raised, exponent, out=raised)
    raised /= (raised @ np.ones(raised.shape[1], dtype=kind))[:, None]
    return raised


def _logs(values: NDArray[np.floating]) -> NDArray[np.floating]:
    kind = np.result_type(values.dtype, np.float32)
    logs = np.maximum(values.astype(kind, copy=False), SMALLEST)
    return np.log(logs, out=logs)
