"""A TensorFlow SavedModel as a differentiable network, by way of ONNX.

TensorFlow does not have to be where training runs: the conversion is a process of its own, in any
interpreter that has ``tensorflow`` and ``tf2onnx``.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from torch import nn

from tilth.data.atomic import atomic_writer
from tilth.errors import DataError, MissingExtraError, SettingsError
from tilth.losses.differentiable.channel_order import ChannelsFirst
from tilth.losses.differentiable.onnx_network import OnnxNetwork

__all__ = ["OPSET", "converted_model", "saved_model_network"]

OPSET = 17  # the newest that tf2onnx writes without notes
LONGEST = 1800  # seconds


def saved_model_network(
    folder: Path | str,
    *,
    python: Path | str | None = None,
    cache: Path | str | None = None,
    signature: str | None = None,
    outputs: Sequence[str] | None = None,
    opset: int = OPSET,
    channels_first: bool = False,
    progress: bool = False,
) -> nn.Module:
    """The network of a folder that ``tf.saved_model.save`` or ``model.export`` wrote.

    Args:
        python: interpreter with tensorflow and tf2onnx; by default this one.
        cache: folder that keeps the converted models, under a digest of what they were made from.
        signature: which of the model's functions, by default ``serving_default``.
        outputs: names of the wanted ones; by default all that are floating numbers.
        channels_first: the network is called with pictures [b, c, h, w].
        progress: show on stderr that the conversion runs.

    Raises:
        DataError: no SavedModel, or one that cannot be converted; the converter's words are told.
        MissingExtraError: the interpreter has no tf2onnx or no TensorFlow.
    """
    folder = Path(folder)
    _check_folder(folder)
    with tempfile.TemporaryDirectory() as temporary:
        path = converted_model(
            folder,
            into=Path(cache) if cache is not None else Path(temporary),
            python=str(python or sys.executable),
            opset=opset,
            signature=signature,
            progress=progress,
        )
        network = OnnxNetwork.read(path, outputs=outputs)
    return ChannelsFirst(network) if channels_first else network


def converted_model(
    folder: Path,
    *,
    into: Path,
    python: str,
    opset: int = OPSET,
    signature: str | None = None,
    progress: bool = False,
) -> Path:
    """The ONNX file of a SavedModel, converted now or found there."""
    path = into / f"{_digest(folder, f'{opset} {signature}')}.onnx"
    if path.is_file():
        return path
    with tempfile.TemporaryDirectory() as temporary:
        written = Path(temporary) / "model.onnx"
        command = [python, "-m", "tf2onnx.convert", "--saved-model", str(folder.resolve())]
        command += ["--opset", str(opset), "--output", str(written)]
        command += ["--signature_def", signature] if signature else []
        said = _run(command, progress)
        if not written.is_file():
            raise _failed(folder, python, said)
        with written.open("rb") as source, atomic_writer(path) as target:
            shutil.copyfileobj(source, target)
    return path


def _check_folder(folder: Path) -> None:
    if not (folder / "saved_model.pb").is_file():
        raise DataError(
            "there is no SavedModel here",
            where=str(folder),
            expected="a folder with saved_model.pb, as tf.saved_model.save writes it",
            fix="of a Keras 3 model give the .keras file itself",
        )


def _digest(folder: Path, settings: str) -> str:
    """Of every file of the folder, by name, and of the settings."""
    digest = hashlib.sha256(settings.encode())
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:32]


def _run(command: list[str], progress: bool) -> str:
    """What the converter says; whether it wrote something is seen by the file."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    bar = Progress(*columns, console=Console(stderr=True), disable=not progress, transient=True)
    with bar:
        bar.add_task("converting the SavedModel", total=None)
        try:
            done = subprocess.run(
                command,
                env=environment,
                capture_output=True,
                text=True,
                timeout=LONGEST,
                check=False,
            )
        except FileNotFoundError as error:
            raise SettingsError(
                "there is no such interpreter",
                got=command[0],
                expected="a Python with tensorflow and tf2onnx",
            ) from error
        except subprocess.TimeoutExpired:
            return f"no answer in {LONGEST} seconds"
    return done.stdout + done.stderr


def _failed(folder: Path, python: str, said: str) -> DataError | MissingExtraError:
    for library in ("tf2onnx", "tensorflow"):
        if f"No module named '{library}" in said or f"No module named {library}" in said:
            return MissingExtraError(
                f"{library} is not installed in the interpreter that converts",
                where=python,
                expected="tensorflow and tf2onnx",
                fix="python -m venv tf && tf/bin/pip install tensorflow tf2onnx, then give "
                "python='tf/bin/python'",
            )
    lines = [line for line in said.strip().split("\n") if line.strip()]
    return DataError(
        "tf2onnx could not convert the SavedModel",
        where=str(folder),
        got=" / ".join(lines[-4:])[-1000:] or "no message",
        fix="try it by hand: python -m tf2onnx.convert --saved-model FOLDER --output model.onnx",
    )
