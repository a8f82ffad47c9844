"""A learned metric teaches as the metric would, and none of it is taught itself."""

import numpy as np
import pytest
import torch
from metric_toys import constant, largest_error, never, sometimes, squared_error
from torch import nn

from tilth.errors import DataError, SettingsError, StorageError, TilthError, TrainingError
from tilth.losses.metric_files import read_surrogate, save_surrogate
from tilth.losses.metric_surrogate import MetricSurrogate
from tilth.losses.surrogate_settings import SurrogateSettings

SMALL = SurrogateSettings(members=2, width=8, fit_steps=150)


def _rows(count=400, size=3, seed=0):
    draws = torch.Generator().manual_seed(seed)
    return torch.rand(count, size, generator=draws), torch.rand(count, size, generator=draws)


def _fitted(metric=largest_error, rows=None, **options):
    surrogate = MetricSurrogate(metric, **{"settings": SMALL, **options})
    surrogate.fit(*(_rows() if rows is None else rows), progress=False)
    return surrogate


def _apart(prediction, target):
    return (prediction - target).square()


@pytest.fixture(scope="module")
def surrogate():
    return _fitted(limits=(0.0, 1.0))


def test_the_metric_is_predicted_on_outputs_held_out(surrogate):
    assert surrogate.quality.count == 80
    assert surrogate.quality.rank_correlation > 0.85
    prediction, target = _rows(seed=1)
    believed, spread = surrogate.predict(prediction, target)
    true = (prediction - target).abs().amax(dim=1)
    assert (believed - true).abs().mean() < 0.1
    assert bool((spread >= 0).all())


def test_gradient_reaches_predictions_and_no_member(surrogate):
    prediction, target = _rows(8)
    prediction.requires_grad_(True)
    surrogate(prediction, target).mean().backward()
    assert bool((prediction.grad != 0).any(dim=1).all())
    assert all(p.grad is None and not p.requires_grad for p in surrogate.parameters())


def test_gradient_points_where_the_metric_goes():
    """A metric whose gradient is known: what preprocessing or a detached tensor spoils shows."""
    rows = _rows(2000)
    surrogate = _fitted(
        squared_error, rows, settings=SurrogateSettings(members=2, width=16, fit_steps=400)
    )
    prediction, target = _rows(200, seed=3)
    prediction.requires_grad_(True)
    surrogate(prediction, target).sum().backward()
    exact = prediction.detach() - target
    assert nn.functional.cosine_similarity(prediction.grad, exact).mean() > 0.9


def test_numbers_of_any_precision_are_taken():
    draws = np.random.default_rng(0)
    surrogate = _fitted(rows=(draws.random((400, 3)), draws.random((400, 3))))  # float64
    prediction, target = _rows(20)
    expected = surrogate(prediction, target)
    for kind in (torch.float64, torch.bfloat16):
        given = prediction.to(kind).requires_grad_(True)
        values = surrogate(given, target)
        torch.testing.assert_close(values, expected, atol=0.05, rtol=0.05)
        values.sum().backward()
        assert given.grad.dtype == kind
    half = MetricSurrogate(largest_error).true_values(prediction.bfloat16(), target)
    torch.testing.assert_close(half, (prediction.bfloat16() - target).abs().amax(dim=1))


def test_a_surrogate_that_is_moved_goes_on_learning_there():
    surrogate = _fitted()
    surrogate.double()  # as a GPU does, it changes the weights and not what an optimiser keeps
    surrogate.learn(surrogate.bank, range(2))
    states = [state for adam in surrogate._adams() for state in adam.state.values()]
    assert {state["exp_avg"].dtype for state in states} == {torch.float64}


def test_direction_follows_the_goal():
    prediction, target = _rows(50)
    lower = _fitted(goal="lower")(prediction, target)
    higher = _fitted(lambda p, t: -largest_error(p, t), goal="higher")(prediction, target)
    assert np.corrcoef(lower, higher)[0, 1] > 0.9


def test_the_loss_is_in_deviations_of_the_metric():
    rows = _rows()
    one, other = _fitted(rows=rows), _fitted(lambda p, t: 100 * largest_error(p, t), rows)
    prediction, target = _rows(100, seed=2)
    assert one(prediction, target).std() == pytest.approx(
        float(other(prediction, target).std()), rel=0.1
    )
    assert float(one(prediction, target).std()) == pytest.approx(1.0, abs=0.3)


def test_predictions_stay_within_the_bounds(surrogate):
    far = 50 * torch.randn(100, 3)
    believed, _ = surrogate.predict(far, torch.zeros(100, 3))
    assert bool(((believed >= 0) & (believed <= 1)).all())


def test_known_values_call_no_metric():
    prediction, target = _rows()
    surrogate = MetricSurrogate(never, settings=SMALL)
    values = (prediction - target).abs().amax(dim=1)
    assert surrogate.fit(prediction, target, values, progress=False).rank_correlation > 0.85
    assert surrogate.calls.spent.calls == 0


def test_equal_pairs_are_best_in_the_form_of_a_distance():
    surrogate = _fitted(
        limits=(0.0, None), settings=SurrogateSettings(members=1, form="distance", fit_steps=150)
    )
    prediction, target = _rows(50)
    assert surrogate.predict(target, target)[0].abs().max() < 1e-4
    assert surrogate.predict(prediction, target)[0].min() > 0.01
    assert surrogate.quality.rank_correlation > 0.7


def test_a_metric_of_sets_is_learned_from_sets():
    def share_above(predictions, targets):
        return float((predictions.mean(axis=1) > 0.5).mean())

    surrogate = _fitted(share_above, _rows(4000), per="set", set_size=8)
    assert surrogate.quality.rank_correlation > 0.7
    prediction, target = _rows(16)
    assert surrogate(prediction.requires_grad_(True), target).shape == (2,)
    with pytest.raises(DataError, match="whole sets"):
        surrogate(*_rows(15))


@pytest.mark.parametrize("smoothness", ["spectral", "penalty"])
def test_bounded_networks_are_less_steep(smoothness):
    steepness = []
    for kind in ("none", smoothness):
        settings = SurrogateSettings(
            members=1, width=8, fit_steps=150, smoothness=kind, slope=0.3, gradient_limit=0.0
        )
        surrogate = _fitted(settings=settings)
        prediction, target = _rows(200, seed=4)
        prediction = (3 * prediction).requires_grad_(True)
        surrogate(prediction, target).sum().backward()
        steepness.append(float(prediction.grad.norm(dim=1).max()))
    assert steepness[1] < steepness[0]


def test_a_fitted_surrogate_stands_still():
    settings = SurrogateSettings(members=1, width=8, fit_steps=3, smoothness="spectral")
    surrogate = _fitted(settings=settings)
    surrogate.train()
    prediction, target = _rows(20)
    assert torch.equal(surrogate(prediction, target), surrogate(prediction, target))


def test_an_example_far_from_the_rest_pulls_no_more_than_they_do(surrogate):
    class Steep(nn.Module):
        def forward(self, features):
            return (features[:, 0] * torch.tensor([1.0, 1, 1, 1000])).square()

    given = MetricSurrogate(None, Steep(), inputs=lambda p, t: p)
    prediction = torch.ones(4, 2, requires_grad=True)
    given(prediction, torch.zeros(4)).sum().backward()
    norms = prediction.grad.norm(dim=1)
    assert norms[3] == pytest.approx(3 * float(norms[0]))


def test_examples_that_members_disagree_on_teach_nothing():
    settings = SurrogateSettings(members=2, width=8, fit_steps=100, spread_limit=1.0)
    surrogate = _fitted(settings=settings)
    near, target = _rows(50)
    prediction = torch.cat([near, 40 * torch.randn(50, 3)]).requires_grad_(True)
    surrogate(prediction, torch.cat([target, target])).sum().backward()
    taught = (prediction.grad != 0).any(dim=1)
    assert taught[:50].float().mean() > 0.7
    assert taught[50:].float().mean() < 0.3


def test_uncertainty_adds_what_members_differ_by(surrogate):
    wary = _fitted(
        limits=(0.0, 1.0),
        settings=SurrogateSettings(members=2, width=8, fit_steps=150, uncertainty=2.0),
    )
    prediction, target = _rows(20)
    _, spread = wary.predict(prediction, target)
    torch.testing.assert_close(
        wary(prediction, target), surrogate(prediction, target) + 2 * spread / wary.unit
    )


def test_a_torch_module_that_predicts_the_metric_is_used_as_it_is():
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    before = module[0].weight.clone()
    surrogate = MetricSurrogate(largest_error, module, inputs=lambda p, t: (p - t).square())
    prediction, target = _rows(5)
    torch.testing.assert_close(
        surrogate(prediction, target), module((prediction - target).square())[:, 0].detach()
    )
    surrogate.fit(*_rows(), progress=False)
    assert surrogate.quality.rank_correlation > 0.3
    assert torch.equal(module[0].weight, before)  # a copy went on learning


def test_an_estimator_is_fitted_anew_by_its_own_library():
    from sklearn.kernel_ridge import KernelRidge

    prediction, target = _rows()
    features = (prediction - target).abs()
    estimator = KernelRidge(kernel="rbf", alpha=0.01).fit(
        features[:40].numpy(), features[:40].amax(dim=1).numpy()
    )
    surrogate = MetricSurrogate(
        largest_error, estimator, inputs=lambda p, t: (p - t).square().add(1e-12).sqrt()
    )
    believed = surrogate.predict(prediction, target)[0]
    np.testing.assert_allclose(believed, estimator.predict(features.numpy()), atol=1e-5)
    assert surrogate.fit(prediction, target, progress=False).rank_correlation > 0.95
    prediction.requires_grad_(True)
    surrogate(prediction, target).sum().backward()
    assert bool((prediction.grad != 0).any())


def test_an_estimator_that_draws_is_fitted_alike():
    from sklearn.neural_network import MLPRegressor

    prediction, target = _rows(60)
    estimator = MLPRegressor(hidden_layer_sizes=(4,), max_iter=20)
    estimator.fit(prediction.numpy(), prediction[:, 0].numpy())
    believed = []
    for seed in (1, 2):
        np.random.seed(seed)
        surrogate = MetricSurrogate(largest_error, estimator, inputs=lambda p, t: p)
        surrogate.fit(prediction, target, progress=False)
        believed.append(surrogate.predict(prediction, target)[0])
    assert torch.equal(*believed)


def test_features_by_a_function_need_it_when_read(tmp_path):
    surrogate = _fitted(inputs=_apart)
    folder = save_surrogate(surrogate, tmp_path / "learned")
    with pytest.raises(SettingsError, match="made by a function, which its folder only names"):
        read_surrogate(folder)
    other = read_surrogate(folder, inputs=_apart)
    assert torch.equal(other(*_rows(9)), surrogate(*_rows(9)))


def test_what_was_written_is_read_back_to_the_bit(tmp_path, surrogate):
    folder = save_surrogate(surrogate, tmp_path / "learned", metric="metric_toys:largest_error")
    other = read_surrogate(folder, largest_error)
    prediction, target = _rows(30, seed=5)
    assert torch.equal(other(prediction, target), surrogate(prediction, target))
    assert other.quality == surrogate.quality
    for held_out in (True, False):
        ours, theirs = surrogate.bank.all(held_out=held_out), other.bank.all(held_out=held_out)
        assert torch.equal(ours.predictions, theirs.predictions)
        assert torch.equal(ours.values, theirs.values)
    save_surrogate(other, folder)  # takes the place of an older one
    assert [path.name for path in tmp_path.iterdir()] == ["learned"]


def test_folders_that_hold_something_else_are_left_alone(tmp_path, surrogate):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(DataError, match="something else"):
        save_surrogate(surrogate, tmp_path)
    with pytest.raises(DataError, match="no surrogate that can be read"):
        read_surrogate(tmp_path)
    with pytest.raises(StorageError, match="could not be written"):
        save_surrogate(surrogate, tmp_path / "note.txt" / "learned")
    folder = save_surrogate(surrogate, tmp_path / "learned")
    (folder / "members.safetensors").write_bytes(b"broken")
    with pytest.raises(DataError, match="no surrogate that can be read"):
        read_surrogate(folder)


@pytest.mark.parametrize(
    ("metric", "rows", "says"),
    [
        (never, _rows(20), "gave nan"),
        (constant, _rows(20), "is 1 for all 20 outputs"),
        (largest_error, _rows(9), "too few outputs"),
    ],
)
def test_metrics_that_cannot_be_learned_are_said(metric, rows, says):
    with pytest.raises(TrainingError, match=says):
        MetricSurrogate(metric, settings=SMALL).fit(*rows, progress=False)


def test_examples_that_the_metric_cannot_judge_are_left_out():
    surrogate = _fitted(sometimes, on_failure="skip")
    assert surrogate.quality.count < 80
    assert surrogate.quality.rank_correlation > 0.8


def test_wrong_use_is_explained():
    prediction, target = _rows(20)
    with pytest.raises(TrainingError, match="has not learned its metric yet"):
        MetricSurrogate(largest_error)(prediction, target)
    with pytest.raises(TilthError, match="carry no gradient"):
        _fitted(inputs=lambda p, t: (p.detach() - t).abs())
    with pytest.raises(SettingsError, match="needs the metric's best value"):
        MetricSurrogate(largest_error, settings=SurrogateSettings(form="distance"))
    with pytest.raises(TrainingError, match="no metric to call"):
        MetricSurrogate(None).true_values(prediction, target)
    with pytest.raises(DataError, match="differ in number"):
        MetricSurrogate(largest_error).fit(prediction, target[:5], progress=False)
    wide = MetricSurrogate(None, nn.Linear(3, 2), inputs=lambda p, t: p)
    with pytest.raises(DataError, match="no single number"):
        wide(prediction, target)
    cut = MetricSurrogate(None, nn.Linear(3, 1), inputs=lambda p, t: p.detach())
    with pytest.raises(DataError, match="carry no gradient"):
        cut(prediction.clone().requires_grad_(True), target)
    empty = MetricSurrogate(largest_error, nn.Flatten(0), inputs=lambda p, t: p[:, :1])
    with pytest.raises(SettingsError, match="no weights that it could learn"):
        empty.fit(prediction, target, progress=False)
