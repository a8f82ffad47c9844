"""A run in an MLflow store: every number once, one run however often it was stopped."""

from __future__ import annotations

from dataclasses import replace

import pytest
from toy_training import Blobs, network, squared_error

from tilth.errors import MissingExtraError, StorageError
from tilth.train import mlflow_tracker
from tilth.train.loop import LoopSettings, fit
from tilth.train.trackers import read_records

SETTINGS = LoopSettings(
    steps=10, checkpoint_every=4, log_every=2, evaluate_every=5, ema_decay=0.0, device="cpu"
)


def _fit(run_dir, address, *, stop_at=None, **changes):
    batches = Blobs()
    make = batches.batch

    def stopping(step):
        if step == stop_at:
            raise InterruptedError
        return make(step)

    batches.batch = stopping
    return fit(
        network(normalised=False),
        squared_error,
        batches,
        settings=replace(SETTINGS, mlflow=address, **changes),
        run_dir=run_dir,
        evaluate=lambda model: {"score": 0.5},
        progress=False,
    )


def _client(address):
    tracking = pytest.importorskip("mlflow.tracking", reason="the extra 'mlflow' is not installed")
    return tracking.MlflowClient(tracking_uri=address)


@pytest.fixture
def address(tmp_path):
    return f"sqlite:///{tmp_path}/mlflow.db"


def test_a_stopped_run_is_gone_on_with_in_the_same_mlflow_run(tmp_path, address):
    client = _client(address)
    with pytest.raises(InterruptedError):
        _fit(tmp_path / "first", address, stop_at=7)
    result = _fit(tmp_path / "first", address)
    experiment = client.get_experiment_by_name("tilth")
    [run] = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "first"
    assert run.info.status == "FINISHED"
    assert run.data.params["settings.learning_rate"] == "0.01"
    history = client.get_metric_history(run.info.run_id, "loss/total")
    lines = [record for record in read_records(result.metrics) if "loss" in record]
    # The step between the checkpoint and the end was logged again, with the same value.
    points = {(point.step, point.value) for point in history}
    assert points == {(line["step"], line["loss"]["total"]) for line in lines}
    scores = client.get_metric_history(run.info.run_id, "evaluation/score")
    assert {point.step for point in scores} == {5, 10}


def test_another_folder_is_another_mlflow_run(tmp_path, address):
    client = _client(address)
    for name in ("first", "second"):
        _fit(tmp_path / name, address, steps=2)
    experiment = client.get_experiment_by_name("tilth")
    assert len(client.search_runs([experiment.experiment_id])) == 2


def test_tracking_changes_nothing_that_is_learned(tmp_path, address):
    _client(address)
    with_it = _fit(tmp_path / "with", address)
    without = _fit(tmp_path / "without", "")
    assert with_it.last_weights.read_bytes() == without.last_weights.read_bytes()
    again = _fit(tmp_path / "with", "")  # looking on is no part of what a run is
    assert again.resumed_from == SETTINGS.steps


def test_a_store_that_cannot_be_used_is_named(tmp_path, monkeypatch):
    _client("sqlite://")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(StorageError, match="MLflow") as caught:
        _fit(tmp_path / "run", "http://127.0.0.1:9/", steps=2)
    assert caught.value.where == "http://127.0.0.1:9/"


def test_the_extra_is_named_where_it_is_missing(tmp_path, monkeypatch):
    def missing(module, *, extra):
        raise MissingExtraError(f"mlflow is not installed: pip install 'tilth[{extra}]'")

    monkeypatch.setattr(mlflow_tracker, "require", missing)
    with pytest.raises(MissingExtraError, match=r"tilth\[mlflow\]"):
        _fit(tmp_path / "run", "sqlite://")
