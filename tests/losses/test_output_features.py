"""Features of outputs are what NumPy and SciPy say, and are one function for fit and for loss."""

import numpy as np
import pytest
import torch
from scipy import stats

from tilth.errors import DataError
from tilth.losses.metric_surrogate import MetricSurrogate
from tilth.losses.output_features import (
    log_spectrum,
    mask_features,
    moments,
    picture_features,
    regions,
    signal_features,
    soft_histogram,
    steepness,
    told_of,
)

SHAPES = {
    picture_features: (5, 2, 12, 16),
    mask_features: (5, 2, 12, 16),
    signal_features: (5, 1, 64),
}


def _pair(shape, seed=0):
    draws = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=draws), torch.rand(shape, generator=draws)


def test_moments_are_those_of_scipy():
    values, _ = _pair((4, 3, 50))
    flat = values.reshape(4, -1).double().numpy()
    expected = np.stack(
        [
            flat.mean(axis=1),
            flat.std(axis=1),
            stats.skew(flat, axis=1),
            stats.kurtosis(flat, axis=1, fisher=False),
        ],
        axis=1,
    )
    np.testing.assert_allclose(moments(values.double()), expected, rtol=1e-9)


def test_a_soft_histogram_is_a_hard_one_for_values_on_its_places():
    places = torch.randint(0, 5, (3, 200))
    found = soft_histogram(places / 4.0, low=0.0, high=1.0, bins=5)
    counts = np.stack([np.bincount(row, minlength=5) for row in places.numpy()])
    np.testing.assert_allclose(found, counts / 200, atol=1e-6)


def test_a_soft_histogram_keeps_the_mean_and_sums_to_one():
    values, _ = _pair((3, 100))
    found = soft_histogram(values, low=0.0, high=1.0)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(3))
    torch.testing.assert_close(found @ torch.linspace(0, 1, 16), values.mean(dim=1))
    ends = soft_histogram(torch.tensor([[-5.0, 7.0]]), low=0.0, high=1.0, bins=3)
    assert ends.tolist() == [[0.5, 0.0, 0.5]]


def test_the_power_of_a_wave_is_in_its_band():
    time = torch.arange(64) / 64
    waves = torch.stack([torch.sin(2 * torch.pi * cycles * time) for cycles in (3, 13, 31)])
    assert log_spectrum(waves, axes=1).argmax(dim=1).tolist() == [0, 3, 7]


def test_the_spectrum_is_that_of_numpy():
    values, _ = _pair((2, 1, 12, 10))
    power = np.abs(np.fft.fft2(values.double().numpy(), norm="ortho"))[:, 0] ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(12), np.fft.fftfreq(10), indexing="ij"))
    for band in range(8):
        inside = (frequency > 0) & (np.minimum((frequency * 16).astype(int), 7) == band)
        expected = np.log(power[:, inside].mean(axis=1) + 1e-6) if inside.any() else np.log(1e-6)
        np.testing.assert_allclose(log_spectrum(values, axes=2)[:, band], expected, rtol=1e-4)


def test_a_square_has_its_area_edge_centre_and_spread():
    picture = torch.zeros(1, 1, 20, 40)
    picture[0, 0, 5:15, 10:30] = 1
    area, edge, down, across, high, wide = regions(picture)[0].tolist()
    assert area == pytest.approx(0.25)
    assert edge == pytest.approx((2 * 20 + 2 * 10) / 40)
    assert (down, across) == pytest.approx((0.5, 0.5))
    assert (high, wide) == pytest.approx((np.arange(10).std() / 20, np.arange(20).std() / 40))


def test_noise_is_steeper_than_what_it_lies_on():
    smooth = torch.linspace(0, 1, 16).expand(1, 1, 16, 16)
    noisy = smooth + 0.2 * torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    assert bool((steepness(noisy) > steepness(smooth)).all())


@pytest.mark.parametrize("features", SHAPES, ids=lambda each: each.__name__)
def test_gradients_are_finite_differences(features):
    prediction, target = (each[:2].double() for each in _pair(SHAPES[features]))
    prediction = 0.1 + 0.8 * prediction  # away from the ends of histograms
    weights = torch.rand(told_of(features, prediction, target).shape[1], dtype=torch.float64)

    def value(given):
        return (features(given, target) * weights).sum()

    given = prediction.clone().requires_grad_(True)
    value(given).backward()
    way = torch.randn(prediction.shape, dtype=torch.float64)
    step = 1e-7 * way
    expected = (value(prediction + step) - value(prediction - step)) / 2e-7
    assert (given.grad * way).sum().item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("features", SHAPES, ids=lambda each: each.__name__)
def test_what_a_regressor_is_told_is_what_the_loss_computes(features):
    prediction, target = _pair(SHAPES[features])
    told = told_of(features, prediction.numpy(), target.numpy())
    np.testing.assert_array_equal(told, features(prediction, target).double().numpy())
    assert np.isfinite(told_of(features, 0 * prediction, 0 * target)).all()


def test_a_regressor_of_features_teaches_pictures():
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def blur(prediction, target):
        return float(np.abs(np.diff(prediction, axis=-1)).mean())

    prediction, target = _pair((60, 1, 12, 12))
    prediction = prediction * torch.rand(60, 1, 1, 1)
    regressor = make_pipeline(StandardScaler(), Ridge(0.1)).fit(
        told_of(picture_features, prediction, target),
        [blur(*pair) for pair in zip(prediction.numpy(), target.numpy(), strict=True)],
    )
    surrogate = MetricSurrogate(blur, regressor, inputs=picture_features)
    given = prediction.clone().requires_grad_(True)
    surrogate(given, target).sum().backward()
    with torch.no_grad():
        better = given - 0.05 * given.grad / given.grad.abs().amax(dim=(1, 2, 3), keepdim=True)
    true = [
        np.mean([blur(each, None) for each in pictures.detach().numpy()])
        for pictures in (better, given)
    ]
    assert true[0] < true[1]


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="one shape"):
        mask_features(torch.rand(1, 1, 8, 8), torch.rand(1, 1, 8, 9))
    with pytest.raises(DataError, match="histogram cannot be made"):
        soft_histogram(torch.rand(1, 4), low=1.0, high=1.0)
