"""Checkpoints that survive a kill, a full disk and a damaged file.

A checkpoint is a folder that appears in one rename, after every file in it has reached the disk:

    step-00000200/
      model.safetensors      one file a model: the trained weights, their moving average, ...
      state.pt               tensors and plain numbers only: optimiser, loss scaler
      checkpoint.json        step, digest of the run, progress, versions, size and hash of each file

The last two are kept. What is read back is compared with its hash first, so a damaged newest one
is noticed and the one before it is taken.
"""

from __future__ import annotations

import hashlib
import os
import platform
import secrets
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import torch
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import nn

import tilth
from tilth.errors import StorageError, TrainingError

__all__ = [
    "Checkpoint",
    "load_weights",
    "newest_checkpoint",
    "restore",
    "save_checkpoint",
    "save_weights",
    "versions",
]

KEPT = 2
_RECORD = "checkpoint.json"
_STATE = "state.pt"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint whose files were found whole.

    Attributes:
        folder: where it lies.
        step: optimiser steps done.
        progress: what the loop wants to know again, plain values.
    """

    folder: Path
    step: int
    progress: dict[str, Any]


def save_checkpoint(
    folder: Path,
    *,
    step: int,
    run: str,
    models: Mapping[str, nn.Module],
    state: Mapping[str, Any],
    progress: Mapping[str, Any],
) -> Path:
    """Write the checkpoint of ``step`` under ``folder``, then drop all but the last two.

    Args:
        run: digest of the run, compared by `newest_checkpoint`.
        models: name to module; each becomes ``<name>.safetensors``.
        state: tensors and plain values, as ``state_dict()`` of optimisers gives them.
        progress: plain values for JSON.

    Raises:
        StorageError: the disk is full or not writable; earlier checkpoints are as they were.
    """
    target = folder / f"step-{step:08d}"
    temporary = folder / f".{target.name}.{secrets.token_hex(6)}.part"
    try:
        with _storage_errors(target):
            temporary.mkdir(parents=True)
            for name, model in models.items():
                save_model(model, str(temporary / f"{name}.safetensors"))
            torch.save(dict(state), temporary / _STATE)
            files = {path.name: _fingerprint(path) for path in sorted(temporary.iterdir())}
            record = {"step": step, "run": run, "progress": dict(progress)}
            record |= {"versions": versions(), "files": files}
            (temporary / _RECORD).write_bytes(orjson.dumps(record, option=orjson.OPT_INDENT_2))
            for path in (*temporary.iterdir(), temporary):
                _sync(path)
            if target.exists():  # only a damaged one: a whole one would have been continued from
                shutil.rmtree(target)
            os.replace(temporary, target)
            _sync(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    _drop_old(folder, step)
    return target


def newest_checkpoint(folder: Path, *, run: str) -> Checkpoint | None:
    """The newest whole checkpoint of ``run``, or None where there is none at all.

    Raises:
        TrainingError: there are checkpoints, but every one is damaged or of another run.
    """
    found = sorted(folder.glob("step-*"), reverse=True)
    for candidate in found:
        try:
            return _verified(candidate, run)
        except _Damaged as damage:
            warnings.warn(
                f"checkpoint {candidate} cannot be used ({damage}); trying the one before it",
                stacklevel=2,
            )
    if found:
        raise TrainingError(
            "the run cannot be continued: no checkpoint is whole",
            where=str(folder),
            got=f"{len(found)} checkpoints, none of them usable",
            fix="restore the folder from a copy, or start again in a new run folder",
        )
    return None


def restore(checkpoint: Checkpoint, models: Mapping[str, nn.Module]) -> dict[str, Any]:
    """Load the weights into ``models`` and return the saved ``state``, on the CPU.

    Raises:
        TrainingError: the weights do not fit the models.
    """
    for name, model in models.items():
        load_weights(checkpoint.folder / f"{name}.safetensors", model)
    # weights_only: tensors and plain values; no code is run, whoever wrote the file.
    return torch.load(checkpoint.folder / _STATE, map_location="cpu", weights_only=True)


def save_weights(path: Path, model: nn.Module) -> None:
    """Write the weights and buffers of ``model`` as safetensors, in one step.

    Raises:
        StorageError: the write failed; a file that was there before is unchanged.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    try:
        with _storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            save_model(model, str(temporary))
            _sync(temporary)
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_weights(path: Path, model: nn.Module) -> None:
    """Load what `save_weights` wrote into ``model``, which keeps its device and memory order.

    Raises:
        TrainingError: missing, not safetensors, or the weights of another model.
    """
    try:
        load_model(model, path)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise TrainingError(
            "the weights cannot be loaded into this model",
            where=str(path),
            expected=f"weights of {type(model).__name__} with the same settings",
            got=str(error),
        ) from error


def versions() -> dict[str, str]:
    """What a run was made with; recorded, not compared."""
    return {
        "tilth": tilth.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


class _Damaged(Exception):
    """Why a checkpoint cannot be used."""


def _verified(folder: Path, run: str) -> Checkpoint:
    try:
        record = orjson.loads((folder / _RECORD).read_bytes())
        for name, expected in record["files"].items():
            if _fingerprint(folder / name) != expected:
                raise _Damaged(f"{name} is not what was written")
        if record["run"] != run:
            raise _Damaged("it belongs to another run")
        return Checkpoint(folder=folder, step=record["step"], progress=record["progress"])
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise _Damaged(f"{type(error).__name__}: {error}") from error


def _fingerprint(path: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


def _drop_old(folder: Path, step: int) -> None:
    # A checkpoint of a later step than the one just written is one that resuming has refused.
    *old, _ = sorted(path for path in folder.glob("step-*") if path.name <= f"step-{step:08d}")
    later = [path for path in folder.glob("step-*") if path.name > f"step-{step:08d}"]
    for path in [*old[: 1 - KEPT], *later, *folder.glob(".step-*.part")]:
        shutil.rmtree(path, ignore_errors=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _storage_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise StorageError(
            "the weights could not be written; what was there before is unchanged",
            where=str(target),
            got=str(error),
            fix="free some space and start the same run again: it continues",
        ) from error
