"""Outputs that were given to the metric, and are waited for, over all processes that train."""

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, distributed

from tilth.losses.gathered_rows import num_together, rank_of, together
from tilth.losses.metric_calls import MetricCalls
from tilth.seeding import generator

__all__ = ["Scored", "Scoring"]


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One output, what was believed of it, and its true value."""

    prediction: Tensor
    target: Tensor
    believed: float
    value: float


@dataclass(kw_only=True)
class _Asked:
    prediction: Tensor
    target: Tensor
    believed: float
    value: Future[tuple[float, float]]


class Scoring:
    """Asks for values of some outputs, and hands them out later with what was believed.

    Args:
        calls: of the metric, in this process.
        seed: of which outputs are asked for.

    Attributes:
        step: at which the outputs that are waited for were made.
    """

    def __init__(self, calls: MetricCalls, *, seed: int) -> None:
        self.calls = calls
        self.seed = seed
        self.step = 0
        self._asked: list[_Asked] = []

    @property
    def num_calls(self) -> int:
        """Calls so far, of all processes."""
        return self.calls.spent.calls * num_together()

    def can_ask(self, number: int) -> bool:
        """Whether the budget allows so many calls, shared out over the processes."""
        return self.calls.spent.left >= self._own_share(number)

    def ask(
        self,
        predictions: Sequence[Tensor],
        targets: Sequence[Tensor],
        believed: Sequence[float],
        number: int,
        *,
        step: int,
        draw: int,
    ) -> None:
        """Ask for some of these, drawn by chance.

        Args:
            number: over all processes.
            draw: number of the draw, which must not come again.
        """
        draws = generator(self.seed, "looked at", draw, rank_of())
        own = min(self._own_share(number), len(predictions))
        for place in np.sort(draws.choice(len(predictions), own, replace=False)).tolist():
            # Copies: a view would keep all of the batch, and change with it.
            pair = predictions[place].clone(), targets[place].clone()
            self._submit(*pair, float(believed[place]))
        self.step = step

    def results(self) -> list[Scored]:
        """Wait for all that was asked for; of all processes by rank, without those left out.

        Every process must call this.
        """
        scored = [
            Scored(
                prediction=each.prediction,
                target=each.target,
                believed=each.believed,
                value=self.calls.result(each.value),
            )
            for each in self._asked
        ]
        self._asked = []
        return [each for each in _of_all_processes(scored) if math.isfinite(each.value)]

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values, as checkpoints take them."""
        spent = self.calls.spent
        return {
            "step": self.step,
            "asked": [(each.prediction, each.target, each.believed) for each in self._asked],
            "calls": spent.calls,
            "seconds": spent.seconds,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` gave; what was waited for is asked for again.

        A checkpoint is the first process's: what the others waited for is not asked for again.
        """
        self.step = state["step"]
        waited_for = state["asked"] if rank_of() == 0 else []
        # Those that are asked for again were counted before.
        self.calls.spent.calls = state["calls"] - len(waited_for)
        self.calls.spent.seconds = state["seconds"]
        self._asked = []
        for prediction, target, believed in waited_for:
            self._submit(prediction, target, believed)

    def _submit(self, prediction: Tensor, target: Tensor, believed: float) -> None:
        asked = self.calls.submit(prediction.numpy(), target.numpy())
        self._asked.append(
            _Asked(prediction=prediction, target=target, believed=believed, value=asked)
        )

    @staticmethod
    def _own_share(number: int) -> int:
        return max(number // num_together(), 1)


def _of_all_processes(scored: list[Scored]) -> list[Scored]:
    group = together()
    if group is None:
        return scored
    parts: list[Any] = [None] * num_together()
    distributed.all_gather_object(parts, scored, group=group)
    return [each for part in parts for each in part]
