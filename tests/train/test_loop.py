"""The loop learns, keeps its golden curve, and stops with a reason when something is wrong."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from toy_training import Blobs, evaluate, network, squared_error

from tilth.errors import SettingsError, TrainingError
from tilth.train.checkpoint import load_weights
from tilth.train.loop import LoopSettings, fit
from tilth.train.trackers import read_records

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "train_loop.json"
SETTINGS = LoopSettings(
    steps=20, learning_rate=0.1, warmup_steps=4, log_every=1, ema_decay=0.9, device="cpu"
)


def _fit(run_dir, settings=SETTINGS, *, model=None, loss=squared_error, batches=None, **options):
    return fit(
        model or network(normalised=False),
        loss,
        batches or Blobs(),
        settings=settings,
        run_dir=run_dir,
        progress=False,
        **options,
    )


def _losses(run_dir):
    records = read_records(run_dir / "metrics.jsonl")
    return [record["loss"]["total"] for record in records if "loss" in record]


def test_golden_curve_of_twenty_steps(tmp_path):
    _fit(tmp_path)
    assert _losses(tmp_path) == pytest.approx(json.loads(GOLDEN.read_text()), rel=1e-3)


def test_learns_the_mean_of_a_channel(tmp_path):
    settings = replace(SETTINGS, steps=300, precision="no", weight_decay=0.0)
    result = _fit(tmp_path, settings, evaluate=evaluate)
    first, last = _losses(tmp_path)[0], result.evaluation["score"]
    assert -last < first / 100


def test_matches_a_bare_torch_loop(tmp_path):
    """One step of the loop is one step of torch: no hidden scaling, clipping or averaging."""
    settings = replace(
        SETTINGS, clip_norm=0.0, warmup_steps=0, final_learning_rate_fraction=1.0, ema_decay=0.0
    )
    trained = network(normalised=False)
    _fit(tmp_path, settings, model=trained)

    bare = network(normalised=False).to(memory_format=torch.channels_last)
    kernels = [p for p in bare.parameters() if p.ndim > 1]
    biases = [p for p in bare.parameters() if p.ndim == 1]
    groups = [{"params": kernels, "weight_decay": 0.0005}, {"params": biases}]
    optimiser = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    for step in range(20):
        batch = Blobs().batch(step)
        batch["images"] = batch["images"].contiguous(memory_format=torch.channels_last)
        optimiser.zero_grad()
        squared_error(bare, batch)["total"].backward()
        optimiser.step()
    for name, value in bare.state_dict().items():
        assert torch.equal(value, trained.state_dict()[name]), name


def test_two_accumulated_batches_equal_one_twice_as_large(tmp_path):
    accumulated, large = network(normalised=False), network(normalised=False)
    _fit(tmp_path / "a", replace(SETTINGS, accumulate=2), model=accumulated, batches=Blobs(4))
    _fit(tmp_path / "b", SETTINGS, model=large, batches=Blobs(8))
    for name, value in accumulated.state_dict().items():
        torch.testing.assert_close(value, large.state_dict()[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("workers", [0, 3])
def test_number_of_workers_changes_nothing(tmp_path, workers):
    _fit(tmp_path, replace(SETTINGS, workers=workers))
    _fit(tmp_path / "again", SETTINGS)
    assert _losses(tmp_path) == _losses(tmp_path / "again")


def test_bf16_follows_float32_and_leaves_the_model_float32(tmp_path):
    model = network(normalised=False)
    _fit(tmp_path / "bf16", replace(SETTINGS, precision="bf16"), model=model)
    _fit(tmp_path / "no", SETTINGS)
    assert _losses(tmp_path / "bf16") != _losses(tmp_path / "no")
    assert _losses(tmp_path / "bf16") == pytest.approx(_losses(tmp_path / "no"), rel=0.1, abs=1e-3)
    assert "forward" not in vars(model)  # accelerate's autocast stayed outside
    assert model(torch.zeros(1, 3, 8, 8)).dtype == torch.float32


def test_gradient_is_clipped(tmp_path):
    def steep(model, batch):
        return {"total": 1000 * squared_error(model, batch)["total"]}

    model, before = network(normalised=False), network(normalised=False)
    settings = replace(
        SETTINGS, steps=1, warmup_steps=0, clip_norm=0.5, momentum=0.0, weight_decay=0.0
    )
    _fit(tmp_path, settings, model=model, loss=steep)
    moved = [(a - b).detach() for a, b in zip(model.parameters(), before.parameters(), strict=True)]
    norm = math.sqrt(sum(float(change.square().sum()) for change in moved))
    assert norm == pytest.approx(settings.learning_rate * 0.5, rel=1e-3)
    [record] = read_records(tmp_path / "metrics.jsonl")
    assert record["gradient_norm"] > 0.5  # as it was before clipping


def test_best_weights_are_those_of_the_best_score(tmp_path):
    scores = iter([0.1, 0.7, 0.3, 0.2])
    seen = []

    def rising_then_falling(model):
        assert not model.training
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return {"score": next(scores), "recall": 1.0}

    result = _fit(tmp_path, replace(SETTINGS, evaluate_every=5), evaluate=rising_then_falling)
    assert (result.best_score, result.best_step) == (0.7, 10)
    assert result.evaluation == {"score": 0.2, "recall": 1.0}
    for path, expected in [(result.best_weights, seen[1]), (result.last_weights, seen[3])]:
        loaded = network(normalised=False)
        load_weights(path, loaded)
        for name, value in loaded.state_dict().items():
            assert torch.equal(value, expected[name])


def test_evaluation_that_draws_random_numbers_changes_nothing(tmp_path):
    def careless(model):
        torch.rand(7)
        return {"score": 0.0}

    settings = replace(SETTINGS, evaluate_every=3)
    _fit(tmp_path / "a", settings, model=network())
    _fit(tmp_path / "b", settings, model=network(), evaluate=careless)
    assert _losses(tmp_path / "a") == _losses(tmp_path / "b")


def test_metrics_have_every_term_and_rate(tmp_path):
    _fit(tmp_path)
    record = read_records(tmp_path / "metrics.jsonl")[0]
    assert record["step"] == 1
    assert record["loss"].keys() == {"error", "total"}
    assert record["learning_rate"] == pytest.approx(0.1 / 4)
    assert record["samples_per_second"] > 0
    assert 0 <= record["data_wait_share"] <= 1


def test_tensorboard_gets_the_same_curve(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    _fit(tmp_path, replace(SETTINGS, tensorboard=True))
    curves = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    points = curves.Scalars("loss/total")
    assert [point.step for point in points] == list(range(1, 21))
    assert [point.value for point in points] == pytest.approx(_losses(tmp_path), rel=1e-6)


def test_nan_names_step_term_and_pictures(tmp_path):
    def breaks_at_the_sixth_batch(model, batch):
        terms = squared_error(model, batch)
        if batch["names"][0] == "blob-20":
            objectness = terms["error"] * float("nan")
            return {**terms, "objectness": objectness, "total": terms["error"] + objectness}
        return {**terms, "objectness": terms["error"]}

    with pytest.raises(TrainingError) as caught:
        _fit(tmp_path, replace(SETTINGS, checkpoint_every=5), loss=breaks_at_the_sixth_batch)
    assert caught.value.message == "the loss is not finite: objectness"
    assert "step 5" in caught.value.where
    assert "blob-20, blob-21, blob-22, blob-23" in caught.value.where
    assert (tmp_path / "checkpoints" / "step-00000005").is_dir()


def test_infinite_gradient_of_a_finite_loss_is_refused(tmp_path):
    def root_of_zero(model, batch):
        return {"total": (model(batch["images"]).sum() * 0).sqrt()}

    settings = replace(SETTINGS, accumulate=2)
    with pytest.raises(TrainingError, match="the gradient is not finite") as caught:
        _fit(tmp_path, settings, loss=root_of_zero)
    # Either batch of the step may have done it.
    assert caught.value.where == f"step 0, batch of {', '.join(f'blob-{n}' for n in range(8))}"
    assert "0.weight" in caught.value.got


def test_a_line_of_metrics_is_the_mean_of_its_steps(tmp_path):
    _fit(tmp_path / "each", SETTINGS)
    result = _fit(tmp_path / "some", replace(SETTINGS, log_every=8))
    each = _losses(tmp_path / "each")
    wanted = [sum(each[a:b]) / (b - a) for a, b in ((0, 8), (8, 16), (16, 20))]
    assert _losses(tmp_path / "some") == pytest.approx(wanted, rel=1e-6)
    assert result.loss["total"] == _losses(tmp_path / "some")[-1]


def test_warm_up_as_a_share_of_the_run(tmp_path):
    shared = replace(SETTINGS, warmup_steps=0, warmup_fraction=0.2)
    assert shared.num_warmup_steps == SETTINGS.warmup_steps
    _fit(tmp_path / "share", shared)
    _fit(tmp_path / "steps", SETTINGS)
    assert _losses(tmp_path / "share") == _losses(tmp_path / "steps")


def test_l1_makes_weights_that_the_loss_does_not_need_small(tmp_path):
    settings = replace(SETTINGS, steps=200, weight_decay=0.0, clip_norm=0.0)
    plain, pulled = network(normalised=False), network(normalised=False)
    _fit(tmp_path / "plain", settings, model=plain)
    _fit(tmp_path / "l1", replace(settings, l1=1e-3), model=pulled)
    small = [(model[0].weight.abs() < 1e-3).float().mean() for model in (plain, pulled)]
    assert small[1] > small[0] + 0.3


def test_loss_without_total_is_refused(tmp_path):
    with pytest.raises(TrainingError, match="no total") as caught:
        _fit(tmp_path, loss=lambda model, batch: {"box": model(batch["images"]).sum()})
    assert caught.value.got == "box"


def test_evaluation_without_score_is_refused(tmp_path):
    with pytest.raises(TrainingError, match="names no score"):
        _fit(tmp_path, evaluate=lambda model: {"ap50": 0.5})


def test_error_of_a_batch_reaches_the_caller(tmp_path):
    class Broken(Blobs):
        def batch(self, step):
            if step == 3:
                raise OSError("disk unplugged")
            return super().batch(step)

    with pytest.raises(OSError, match="disk unplugged"):
        _fit(tmp_path, replace(SETTINGS, workers=2), batches=Broken())


def test_fp16_on_a_cpu_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="fp16 needs a GPU"):
        _fit(tmp_path, replace(SETTINGS, precision="fp16"))


def test_missing_cuda_is_refused(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(SettingsError, match="no CUDA device"):
        _fit(tmp_path, replace(SETTINGS, device="cuda"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("momentum", 1.0),
        ("warmup_steps", 20),
        ("accumulate", 0),
        ("ema_decay", 1.0),
        ("final_learning_rate_fraction", 1.5),
        ("workers", -1),
        ("warmup_fraction", 0.5),
        ("warmup_power", 0.0),
        ("drops_at", (0.9, 0.8)),
        ("drops_at", (1.0,)),
        ("drop_factor", 0.0),
        ("patience", -1),
        ("l1", -1e-5),
        ("timeout", 0.0),
    ],
)
def test_settings_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(SettingsError, match=f"'{name}'"):
        replace(SETTINGS, **{name: value})


def test_frozen_parameters_stay(tmp_path):
    model = network(normalised=False)
    model[0].requires_grad_(False)
    before = model[0].weight.clone()
    _fit(tmp_path, model=model)
    assert torch.equal(model[0].weight, before)
    assert isinstance(model[2], nn.Conv2d)
    assert not torch.equal(model[2].weight, network(normalised=False)[2].weight)
