"""A fitted surrogate in a folder: what it is (JSON) and its weights (safetensors)."""

from __future__ import annotations

import json
import math
import os
import secrets
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tilth.config import load_settings, settings_to_dict
from tilth.errors import DataError, SettingsError, StorageError, TilthError
from tilth.losses.gathered_rows import num_together
from tilth.losses.metric_replay import Replay
from tilth.losses.metric_settings import MetricSettings
from tilth.losses.metric_surrogate import MetricSurrogate
from tilth.losses.metric_values import Failure, Metric, metric_of
from tilth.losses.surrogate_fit import Quality
from tilth.losses.surrogate_inputs import INPUTS, Channels
from tilth.losses.surrogate_settings import SurrogateSettings

__all__ = ["read_surrogate", "save_surrogate", "surrogate_of"]

_RECORD, _WEIGHTS, _BANK = "surrogate.json", "members.safetensors", "bank.safetensors"
_FORMAT = 1


def save_surrogate(
    surrogate: MetricSurrogate, folder: Path, *, metric: str = "", with_bank: bool = True
) -> Path:
    """Write a surrogate, all of it or nothing; an older one in the folder's place goes.

    Args:
        metric: its name, for whoever reads it.
        with_bank: write the outputs too that it was fitted to, so that a run which refreshes it
            does not forget them.

    Raises:
        SettingsError: its model is of another library, which keeps its own files.
        DataError: the folder holds something else.
        StorageError: the disk is full or not writable; what was there before is whole.
    """
    if surrogate.given is not None or surrogate.example is None:
        raise SettingsError(
            "only a surrogate of Tilth's own networks, once fitted, can be written",
            fix="keep the given model in its own format (.skops, .keras, .onnx), and give its file",
        )
    folder = Path(folder)
    if folder.exists() and not (folder / _RECORD).is_file():
        raise DataError("there is something else in the surrogate's place", where=str(folder))
    record = {
        "format": _FORMAT,
        "metric": metric,
        "inputs": surrogate.inputs.name,
        "rules": asdict(surrogate.rules),
        "set_size": surrogate.set_size,
        "settings": settings_to_dict(surrogate.settings),
        "shapes": [list(each.shape) for each in surrogate.example],
        "kinds": [str(each.dtype).removeprefix("torch.") for each in surrogate.example],
        "fitted_steps": surrogate.fitted_steps,
        "seed": surrogate.seed,
        "quality": None if surrogate.quality is None else surrogate.quality.as_dict(),
    }
    part = folder.with_name(f".{folder.name}.{secrets.token_hex(6)}.part")
    try:
        part.mkdir(parents=True)
        weights = {name: value.contiguous() for name, value in surrogate.state_dict().items()}
        save_file(weights, str(part / _WEIGHTS))
        if with_bank and surrogate.bank is not None:
            save_file(_flat(surrogate.bank), str(part / _BANK))
        (part / _RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")
        if folder.exists():
            old = folder.with_name(f".{folder.name}.{secrets.token_hex(6)}.old")
            os.replace(folder, old)
            os.replace(part, folder)
            shutil.rmtree(old)
        else:
            os.replace(part, folder)
    except OSError as error:
        raise StorageError(
            "the surrogate could not be written", where=str(folder), got=str(error)
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def read_surrogate(
    folder: str | Path,
    metric: Metric | str | None = None,
    *,
    inputs: Channels | None = None,
    on_failure: Failure | None = None,
    workers: int = 0,
    budget: int | None = None,
) -> MetricSurrogate:
    """The surrogate that a folder holds; no code that the folder names is run.

    Args:
        metric: the one that it was fitted to; None reads one that is not watched.
        inputs: the function that made its features, where one did.
        on_failure: None for what it was fitted with.
        workers, budget: of its calls.

    Raises:
        DataError: no surrogate, or one that is damaged.
        SettingsError: it needs a function ``inputs``.
    """
    folder = Path(folder)
    try:
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        weights = load_file(str(folder / _WEIGHTS))
        if record["format"] != _FORMAT:
            raise DataError(
                "a surrogate of another age",
                expected=f"format {_FORMAT}",
                got=str(record["format"]),
            )
        surrogate = _made(
            record, metric, inputs=inputs, on_failure=on_failure, workers=workers, budget=budget
        )
        surrogate.load_state_dict(weights)
        if (folder / _BANK).is_file():
            surrogate.bank = _replay(load_file(str(folder / _BANK)))
    except TilthError:
        raise
    except (OSError, ValueError, LookupError, TypeError, RuntimeError, SafetensorError) as error:
        raise DataError(
            "the folder holds no surrogate that can be read",
            where=str(folder),
            got=str(error).splitlines()[0],
            fix="tilth metric fit writes one",
        ) from error
    return surrogate


def surrogate_of(settings: MetricSettings, inputs: str, *, seed: int = 0) -> MetricSurrogate:
    """The surrogate that settings name: read from its folder, a model in a file, or new.

    Args:
        inputs: what the recipe's predictions are, where settings do not say.

    Raises:
        SettingsError: the metric's name is wrong, or the goal is not that of the folder.
        DataError: the folder cannot be read.
    """
    budget = settings.calls // num_together() if settings.calls else None
    named: Any = settings.inputs or inputs
    if ":" in named:
        named = metric_of(named)
    if settings.surrogate and (Path(settings.surrogate) / _RECORD).is_file():
        surrogate = read_surrogate(
            settings.surrogate,
            settings.metric,
            inputs=named if callable(named) else None,
            on_failure=None if settings.on_failure == "error" else settings.on_failure,
            workers=settings.workers,
            budget=budget,
        )
        if surrogate.rules.goal != settings.goal:
            raise SettingsError(
                "setting 'loss.goal' is not that of the surrogate",
                where=settings.surrogate,
                expected=repr(surrogate.rules.goal),
                got=repr(settings.goal),
            )
        # Its networks are made already; a resumed run makes them again by these settings.
        made = surrogate.settings
        surrogate.settings = replace(
            settings.network,
            members=made.members,
            width=made.width,
            form=made.form,
            smoothness=made.smoothness,
        )
        return surrogate
    return MetricSurrogate(
        settings.metric,
        Path(settings.surrogate) if settings.surrogate else None,
        inputs=named,
        goal=settings.goal,
        limits=(settings.low, settings.high),
        per=settings.per,
        set_size=settings.set_size,
        on_failure=settings.on_failure,
        workers=settings.workers,
        budget=budget,
        settings=settings.network,
        seed=seed,
    )


def _flat(bank: Replay) -> dict[str, torch.Tensor]:
    """All examples one after the other, in tensors that safetensors can hold."""
    kept = bank.state_dict()["kept"]
    flat = {"numbers": torch.tensor([entry[0] for entry in kept])}
    for name, place in (("predictions", 1), ("targets", 2)):
        parts = [entry[place] for entry in kept]
        shapes = torch.tensor([list(part.shape) for part in parts], dtype=torch.int64)
        flat[f"{name}_shapes"] = shapes.reshape(len(parts), -1)
        flat[name] = torch.cat([part.reshape(-1) for part in parts])
    flat["values"] = torch.tensor([entry[3] for entry in kept], dtype=torch.float64)
    return flat


def _replay(flat: dict[str, torch.Tensor]) -> Replay:
    sides = []
    for name in ("predictions", "targets"):
        shapes = flat[f"{name}_shapes"].tolist()
        parts = flat[name].split([math.prod(shape) for shape in shapes])
        sides.append([part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)])
    numbers = flat["numbers"].tolist()
    kept = list(zip(numbers, *sides, flat["values"].tolist(), strict=True))
    bank = Replay(capacity=len(kept), recent_share=0.0)
    bank.load_state_dict({"count": numbers[-1] + 1, "kept": kept})
    return bank


def _made(
    record: dict[str, Any],
    metric: Metric | str | None,
    *,
    inputs: Channels | None,
    on_failure: Failure | None,
    workers: int,
    budget: int | None,
) -> MetricSurrogate:
    rules, name = record["rules"], record["inputs"]
    if name not in INPUTS and inputs is None:
        # Not looked up: who can write the folder would choose what is run here.
        raise SettingsError(
            "the surrogate's features are made by a function, which its folder only names",
            expected=f"inputs, the function {name}",
            got="None",
            fix='give it: read_surrogate(..., inputs=...), or loss.inputs = "module:function"',
        )
    surrogate = MetricSurrogate(
        metric,
        inputs=name if name in INPUTS else cast(Channels, inputs),
        goal=rules["goal"],
        limits=(rules["low"], rules["high"]),
        per="set" if record["set_size"] else "example",
        set_size=record["set_size"] or 1,
        on_failure=on_failure or rules["on_failure"],
        workers=workers,
        budget=budget,
        settings=load_settings(SurrogateSettings, values=record["settings"]),
        seed=record["seed"],
    )
    shapes = zip(record["shapes"], record["kinds"], strict=True)
    prediction, target = (torch.zeros(shape, dtype=getattr(torch, kind)) for shape, kind in shapes)
    surrogate.make_members(prediction, target)
    surrogate.fitted_steps = record["fitted_steps"]
    if record["quality"] is not None:
        surrogate.quality = Quality(**record["quality"])
    return surrogate
