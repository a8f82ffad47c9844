"""Any fitted model as a torch module with a gradient to its inputs, in one call.

    >>> from sklearn.svm import SVR                                           # doctest: +SKIP
    >>> loss = as_differentiable(SVR().fit(features, scores), sample=features)  # doctest: +SKIP
    >>> loss.way                                                              # doctest: +SKIP
    'exact'

Ways, best first; ``method="auto"`` goes down until one holds:

1. a torch module (also from .pt2 and .keras) is taken as it is;
2. exact: estimators of scikit-learn (`estimators`) and ONNX graphs (also of a
   TensorFlow SavedModel) are rewritten in torch operations;
3. smooth: trees and neighbourhoods with soft edges;
4. distilled: a small network that learned to answer as the model does;
5. finite differences: the model itself is asked, several times for every gradient.
"""

import copy as copying
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import nn

from tilth.errors import SettingsError
from tilth.lazy import attribute
from tilth.losses.differentiable.estimator_distil import DistilSettings
from tilth.losses.differentiable.estimators import asked_method, is_estimator
from tilth.losses.differentiable.model import DifferentiableModel
from tilth.losses.differentiable.model_files import read_model
from tilth.losses.differentiable.model_outputs import (
    Outputs,
    as_sample,
    estimator_outputs,
    function_outputs,
    module_outputs,
    runtime_outputs,
    variance_explained,
    worst_difference,
)
from tilth.losses.differentiable.ways import WAYS, Request, down_the_ladder

__all__ = ["DifferentiableModel", "Method", "as_differentiable"]

# Of outputs in single precision, relative to the largest.
RUNTIME_WITHIN = 1e-4
# Of trees in ONNX files, in units of the spread of each feature's thresholds.
ONNX_TEMPERATURE = 0.2

Method = Literal["auto", "exact", "smooth", "distil", "finite_differences"]


def as_differentiable(
    model: Any,
    *,
    sample: Any = None,
    method: Method = "auto",
    classes: Any = None,
    least_r2: float = 0.8,
    temperature: float | None = None,
    distil: DistilSettings | None = None,
    directions: int | None = None,
    step: float | np.ndarray | None = None,
    converter: Path | str | None = None,
    seed: int = 0,
    copy: bool = True,
    progress: bool = True,
) -> DifferentiableModel:
    """A frozen torch module that answers as ``model`` does, and passes gradients to its inputs.

    Args:
        model: a torch module; a fitted estimator or pipeline of scikit-learn; a Keras 3 model; the
            path of a .onnx, .keras, .skops or .pt2 file or of a TensorFlow SavedModel folder; or
            any function of NumPy arrays, [n, *features] -> [n] or [n, k].
        sample: inputs as they come [n, ...]; without them nothing can be verified or distilled.
        method: "auto" takes the best way that holds, any other that way or an error.
        classes: of a classifier, in the order in which its outputs are wanted.
        least_r2: below it a smooth or distilled model is refused.
        temperature: of smooth splits, in standard deviations of each feature; None takes the
            smoothest of 0.1, 0.2 and 0.3 that explains the model nearly as well as the best.
        distil: how a model is distilled.
        directions: of finite differences, random directions in place of every feature by itself.
        step: of finite differences, in units of the inputs.
        converter: a Python that has tensorflow and tf2onnx, for SavedModel folders; by default this
            one.
        seed: of what is drawn.
        copy: leave a torch module as it is, and freeze its copy.
        progress: show a bar on standard error while distilling.

    Raises:
        SettingsError: the model is not fitted, does not know the classes, is not good enough in the
            way that was asked for, or has a part without an exact form, which is named.
        DataError: numbers are missing in the sample or in what the model says of it.
        TrainingError: a torch module that lets no gradient through.
    """
    _expect(method, least_r2, temperature, directions)
    if isinstance(model, DifferentiableModel):
        return model
    given, model = model, _opened(model, method, temperature, converter)
    inputs = as_sample(sample, model)
    if isinstance(model, nn.Module) and method in ("auto", "exact"):
        if classes is not None:
            raise SettingsError(
                "a torch module names no classes, so its outputs cannot be put in order",
                fix="reorder them in a module of your own, or pass no classes",
            )
        return _of_module(model, given, inputs, copy=copy, least_r2=least_r2, method=method)
    asked = asked_method(model) if is_estimator(model) else None
    request = Request(
        model=model,
        outputs=_outputs(model, asked),
        asked=asked,
        sample=inputs,
        classes=classes,
        least_r2=least_r2,
        temperature=temperature,
        distil=distil,
        directions=directions,
        step=step,
        seed=seed,
        progress=progress,
    )
    return down_the_ladder(request) if method == "auto" else WAYS[method](request)


def _expect(
    method: str, least_r2: float, temperature: float | None, directions: int | None
) -> None:
    if method not in get_args(Method):
        raise SettingsError(
            "there is no such way to make a model differentiable",
            expected=", ".join(get_args(Method)),
            got=repr(method),
        )
    checks = {
        "least_r2": (least_r2 <= 1, "at most 1", least_r2),
        "temperature": (temperature is None or temperature > 0, "above 0", temperature),
        "directions": (directions is None or directions > 0, "1 or more", directions),
    }
    for name, (holds, expected, got) in checks.items():
        if not holds:
            raise SettingsError(f"{name} cannot be used", expected=expected, got=repr(got))


def _opened(
    model: Any, method: str, temperature: float | None, converter: Path | str | None
) -> Any:
    """What a path, a Keras model or an ONNX graph stands for; anything else as it is."""
    if _is_onnx(model) and method in ("distil", "finite_differences"):
        return _asked_of_runtime(model)  # which knows operators that have no gradient
    if _is_onnx(model):
        network = attribute("tilth.losses.differentiable.onnx_network:OnnxNetwork", extra="onnx")
        return network.read(model, smooth=temperature or ONNX_TEMPERATURE)
    if isinstance(model, (str, Path)):
        return read_model(Path(model), converter=converter)
    if isinstance(model, type):
        raise SettingsError(
            f"{model.__name__} is a class, not a model",
            expected="one that was made and fitted",
            fix=f"model = {model.__name__}(...), then model.fit(inputs, scores)",
        )
    if "keras" in _roots(model):
        return attribute("tilth.losses.differentiable.keras_network:keras_network")(model)
    if isinstance(model, nn.Module) or is_estimator(model) or callable(model):
        return model
    raise SettingsError(
        "the model is nothing that predicts",
        expected="a torch module, a fitted estimator, a Keras model, a file, or a function",
        got=type(model).__name__,
    )


def _is_onnx(model: Any) -> bool:
    if isinstance(model, (str, Path)):
        return Path(model).suffix.lower() == ".onnx" and Path(model).exists()
    return "onnx" in _roots(model) and type(model).__name__ == "ModelProto"


def _roots(model: Any) -> set[str]:
    return {kind.__module__.partition(".")[0] for kind in type(model).__mro__}


def _asked_of_runtime(model: Any) -> Any:
    outputs = runtime_outputs(model)
    if outputs is None:
        raise SettingsError(
            "the ONNX model cannot be asked by onnxruntime",
            expected="the extra 'onnx', and a graph with one input",
            fix="pip install 'tilth[onnx]', or pass a function of NumPy arrays",
        )
    return outputs


def _outputs(model: Any, asked: str | None) -> Outputs:
    if asked is not None:
        return estimator_outputs(model, asked)
    if isinstance(model, nn.Module):
        return module_outputs(copying.deepcopy(model).eval())
    return function_outputs(model)


def _of_module(
    model: nn.Module,
    given: Any,
    sample: np.ndarray | None,
    *,
    copy: bool,
    least_r2: float,
    method: str,
) -> DifferentiableModel:
    """As it is, or as a file of another library was rewritten in torch."""
    name = type(model).__name__
    is_file = isinstance(given, (str, Path))
    name = f"{name} of {Path(given).name}" if is_file else name
    is_rewritten = _is_onnx(given) or (is_file and Path(given).is_dir())
    softened = getattr(model, "softened", ()) if is_rewritten else ()
    if softened and method == "exact":
        raise SettingsError(
            f"the trees of {name} have no exact gradient",
            expected="method 'auto', which softens their splits, or 'distil'",
            got="method 'exact'",
        )
    found = DifferentiableModel(
        # What was just read belongs to nobody else.
        copying.deepcopy(model) if copy and model is given else model,
        way="smooth" if softened else "exact" if is_rewritten else "as it is",
        description=f"as it is: {name}, frozen and in evaluation",
    )
    if sample is not None:
        rows = torch.as_tensor(sample, dtype=torch.float32)
        with torch.enable_grad():
            found(rows[:2].clone().requires_grad_())
    if is_rewritten:
        how = "with soft splits of its trees" if softened else "in torch operations"
        found.description = f"{found.way}: {name} {how}, not checked against its runtime"
        _check_against_runtime(found, given, sample, f"{name} {how}", least_r2)
    elif sample is not None:
        found.max_error, found.r2 = 0.0, 1.0
    return found


def _check_against_runtime(
    found: DifferentiableModel,
    given: Any,
    sample: np.ndarray | None,
    name: str,
    least_r2: float,
) -> None:
    """Where onnxruntime is there to be asked, and the graph has one input."""
    outputs = None if sample is None else runtime_outputs(given)
    if outputs is None or sample is None:
        return
    expected = outputs(sample)
    with torch.no_grad():
        values = found(torch.as_tensor(sample)).double().numpy().reshape(len(sample), -1)
    found.max_error = worst_difference(values, expected)
    found.r2 = variance_explained(values, expected)
    largest = max(float(np.abs(expected).max()), np.finfo(np.float64).tiny)
    is_exact = found.way == "exact"
    if is_exact and found.max_error > RUNTIME_WITHIN * largest:
        raise SettingsError(
            f"{name} differs from its runtime",
            expected=f"outputs within {RUNTIME_WITHIN:g} of the largest",
            got=f"a difference of {found.max_error:.3g} where outputs reach {largest:.3g}",
        )
    if not is_exact and found.r2 is not None and found.r2 < least_r2:
        raise SettingsError(
            f"{name} is not good enough",
            expected=f"an R2 of {least_r2:g} or more with the model's own outputs",
            got=f"{found.r2:.3f}",
            fix="method='distil', a smaller temperature, or a smaller least_r2",
        )
    found.description = (
        f"{found.way}: {name}, within {found.max_error:.1e} of onnxruntime on {len(sample)} inputs"
    )
