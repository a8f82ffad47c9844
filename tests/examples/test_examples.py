"""Every example runs, and shows what it says it shows."""

import importlib.util
import json
import sys
from pathlib import Path
from xml.etree import ElementTree

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


@pytest.mark.slow
def test_two_moons_are_told_apart_better_with_weights():
    """Accuracy on clean new points, mean of three seeds: by more than five points."""
    moons = load("two_moons")
    plain, ciw = [], []
    for seed in range(3):
        given = moons.Moons.draw(300, seed=seed, wrong=0.3)
        plain.append(moons.train(given, moons.PLAIN, seed=seed, epochs=moons.EPOCHS))
        ciw.append(moons.train(given, moons.KL, seed=seed, epochs=moons.EPOCHS))
    gain = sum(one.accuracy for one in ciw) / 3 - sum(one.accuracy for one in plain) / 3
    assert gain > 0.05
    assert sum(one.memorised for one in ciw) < sum(one.memorised for one in plain)


def test_two_moons_draws_three_panels(tmp_path, capsys):
    moons = load("two_moons")
    plain, ciw = moons.main(tmp_path / "two-moons.svg", epochs=20)
    drawing = ElementTree.parse(tmp_path / "two-moons.svg").getroot()
    panels = [child for child in drawing if child.tag.endswith("g")]
    assert len(panels) == 3
    for panel, num_regions in zip(panels, (0, 2, 2), strict=True):
        marks = [path for path in panel.iter() if path.get("class", "").startswith("mean")]
        assert len(marks) == 300 + num_regions
        assert sum(path.get("stroke") is not None for path in marks) == 90
    assert plain.weights == pytest.approx(1)
    assert ciw.weights.mean() == pytest.approx(1)
    assert ciw.weights.std() > 0.1
    said = capsys.readouterr().out
    assert f"plain: {plain.accuracy:.1%}" in said
    assert f"CIW: {ciw.accuracy:.1%}" in said


def test_two_moons_are_the_same_points_for_a_seed():
    moons = load("two_moons")
    first, again, other = (moons.Moons.draw(300, seed=seed, wrong=0.3) for seed in (0, 0, 1))
    assert first.points.equal(again.points)
    assert (first.given == again.given).all()
    assert not first.points.equal(other.points)
    assert (first.given != first.true).sum() == 90


def test_regressor_of_scikit_learn_is_a_loss(capsys):
    """Costs by a fifth less than squared error, and the regressor answers as it did."""
    done = load("learned_metric_sklearn").main()
    assert done.judge.way == "exact"
    assert done.judge.max_error < 1e-6
    assert done.cost_by_metric < 0.8 * done.cost_by_squares
    said = capsys.readouterr().out
    assert f"{done.cost_by_squares:.3f}" in said
    assert f"{done.cost_by_metric:.3f}" in said


def test_regression_network_is_a_loss_that_stays_honest(capsys):
    """Costs by a tenth less than squared error, and is believed to cost what it costs."""
    done = load("learned_metric_torch").main()
    assert done.cost_by_metric < 0.9 * done.cost_by_squares
    last = done.loss.watch.readings[-1]
    assert last.believed == pytest.approx(last.true, rel=0.1)
    assert last.rank_correlation > 0.5
    assert f"true {last.true:.3f}, believed {last.believed:.3f}" in capsys.readouterr().out
