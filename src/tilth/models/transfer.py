"""Start a network from another one's weights: whatever fits is taken, the rest is named."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["SkippedTensor", "TransferReport", "load_matching"]


class SkippedTensor(NamedTuple):
    """A tensor of the source that was not taken.

    Attributes:
        name: in the source's state.
        shape: there.
        wanted_shape: of the model's tensor of that name, None where it has none.
    """

    name: str
    shape: tuple[int, ...]
    wanted_shape: tuple[int, ...] | None


class TransferReport(NamedTuple):
    """What `load_matching` did.

    Attributes:
        loaded: names of the tensors that were taken.
        skipped: tensors of the source that do not fit.
        classes: names of the classes whose scores were carried over.
    """

    loaded: tuple[str, ...]
    skipped: tuple[SkippedTensor, ...]
    classes: tuple[str, ...] = ()


def load_matching(model: nn.Module, state: Mapping[str, Tensor]) -> TransferReport:
    """Copy the tensors of ``state`` whose name and shape are the model's.

    A detector of 80 classes gives one of 2 classes everything but its heads' last convolutions.

    >>> report = load_matching(nn.Linear(2, 1), nn.Linear(2, 3).state_dict())
    >>> report.loaded, [skipped.name for skipped in report.skipped]
    ((), ['weight', 'bias'])
    """
    own = model.state_dict()
    loaded, skipped = [], []
    with torch.no_grad():
        for name, tensor in state.items():
            wanted = own.get(name)
            if wanted is not None and wanted.shape == tensor.shape:
                wanted.copy_(tensor)
                loaded.append(name)
            else:
                wanted_shape = None if wanted is None else tuple(wanted.shape)
                skipped.append(SkippedTensor(name, tuple(tensor.shape), wanted_shape))
    return TransferReport(tuple(loaded), tuple(skipped))
