"""Training by a learned metric does the same however it is interrupted or shared out."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from metric_toys import (
    Points,
    broken,
    constant,
    largest_error,
    mean_squares,
    network,
    one_sided,
    outputs,
    sometimes,
)

from tilth.errors import SettingsError, TrainingError
from tilth.losses.metric_answers import Answers
from tilth.losses.metric_files import save_surrogate, surrogate_of
from tilth.losses.metric_loss import MetricLoss
from tilth.losses.metric_settings import MetricSettings
from tilth.losses.metric_surrogate import MetricSurrogate
from tilth.losses.surrogate_settings import SurrogateSettings
from tilth.train.loop import LoopSettings, fit

NETWORK = SurrogateSettings(members=2, width=4, fit_steps=40, batch_size=16)
SETTINGS = MetricSettings(
    metric="metric_toys:largest_error",
    low=0.0,
    begin=0.3,
    ramp=0.1,
    look_every=2,
    calls_per_look=8,
    refresh_steps=3,
    window=32,
    workers=0,
    on_alarm="warn",
    network=NETWORK,
)
LOOP = LoopSettings(
    steps=40, learning_rate=0.01, checkpoint_every=7, log_every=5, seed=3, device="cpu"
)


def _loss(settings=SETTINGS, steps=40, metric=largest_error, **options):
    surrogate = MetricSurrogate(
        metric,
        goal=settings.goal,
        limits=(settings.low, settings.high),
        workers=settings.workers,
        budget=settings.calls or None,
        on_failure=settings.on_failure,
        settings=settings.network,
    )
    return MetricLoss(
        mean_squares, surrogate, outputs=outputs, steps=steps, settings=settings, **options
    )


def _stepped(loss, steps, model=None, rate=0.05):
    """The terms of each step of plain gradient descent."""
    model = network() if model is None else model
    terms = []
    for step in range(steps):
        model.zero_grad()
        terms.append(loss(model, Points().batch(step)))
        terms[-1]["total"].backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= rate * parameter.grad
    return terms


def _trained(run_dir, loss, *, stop_at=None):
    """A run; its weights. One that is stopped raises after the checkpoint before ``stop_at``."""

    class Stopping(Points):
        def batch(self, step):
            if step == stop_at:
                raise KeyboardInterrupt
            return super().batch(step)

    model = network()
    fit(model, loss, Stopping(), settings=LOOP, run_dir=run_dir, progress=False)
    return model.state_dict()


def test_resumed_run_is_the_same_bit_for_bit(tmp_path):
    whole = _trained(tmp_path / "whole", _loss())
    for stop_at in (9, 24, 36):  # before the surrogate's first fit, and after it
        run_dir = tmp_path / f"stopped-{stop_at}"
        with pytest.raises(KeyboardInterrupt):
            _trained(run_dir, _loss(), stop_at=stop_at)
        loss = _loss()
        resumed = _trained(run_dir, loss)
        assert all(torch.equal(resumed[name], whole[name]) for name in whole), stop_at
        assert loss.watch.readings[-1].step == 36


@pytest.mark.cluster
def test_workers_change_nothing(tmp_path):
    here = _trained(tmp_path / "here", _loss())
    loss = _loss(replace(SETTINGS, workers=2))
    there = _trained(tmp_path / "there", loss)
    loss.close()
    assert all(torch.equal(there[name], here[name]) for name in here)


def test_the_metric_waits_until_it_was_learned():
    loss = _loss()
    terms = _stepped(loss, 40)
    assert all(float(term["metric_loss"]) == 0 for term in terms[:12])
    assert all(float(term["metric_loss"]) != 0 for term in terms[14:])
    assert loss.notices[0].startswith("the metric is learned, of 48 outputs")
    calls = [float(term["metric_calls"]) for term in terms]
    assert calls == [8 * (step // 2 + 1) for step in range(40)]


def test_the_last_look_is_read_at_the_end():
    loss = _loss()
    _stepped(loss, 40)
    members = {name: value.clone() for name, value in loss.surrogate.state_dict().items()}
    assert loss.watch.readings[-1].step == 36
    loss.finish()
    assert loss.watch.readings[-1].step == 38
    assert all(torch.equal(members[name], loss.surrogate.state_dict()[name]) for name in members)


def test_shares_go_from_the_ordinary_loss_to_their_ends():
    loss = _loss(replace(SETTINGS, ordinary=0.25, weight=2.0), steps=100)
    loss._is_ready = True
    assert loss.shares(29) == (1.0, 0.0)
    assert loss.shares(34)[1] == pytest.approx(2.0 * 5 / 11)
    assert loss.shares(40) == (0.25, 2.0)


def test_balanced_parts_pull_equally_hard():
    """The gradient of the metric's part is as long as that of the ordinary loss, at the outputs."""
    loss, model = _loss(replace(SETTINGS, ordinary=0.0)), network()
    _stepped(loss, 30, model)
    answers = {}

    def kept(x):
        answers["y"] = model(x)
        return answers["y"]

    loss.balance.factor = 0.0  # no smoothing from earlier steps
    batch = Points().batch(31)
    total = loss(kept, batch)["total"]
    metric = torch.autograd.grad(total, answers["y"])[0].norm()
    ordinary = (2 / 32 * (answers["y"] - batch["y"])).norm()
    assert metric.item() == pytest.approx(ordinary.item(), rel=1e-4)


def test_balanced_and_plain_gradients_point_the_same_way():
    loss, model = _loss(replace(SETTINGS, ordinary=0.0)), network()
    _stepped(loss, 30, model)
    gradients = []
    for balance in ("gradient", "value"):
        loss.settings = replace(loss.settings, balance=balance)
        loss.count = 31  # no look
        model.zero_grad()
        loss(model, Points().batch(31))["total"].backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert torch.nn.functional.cosine_similarity(*gradients, dim=0) > 0.9999


class Deep(torch.nn.Module):
    """Answers with features too, of which its values follow."""

    def __init__(self):
        super().__init__()
        self.first, self.last = torch.nn.Linear(4, 8), torch.nn.Linear(8, 2)

    def forward(self, x):
        features = self.first(x)
        return {"features": features, "values": self.last(features.tanh())}


def test_outputs_that_follow_from_each_other_count_once():
    model = Deep()
    gradients = []
    for balance in ("gradient", "value"):
        surrogate = MetricSurrogate(largest_error, Lying(), inputs=lambda p, t: p)
        settings = replace(
            SETTINGS,
            surrogate="given",
            begin=0.0,
            ramp=0.0,
            refresh=False,
            ordinary=0.0,
            balance=balance,
        )
        loss = MetricLoss(
            lambda model, batch: {"total": model(batch["x"])["values"].square().mean()},
            surrogate,
            outputs=lambda model, batch: (model(batch["x"])["values"], batch["y"]),
            steps=10,
            settings=settings,
        )
        model.zero_grad()
        loss(model, Points().batch(0))["total"].backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert torch.nn.functional.cosine_similarity(*gradients, dim=0) > 0.9999


def test_an_ordinary_loss_without_a_gradient_is_told():
    loss = _exploitable()
    loss.ordinary = lambda model, batch: {"total": (0 * model(batch["x"])).sum()}
    _stepped(loss, 3)
    assert sum("balanced by it, has none" in text for text in loss.notices) == 1


def test_an_evaluation_is_no_step():
    loss, model = _loss(), network()
    _stepped(loss, 20, model)
    calls, count = loss.surrogate.calls.spent.calls, loss.count
    with torch.no_grad():
        terms = loss(model, Points().batch(0))
    assert float(terms["metric_loss"]) != 0
    assert (loss.surrogate.calls.spent.calls, loss.count) == (calls, count)


def test_outputs_of_half_precision_are_learned_from():
    loss, model = _loss(), network().bfloat16()

    def halved(model, batch):
        return model(batch["x"].bfloat16()), batch["y"]

    loss.outputs = halved
    loss.ordinary = lambda model, batch: {
        "total": (halved(model, batch)[0] - batch["y"]).square().mean()
    }
    terms = _stepped(loss, 20, model)
    assert float(terms[-1]["metric_loss"]) != 0
    assert terms[-1]["metric_calls"].dtype == torch.float32


def test_metric_gets_better_than_under_the_ordinary_loss_alone():
    """Errors above the target cost five times as much, which mean squares do not know."""

    def cost(model):
        batch = Points(300).batch(10_000)
        pairs = zip(*(part.detach().numpy() for part in outputs(model, batch)), strict=True)
        return np.mean([one_sided(*pair) for pair in pairs])

    costs = []
    for each in (_loss(replace(SETTINGS, ordinary=0.3), 200, one_sided), mean_squares):
        model = network()
        optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
        for step in range(200):
            optimiser.zero_grad()
            each(model, Points().batch(step))["total"].backward()
            optimiser.step()
        costs.append(cost(model))
    assert costs[0] < 0.9 * costs[1]


def test_the_network_is_asked_once_a_step():
    loss, model, asked = _loss(), network(), []
    model.register_forward_hook(lambda *_: asked.append(1))
    _stepped(loss, 20, model)
    assert len(asked) == 20


def test_answers_are_remembered_by_identity():
    answers = Answers(network())
    x = torch.rand(3, 4)
    assert answers(x) is answers(x)
    assert answers(x) is not answers(x.clone())
    assert answers.training


def test_a_refreshed_surrogate_keeps_what_it_was_fitted_to():
    surrogate = MetricSurrogate(largest_error, limits=(0.0, None), settings=NETWORK)
    surrogate.fit(torch.rand(100, 2), torch.rand(100, 2), progress=False)
    settings = replace(SETTINGS, surrogate="given", begin=0.0)
    loss = MetricLoss(mean_squares, surrogate, outputs=outputs, steps=40, settings=settings)
    _stepped(loss, 3)
    assert len(loss.replay) == 100 + 8
    assert torch.equal(loss.replay.all().predictions[:100], surrogate.bank.all().predictions)


def test_a_run_goes_on_with_the_networks_of_the_folder(tmp_path):
    surrogate = MetricSurrogate(largest_error, limits=(0.0, None), settings=NETWORK)
    surrogate.fit(torch.rand(60, 2), torch.rand(60, 2), progress=False)
    folder = save_surrogate(surrogate, tmp_path / "learned")
    network_settings = replace(NETWORK, members=3, width=8, learning_rate=0.5)
    settings = replace(SETTINGS, surrogate=str(folder), network=network_settings)
    losses = [
        MetricLoss(
            mean_squares,
            surrogate_of(settings, "table"),
            outputs=outputs,
            steps=40,
            settings=settings,
        )
        for _ in range(2)
    ]
    _stepped(losses[0], 5)
    losses[1].load_state_dict(losses[0].state_dict())
    state, other = (loss.surrogate.state_dict() for loss in losses)
    assert all(torch.equal(state[name], other[name]) for name in state)
    assert losses[1].surrogate.settings.learning_rate == 0.5
    with pytest.raises(SettingsError, match="is not that of the surrogate"):
        surrogate_of(replace(settings, goal="higher"), "table")


@pytest.mark.parametrize("refresh", [True, False])
def test_an_estimator_is_after_a_kill_what_it_was(refresh):
    from sklearn.kernel_ridge import KernelRidge

    rows = np.random.default_rng(0).random((40, 2))
    estimator = KernelRidge(kernel="rbf", alpha=0.01).fit(rows, rows.max(axis=1))
    settings = replace(SETTINGS, surrogate="given", begin=0.0, refresh=refresh)
    losses = []
    for _ in range(2):
        surrogate = MetricSurrogate(largest_error, estimator, inputs=lambda p, t: (p - t).abs())
        surrogate.fit(torch.rand(40, 2), torch.rand(40, 2), torch.rand(40), progress=False)
        losses.append(
            MetricLoss(mean_squares, surrogate, outputs=outputs, steps=40, settings=settings)
        )
        torch.manual_seed(0)
    first, second = losses
    second.surrogate.members[0] = first.surrogate.members[0]  # as the run's script made it
    _stepped(first, 5)
    second.load_state_dict(first.state_dict())
    pair = torch.rand(9, 2), torch.rand(9, 2)
    assert torch.equal(first.surrogate(*pair), second.surrogate(*pair))


def test_sets_are_looked_at_and_kept_whole():
    settings = replace(SETTINGS, per="set", set_size=4)
    surrogate = MetricSurrogate(
        largest_error, per="set", set_size=4, limits=(0.0, None), settings=NETWORK
    )
    loss = MetricLoss(mean_squares, surrogate, outputs=outputs, steps=40, settings=settings)
    terms = _stepped(loss, 30)
    known = loss.replay.all()
    # Four sets a look; those of the last are waited for.
    assert known.predictions.shape == (14 * 4, 4, 2)
    torch.testing.assert_close(
        known.values, (known.predictions - known.targets).abs().flatten(1).amax(dim=1)
    )
    believed, _ = surrogate.predict(*(x.flatten(0, 1) for x in (known.predictions, known.targets)))
    assert torch.corrcoef(torch.stack([believed, known.values]))[0, 1] > 0.3
    assert float(terms[-1]["metric_loss"]) != 0
    assert loss.watch.readings[-1].calls == 14 * 4


def test_a_flat_surrogate_is_told_and_pulls_no_harder_for_it():
    class Flat(torch.nn.Module):
        def forward(self, features):
            return 1e-9 * features.mean(dim=1)

    settings = replace(SETTINGS, surrogate="given", begin=0.0, ramp=0.0, refresh=False)
    surrogate = MetricSurrogate(largest_error, Flat(), inputs=lambda p, t: p)
    loss = MetricLoss(mean_squares, surrogate, outputs=outputs, steps=9, settings=settings)
    _stepped(loss, 9)
    assert loss.balance.factor <= 1e4 * 1.001
    assert sum("hardly changes" in text for text in loss.notices) == 1


def test_a_given_model_is_compared_with_its_metric_before_it_joins():
    class Halves(torch.nn.Module):
        def forward(self, features):
            return features.square().amax(dim=1).sqrt() / 2

    settings = replace(SETTINGS, surrogate="given", refresh=False)
    surrogate = MetricSurrogate(largest_error, Halves(), inputs=lambda p, t: p - t)
    loss = MetricLoss(mean_squares, surrogate, outputs=outputs, steps=40, settings=settings)
    terms = _stepped(loss, 40)
    assert float(surrogate.unit) == pytest.approx(float(loss.replay.all().values[:48].std()))
    assert loss.watch.held_out_error == pytest.approx(
        float(loss.replay.all().values[:48].mean()) / 2, rel=1e-4
    )
    assert float(terms[11]["metric_loss"]) == 0 < float(terms[20]["metric_loss"])


def test_a_model_in_a_file_is_the_surrogate_of_its_features(tmp_path):
    module = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    program = torch.export.export(
        module, (torch.rand(3, 2),), dynamic_shapes=({0: torch.export.Dim("n")},)
    )
    torch.export.save(program, tmp_path / "quality.pt2")
    settings = replace(
        SETTINGS, surrogate=str(tmp_path / "quality.pt2"), inputs="metric_toys:differences"
    )
    made = surrogate_of(settings, "table")
    prediction, target = torch.rand(5, 2), torch.rand(5, 2)
    torch.testing.assert_close(
        made.predict(prediction, target)[0], module(prediction - target)[:, 0].detach()
    )


class Lying(torch.nn.Module):
    """Believes that large outputs are good."""

    def forward(self, features):
        return -features.mean(dim=1)


def _exploitable(**changed):
    settings = replace(
        SETTINGS, **{"surrogate": "given", "begin": 0.0, "ramp": 0.0, "refresh": False, **changed}
    )
    surrogate = MetricSurrogate(largest_error, Lying(), inputs=lambda p, t: p)
    return MetricLoss(mean_squares, surrogate, outputs=outputs, steps=60, settings=settings)


def test_exploited_frozen_surrogate_raises_the_alarm():
    loss = _exploitable(ordinary=0.0, balance="value")
    _stepped(loss, 60)
    first, last = loss.watch.readings[4], loss.watch.readings[-1]
    assert last.believed < first.believed  # better, as the surrogate has it
    assert last.true > first.true  # worse
    assert any(reason.startswith("exploited") for reason in last.reasons)
    assert any("alarm" in notice for notice in loss.notices)


def test_alarm_leaves_the_ordinary_loss_alone():
    loss = _exploitable(ordinary=0.0, balance="value", on_alarm="ordinary")
    terms = _stepped(loss, 60)
    under_alarm = [term for term in terms if float(term["metric_alarm"])]
    assert under_alarm
    assert all(float(term["metric_loss"]) == 0 for term in under_alarm)
    warned = _exploitable(ordinary=0.0, balance="value")
    _stepped(warned, 60)
    assert loss.watch.readings[-1].true < warned.watch.readings[-1].true


def test_alarm_stops_the_run_on_request():
    with pytest.raises(TrainingError, match="parted company"):
        _stepped(_exploitable(ordinary=0.0, balance="value", on_alarm="stop"), 60)


def test_the_budget_ends_looks_and_is_told():
    loss = _loss(replace(SETTINGS, calls=100))
    _stepped(loss, 40)
    assert loss.surrogate.calls.spent.calls == 96
    assert sum("budget of 100 metric calls is spent" in text for text in loss.notices) == 1


def test_bad_metrics_end_the_run_with_what_they_did():
    with pytest.raises(TrainingError, match="no such thing as speech"):
        _stepped(_loss(metric=broken), 10)
    with pytest.raises(TrainingError, match="is 1 for all 48 outputs"):
        _stepped(_loss(metric=constant), 20)
    skipping = replace(SETTINGS, on_failure="skip")
    terms = _stepped(_loss(skipping, metric=sometimes), 40)
    assert all(math.isfinite(float(term["total"].detach())) for term in terms)


def test_outputs_without_a_gradient_are_refused():
    loss = _loss()
    loss.outputs = lambda model, batch: (model(batch["x"]).detach(), batch["y"])
    with pytest.raises(TrainingError, match="carry no gradient"):
        loss(network(), Points().batch(0))


def test_too_few_outputs_before_the_metric_joins_are_said():
    loss = _loss(replace(SETTINGS, calls_per_look=1, look_every=10))
    with pytest.raises(TrainingError, match="too few outputs were scored"):
        _stepped(loss, 40)


@pytest.mark.parametrize(
    "wrong",
    [
        {"weight": 0.0, "ordinary": 0.0},
        {"begin": 1.5},
        {"look_every": 0},
        {"begin": 0.0},
        {"refresh": False},
        {"low": 1.0, "high": 0.0},
        {"least_correlation": 2.0},
    ],
)
def test_settings_that_cannot_work_are_refused(wrong):
    with pytest.raises(SettingsError):
        replace(SETTINGS, **wrong)


def test_settings_make_the_surrogate():
    made = surrogate_of(replace(SETTINGS, goal="higher", high=9.0, calls=7), "table", seed=2)
    assert (made.rules.goal, made.rules.high, made.calls.spent.budget) == ("higher", 9.0, 7)
    assert made.inputs.name == "table"
    prediction, target = np.ones(3), np.zeros(3)
    assert made.calls.values([prediction], [target]).tolist() == [1.0]
