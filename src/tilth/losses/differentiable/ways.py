"""The ways to make a model differentiable that is no torch module, and the ladder over them."""

import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from tilth.errors import SettingsError, TrainingError
from tilth.losses.differentiable.black_box import BlackBox, telling_step
from tilth.losses.differentiable.estimator_distil import DistilSettings, distilled
from tilth.losses.differentiable.estimator_neighbours import SoftNeighbours
from tilth.losses.differentiable.estimators import twin_of
from tilth.losses.differentiable.exact_pieces import UnsupportedEstimatorError
from tilth.losses.differentiable.model import DifferentiableModel
from tilth.losses.differentiable.model_outputs import (
    Outputs,
    class_columns,
    variance_explained,
    worst_difference,
)
from tilth.losses.differentiable.soft_trees import SoftTrees

__all__ = ["WAYS", "Request", "down_the_ladder"]

# Of outputs, relative to the largest: an exact twin that is further off is not one.
EXACT_WITHIN = 1e-5
# Smoother edges follow the steps of the model less, but the slope under them better: on a smooth
# toy 0.3 costs 0.06 of R2 against 0.1, and raises the cosine with the true slope from 0.83 to 0.88.
TEMPERATURES = (0.1, 0.2, 0.3)
NEARLY = 0.08
TRIED_ROWS = 256


@dataclass(frozen=True, kw_only=True)
class Request:
    """A model, and what is wanted of it.

    Attributes:
        outputs: what the model says of inputs.
        asked: the method of an estimator that says it; None for a function.
        notes: why better ways did not hold.

    The others are the arguments of `tilth.losses.differentiable.as_differentiable`.
    """

    model: Any
    outputs: Outputs
    asked: str | None
    sample: np.ndarray | None
    classes: Any
    least_r2: float
    temperature: float | None
    distil: DistilSettings | None
    directions: int | None
    step: float | np.ndarray | None
    seed: int
    progress: bool
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Of the model, for a person."""
        return getattr(self.model, "__name__", type(self.model).__name__)

    @property
    def num_features(self) -> int | None:
        """Of the table that it reads; None where inputs keep their shape."""
        known = getattr(self.model, "n_features_in_", None)
        if known is not None:
            return int(known)
        is_table = self.sample is not None and self.sample.ndim == 2
        return self.sample.shape[1] if is_table and self.sample is not None else None


def down_the_ladder(request: Request) -> DifferentiableModel:
    """Down until a way holds; what the better ones lacked is kept in the description."""
    ways = [_distilled] if request.asked is None else [_exactly, _smoothly, _distilled]
    for way in ways:
        try:
            return way(request)
        except (_NotGoodEnough, UnsupportedEstimatorError) as error:
            if error.message not in request.notes:
                request.notes.append(error.message)
    return _by_differences(request)


class _NotGoodEnough(SettingsError):
    """A way that does not hold for this model; the next may."""


def _exactly(request: Request) -> DifferentiableModel:
    if request.asked is None:
        raise UnsupportedEstimatorError(request.name, "it is a function that cannot be looked into")
    network = twin_of(request.model, request.asked)
    found = _found(request, network, way="exact", description="")
    if request.sample is None:
        found.description = f"exact: {request.name} in torch operations, not checked on a sample"
        return found
    expected = request.outputs(request.sample)
    error, r2 = _compared(network, request.sample, expected)
    largest = max(float(np.abs(expected).max()), np.finfo(np.float64).tiny)
    if error > EXACT_WITHIN * largest:
        raise SettingsError(
            f"the twin of {request.name} is not exact",
            expected=f"{request.asked} within {EXACT_WITHIN:g} of its largest output",
            got=f"a difference of {error:.3g} where outputs reach {largest:.3g}",
            fix="as_differentiable(model, method='distil', sample=inputs)",
        )
    found.max_error, found.r2 = error, r2
    found.description = (
        f"exact: {request.name} in torch operations, within {error:.1e} of its {request.asked} on "
        f"{len(request.sample)} inputs"
    )
    return found


def _smoothly(request: Request) -> DifferentiableModel:
    if request.asked is None:
        raise UnsupportedEstimatorError(request.name, "it is a function that cannot be looked into")
    network = twin_of(request.model, request.asked, allow_smooth=True)
    if request.sample is None:
        if request.temperature is not None:
            _set_temperature(network, request.temperature)
        text = f"smooth: {request.name} with soft edges, of unknown error for want of a sample"
        return _found(request, network, way="smooth", description=text)
    expected = request.outputs(request.sample)
    _set_scales(network, request.sample)
    temperature = request.temperature
    if temperature is None:
        temperature = _best_temperature(network, request, expected)
    _set_temperature(network, temperature)
    error, r2 = _compared(network, request.sample, expected)
    _expect_r2(request, r2, "smooth", f"at a temperature of {temperature:g}")
    text = (
        f"smooth: {request.name} with soft edges (temperature {temperature:g}), R2 {r2:.3f} of its "
        f"{request.asked} on {len(request.sample)} inputs, largest difference {error:.3g}"
    )
    return _found(request, network, way="smooth", description=text, max_error=error, r2=r2)


def _best_temperature(network: nn.Module, request: Request, expected: np.ndarray) -> float:
    """The smoothest that is nearly as good as the best, tried on a part of the sample."""
    assert request.sample is not None
    random = np.random.default_rng(request.seed)
    rows = random.permutation(len(request.sample))[:TRIED_ROWS]
    tried = {}
    for temperature in TEMPERATURES:
        _set_temperature(network, temperature)
        tried[temperature] = _compared(network, request.sample[rows], expected[rows])[1]
    best = max(tried.values())
    floor = max(best - NEARLY, min(best, request.least_r2))
    return max(temperature for temperature, r2 in tried.items() if r2 >= floor)


def _distilled(request: Request) -> DifferentiableModel:
    if request.sample is None:
        raise _NotGoodEnough(
            f"{request.name} cannot be distilled without a sample",
            expected="inputs as they come, [n, features]",
            fix="as_differentiable(model, sample=inputs)",
        )
    pupil = distilled(
        request.outputs,
        request.sample,
        settings=request.distil,
        seed=request.seed,
        progress=request.progress,
    )
    _expect_r2(request, pupil.r2, "distilled", f"on {pupil.num_held_out} inputs kept from it")
    text = (
        f"distilled: {request.name} in a small network, R2 {pupil.r2:.3f} on {pupil.num_held_out} "
        f"inputs kept from it, largest difference {pupil.max_error:.3g}; the model was asked "
        f"{pupil.num_asked} times"
    )
    return _found(
        request,
        pupil.network,
        way="distilled",
        description=text,
        max_error=pupil.max_error,
        r2=pupil.r2,
    )


def _by_differences(request: Request) -> DifferentiableModel:
    step = 1e-3 if request.step is None else request.step
    if request.step is None and request.sample is not None:
        step = telling_step(request.outputs, request.sample, seed=request.seed)
    box = BlackBox(request.outputs, step=step, directions=request.directions, seed=request.seed)
    num = request.num_features
    is_known = num is not None or request.directions is not None
    cost = f"{box.rows_per_gradient(num or 0)} calls" if is_known else "two calls a feature"
    text = f"finite differences: {request.name} is asked itself, {cost} for the gradient of a row"
    reasons = "".join(f"\n  {note}" for note in request.notes)
    warnings.warn(text + reasons, UserWarning, stacklevel=4)
    known_error = None if request.sample is None else 0.0
    known_r2 = None if request.sample is None else 1.0
    return _found(
        request,
        box,
        way="finite differences",
        description=text,
        max_error=known_error,
        r2=known_r2,
    )


WAYS = {
    "exact": _exactly,
    "smooth": _smoothly,
    "distil": _distilled,
    "finite_differences": _by_differences,
}


def _found(
    request: Request,
    network: nn.Module,
    *,
    way: str,
    description: str,
    max_error: float | None = None,
    r2: float | None = None,
) -> DifferentiableModel:
    columns = None
    if request.classes is not None:
        num = len(getattr(request.model, "classes_", ()))
        is_one = num == 2 and request.asked == "decision_function"
        columns = class_columns(request.model, request.classes, 1 if is_one else num)
    text = f"{description} (because {'; '.join(request.notes)})" if request.notes else description
    return DifferentiableModel(
        network,
        way=way,
        description=text,
        num_features=request.num_features,
        max_error=max_error,
        r2=r2,
        columns=columns,
    )


def _compared(network: nn.Module, sample: np.ndarray, expected: np.ndarray) -> tuple[float, float]:
    """Largest difference from the model's own outputs, and R2."""
    with torch.no_grad():
        rows = torch.as_tensor(sample.reshape(len(sample), -1))
        # In pieces: a kernel of a whole sample by all support vectors may not fit.
        found = np.concatenate([network(part).double().numpy() for part in rows.split(512)])
    found = found.reshape(len(sample), -1)
    if found.shape != expected.shape:
        raise TrainingError(
            "the twin has another number of outputs than the model",
            expected=f"{expected.shape[1]}",
            got=f"{found.shape[1]}",
        )
    return worst_difference(found, expected), variance_explained(found, expected)


def _expect_r2(request: Request, r2: float, way: str, where: str) -> None:
    if r2 < request.least_r2:
        raise _NotGoodEnough(
            f"the {way} {request.name} explains too little of what the model says "
            f"(R2 {r2:.3f} {where})",
            expected=f"R2 of {request.least_r2:g} or more",
            fix=f"as_differentiable(model, least_r2={np.floor(r2 * 100) / 100:g}) to take it all "
            "the same, or another method",
        )


def _set_temperature(network: nn.Module, temperature: float) -> None:
    for part in network.modules():
        if isinstance(part, (SoftTrees, SoftNeighbours)):
            part.temperature = temperature


def _set_scales(network: nn.Module, sample: np.ndarray) -> None:
    """Every group of trees learns how far its own inputs spread, wherever in a chain it stands."""

    def observe(part: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        assert isinstance(part, SoftTrees)
        spread = inputs[0].std(dim=0, correction=0)
        part.scale = spread.where(spread > 0, part.scale)

    parts = [part for part in network.modules() if isinstance(part, SoftTrees)]
    handles = [part.register_forward_pre_hook(observe) for part in parts]
    with torch.no_grad():
        network(torch.as_tensor(sample.reshape(len(sample), -1)))
    for handle in handles:
        handle.remove()
