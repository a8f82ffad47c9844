"""Every example runs, and shows what it says it shows."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_text_frame_beats_the_most_frequent_label(tmp_path, capsys):
    pytest.importorskip("pandas")
    done = load("text_frame").main(tmp_path / "run")
    assert done.scores.accuracy > done.scores.majority_accuracy + 0.3
    assert done.scores.accuracy > 0.9  # a thirtieth of the labels is wrong
    said = capsys.readouterr().out
    assert f"{done.scores.accuracy:.1%}" in said
    assert "we don't enjoy cold tea:" in said
    assert done.report.is_file()
    assert json.loads((tmp_path / "run" / "classifier.json").read_text())["class_names"] == [
        "0",
        "1",
    ]


def test_text_frame_begins_with_the_rows_that_were_asked_about():
    frame = load("text_frame").many_rows(50)
    assert list(frame.columns) == ["index", "label", "unstructured_text"]
    assert frame.iloc[1].tolist() == [2, 0, "i don't like ice cream"]
    assert frame["index"].is_unique
    assert set(frame["label"]) == {0, 1}
