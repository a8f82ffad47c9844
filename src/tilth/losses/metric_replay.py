"""What a learned metric is trained on: outputs with their true values, the newest seen more often.

Predictions and targets may differ in size from example to example (sequences, sets of boxes): they
are kept as they are and padded when they are drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from tilth.errors import DataError

__all__ = ["Examples", "Replay", "padded"]

PADDING = -1  # of whole numbers, which name classes; of others it is 0, of masks False


Entry = tuple[int, Tensor, Tensor, float]


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Predictions [n, ...], targets [n, ...] and the true values [n] of the metric."""

    predictions: Tensor
    targets: Tensor
    values: Float[Tensor, "n"]

    def __len__(self) -> int:
        return len(self.values)


class Replay:
    """The last outputs that were scored, up to ``capacity``; each fifth is held out.

    Args:
        capacity: examples that are kept; the oldest go first.
        recent_share: of a drawn batch, the share that comes from the newest tenth.

    >>> replay = Replay(capacity=4)
    >>> for value in range(6):
    ...     replay.add(torch.tensor([float(value)]), torch.tensor(0), float(value))
    >>> replay.all().values
    tensor([2., 3., 4., 5.])
    """

    def __init__(
        self, capacity: int, *, recent_share: float = 0.5, hold_out_every: int = 5
    ) -> None:
        self.capacity = capacity
        self.recent_share = recent_share
        self.hold_out_every = hold_out_every
        self.count = 0  # ever added; numbers an example for good, so that it stays on its side
        self._kept: list[Entry] = []
        self._trained: list[Entry] = []  # those of them that are not held out

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, prediction: Tensor, target: Tensor, value: float) -> None:
        """Keep one example; the tensors must not be changed afterwards."""
        entry = (self.count, prediction, target, value)
        self._kept.append(entry)
        if not self._is_held(entry):
            self._trained.append(entry)
        self.count += 1
        if len(self._kept) > self.capacity and not self._is_held(self._kept.pop(0)):
            del self._trained[0]

    def add_all(self, other: "Replay") -> None:
        """Keep what another one holds, oldest first; who is held out there is held out here.

        Raises:
            DataError: this one holds something already.
        """
        if self.count:
            raise DataError(
                "only an empty replay takes up another one", got=f"{self.count} examples"
            )
        state = other.state_dict()
        self.load_state_dict({**state, "kept": state["kept"][-self.capacity :]})

    def all(self, *, held_out: bool | None = None) -> Examples:
        """All examples, oldest first; only those held out, or only the others, where asked for."""
        return _together(
            [entry for entry in self._kept if held_out in (None, self._is_held(entry))]
        )

    def draw(self, size: int, generator: np.random.Generator) -> Examples:
        """A batch of those that are not held out, with replacement.

        Raises:
            DataError: there are none.
        """
        trained = self._trained
        if not trained:
            raise DataError("nothing has been scored yet", expected="outputs with true values")
        newest = max(len(trained) // 10, 1)
        recent = round(self.recent_share * size)
        places = np.concatenate(
            [
                generator.integers(len(trained) - newest, len(trained), recent),
                generator.integers(0, len(trained), size - recent),
            ]
        )
        return _together([trained[place] for place in places])

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain numbers, as checkpoints take them."""
        return {"count": self.count, "kept": list(self._kept)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self.count = state["count"]
        self._kept = [tuple(entry) for entry in state["kept"]]
        self._trained = [entry for entry in self._kept if not self._is_held(entry)]

    def _is_held(self, entry: Entry) -> bool:
        every = self.hold_out_every
        return every > 0 and entry[0] % every == every - 1


def _together(entries: Sequence[Entry]) -> Examples:
    return Examples(
        predictions=padded([entry[1] for entry in entries]),
        targets=padded([entry[2] for entry in entries]),
        values=torch.tensor([entry[3] for entry in entries], dtype=torch.float32),
    )


def padded(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors of one rank stacked, each filled up to the largest size along every axis.

    >>> padded([torch.tensor([1, 2]), torch.tensor([3])])
    tensor([[ 1,  2],
            [ 3, -1]])
    """
    if not tensors:
        return torch.zeros(0)
    shapes: NDArray[np.int64] = np.array([tuple(each.shape) for each in tensors], dtype=np.int64)
    largest = tuple(shapes.max(axis=0).tolist()) if shapes.size else ()
    if all(tuple(each.shape) == largest for each in tensors):
        return torch.stack(list(tensors))
    if tensors[0].dtype == torch.uint8:  # knows nothing below 0
        tensors = [each.to(torch.int16) for each in tensors]
    first = tensors[0]
    fill = 0 if first.is_floating_point() or first.dtype == torch.bool else PADDING
    whole = first.new_full((len(tensors), *largest), fill)
    for row, each in zip(whole, tensors, strict=True):
        row[tuple(slice(size) for size in each.shape)] = each
    return whole
