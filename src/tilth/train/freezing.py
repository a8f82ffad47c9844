"""Weights that are not trained: for the whole run, or until a step.

A frozen normalisation also keeps its running statistics and normalises by them, because those of
new data belong to weights that are no longer there. What is frozen is a function of the step, so a
resumed run needs nothing to find it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from tilth.errors import SettingsError
from tilth.train.freeze_settings import FreezeSettings

__all__ = ["Freezing", "frozen_parameters", "weighted_layers"]


class Freezing:
    """Keeps the frozen part of a model frozen, and lets it go at its step.

    Args:
        model: parameters that its owner has frozen already stay so, also after the step.
        settings: see `FreezeSettings`.

    Raises:
        SettingsError: see `frozen_parameters`; or nothing would be trained.
    """

    def __init__(self, model: nn.Module, settings: FreezeSettings) -> None:
        self.settings = settings
        self._model = model
        names = frozen_parameters(model, settings)
        of_model = dict(model.named_parameters())
        self._parameters = [of_model[name] for name in names if of_model[name].requires_grad]
        frozen = {id(parameter) for parameter in self._parameters}
        trained = [p for p in of_model.values() if p.requires_grad and id(p) not in frozen]
        if self._parameters and not trained and not settings.until_step:
            raise SettingsError(
                "the whole network is frozen, so nothing would be learned",
                expected="a part of it that is trained, or freeze.until_step",
                got=", ".join(settings.names) or f"the first {settings.layers} layers",
            )
        self._norms = [
            module
            for module in model.modules()
            if isinstance(module, _BatchNorm) and _is_within(module, frozen)
        ]

    def apply(self, step: int) -> None:
        """Put the model into the state of training at ``step``, after any change of its mode."""
        is_frozen = not self.settings.until_step or step < self.settings.until_step
        for parameter in self._parameters:
            parameter.requires_grad_(not is_frozen)
            if is_frozen:
                parameter.grad = None
        self._model.train()
        if is_frozen:
            for norm in self._norms:
                norm.eval()

    def release(self) -> None:
        """Give the parameters back as they were."""
        for parameter in self._parameters:
            parameter.requires_grad_(True)


def frozen_parameters(model: nn.Module, settings: FreezeSettings) -> list[str]:
    """Names of the parameters that ``settings`` freeze, in the order of the model.

    Raises:
        SettingsError: a name that no parameter has, or more layers than there are.

    >>> model = nn.Sequential(nn.Linear(1, 2), nn.Linear(2, 1))
    >>> frozen_parameters(model, FreezeSettings(names=("0",)))
    ['0.weight', '0.bias']
    """
    names = [name for name, _ in model.named_parameters()]
    chosen: set[str] = set()
    for wanted in settings.names:
        found = [name for name in names if _belongs(name, wanted)]
        if not found:
            raise SettingsError(
                f"there is no part '{wanted}' of the network to freeze",
                expected=", ".join(_parts(names)) + ", or more of a name",
                got=wanted,
            )
        chosen.update(found)
    layers = weighted_layers(model)
    if settings.layers > len(layers):
        raise SettingsError(
            "the network has fewer layers than are to be frozen",
            expected=f"0 to {len(layers)}",
            got=f"freeze.layers = {settings.layers}",
        )
    for layer in layers[: settings.layers]:
        chosen.update(layer)
    return [name for name in names if name in chosen]


def weighted_layers(model: nn.Module) -> list[list[str]]:
    """The parameter names of each layer: one with a kernel or matrix, and what follows it.

    A normalisation belongs to the convolution before it: its scale and shift are of that layer.
    """
    layers: list[list[str]] = []
    for name, parameter in model.named_parameters():
        owner = name.rpartition(".")[0]
        starts_layer = parameter.ndim >= 2 and not (layers and _owner(layers[-1][0]) == owner)
        if starts_layer or not layers:
            layers.append([])
        layers[-1].append(name)
    return layers


def _owner(name: str) -> str:
    return name.rpartition(".")[0]


def _belongs(name: str, wanted: str) -> bool:
    return name == wanted or name.startswith(f"{wanted}.") or fnmatchcase(name, wanted)


def _parts(names: Sequence[str]) -> list[str]:
    """The outermost parts, each once."""
    return list(dict.fromkeys(name.partition(".")[0] for name in names))


def _is_within(module: nn.Module, frozen: Iterable[int]) -> bool:
    """Whether all of a normalisation's parameters are frozen; one without any follows nothing."""
    own = [id(parameter) for parameter in module.parameters()]
    return bool(own) and all(parameter in frozen for parameter in own)
