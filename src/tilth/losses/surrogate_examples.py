"""Outputs as a metric takes them: one by one, or in sets of so many."""

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from tilth.errors import DataError, SettingsError

__all__ = ["Arrays", "grouped", "paired", "size_of_sets", "ungrouped"]

Arrays = Sequence[Any] | NDArray[Any] | Tensor


def size_of_sets(per: str, set_size: int) -> int:
    """Examples in a set; 0 where the metric judges examples.

    Raises:
        SettingsError: neither "example" nor "set", or sets of none.
    """
    if per not in ("example", "set"):
        raise SettingsError("per cannot be used", expected="'example' or 'set'", got=repr(per))
    if per == "set" and set_size < 1:
        raise SettingsError("set_size cannot be used", expected="1 or more", got=str(set_size))
    return set_size if per == "set" else 0


def grouped(values: Tensor, set_size: int) -> Tensor:
    """Examples [n, ...] as sets [n / m, m, ...]; as they are where ``set_size`` is 0.

    Raises:
        DataError: n is no multiple of m.
    """
    if not set_size:
        return values
    if len(values) % set_size:
        raise DataError(
            "examples do not make whole sets",
            expected=f"a multiple of set_size = {set_size}",
            got=str(len(values)),
            fix="choose a batch size that is one",
        )
    return values.unflatten(0, (-1, set_size))


def ungrouped(values: Tensor, set_size: int) -> Tensor:
    """What `grouped` was made of."""
    return values.flatten(0, 1) if set_size else values


def paired(
    predictions: Arrays, targets: Arrays, set_size: int
) -> tuple[list[Tensor], list[Tensor]]:
    """Examples, or sets of them, one by one: tensors on the CPU.

    Raises:
        DataError: they differ in number, or make no whole sets.
    """
    if len(predictions) != len(targets):
        raise DataError(
            "predictions and targets differ in number",
            expected=f"{len(predictions)} targets",
            got=str(len(targets)),
        )
    first, second = (_one_by_one(side, set_size) for side in (predictions, targets))
    return first, second


def _one_by_one(side: Arrays, set_size: int) -> list[Tensor]:
    if set_size or isinstance(side, Tensor):  # in one transfer from the device
        return list(_on_cpu(grouped(torch.as_tensor(side), set_size)))
    return [_on_cpu(torch.as_tensor(each)) for each in side]


def _on_cpu(values: Tensor) -> Tensor:
    """Half precision as float32: NumPy has no bfloat16, and a metric expects none of it."""
    is_half = values.dtype in (torch.float16, torch.bfloat16)
    values = values.detach().cpu()
    return values.float() if is_half else values
