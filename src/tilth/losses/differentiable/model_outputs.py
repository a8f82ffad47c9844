"""What a model itself says, as numbers: the truth that its differentiable twin is held against."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tilth.errors import DataError, SettingsError

__all__ = [
    "Outputs",
    "as_sample",
    "class_columns",
    "estimator_outputs",
    "function_outputs",
    "module_outputs",
    "runtime_outputs",
    "variance_explained",
    "worst_difference",
]

# Inputs [n, *features] to float64 outputs [n, k].
Outputs = Callable[[np.ndarray], np.ndarray]


def estimator_outputs(estimator: Any, method: str) -> Outputs:
    """``estimator.method`` of tables, named as it knows its columns."""
    names = getattr(estimator, "feature_names_in_", None)

    def outputs(x: np.ndarray) -> np.ndarray:
        table = x.reshape(len(x), -1)
        with warnings.catch_warnings():
            # An estimator that knows names and gets none warns on every call.
            warnings.filterwarnings("ignore", message=".*valid feature names.*")
            found = getattr(estimator, method)(table if names is None else _named(table, names))
        return _columns(found, len(x), type(estimator).__name__)

    return outputs


def function_outputs(function: Callable[[np.ndarray], Any]) -> Outputs:
    """Any function of NumPy arrays."""
    name = getattr(function, "__name__", type(function).__name__)

    def outputs(x: np.ndarray) -> np.ndarray:
        return _columns(function(x), len(x), name)

    return outputs


def module_outputs(module: nn.Module) -> Outputs:
    """A torch module, asked as if it were a function of NumPy arrays."""
    tensors = (*module.parameters(), *module.buffers())
    dtype = next((one.dtype for one in tensors if one.is_floating_point()), torch.float64)
    device = next((one.device for one in tensors), torch.device("cpu"))

    def outputs(x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            found = module(torch.as_tensor(x, dtype=dtype, device=device))
        return _columns(found.cpu().double().numpy(), len(x), type(module).__name__)

    return outputs


def runtime_outputs(model: Any) -> Outputs | None:
    """An ONNX file or graph, run by onnxruntime; None without it, or with several inputs."""
    try:
        import onnxruntime
    except ModuleNotFoundError:
        return None
    is_file = isinstance(model, (str, Path))
    if is_file and not Path(model).is_file():
        return None
    source = str(model) if is_file else model.SerializeToString()
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    inputs = session.get_inputs()
    dtype = {"tensor(float)": np.float32, "tensor(double)": np.float64}.get(inputs[0].type)
    if len(inputs) != 1 or dtype is None:
        return None

    def outputs(x: np.ndarray) -> np.ndarray:
        found = session.run(None, {inputs[0].name: x.astype(dtype)})
        numbers = [one for one in found if isinstance(one, np.ndarray) and one.dtype.kind == "f"]
        return _columns(numbers[0], len(x), "onnxruntime")

    return outputs


def as_sample(sample: Any, model: Any = None) -> np.ndarray | None:
    """Inputs as a float64 array [n, *features]; a table with names is put in the model's order.

    Raises:
        SettingsError: it is empty, or not of numbers.
        DataError: a number is missing or infinite.
    """
    if sample is None:
        return None
    names = getattr(model, "feature_names_in_", None)
    if names is not None and hasattr(sample, "columns"):
        sample = sample[list(names)]
    if isinstance(sample, torch.Tensor):
        sample = sample.detach().cpu()
    try:
        array = np.asarray(sample, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise SettingsError(
            "the sample is not an array of numbers", expected="[n, features]", got=str(error)
        ) from error
    if array.ndim < 2 or not len(array):
        raise SettingsError(
            "the sample is not a table of inputs",
            expected="[n, features] with a row or more",
            got=f"shape {list(array.shape)}",
        )
    if not np.isfinite(array).all():
        place = np.argwhere(~np.isfinite(array))[0]
        raise DataError(
            "the sample holds a missing or infinite number",
            where=f"index {place.tolist()}",
            fix="drop such rows, or fill them as the model's training data were",
        )
    return array


def class_columns(model: Any, classes: Sequence[Any] | None, num_outputs: int) -> list[int] | None:
    """Where the columns of the expected classes are; [-1] turns round a decision between two.

    Raises:
        SettingsError: the model knows other classes.
    """
    if classes is None:
        return None
    known = getattr(model, "classes_", None)
    if known is None:
        raise SettingsError(
            "classes are given for a model that has none",
            expected="no classes, or a fitted classifier",
            got=type(model).__name__,
        )
    own, asked = [str(name) for name in known], [str(name) for name in classes]
    if sorted(own) != sorted(asked):
        raise SettingsError(
            "the model was fitted on other classes",
            expected=", ".join(asked),
            got=", ".join(own),
            fix="fit it on these classes, or pass the classes that it knows",
        )
    if num_outputs == len(own):
        return [own.index(name) for name in asked]
    return [0] if own == asked else [-1]


def worst_difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest absolute difference."""
    return float(np.abs(found - expected).max())


def variance_explained(found: np.ndarray, expected: np.ndarray) -> float:
    """R2 over all outputs; of outputs that never change 1 where they are met, else 0."""
    residual = float(((found - expected) ** 2).sum())
    total = float(((expected - expected.mean(axis=0)) ** 2).sum())
    if total <= 1e-24 * max(float((expected**2).sum()), 1e-300):
        return 1.0 if np.allclose(found, expected) else 0.0
    return 1 - residual / total


def _columns(found: Any, num_rows: int, name: str) -> np.ndarray:
    array = np.asarray(found, dtype=np.float64)
    if array.ndim == 0 or len(array) != num_rows:
        raise DataError(
            f"{name} does not give one output a row",
            expected=f"[{num_rows}] or [{num_rows}, outputs]",
            got=f"shape {list(array.shape)}",
        )
    array = array.reshape(num_rows, -1)
    if not np.isfinite(array).all():
        row = int(np.argwhere(~np.isfinite(array))[0, 0])
        raise DataError(f"{name} gives a missing or infinite number", where=f"row {row}")
    return array


def _named(table: np.ndarray, names: Any) -> Any:
    try:
        import pandas
    except ModuleNotFoundError:
        return table
    return pandas.DataFrame(table, columns=list(names))
