"""`tilth metric use` of a model that predicts a metric already: what it is worth as a loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from tilth.losses.differentiable import as_differentiable
from tilth.recipes.metric_outputs import read_array
from tilth.recipes.metric_verbs import gradient_facts

__all__ = ["use_model"]


def use_model(path: Path, sample: Path | None) -> dict[str, Any]:
    """What `as_differentiable` makes of a file, and the lines that make a loss of it.

    Args:
        path: .onnx, .keras, .skops, .pt2, or a folder of TensorFlow's.
        sample: an .npz with ``inputs`` [n, ...] as the model takes them; without one nothing can be
            verified, and gradients only of tables.

    Raises:
        SettingsError, DataError: see `as_differentiable` and `read_array`.
    """
    inputs = None if sample is None else read_array(sample, "inputs")
    model = as_differentiable(path, sample=inputs, progress=False)
    rows = inputs
    if rows is None and model.num_features is not None:
        draws = np.random.default_rng(0)
        rows = draws.standard_normal((8, model.num_features)).astype(np.float32)
    return {
        "model": path,
        "way": model.way,
        "description": model.description,
        "max_error": model.max_error,
        "r2": model.r2,
        "gradient": None if rows is None else _gradient(model, rows),
        "python": _python(path),
    }


def _gradient(model: torch.nn.Module, rows: Any) -> dict[str, Any]:
    x = torch.as_tensor(rows[:64], dtype=torch.float32).requires_grad_()
    model(x).sum().backward()
    return gradient_facts(x.grad)


def _python(path: Path) -> str:
    return (
        "from tilth.losses.differentiable import as_differentiable\n"
        "from tilth.losses.metric_surrogate import MetricSurrogate\n"
        "\n"
        f"model = as_differentiable({str(path)!r})\n"
        "surrogate = MetricSurrogate(metric, model, inputs=features)  # torch operations, [n, d]\n"
        "loss = surrogate(predictions, targets).mean()\n"
    )
