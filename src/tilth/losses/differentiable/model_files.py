"""Models in files: which formats are read, by what, and which are refused because they run code."""

import importlib
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tilth.errors import MediaError, SettingsError
from tilth.lazy import attribute, require

__all__ = ["PICKLED", "READERS", "read_model"]

# These run whatever code their author put into them.
PICKLED = (".pkl", ".pickle", ".joblib", ".sav", ".dill", ".cloudpickle", ".pt", ".pth", ".ckpt")
PICKLE_FIX = (
    "load it where it was made, and pass the object itself; or write it as .skops "
    "(scikit-learn: skops.io.dump), .pt2 (torch.export.save) or .onnx"
)


def read_model(path: Path, *, converter: Path | str | None = None) -> Any:
    """The model of a file or folder: a torch module, or an estimator of scikit-learn.

    Args:
        converter: a Python that has tensorflow and tf2onnx, for SavedModel folders.

    Raises:
        SettingsError: a format that runs code, one that is not known, or parts that are not
            trusted.
        MediaError: there is no such file.
        MissingExtraError: its library is not installed.
    """
    suffix = path.suffix.lower()
    if suffix in PICKLED:
        raise SettingsError(
            f"{suffix} files are pickles, which run the code that they hold",
            where=str(path),
            expected=", ".join(READERS) + ", or a TensorFlow SavedModel folder",
            fix=PICKLE_FIX,
        )
    if not path.exists():
        raise MediaError("there is no such model", where=str(path))
    if path.is_dir() and (path / "saved_model.pb").is_file():
        network = attribute("tilth.losses.differentiable.saved_model:saved_model_network")
        return network(path, python=converter)
    if suffix not in READERS:
        raise SettingsError(
            "a model of an unknown format",
            where=str(path),
            expected=", ".join(READERS) + ", or a TensorFlow SavedModel folder",
            got=suffix or "no suffix",
        )
    return READERS[suffix](path)


def _read_onnx(path: Path) -> Any:
    network = attribute("tilth.losses.differentiable.onnx_network:OnnxNetwork", extra="onnx")
    return network.read(path)


def _read_keras(path: Path) -> Any:
    return attribute("tilth.losses.differentiable.keras_network:keras_network")(path)


def _read_exported(path: Path) -> Any:
    """``torch.export.load``, of files in which nothing is pickled."""
    try:
        _expect_plain_archive(path)
        return torch.export.load(path).module()
    except (zipfile.BadZipFile, RuntimeError, AssertionError) as error:
        raise MediaError(
            "not a program that torch exported", where=str(path), got=str(error)
        ) from error


def _expect_plain_archive(path: Path) -> None:
    """Loading falls back to pickles, and runs compiled code, where a file asks for it."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            inner = "/" + name.partition("/")[2]
            reason = ""
            if "aotinductor" in inner or inner.endswith((".so", ".pyd", ".dll")):
                reason = "compiled code"
            elif inner.endswith(".json"):
                text = archive.read(name).replace(b" ", b"")
                reason = "a pickle" if b'"use_pickle":true' in text else ""
            elif "custom_obj" in inner:
                reason = "an object of its own"
            elif inner.endswith(".pt") and not _is_of_tensors(archive.read(name)):
                reason = "a pickle"
            if reason:
                raise SettingsError(
                    f"the exported program holds {reason}",
                    where=f"{path}: {name}",
                    expected="weights and a graph",
                    fix="export it again with torch.export.save, or pass the module itself",
                )


def _is_of_tensors(content: bytes) -> bool:
    if not content:
        return True
    try:
        torch.load(BytesIO(content), weights_only=True)
    except Exception:  # whatever a stranger's bytes raise, they are not tensors alone
        return False
    return True


def _read_skops(path: Path) -> Any:
    """An estimator, trusted as far as it is made of classes of scikit-learn, NumPy and SciPy."""
    skops = require("skops.io", extra="skops")
    names = sorted(set(skops.get_untrusted_types(file=path)))
    strangers = [name for name in names if not _is_trusted(name)]
    if strangers:
        raise SettingsError(
            f"the model holds types that are not of scikit-learn: {', '.join(strangers)}",
            where=str(path),
            expected="classes of sklearn and scipy, and functions of numpy",
            fix="skops.io.load(file, trusted=[...]) if you know them; then pass the object itself",
        )
    return skops.load(path, trusted=names)


def _is_trusted(name: str) -> bool:
    """A class, not any function: calling what a file names would be running its code."""
    module, _, attribute_name = name.rpartition(".")
    root = module.partition(".")[0]
    if root not in ("sklearn", "scipy", "numpy"):
        return False
    try:
        found = getattr(importlib.import_module(module), attribute_name)
    except (ImportError, AttributeError):
        return False
    if root != "numpy":
        return isinstance(found, type)
    random = (np.random.RandomState, np.random.Generator, np.random.BitGenerator)
    return isinstance(found, np.ufunc) or (
        isinstance(found, type) and issubclass(found, (np.generic, np.dtype, *random))
    )


READERS: dict[str, Callable[[Path], Any]] = {
    ".onnx": _read_onnx,
    ".keras": _read_keras,
    ".skops": _read_skops,
    ".pt2": _read_exported,
}
