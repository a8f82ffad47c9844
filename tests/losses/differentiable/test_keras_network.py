"""A Keras model is a frozen network whose gradients reach its inputs."""

import json
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch

from tilth.errors import DataError, MissingExtraError, SettingsError
from tilth.losses.differentiable.channel_order import ChannelsFirst
from tilth.losses.differentiable.keras_network import keras_network


@pytest.fixture(scope="module")
def keras():
    """Keras on torch; the backend is chosen by the first import of a process."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras", reason="Keras is not installed (pip install keras)")
    if keras.backend.backend() != "torch":
        pytest.skip(f"Keras runs on {keras.backend.backend()} in this process")
    return keras


@pytest.fixture(scope="module")
def model(keras):
    """A small network of pictures with all that differs between training and evaluation."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, padding="same", activation="relu"),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            layers.MaxPooling2D(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(1),
        ]
    )


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).random((4, 8, 8, 3)).astype(np.float32)


@pytest.fixture
def path(model, tmp_path):
    model.save(tmp_path / "model.keras")
    return tmp_path / "model.keras"


def test_file_says_what_the_model_predicts(model, path, pictures):
    network = keras_network(path)
    found = network(torch.from_numpy(pictures))
    np.testing.assert_allclose(
        found.detach().numpy(), model.predict(pictures, verbose=0), atol=1e-6
    )


def test_gradients_are_finite_differences(path, pictures):
    network = keras_network(path)
    x = torch.from_numpy(pictures[:1]).requires_grad_()
    (slopes,) = torch.autograd.grad(network(x).sum(), x)
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    step = 1e-2
    with torch.no_grad():
        change = (network(x + step * direction) - network(x - step * direction)).item()
    assert change / (2 * step) == pytest.approx((slopes * direction).sum().item(), rel=0.02)


def test_network_is_frozen_and_stays_in_evaluation(path, pictures):
    network = keras_network(path).train()
    x = torch.from_numpy(pictures)
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert torch.equal(network(x), network(x))


def test_model_itself_is_taken(keras, model, pictures):
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    found = keras_network(twin)(torch.from_numpy(pictures)).detach().numpy()
    np.testing.assert_allclose(found, model.predict(pictures, verbose=0), atol=1e-6)


def test_several_inputs_and_outputs(keras):
    first, second = keras.Input((3,)), keras.Input((2,))
    both = keras.layers.Concatenate()([first, second])
    model = keras.Model([first, second], [both, keras.layers.Dense(1)(both)])
    found = keras_network(model)(torch.ones(4, 3), torch.zeros(4, 2))
    assert [tuple(part.shape) for part in found] == [(4, 5), (4, 1)]


def test_channels_may_come_first(path, pictures):
    x = torch.from_numpy(pictures)
    expected = keras_network(path)(x)
    found = keras_network(path, channels_first=True)(x.movedim(-1, 1))
    torch.testing.assert_close(found, expected)


def test_example_is_checked(model, path, pictures):
    answers = model.predict(pictures, verbose=0)
    assert keras_network(path, example=(pictures, answers))
    with pytest.raises(DataError, match="of the example") as caught:
        keras_network(path, example=(pictures, answers + 1))
    assert "a difference of 1" in str(caught.value)
    with pytest.raises(DataError, match=r"shape \[4, 1\] instead of \[4\]"):
        keras_network(path, example=(pictures, answers[:, 0]))


def test_code_in_a_file_is_refused_by_the_name_of_its_layer(keras, tmp_path):
    path = tmp_path / "code.keras"
    keras.Sequential([keras.Input((3,)), keras.layers.Lambda(lambda x: x, name="twice")]).save(path)
    with pytest.raises(SettingsError, match="layer twice of the model is code"):
        keras_network(path)


def test_classes_that_keras_does_not_know_are_asked_for(keras, tmp_path):
    class Twice(keras.layers.Layer):
        def call(self, x):
            return 2 * x

    path = tmp_path / "own.keras"
    keras.Sequential([keras.Input((3,)), Twice()]).save(path)
    with pytest.raises(DataError, match="Keras cannot read") as caught:
        keras_network(path)
    assert "custom_objects" in str(caught.value)
    network = keras_network(path, custom_objects={"Twice": Twice})
    assert network(torch.ones(1, 3)).tolist() == [[2.0, 2.0, 2.0]]


@pytest.mark.slow
def test_keras_on_another_backend_is_told_what_to_do(keras, path):
    """In a process of its own, since a backend cannot be changed."""
    program = (
        "import sys, types; keras = types.ModuleType('keras');"
        "keras.backend = types.SimpleNamespace(backend=lambda: 'tensorflow');"
        "sys.modules['keras'] = keras;"
        "import torch; from tilth.losses.differentiable.keras_network import keras_network;"
        "network = keras_network(sys.argv[1]);"
        "x = torch.ones(2, 8, 8, 3, requires_grad=True);"
        "network(x).sum().backward(); print(type(network).__name__, x.grad.abs().sum() > 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False
    )
    assert done.stdout.split()[:1] == ["OnnxNetwork"], done.stderr
    assert "True" in done.stdout


def test_older_files_are_refused(tmp_path):
    for name in ("model.h5", "model.hdf5"):
        with pytest.raises(SettingsError, match="older Keras files") as caught:
            keras_network(tmp_path / name)
        assert "model.save('model.keras')" in str(caught.value)


def test_files_that_are_no_model_are_refused(tmp_path):
    path = tmp_path / "model.keras"
    with pytest.raises(DataError, match="no Keras 3 model"):
        keras_network(path)
    path.write_bytes(b"nothing")
    with pytest.raises(DataError, match="no Keras 3 model"):
        keras_network(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{")
    with pytest.raises(DataError, match="no Keras 3 model"):
        keras_network(path)


def test_code_is_found_without_keras(tmp_path):
    """Also inside other layers, and as an activation."""
    inner = {"class_name": "__lambda__", "config": {"value": "code"}}
    config = {"config": {"layers": [{"class_name": "Dense", "config": {"activation": inner}}]}}
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
    with pytest.raises(SettingsError, match="is code in the file"):
        keras_network(path)


def test_what_is_no_keras_model_is_refused():
    with pytest.raises(SettingsError, match="no model of Keras 3"):
        keras_network(torch.nn.Linear(1, 1))


def test_missing_keras_names_the_extra(tmp_path, monkeypatch):
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(MissingExtraError, match="keras is not installed") as caught:
        keras_network(path)
    assert "tilth[keras]" in str(caught.value)


def test_pictures_are_turned_and_tables_are_not():
    seen = []

    class Spy(torch.nn.Module):
        def forward(self, *inputs):
            seen.extend(tuple(x.shape) for x in inputs)
            return inputs[0]

    wrapped = ChannelsFirst(Spy()).train()
    wrapped(torch.zeros(2, 3, 8, 9), torch.zeros(2, 5))
    assert seen == [(2, 8, 9, 3), (2, 5)]
    assert not wrapped.training
