"""The edit distance of recognised strings: digits side by side, read from left to right.

Rows of five to eight MNIST digits that touch and overlap, under noise; a small convolutional and
recurrent network gives chances of the ten digits and of "none" for each of its frames. The ordinary
loss is cross-entropy: each frame is told the digit on whose middle it lies. What counts is the
Levenshtein distance of the string that the frames spell out, over the length of the true one (the
character error rate).

The metric sees only the string, which is a step function of the frames: runs of equal digits become
one, "none" goes. The inputs "frames" take the same way softly, so that a network can learn the
distance from what it depends on: which digit stands where in the one string and in the other.

Source: Levenshtein 1966, by rapidfuzz; Graves et al. 2006, Connectionist temporal classification,
    for how frames spell a string; Patel, Hodan, Matas 2020, Learning surrogates via deep embedding
    (arXiv 2004.00799), who learn this metric for a reader trained by cross-entropy before.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from label_noise_data import mnist
from metric_loss_metrics import NONE, EditDistance
from metric_loss_peers import Peer
from metric_loss_tasks import (
    SHARED_SOURCES,
    Batch,
    Places,
    Pretraining,
    Task,
    checkpoints,
    digest_of,
)
from numpy.typing import NDArray
from torch import Tensor, nn

from tilth.seeding import generator

__all__ = ["strings_task"]

HEIGHT, WIDTH = 32, 168
LENGTHS = (5, 8)
ADVANCE = (13, 19)
"""Pixels from a digit's left edge to the next one's; strokes are up to 20 wide."""
NOISE = 0.6
NUM_TEST = 1500
BATCH_SIZE = 32
PRETRAINING = Pretraining(kept=(150, 220, 300, 450, 650, 900), learning_rate=3e-3, end_rate=3e-4)


class Reader(nn.Module):
    """Chances of a digit or none, as logarithms, for each fourth column of a row of digits."""

    def __init__(self, channels: int = 12, hidden_size: int = 48) -> None:
        super().__init__()
        # Normalised by groups: the network is the same one while trained and afterwards.
        layers: list[nn.Module] = []
        for before, after, stride in (
            (1, channels, (2, 2)),
            (channels, 2 * channels, (2, 2)),
            (2 * channels, 4 * channels, (2, 1)),
        ):
            layers += [
                nn.Conv2d(before, after, 3, stride=stride, padding=1),
                nn.GroupNorm(4, after),
                nn.ReLU(),
            ]
        self.pictures = nn.Sequential(*layers)
        self.frames = nn.Linear(4 * channels * (HEIGHT // 8), 2 * hidden_size)
        self.around = nn.GRU(2 * hidden_size, hidden_size, bidirectional=True, batch_first=True)
        self.classes = nn.Linear(2 * hidden_size, NONE + 1)

    def forward(self, images: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n time 11"]:
        columns = self.pictures(images).flatten(1, 2).transpose(1, 2)
        frames, _ = self.around(self.frames(columns).relu())
        return self.classes(frames).log_softmax(dim=2)


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Batches of rows of digits.

    Attributes:
        images: uint8 [n, 28, 28], the digits.
        labels: int64 [n].
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    seed: int

    def batch(self, step: int) -> Batch:
        """Made anew, by the step."""
        draws = generator(self.seed, "strings", step)
        return rows_of_digits(self.images, self.labels, BATCH_SIZE, draws)


def rows_of_digits(
    images: NDArray[np.uint8], labels: NDArray[np.int64], count: int, draws: np.random.Generator
) -> Batch:
    """Rows of drawn digits, each moved a little, and their strings, padded with -1."""
    canvas = np.zeros((count, HEIGHT, WIDTH + 28), np.float32)
    strings = np.full((count, LENGTHS[1]), -1, np.int64)
    frames = np.full((count, WIDTH // 4), NONE, np.int64)
    lengths = draws.integers(LENGTHS[0], LENGTHS[1] + 1, count)
    for row, length in enumerate(lengths):
        chosen = draws.integers(0, len(images), length)
        strings[row, :length] = labels[chosen]
        left = int(draws.integers(0, 12))
        for k in chosen:
            top = int(draws.integers(0, HEIGHT - 28 + 1))
            spot = canvas[row, top : top + 28, left : left + 20]
            np.maximum(spot, images[k][:, 4:24] / np.float32(255), out=spot)
            # The frames at the middle of the digit; it is the newest that covers an older one.
            frames[row, (left + 10) // 4 - 1 : (left + 10) // 4 + 1] = labels[k]
            left += int(draws.integers(ADVANCE[0], ADVANCE[1] + 1))
    pixels = canvas[:, :, :WIDTH]
    pixels = pixels + NOISE * draws.standard_normal(pixels.shape, dtype=np.float32)
    return {
        "images": torch.from_numpy(pixels)[:, None],
        "strings": torch.from_numpy(strings),
        "frames": torch.from_numpy(frames),
    }


def strings_task(places: Places) -> Task:
    """Rows of digits read, by the edit distance.

    Raises:
        StorageError: there is no Python with rapidfuzz.
    """
    metric = EditDistance(peers=Peer.python(places.peers))
    return Task(
        name="edit_distance",
        title="Edit distance of recognised strings",
        definition="five to eight MNIST digits that overlap, under noise of "
        f"{NOISE}; Levenshtein distance over the string's length; {NUM_TEST} test rows",
        unit="edits per digit",
        train_batches=partial(_train_batches, places.data),
        checkpoints=partial(_checkpoints, places),
        outputs=_outputs,
        proxy=_cross_entropy,
        metric=metric,
        goal="lower",
        limits=(0.0, 1.0),
        inputs="frames",
        evaluate=partial(_evaluate, places.data, metric),
        digest=_digest(),
        steps=240,
        learning_rate=5e-4,
        batch_size=BATCH_SIZE,
    )


@lru_cache(maxsize=1)
def _digits(data: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64], Batch]:
    """Training digits with their labels, and the fixed test rows."""
    digits = mnist(data)
    draws = generator(0, "strings test")
    test = rows_of_digits(digits.test_images, digits.test_labels, NUM_TEST, draws)
    return digits.train_images, digits.clean_labels, test


def _train_batches(data: Path, seed: int) -> Rows:
    images, labels, _ = _digits(data)
    return Rows(images=images, labels=labels, seed=seed)


def _digest() -> str:
    return digest_of([Path(__file__), *SHARED_SOURCES], PRETRAINING)


def _checkpoints(places: Places, seed: int) -> list[nn.Module]:
    return checkpoints(
        "edit_distance",
        Reader,
        _train_batches(places.data, seed),
        _cross_entropy,
        PRETRAINING,
        seed=seed,
        work=places.work,
        digest=_digest(),
    )


def _outputs(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    return model(batch["images"]).exp(), batch["strings"]


def _cross_entropy(model: nn.Module, batch: Batch) -> Tensor:
    """Of every frame, which digit it lies on."""
    frames = model(batch["images"])
    return nn.functional.nll_loss(frames.flatten(0, 1), batch["frames"].flatten())


def _evaluate(data: Path, metric: EditDistance, model: nn.Module) -> dict[str, float]:
    _, _, test = _digits(data)
    model.eval()
    with torch.no_grad():
        frames, strings = (part.numpy() for part in _outputs(model, test))
        proxy = float(_cross_entropy(model, test))
    distances = [metric(*pair) for pair in zip(frames, strings, strict=True)]
    return {
        "edit_distance": float(np.mean(distances)),
        "wrong_strings": float(np.mean([distance > 0 for distance in distances])),
        "cross_entropy": proxy,
    }
