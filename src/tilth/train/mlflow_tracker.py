"""The same records in an MLflow server or store; loaded only when it is asked for."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import orjson

from tilth.data.atomic import atomic_writer
from tilth.errors import StorageError
from tilth.lazy import require
from tilth.train.run_folder import RunFolder, flat_identity
from tilth.train.trackers import flat_numbers

__all__ = ["MlflowTracker"]

EXPERIMENT = "tilth"
PARAMETER_LENGTH = 500  # what every MLflow store takes


class MlflowTracker:
    """A run of the experiment "tilth", found again on resume by ``mlflow.json`` in the folder.

    Steps between the last checkpoint and a kill are logged twice, with the same values, because a
    resumed run repeats them exactly.

    Args:
        address: what MLflow calls a tracking URI: a server, or ``sqlite:///FILE``.
        folder: of the run; its settings become parameters.

    Raises:
        MissingExtraError: MLflow is not installed.
        StorageError: the server or store does not answer.
    """

    def __init__(self, address: str, folder: RunFolder) -> None:
        self.address = address
        tracking = require("mlflow.tracking", extra="mlflow")
        self._entities = require("mlflow.entities", extra="mlflow")
        with self._store_errors():
            self._client = tracking.MlflowClient(tracking_uri=address)
            self.run_id = self._known_run(folder) or self._new_run(folder)
        self._pending: list[Any] = []

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Take every finite number of a record; it is sent at the next `sync`."""
        now = int(time.time() * 1000)
        for name, value in flat_numbers(values):
            if math.isfinite(value):
                self._pending.append(self._entities.Metric(name, float(value), now, step))

    def sync(self) -> None:
        """Send what was written, a thousand numbers a call."""
        with self._store_errors():
            while self._pending:
                self._client.log_batch(self.run_id, metrics=self._pending[:1000])
                del self._pending[:1000]

    def close(self) -> None:
        """Send the rest, and say that nobody writes any more."""
        self.sync()
        with self._store_errors():
            self._client.set_terminated(self.run_id)

    def _known_run(self, folder: RunFolder) -> str | None:
        try:
            record = orjson.loads(folder.mlflow.read_bytes())
        except (FileNotFoundError, orjson.JSONDecodeError):
            return None
        if record.get("address") != self.address:
            return None
        run_id = str(record["run_id"])
        self._client.update_run(run_id, status="RUNNING")
        return run_id

    def _new_run(self, folder: RunFolder) -> str:
        experiment = self._client.get_experiment_by_name(EXPERIMENT)
        number = (
            experiment.experiment_id if experiment else self._client.create_experiment(EXPERIMENT)
        )
        made = self._client.create_run(
            number, run_name=folder.root.name, tags={"tilth.run": folder.digest}
        )
        run_id = str(made.info.run_id)
        parameters = [
            self._entities.Param(name.replace("/", "."), str(value)[:PARAMETER_LENGTH])
            for name, value in flat_identity(folder.identity)
            if name.startswith(("settings.", "data."))
        ]
        self._client.log_batch(run_id, params=parameters)
        with atomic_writer(folder.mlflow) as stream:
            stream.write(orjson.dumps({"address": self.address, "run_id": run_id}))
        return run_id

    @contextmanager
    def _store_errors(self) -> Iterator[None]:
        exceptions = require("mlflow.exceptions", extra="mlflow")
        try:
            yield
        except (exceptions.MlflowException, OSError) as error:
            raise StorageError(
                "MLflow did not take the numbers of the run",
                where=self.address,
                got=str(error).strip().split("\n")[0],
                fix="check the address and that its server runs, or train with train.mlflow=''; "
                "the run itself goes on from its last checkpoint",
            ) from error
