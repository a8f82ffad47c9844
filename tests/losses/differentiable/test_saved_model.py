"""A TensorFlow SavedModel becomes a network by way of a converter in another interpreter."""

import os
import stat
import subprocess
import sys
import textwrap

import numpy as np
import onnx
import pytest
import torch
from onnx_graphs import one_node

from tilth.errors import DataError, MissingExtraError, SettingsError
from tilth.losses.differentiable.saved_model import saved_model_network

TRAINED = """
import os, sys
os.environ["KERAS_BACKEND"] = "tensorflow"
import keras, numpy as np, tensorflow as tf
keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)
x = rng.random((256, 16, 16, 1)).astype("float32")
layers = keras.layers
model = keras.Sequential([
    keras.Input((16, 16, 1)), layers.Conv2D(8, 3, padding="same", activation="relu"),
    layers.BatchNormalization(), layers.MaxPooling2D(),
    layers.Conv2D(8, 3, strides=2, padding="same"), layers.LeakyReLU(), layers.Dropout(0.5),
    layers.GlobalAveragePooling2D(), layers.Dense(1)])
model.compile("adam", "mse")
model.fit(x, x.var((1, 2, 3))[:, None], epochs=2, verbose=0)
pictures = tf.constant(x[:8])
with tf.GradientTape() as tape:
    tape.watch(pictures)
    scores = model(pictures, training=False)
slopes = tape.gradient(scores, pictures)
np.savez(sys.argv[1] + "/seen.npz", x=x[:8], scores=scores.numpy(), slopes=slopes.numpy())
model.export(sys.argv[1] + "/saved", verbose=False)
model.save(sys.argv[1] + "/model.keras")
"""


@pytest.fixture
def folder(tmp_path):
    """What looks like a SavedModel."""
    path = tmp_path / "saved"
    (path / "variables").mkdir(parents=True)
    (path / "saved_model.pb").write_bytes(b"graph")
    (path / "variables" / "variables.index").write_bytes(b"numbers")
    return path


def interpreter(tmp_path, body):
    """A program that stands in for a Python with tf2onnx, and notes how it was called."""
    path = tmp_path / "python"
    text = f"#!{sys.executable}\nimport sys\nopen({str(tmp_path / 'calls')!r}, 'a').write(' '.join"
    path.write_text(text + "(sys.argv[1:]) + '\\n')\n" + textwrap.dedent(body))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def converter(tmp_path):
    """Writes a model that multiplies by itself, wherever it is asked to."""
    model, _ = one_node("Mul", {"x": np.zeros(2, np.float32)})
    del model.graph.node[0].input[:]
    model.graph.node[0].input.extend(["x", "x"])
    onnx.save(model, tmp_path / "made.onnx")
    return interpreter(
        tmp_path,
        f"""
        import shutil
        shutil.copy({str(tmp_path / "made.onnx")!r}, sys.argv[sys.argv.index('--output') + 1])
        """,
    )


def test_converted_model_is_a_network(folder, tmp_path):
    network = saved_model_network(folder, python=converter(tmp_path), opset=16, signature="score")
    x = torch.tensor([3.0, 4.0], requires_grad=True)
    assert torch.autograd.grad(network(x).sum(), x)[0].tolist() == [6.0, 8.0]
    call = (tmp_path / "calls").read_text()
    assert call.startswith(f"-m tf2onnx.convert --saved-model {folder} --opset 16")
    assert call.strip().endswith("--signature_def score")


def test_conversion_is_kept_until_the_model_changes(folder, tmp_path):
    python, cache = converter(tmp_path), tmp_path / "cache"

    def calls():
        saved_model_network(folder, python=python, cache=cache)
        return len((tmp_path / "calls").read_text().splitlines())

    assert [calls(), calls()] == [1, 1]
    (folder / "variables" / "variables.index").write_bytes(b"other numbers")
    assert calls() == 2
    assert len(list(cache.iterdir())) == 2


def test_words_of_the_converter_are_told(folder, tmp_path):
    python = interpreter(tmp_path, "sys.exit('ValueError: op ParseExample is not supported')")
    with pytest.raises(DataError, match="tf2onnx could not convert") as caught:
        saved_model_network(folder, python=python)
    assert "op ParseExample is not supported" in str(caught.value)


def test_interpreter_without_the_converter_is_named(folder, tmp_path):
    python = interpreter(tmp_path, 'sys.exit("No module named tf2onnx")')
    with pytest.raises(MissingExtraError, match="tf2onnx is not installed") as caught:
        saved_model_network(folder, python=python)
    assert str(python) in str(caught.value)
    with pytest.raises(SettingsError, match="no such interpreter"):
        saved_model_network(folder, python=tmp_path / "nowhere")


def test_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(DataError, match="no SavedModel here"):
        saved_model_network(tmp_path)


@pytest.mark.slow
def test_network_that_tensorflow_trained_keeps_its_values_and_gradients(tmp_path):
    """Needs a Python with tensorflow and tf2onnx, this one or that of TILTH_TENSORFLOW_PYTHON."""
    python = os.environ.get("TILTH_TENSORFLOW_PYTHON", sys.executable)
    present = subprocess.run(
        [python, "-c", "import keras, tensorflow, tf2onnx"], capture_output=True, check=False
    )
    if present.returncode:
        pytest.skip("no tensorflow and tf2onnx (set TILTH_TENSORFLOW_PYTHON=/path/to/python)")
    subprocess.run([python, "-c", TRAINED, str(tmp_path)], check=True, capture_output=True)
    seen = np.load(tmp_path / "seen.npz")
    network = saved_model_network(tmp_path / "saved", python=python)
    x = torch.from_numpy(seen["x"]).requires_grad_()
    scores = network(x)
    (slopes,) = torch.autograd.grad(scores.sum(), x)
    np.testing.assert_allclose(scores.detach().numpy(), seen["scores"], atol=1e-5)
    np.testing.assert_allclose(slopes.numpy(), seen["slopes"], atol=1e-6)
