"""The members of a surrogate: new networks, or a model that predicts the metric already."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tilth.errors import DataError
from tilth.losses.differentiable import as_differentiable
from tilth.losses.metric_replay import Examples
from tilth.losses.metric_values import MetricRules
from tilth.losses.surrogate_inputs import Inputs, SurrogateNetwork, check_channels
from tilth.losses.surrogate_layers import Build
from tilth.losses.surrogate_settings import SurrogateSettings
from tilth.seeding import derive_seed

__all__ = ["GivenMember", "given_member", "new_members"]


def new_members(
    predictions: Tensor,
    targets: Tensor,
    *,
    inputs: Inputs,
    settings: SurrogateSettings,
    rules: MetricRules,
    is_set: bool,
    seed: int,
) -> nn.ModuleList:
    """Networks with starting weights for outputs of these shapes, each of another build.

    Args:
        predictions, targets: a few examples, also where the metric is of sets.

    Raises:
        DataError: the shapes do not fit, or the features lose the gradient.
    """
    with torch.enable_grad():
        known = predictions.detach().requires_grad_(predictions.is_floating_point())
        channels = inputs.channels(known, targets)
    check_channels(channels, inputs)
    members = nn.ModuleList()
    for number in range(settings.members):
        build = Build(
            width=settings.width, variant=number, is_spectral=settings.smoothness == "spectral"
        )
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(derive_seed(seed, "member", number))
            member = SurrogateNetwork(
                inputs,
                channels.detach(),
                build,
                low=rules.low,
                high=rules.high,
                best=rules.best,
                is_set=is_set,
                is_distance=settings.form == "distance",
            )
        members.append(member)
    return members


class FeatureModel(nn.Module):
    """What a model of features says of a pair.

    Args:
        inputs: makes the features.
        model: gives [n], [n, 1] of them.
    """

    def __init__(self, inputs: Inputs, model: nn.Module) -> None:
        super().__init__()
        self.inputs = inputs
        self.model = model

    def forward(self, prediction: Tensor, target: Tensor) -> Float[Tensor, "n"]:
        """The metric of each example."""
        features = self.inputs.channels(prediction, target)
        if prediction.requires_grad and torch.is_grad_enabled():
            check_channels(features, self.inputs)
        values: Tensor = self.model(features)
        if values.ndim == 2 and values.shape[1] == 1:
            values = values[:, 0]
        if values.shape != features.shape[:1]:
            raise DataError(
                "the model that predicts the metric gives no single number an example",
                expected=str([len(features)]),
                got=str(list(values.shape)),
            )
        return values.to(prediction.dtype)


@dataclass(kw_only=True)
class GivenMember:
    """A model of the user's, and how it is fitted anew.

    Attributes:
        module: for the surrogate's members.
        estimator: of scikit-learn, fitted anew on all that was scored; None for modules, which go
            on from where they are.
    """

    module: nn.Module
    inputs: Inputs
    estimator: Any
    seed: int

    def fitted_anew(self, known: Examples) -> nn.Module:
        """The estimator's successor, fitted to these examples."""
        from sklearn.base import clone

        with torch.no_grad():
            features = self.inputs.channels(known.predictions, known.targets).double().numpy()
        estimator = clone(self.estimator)
        # A resumed run fits it again, and must find the same.
        drawn = {
            name: self.seed % 2**32
            for name, value in estimator.get_params().items()
            if name.endswith("random_state") and value is None
        }
        estimator.set_params(**drawn).fit(features, known.values.double().numpy())
        differentiable = as_differentiable(estimator, sample=features, seed=self.seed)
        return FeatureModel(self.inputs, differentiable).requires_grad_(False)


def given_member(model: Any, inputs: Inputs, *, seed: int) -> GivenMember:
    """A torch module, an estimator, a Keras model or a file, as a member.

    A torch module is copied: the surrogate may train it on.
    """
    if isinstance(model, nn.Module):
        module: nn.Module = copy.deepcopy(model)
        estimator = None
    else:
        module = as_differentiable(model, seed=seed)
        estimator = model if hasattr(model, "get_params") and hasattr(model, "predict") else None
    wrapped = FeatureModel(inputs, module).eval().requires_grad_(False)
    return GivenMember(module=wrapped, inputs=inputs, estimator=estimator, seed=seed)
