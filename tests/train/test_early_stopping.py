"""A run ends when it no longer gains, at the same step however often it was interrupted."""

from __future__ import annotations

from dataclasses import replace

import pytest
from toy_training import Blobs, network, squared_error

from tilth.train.early_stopping import Patience
from tilth.train.loop import LoopSettings, fit
from tilth.train.trackers import read_records

SETTINGS = LoopSettings(
    steps=40,
    learning_rate=0.05,
    evaluate_every=4,
    checkpoint_every=6,
    log_every=5,
    ema_decay=0.0,
    patience=3,
    device="cpu",
)
SCORES = (0.1, 0.5, 0.6, 0.55, 0.6, 0.2, 0.9, 0.9, 0.9, 0.9)


class _Scored:
    """Scores by the step at which the evaluation is made, as a function of the weights would."""

    def __init__(self):
        self.step = 0

    def batch(self, step):
        self.step = step
        return Blobs().batch(step)

    def evaluate(self, model):
        return {"score": SCORES[self.step // 4]}


def _fit(run_dir, settings=SETTINGS, *, stop_at=None, **options):
    source = _Scored()
    make = source.batch

    def stopping(step):
        if step == stop_at:
            raise InterruptedError
        return make(step)

    source.batch = stopping
    return fit(
        network(normalised=False),
        squared_error,
        source,
        settings=replace(settings, workers=0),
        run_dir=run_dir,
        evaluate=source.evaluate,
        progress=False,
        **options,
    )


def test_ends_after_so_many_evaluations_without_a_gain(tmp_path):
    result = _fit(tmp_path)
    assert (result.steps, result.stopped_early) == (24, True)
    assert (result.best_score, result.best_step) == (0.6, 12)
    assert result.last_weights.exists()
    assert (tmp_path / "checkpoints" / "step-00000024").is_dir()
    assert [r["step"] for r in read_records(result.metrics) if "loss" in r] == [5, 10, 15, 20, 24]


def test_a_run_that_gains_goes_to_its_end(tmp_path):
    result = _fit(tmp_path, replace(SETTINGS, patience=4))
    assert (result.steps, result.stopped_early, result.best_score) == (40, False, 0.9)


@pytest.mark.parametrize("at", [13, 19, 23])
def test_interrupted_run_ends_at_the_same_step_with_the_same_bytes(tmp_path, at):
    whole = _fit(tmp_path / "whole")
    with pytest.raises(InterruptedError):
        _fit(tmp_path / "cut", stop_at=at)
    cut = _fit(tmp_path / "cut")
    assert cut.steps == whole.steps
    assert cut.last_weights.read_bytes() == whole.last_weights.read_bytes()
    assert cut.loss == whole.loss


def test_a_run_that_has_ended_stays_ended(tmp_path):
    _fit(tmp_path)
    again = _fit(tmp_path)
    assert (again.steps, again.resumed_from, again.stopped_early) == (24, 24, True)


def test_who_extends_it_gives_it_patience_again(tmp_path):
    _fit(tmp_path)
    result = _fit(tmp_path, extend=True)
    assert (result.steps, result.resumed_from, result.best_score) == (40, 24, 0.9)


def test_a_slow_climb_is_a_gain_once_it_adds_up():
    patience = Patience()
    for score in (0.5, 0.505, 0.511, 0.515):
        patience.note(score, 0.01)
    assert (patience.score, patience.without_gain) == (0.511, 1)
