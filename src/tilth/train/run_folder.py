"""One folder a run: what it is (`run.json`), and whether a call may continue it.

    run.json              settings, data, model and number of processes: the identity of the run
    metrics.jsonl         one line a logged step, one an evaluation
    checkpoints/          see `tilth.train.checkpoint`
    best.safetensors      weights of the best evaluation
    last.safetensors      weights of the last step
    tensorboard/          on request
    mlflow.json           which run of an MLflow store is this one; on request

Calling `fit` again with the same arguments continues the run; with others it is refused, because
the result would be that of neither.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from tilth.data.atomic import atomic_writer
from tilth.errors import TrainingError

__all__ = ["RunFolder", "flat_identity"]

# These change what is written down and how fast, not what is computed.
_FREE = frozenset(
    {
        "settings.checkpoint_every",
        "settings.log_every",
        "settings.mlflow",
        "settings.tensorboard",
        "settings.threads",
        "settings.timeout",
        "settings.workers",
    }
)


class RunFolder:
    """The paths of a run, and its identity.

    Args:
        root: created by `claim`.
        identity: nested plain values that make this run what it is.
    """

    def __init__(self, root: Path, identity: Mapping[str, Any]) -> None:
        self.root = root
        self.identity = orjson.loads(orjson.dumps(identity))  # tuples become lists, as when read
        self.record = root / "run.json"
        self.metrics = root / "metrics.jsonl"
        self.checkpoints = root / "checkpoints"
        self.best_weights = root / "best.safetensors"
        self.last_weights = root / "last.safetensors"
        self.tensorboard = root / "tensorboard"
        self.mlflow = root / "mlflow.json"

    @property
    def digest(self) -> str:
        """Names the run in its checkpoints; longer training keeps the name."""
        compared = dict(flat_identity(self.identity))
        named = {k: v for k, v in compared.items() if k not in _FREE | {"settings.steps"}}
        return hashlib.sha256(orjson.dumps(named, option=orjson.OPT_SORT_KEYS)).hexdigest()

    def check(self, *, extend: bool) -> None:
        """Refuse a folder that holds another run.

        Args:
            extend: more ``steps`` than before are accepted.

        Raises:
            TrainingError: says which settings differ, or that the folder's record is broken.
        """
        differing = self._differences()
        if extend and "settings.steps" in differing:
            before, now = differing["settings.steps"]
            if now > before:
                del differing["settings.steps"]
        if not differing:
            return
        only_steps = set(differing) == {"settings.steps"}
        raise TrainingError(
            "the folder holds another run",
            where=str(self.root),
            expected="the same settings, data, model and number of processes",
            got="; ".join(_difference(name, *values) for name, values in differing.items()),
            fix="extend=True trains longer, though not on the cosine of a run of that length"
            if only_steps
            else "choose another run folder (--name on the command line), or put back what differs",
        )

    def claim(self, versions: Mapping[str, str]) -> None:
        """Write `run.json` unless it is there; afterwards the folder belongs to this run.

        Raises:
            StorageError: the write failed.
        """
        if self.record.exists() and not self._differences():
            return  # the versions that the run began with stay
        record = {"digest": self.digest, **self.identity, "versions": dict(versions)}
        with atomic_writer(self.record) as stream:
            stream.write(orjson.dumps(record, option=orjson.OPT_INDENT_2))

    def _differences(self) -> dict[str, tuple[Any, Any]]:
        try:
            record = orjson.loads(self.record.read_bytes())
            there = dict(flat_identity({name: record[name] for name in self.identity}))
        except FileNotFoundError:
            if any(self.checkpoints.glob("step-*")):
                raise self._unknown("there are checkpoints but no run.json") from None
            return {}
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise self._unknown(f"run.json: {error}") from error
        here = dict(flat_identity(self.identity))
        return {
            key: (there.get(key), here.get(key))
            for key in sorted(here.keys() | there.keys())
            if key not in _FREE and there.get(key) != here.get(key)
        }

    def _unknown(self, got: str) -> TrainingError:
        return TrainingError(
            "the folder holds a run that cannot be identified",
            where=str(self.root),
            got=got,
            fix="choose another run folder (--name on the command line)",
        )


def _difference(name: str, was: Any, now: Any) -> str:
    if name.endswith("digest"):
        return f"{name}: what it was made of has changed"
    return f"{name}: {now!r} now, {was!r} there"


def flat_identity(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested values by dotted name."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat_identity(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
