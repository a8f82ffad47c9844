"""Made-up sets whose wrong labels are known, for the tests of label errors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]
Chances = NDArray[np.float32]


def noisy_set(
    *,
    rows: int = 3000,
    classes: int = 5,
    wrong: float = 0.2,
    accuracy: float = 0.85,
    pairs: bool = False,
    seed: int = 0,
) -> tuple[Labels, Chances, Labels]:
    """Given labels, probabilities p(given | x) of a fair judge, and true labels.

    The judge sees one clue an example, which points to the true class ``accuracy`` of the time; its
    probabilities are exactly what the clue and the noise allow. ``pairs``: wrong labels are the
    next class, otherwise any other.
    """
    stream = np.random.default_rng(seed)
    true = stream.integers(classes, size=rows)
    step = 1 if pairs else stream.integers(1, classes, size=rows)
    given = np.where(stream.random(rows) < wrong, (true + step) % classes, true)
    # How sure the clue is varies: from knowing nothing to knowing all.
    sure = stream.beta(6 * accuracy, 6 * (1 - accuracy), size=rows)
    clue = np.where(stream.random(rows) < sure, true, stream.integers(classes, size=rows))
    of_true = np.repeat(((1 - sure) / classes)[:, None], classes, axis=1)
    of_true[np.arange(rows), clue] += sure
    noise = noise_matrix(classes, wrong, pairs=pairs)
    return given, (of_true @ noise.T).astype(np.float32), true


def noise_matrix(classes: int, wrong: float, *, pairs: bool) -> NDArray[np.float64]:
    """p(given i | true j)."""
    identity = np.eye(classes)
    if pairs:
        return (1 - wrong) * identity + wrong * np.roll(identity, 1, axis=0)
    return (1 - wrong) * identity + wrong * (1 - identity) / (classes - 1)


def f1(mask: NDArray[np.bool_], wrong: NDArray[np.bool_]) -> float:
    """Harmonic mean of precision and recall."""
    return 2 * int((mask & wrong).sum()) / max(int(mask.sum() + wrong.sum()), 1)
