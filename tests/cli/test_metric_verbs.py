"""`tilth metric`: a metric is tried, learned, checked on other outputs, and put into a recipe."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_runs import Tilth

METRICS = """
import numpy as np

def error(prediction, target):
    return float(np.round(np.abs(prediction - target).mean(), 2))

def error_of_set(predictions, targets):
    return float(np.abs(predictions - targets).mean())

def gives_nan(prediction, target):
    return float("nan") if prediction[0] > 0.5 else 1.0

def raises(prediction, target):
    raise KeyError("no such thing")

def constant(prediction, target):
    return 2.0

def writes(prediction, target):
    prediction[0] = 0
    return float(prediction.sum())

def random(prediction, target):
    return float(np.random.random())

def largest(prediction, target):
    return float(prediction.argmax() != target.argmax())

def likeness(prediction, target):
    return -error(prediction, target)
"""
FIT = ("fit", "scores.py:error", "--outputs", "outputs.npz", "--to", "a")
SMALL = ("--set", "network.fit_steps=150", "--set", "network.members=1")


@pytest.fixture
def outputs(tilth: Tilth) -> Path:
    """The names of the metrics and of 200 outputs, in the working folder."""
    Path("scores.py").write_text(METRICS)
    return saved(Path("outputs.npz"))


def saved(path: Path, *, seed: int = 0, count: int = 200, **more: Any) -> Path:
    draws = np.random.default_rng(seed)
    arrays = {
        name: draws.random((count, 4)).astype(np.float32) for name in ("predictions", "targets")
    }
    np.savez(path, **(arrays | more))
    return path


def fitted(tilth: Tilth, *more: object, metric: str = "scores.py:error") -> Any:
    return tilth("metric", "fit", metric, "--outputs", "outputs.npz", "--low", 0, *SMALL, *more)


def test_metric_is_learned_and_its_quality_said(tilth: Tilth, outputs: Path) -> None:
    ended = fitted(tilth, "--to", "learned", "--json")
    assert ended.code == 0, ended.err
    found = ended.document
    assert found["quality"]["rank_correlation"] > 0.7
    assert found["quality"]["count"] == 40
    assert found["cost"]["calls"] == 200
    assert found["cost"]["milliseconds_a_call"] > 0
    assert tomllib.loads(found["loss"]) == {
        "loss": {"metric": "scores.py:error", "low": 0, "inputs": "table", "surrogate": "learned"}
    }
    assert (Path("learned") / "members.safetensors").is_file()


def test_fit_shows_a_table_and_the_lines_to_paste(tilth: Tilth, outputs: Path) -> None:
    ended = fitted(tilth, "--to", "learned")
    assert ended.code == 0
    assert "rank correlation" in ended.out
    assert "ms a call" in ended.out
    assert '[loss]\nmetric = "scores.py:error"' in ended.out


def test_budget_is_kept_and_values_cost_no_call(tilth: Tilth, outputs: Path) -> None:
    found = fitted(tilth, "--to", "a", "--budget", 60, "--json").document
    assert found["cost"]["calls"] == found["outputs"] == 60
    assert found["left_out"] == 140
    with np.load("outputs.npz") as arrays:
        values = np.abs(arrays["predictions"] - arrays["targets"]).mean(axis=1)
    saved(Path("outputs.npz"), values=values)
    known = fitted(tilth, "--to", "b", "--json", metric="scores.py:raises").document
    assert known["cost"]["calls"] == 0
    assert known["quality"]["rank_correlation"] > 0.7


def test_sets_are_learned_as_sets(tilth: Tilth, outputs: Path) -> None:
    saved(Path("outputs.npz"), count=402)
    more = ("--per", "set", "--set-size", 4, "--to", "sets", "--json")
    ended = fitted(tilth, *more, metric="scores.py:error_of_set")
    assert ended.document["cost"]["calls"] == 100  # the ragged end goes
    lines = tomllib.loads(ended.document["loss"])["loss"]
    assert (lines["per"], lines["set_size"]) == ("set", 4)
    used = tilth("metric", "use", "sets", "--json")
    assert used.document["gradient"]["flows"]


def test_learned_metric_is_checked_on_other_outputs(tilth: Tilth, outputs: Path) -> None:
    fitted(tilth, "--to", "learned")
    saved(Path("later.npz"), seed=1)
    called = ("metric", "check", "learned", "--outputs", "later.npz", "--metric", "scores.py:error")
    ended = tilth(*called, "--calls", 80, "--json")
    assert ended.code == 0, ended.err
    assert ended.document["quality"]["count"] == 80
    assert ended.document["quality"]["rank_correlation"] > 0.6
    assert ended.document["faults"] == []
    shown = tilth(*called)
    assert "usable" in shown.out
    assert "at its fit" in shown.out


def test_no_metric_is_called_because_a_folder_names_it(tilth: Tilth, outputs: Path) -> None:
    fitted(tilth, "--to", "learned")
    ended = tilth("metric", "check", "learned", "--outputs", outputs)
    assert ended.code == 2
    assert "--metric scores.py:error" in ended.err


def test_features_of_a_folder_are_named_by_who_uses_it(tilth: Tilth, outputs: Path) -> None:
    Path("features.py").write_text("def squares(p, t):\n    return (p - t.float()).square()\n")
    made = fitted(tilth, "--to", "learned", "--inputs", "features.py:squares")
    assert made.code == 0, made.err
    assert tilth("metric", "use", "learned").code == 2
    used = tilth("metric", "use", "learned", "--inputs", "features.py:squares", "--json")
    assert used.code == 0, used.err
    assert used.document["gradient"]["flows"]


def test_surrogate_that_is_fooled_is_found_out(tilth: Tilth, outputs: Path) -> None:
    """Values that say otherwise than the surrogate believes: exit code 8, and why."""
    fitted(tilth, "--to", "learned")
    saved(Path("later.npz"), seed=1, values=np.linspace(3, 4, 200))
    ended = tilth("metric", "check", "learned", "--outputs", "later.npz", "--json")
    assert ended.code == 8
    assert any("better than the truth" in fault for fault in ended.document["faults"])
    assert any("rank correlation" in fault for fault in ended.document["faults"])
    assert ended.document["optimism"] > 2


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gives_nan", "cannot judge"),
        ("raises", "the metric raised KeyError"),
        ("constant", "it is 2 for all outputs"),
        ("writes", "changes the arrays"),
        ("random", "other values for the same output"),
    ],
)
def test_metric_that_cannot_be_learned_is_found_out(
    tilth: Tilth, outputs: Path, name: str, words: str
) -> None:
    ended = tilth("metric", "check", f"scores.py:{name}", "--outputs", outputs)
    assert ended.code == 8
    assert words in ended.out


def test_metric_that_can_be_learned_is_measured(tilth: Tilth, outputs: Path) -> None:
    ended = tilth("metric", "check", "scores.py:error", "--outputs", outputs, "--json")
    assert ended.code == 0
    found = ended.document
    assert found["faults"] == found["warnings"] == []
    assert found["values"]["lowest"] < found["values"]["mean"] < found["values"]["highest"]
    assert found["repeats"]
    assert found["answers_change"]["0.1"] > 0.5
    assert found["milliseconds_a_call"] > 0


def test_bounds_of_a_bare_metric_are_checked(tilth: Tilth, outputs: Path) -> None:
    ended = tilth("metric", "check", "scores.py:error", "--outputs", outputs, "--high", 0.1)
    assert ended.code == 8
    assert "outside its bounds" in ended.out


def test_metric_that_rounds_is_warned_of(tilth: Tilth, outputs: Path) -> None:
    ended = tilth("metric", "check", "scores.py:largest", "--outputs", outputs, "--json")
    assert ended.code == 0
    moved = ended.document["answers_change"]
    assert moved["0.01"] <= moved["0.1"]
    np.savez("whole.npz", predictions=np.arange(40).reshape(20, 2), targets=np.zeros((20, 2)))
    shown = tilth("metric", "check", "scores.py:error", "--outputs", "whole.npz")
    assert "no gradient reaches" in shown.out


def test_check_of_a_metric_loads_no_torch(tilth_process: Tilth, tmp_path: Path) -> None:
    (tmp_path / "scores.py").write_text(METRICS)
    saved(tmp_path / "outputs.npz")
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, sys\n"
        "atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr))\n"
    )
    ended = tilth_process(
        *("metric", "check", "scores.py:error", "--outputs", "outputs.npz"),
        PYTHONPATH=str(tmp_path),
    )
    assert ended.code == 0, ended.err
    assert ended.err.strip().endswith("False")


def test_use_says_whether_gradients_flow(tilth: Tilth, outputs: Path) -> None:
    fitted(tilth, "--to", "learned", "--goal", "higher", metric="scores.py:error")
    ended = tilth("metric", "use", "learned", "--sample", "outputs.npz", "--json")
    assert ended.code == 0, ended.err
    assert ended.document["gradient"]["flows"]
    assert ended.document["gradient"]["examples"] == 64
    lines = tomllib.loads(ended.document["loss"])["loss"]
    assert lines["goal"] == "higher"
    assert lines["surrogate"] == "learned"
    assert "flows" in tilth("metric", "use", "learned").out


def test_lines_are_settings_of_a_recipe(tilth: Tilth, outputs: Path) -> None:
    from tilth.recipes.classify_settings import settings
    from tilth.recipes.detect_settings import settings as detect_settings

    lines = tomllib.loads(fitted(tilth, "--to", "learned", "--json").document["loss"])
    assert settings(lines).loss.surrogate == "learned"
    assert detect_settings(lines).loss.metric == "scores.py:error"


def test_use_of_a_model_file_says_which_way_it_took(tilth: Tilth, tmp_path: Path) -> None:
    skops = pytest.importorskip("skops.io")
    from sklearn.linear_model import Ridge

    draws = np.random.default_rng(0)
    features = draws.random((50, 3))
    skops.dump(Ridge().fit(features, features.sum(axis=1)), "quality.skops")
    np.savez("features.npz", inputs=features)
    ended = tilth("metric", "use", "quality.skops", "--sample", "features.npz", "--json")
    assert ended.code == 0, ended.err
    assert ended.document["way"] == "exact"
    assert ended.document["max_error"] < 1e-5
    assert ended.document["gradient"]["flows"]
    assert "as_differentiable('quality.skops')" in ended.document["python"]
    assert "way" in tilth("metric", "use", "quality.skops").out


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"predictions": np.zeros((4, 2))}, "has no 'targets'"),
        ({"predictions": np.zeros((4, 2)), "targets": np.zeros((3, 2))}, "do not go together"),
        (
            {"predictions": np.full((4, 2), np.nan), "targets": np.zeros((4, 2))},
            "missing or infinite",
        ),
        ({"predictions": np.array(["a"]), "targets": np.zeros(1)}, "holds no numbers"),
        ({"predictions": np.array([[1], [1, 2]], dtype=object), "targets": np.zeros(2)}, "-1 for"),
        (
            {"predictions": np.zeros((4, 2)), "targets": np.zeros((4, 2)), "values": np.zeros(3)},
            "4 values",
        ),
    ],
)
def test_outputs_that_cannot_be_used_are_refused(
    tilth: Tilth, outputs: Path, arrays: dict[str, Any], words: str
) -> None:
    np.savez("outputs.npz", **arrays)
    ended = fitted(tilth, "--to", "learned")
    assert ended.code == 3
    assert words in ended.err
    assert not Path("learned").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("fit", "scores.py:error", "--outputs", "no.npz", "--to", "a"), 3, "is not there"),
        (("fit", "scores.py:no", "--outputs", "outputs.npz", "--to", "a"), 2, "no function 'no'"),
        (("fit", "nowhere:f", "--outputs", "outputs.npz", "--to", "a"), 2, "nowhere"),
        (("fit", "scores.py:constant", "--outputs", "outputs.npz", "--to", "a"), 8, "for all"),
        (
            (
                "fit",
                "scores.py:error",
                "--outputs",
                "outputs.npz",
                "--to",
                "a",
                "--inputs",
                "tabel",
            ),
            2,
            "table",
        ),
        (
            (
                "fit",
                "scores.py:error",
                "--outputs",
                "outputs.npz",
                "--to",
                "a",
                "--set",
                "weight=2",
            ),
            2,
            "network",
        ),
        (("check", ".", "--outputs", "outputs.npz"), 3, "holds no surrogate"),
        (("use", "nothing.onnx"), None, "nothing.onnx"),
    ],
)
def test_wrong_calls_say_what_was_expected(
    tilth: Tilth, outputs: Path, arguments: tuple[str, ...], code: int | None, words: str
) -> None:
    ended = tilth("metric", *arguments)
    assert ended.code == code if code is not None else ended.code != 0
    assert words in ended.err
    assert "Traceback" not in ended.err


def test_help_names_every_kind_of_inputs(tilth: Tilth) -> None:
    from tilth.losses.surrogate_inputs import INPUTS

    said = tilth("metric", "fit", "--help").out
    assert all(name in said for name in INPUTS)


def test_folder_does_not_read_what_it_knows(tilth: Tilth, outputs: Path) -> None:
    fitted(tilth, "--to", "learned")
    ended = tilth("metric", "check", "learned", "--outputs", outputs, "--goal", "higher")
    assert ended.code == 2
    assert "does not read --goal" in ended.err


def test_surrogate_is_not_written_over_other_things(tilth: Tilth, outputs: Path) -> None:
    Path("precious").mkdir()
    (Path("precious") / "file").write_text("mine")
    ended = fitted(tilth, "--to", "precious")
    assert ended.code == 3
    assert (Path("precious") / "file").read_text() == "mine"


def test_run_starts_from_the_surrogate_that_was_fitted(tilth: Tilth, outputs: Path) -> None:
    """From the outputs of one model to a run of another: the lines of `fit` are all there is."""
    import pyarrow.csv

    draws = np.random.default_rng(0)
    chances = draws.dirichlet([1, 1], 200).astype(np.float32)
    labels = draws.integers(0, 2, 200)
    Path("scores.py").write_text(
        "def cost(probabilities, label):\n"
        "    return round(1 - float(probabilities[int(label)]), 2)\n"
    )
    np.savez("outputs.npz", predictions=chances, targets=labels)
    found = fitted(
        tilth, "--to", "learned", "--high", 1, "--json", metric="scores.py:cost"
    ).document
    Path("settings.toml").write_text(found["loss"])
    words = np.where(draws.integers(0, 2, 60) == 1, "good", "bad")
    table = pyarrow.table({"unstructured_text": words, "label": words})
    pyarrow.csv.write_csv(table, "reviews.csv")
    assert tilth("init", ".").code == 0
    tiny = ["train.steps=10", "text.num_hidden=4", "text.num_embedded=4", "loss.workers=0"]
    tiny += ["loss.begin=0", "train.device=cpu", "train.evaluate_every=5"]
    options = [part for one in tiny for part in ("--set", one)]
    trained = tilth(
        *("train", "classify", "reviews.csv", "--settings", "settings.toml", *options, "--json")
    )
    assert trained.code == 0, trained.err
    assert 0 <= trained.document["metric"] <= 1
    watch = json.loads((Path(trained.document["folder"]) / "metric_watch.json").read_text())
    assert watch["quality"]["rank_correlation"] == found["quality"]["rank_correlation"]
    assert Path(trained.document["metric_page"]).is_file()
