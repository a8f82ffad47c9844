"""A Keras 3 model as a frozen torch module whose gradient reaches its inputs.

On its torch backend a Keras model is a torch module, also one that was trained with TensorFlow or
JAX and saved as ``.keras``. Where this process has Keras on another backend already, which cannot
be changed, another process with the torch backend writes the model as ONNX.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tilth import lazy
from tilth.errors import DataError, SettingsError
from tilth.losses.differentiable.channel_order import ChannelsFirst
from tilth.losses.differentiable.onnx_network import OnnxNetwork

__all__ = ["KerasNetwork", "keras_network"]

BACKEND = "KERAS_BACKEND"
LEGACY = (".h5", ".hdf5")
# Weights are single precision, and another backend sums in another order.
TOLERANCE = 1e-4
LONGEST_EXPORT = 600  # seconds

EXPORTER = """
import sys
import keras
model = keras.saving.load_model(sys.argv[1], compile=False, safe_mode=True)
blank = [
    keras.ops.zeros([2 if size is None else size for size in x.shape], dtype=x.dtype)
    for x in model.inputs
]
model(blank[0] if len(blank) == 1 else blank)  # what was never called is not written
model.export(sys.argv[2], format="onnx", verbose=False)
"""


class KerasNetwork(nn.Module):
    """A Keras model on the torch backend, frozen and always in evaluation.

    Attributes:
        model: the Keras model; it is frozen in place, ``model.trainable = True`` thaws it.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        model.trainable = False
        self.model = model
        self.requires_grad_(False)
        super().train(False)

    def train(self, mode: bool = True) -> KerasNetwork:
        """Dropout and batch normalisation stay in evaluation."""
        return super().train(False)

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The output of the model, or a tuple of several."""
        keras = lazy.require("keras", extra="keras")
        kind = inputs[0].device
        with keras.device("cpu" if kind.type == "cpu" else f"gpu:{kind.index or 0}"):
            found = self.model(inputs[0] if len(inputs) == 1 else list(inputs), training=False)
        if isinstance(found, dict):
            found = list(found.values())
        return tuple(found) if isinstance(found, list | tuple) else found


def keras_network(
    model: Any,
    *,
    channels_first: bool = False,
    example: tuple[Any, Any] | None = None,
    tolerance: float = TOLERANCE,
    custom_objects: dict[str, Any] | None = None,
) -> nn.Module:
    """A differentiable network of a Keras model or a ``.keras`` file.

    Pictures have their channels where the model has them, in most last.

    Args:
        channels_first: the network is called with pictures [b, c, h, w], whatever the model has.
        example: inputs (an array, or a tuple of them) as the model has them, and what it says of
            them; checked.
        tolerance: largest difference from the example's outputs.
        custom_objects: classes that the file names and Keras does not know.

    Raises:
        SettingsError: not a Keras model, an older format, or a layer that would run code.
        DataError: the file cannot be read, or its answer differs from the example's.
        MissingExtraError: Keras is not installed.
    """
    if isinstance(model, str | Path):
        network = _of_file(Path(model), custom_objects)
    else:
        network = _of_object(model)
    if example is not None:
        _check_example(network, example, tolerance)
    return ChannelsFirst(network) if channels_first else network


def _keras() -> Any:
    """Keras; where nobody chose a backend yet, on torch."""
    if "keras" not in sys.modules:
        os.environ.setdefault(BACKEND, "torch")
    return lazy.require("keras", extra="keras")


def _of_file(path: Path, custom_objects: dict[str, Any] | None) -> nn.Module:
    _check_file(path)
    keras = _keras()
    if keras.backend.backend() != "torch":
        if custom_objects:
            raise _other_backend(keras, "classes of its own (custom_objects)")
        return _through_onnx(path)
    try:
        model = keras.saving.load_model(
            path, custom_objects=custom_objects, compile=False, safe_mode=True
        )
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise DataError(
            "Keras cannot read the model",
            where=str(path),
            got=_first_lines(str(error)),
            fix="give classes that Keras does not know as custom_objects={name: class}, and use a "
            "version of Keras no older than that of the file",
        ) from error
    return KerasNetwork(model)


def _of_object(model: Any) -> nn.Module:
    roots = {kind.__module__.partition(".")[0] for kind in type(model).__mro__}
    if "keras" not in roots:
        raise SettingsError(
            "this is no model of Keras 3",
            expected="a keras.Model, or the path of a .keras file",
            got=f"{type(model).__module__}.{type(model).__qualname__}",
            fix="of a model of Keras 2 (tf_keras) write a SavedModel, model.export(folder), and "
            "give that folder",
        )
    keras = lazy.require("keras", extra="keras")
    if keras.backend.backend() == "torch":
        return KerasNetwork(model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        _check_file(path)
        return _through_onnx(path)


def _check_file(path: Path) -> None:
    """Refuses what is missing, of an older format, or holds code, before Keras sees it."""
    if path.suffix.lower() in LEGACY:
        raise SettingsError(
            "older Keras files can hold code that would be run",
            where=str(path),
            expected="a .keras file",
            got=path.suffix,
            fix="load it where it was made and write it anew: model.save('model.keras')",
        )
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
    except (OSError, KeyError, zipfile.BadZipFile, ValueError) as error:
        raise DataError(
            "the file holds no Keras 3 model",
            where=str(path),
            expected="a file written by model.save('model.keras')",
            got=f"{type(error).__name__}: {error}",
        ) from error
    code = sorted(set(_layers_of_code(config)))
    if code:
        raise SettingsError(
            f"layer {', '.join(code)} of the model is code in the file, which is not run",
            where=str(path),
            expected="layers of Keras alone",
            got="Lambda",
            fix="write the layer as a class, or load the model yourself where you trust the file, "
            "and pass the model itself",
        )


def _layers_of_code(config: Any) -> Iterator[str]:
    """Names of the Lambda layers, and of whatever else brings its function along."""
    if isinstance(config, dict):
        if config.get("class_name") in ("Lambda", "__lambda__"):
            inner = config.get("config")
            yield str(inner.get("name", "lambda") if isinstance(inner, dict) else "lambda")
        else:
            for value in config.values():
                yield from _layers_of_code(value)
    elif isinstance(config, list):
        for value in config:
            yield from _layers_of_code(value)


def _through_onnx(path: Path) -> nn.Module:
    """The model as another process writes it, whose Keras is on torch."""
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "model.onnx"
        environment = {**os.environ, BACKEND: "torch", "CUDA_VISIBLE_DEVICES": ""}
        try:
            done = subprocess.run(
                [sys.executable, "-c", EXPORTER, str(path), str(written)],
                env=environment,
                capture_output=True,
                text=True,
                timeout=LONGEST_EXPORT,
                check=False,
            )
            output = done.stderr
        except subprocess.TimeoutExpired:
            output = f"no answer in {LONGEST_EXPORT} seconds"
        if not written.is_file():
            raise _other_backend(sys.modules["keras"], _last_lines(output))
        return OnnxNetwork.read(written)


def _other_backend(keras: Any, got: str) -> SettingsError:
    return SettingsError(
        f"Keras runs on {keras.backend.backend()} here, and the model could not be written as ONNX",
        expected="Keras on the torch backend",
        got=got,
        fix=f"set {BACKEND}=torch before Keras is first imported, and give the .keras file",
    )


def _check_example(network: nn.Module, example: tuple[Any, Any], tolerance: float) -> None:
    inputs, expected = example
    arrays: Sequence[Any] = inputs if isinstance(inputs, list | tuple) else (inputs,)
    with torch.no_grad():
        found = network(*(torch.as_tensor(np.asarray(array)) for array in arrays))
    answer = found[0] if isinstance(found, tuple) else found
    wanted = torch.as_tensor(np.asarray(expected)).to(answer)
    if answer.shape != wanted.shape:
        difference = f"shape {list(answer.shape)} instead of {list(wanted.shape)}"
    else:
        largest = float((answer - wanted).abs().max())
        if largest <= tolerance:
            return
        difference = f"a difference of {largest:.3g}"
    raise DataError(
        "the network does not say of the example what the model said",
        expected=f"the example's outputs within {tolerance:g}",
        got=difference,
        fix="give the example as the model has it (channels, range of numbers), or export it again",
    )


def _first_lines(text: str, count: int = 3) -> str:
    return " ".join(text.split("\n")[:count])[:500]


def _last_lines(text: str, count: int = 3) -> str:
    lines = [line for line in text.strip().split("\n") if line.strip()]
    return " / ".join(lines[-count:])[-800:] or "no message"
