"""A classifier is trained with every robust loss by one line of settings, and resumes exactly."""

import dataclasses

import cv2
import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

from tilth.data.directories import images_from_directory
from tilth.errors import SettingsError, TrainingError
from tilth.losses.robust_memory import WeightMemory
from tilth.losses.robust_network import RobustNetwork
from tilth.recipes.classifier import load_classifier
from tilth.recipes.classify import labelled_rows, train_classifier
from tilth.recipes.classify_settings import settings
from tilth.recipes.robust_training import frozen_within, told
from tilth.recipes.table_files import read_table
from tilth.train.freeze_settings import FreezeSettings
from tilth.train.run import Run

WORDS = ("red", "green", "blue")
KINDS = (
    *("label_smoothing", "bootstrap_soft", "bootstrap_hard", "gce", "sce", "elr"),
    *("co_teaching", "mixup", "ciw", "cicw", "cicw_m"),
)
TINY = (
    *("train.steps=12", "train.evaluate_every=4", "train.checkpoint_every=4"),
    *("train.device=cpu", "text.num_embedded=8", "text.num_hidden=4", "text.dropout=0.1"),
    *("train.learning_rate=0.02", "train.warmup_steps=0", "train.log_every=4"),
)
PICTURES = ("picture.size=16", "picture.width=4", "picture.blocks=[1,1]", "batch_size=8", *TINY)


def tiny(*overrides, pictures=False):
    return settings(overrides=[*(PICTURES if pictures else TINY), *overrides])


def texts(num=90, wrong=0.0, seed=0):
    """The class is the only colour in the text; a share of the labels is another one."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(3, size=num)
    flipped = rng.random(num) < wrong
    labels = np.where(flipped, (truth + 1 + rng.integers(2, size=num)) % 3, truth)
    filler = np.array(["the", "a", "some", "very", "old", "thing"])
    rows = [" ".join([*rng.choice(filler, 3), WORDS[colour]]) for colour in truth]
    table = pa.table({"unstructured_text": rows, "label": [WORDS[label] for label in labels]})
    return table, flipped


def picture_folder(root, *, count=20):
    rng = np.random.default_rng(0)
    for name, level in (("bright", 200), ("dark", 40)):
        (root / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(level - 30, level + 30, size=(16, 16, 3), dtype=np.uint8)
            cv2.imwrite(str(root / name / f"{number}.png"), pixels)
    return images_from_directory(root, shuffle=False)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return picture_folder(tmp_path_factory.mktemp("pictures") / "data")


def trained(rows, run_dir, options):
    return train_classifier(rows, run_dir=run_dir, settings=options, progress=False)


class Killed(Exception):
    pass


def killed_then_resumed(rows, run_dir, options):
    save = Run.save

    def save_and_die(run):
        save(run)
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "save", save_and_die)
        with pytest.raises(Killed):
            trained(rows, run_dir, options)
    return trained(rows, run_dir, options)


@pytest.mark.parametrize("kind", KINDS)
def test_text_runs_of_every_kind_resume_bit_for_bit(tmp_path, kind):
    table, _ = texts()
    options = tiny(f"robust.kind={kind}")
    rows = labelled_rows(table, options, progress=False)
    whole = trained(rows, tmp_path / "a", options)
    resumed = killed_then_resumed(rows, tmp_path / "b", options)
    assert resumed.fitted.resumed_from == 4
    assert resumed.predictions.equals(whole.predictions)
    assert resumed.fitted.loss == whole.fitted.loss
    weights = [(tmp_path / name / "last.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("kind", ["elr", "co_teaching", "cicw_m"])
def test_picture_runs_resume_bit_for_bit(tmp_path, pictures, kind):
    """With a moving average, which follows the remembered numbers too."""
    options = tiny(f"robust.kind={kind}", "train.ema_decay=0.9", pictures=True)
    whole = trained(pictures, tmp_path / "a", options)
    resumed = killed_then_resumed(pictures, tmp_path / "b", options)
    assert resumed.predictions.equals(whole.predictions)
    again = load_classifier(tmp_path / "a", device="cpu")
    for name, value in again.model.state_dict().items():
        assert value.equal(whole.classifier.model.state_dict()[name]), name
    assert not any(isinstance(module, RobustNetwork) for module in again.model.modules())


@pytest.mark.parametrize("kind", ["ciw", "co_teaching"])
def test_weights_of_rows_are_kept_over_a_kill(tmp_path, kind):
    table, _ = texts()
    options = tiny(f"robust.kind={kind}", "robust.keep_weights=true")
    rows = labelled_rows(table, options, progress=False)
    whole = trained(rows, tmp_path / "a", options)
    resumed = killed_then_resumed(rows, tmp_path / "b", options)
    written = [read_table(done.instance_weights) for done in (whole, resumed)]
    assert written[0].equals(written[1])
    assert written[0].column_names == ["row", "label", "weight", "seen"]
    parts = np.array(whole.predictions["part"].to_pylist())
    assert written[0]["row"].to_pylist() == np.flatnonzero(parts == "train").tolist()
    of_rows = np.array(table["label"].to_pylist())[written[0]["row"].to_numpy()]
    assert written[0]["label"].to_pylist() == of_rows.tolist()


def test_a_finished_run_writes_the_same_weights_again(tmp_path):
    table, _ = texts()
    options = tiny("robust.kind=ciw", "robust.keep_weights=true")
    rows = labelled_rows(table, options, progress=False)
    first = trained(rows, tmp_path / "run", options).instance_weights.read_bytes()
    assert trained(rows, tmp_path / "run", options).instance_weights.read_bytes() == first


def test_wrong_labels_weigh_less_and_teach_less(tmp_path):
    """Three of ten labels are wrong: they weigh half as much, and the words are read right."""
    table, flipped = texts(num=200, wrong=0.3, seed=1)
    long = ("train.steps=180", "train.checkpoint_every=180", "train.evaluate_every=180")
    options = tiny("robust.kind=ciw", "robust.keep_weights=true", *long)
    rows = labelled_rows(table, options, progress=False)
    done = trained(rows, tmp_path / "ciw", options)
    written = read_table(done.instance_weights)
    weights = written["weight"].to_numpy()
    wrong = flipped[written["row"].to_numpy()]
    assert weights[wrong].mean() < weights[~wrong].mean() / 2
    assert (written["seen"].to_numpy() > 5).all()
    assert done.notices == ()
    truth = np.array([text.split()[-1] for text in table["unstructured_text"].to_pylist()])
    right = np.array(done.predictions["prediction"].to_pylist()) == truth
    assert right[np.array(done.predictions["part"].to_pylist()) == "held out"].mean() > 0.8


def test_log_tells_what_the_weights_do(tmp_path):
    table, _ = texts()
    options = tiny("robust.kind=cicw_m")
    rows = labelled_rows(table, options, progress=False)
    loss = trained(rows, tmp_path / "run", options).fitted.loss
    assert loss.keys() == {"total", "effective_share", "trusted_loss", "least_class_weight"}
    assert 0 < loss["effective_share"] <= 1


def test_validation_is_plain_cross_entropy(tmp_path):
    """The score of the same weights is the same, whatever they were trained with."""
    table, _ = texts()
    scores = []
    for kind in ("none", "gce", "sce", "elr"):
        options = tiny(f"robust.kind={kind}", "train.steps=1", "train.learning_rate=1e-12")
        rows = labelled_rows(table, options, progress=False)
        scores.append(trained(rows, tmp_path / kind, options).fitted.best_score)
    assert scores[1:] == pytest.approx([scores[0]] * 3, rel=1e-5)


def test_numeric_columns_weights_and_classes_go_along(tmp_path):
    table, _ = texts()
    table = table.append_column("trust", pa.array(np.arange(90) % 3 / 2))
    table = table.append_column("size", pa.array(np.linspace(-1, 1, 90)))
    for kind in ("cicw_m", "co_teaching", "elr"):
        options = tiny(
            *(f"robust.kind={kind}", "data.weight=trust", "data.numeric=['size']"),
            "class_weights=balanced",
        )
        rows = labelled_rows(table, options, progress=False)
        done = trained(rows, tmp_path / kind, options)
        assert np.isfinite(done.fitted.loss["total"])


@pytest.mark.parametrize(
    "change", ["robust.kind=cicw", "robust.reweighting.lam=0.5", "robust.keep_weights=true"]
)
def test_other_robust_settings_are_another_run(tmp_path, change):
    table, _ = texts()
    options = tiny("robust.kind=ciw")
    rows = labelled_rows(table, options, progress=False)
    trained(rows, tmp_path / "run", options)
    with pytest.raises(TrainingError, match="another run"):
        trained(rows, tmp_path / "run", tiny("robust.kind=ciw", change))


def test_parts_are_frozen_by_the_names_of_the_network(tmp_path):
    table, _ = texts()
    frozen = ("train.freeze.names=['embedding']", "train.steps=5", "train.weight_decay=0.0")
    seen = []
    for number, kind in enumerate(("ciw", "co_teaching")):
        options = tiny(f"robust.kind={kind}", *frozen)
        rows = labelled_rows(table, options, progress=False)
        short = tiny(f"robust.kind={kind}", frozen[0], "train.steps=1")
        before = trained(rows, tmp_path / f"{number}a", short)
        after = trained(rows, tmp_path / f"{number}b", options)
        seen.append((before.classifier.model, after.classifier.model))
    for before, after in seen:
        assert before.embedding.weight.equal(after.embedding.weight)
        assert not before.head.weight.equal(after.head.weight)


def test_frozen_names_reach_both_of_a_pair():
    freeze = FreezeSettings(names=("head",))
    network = nn.Sequential(nn.Linear(1, 1))
    assert frozen_within(freeze, network) is freeze
    one = RobustNetwork(network)
    assert frozen_within(freeze, one).names == ("network.head",)
    two = RobustNetwork(network, twin=nn.Linear(1, 1))
    assert frozen_within(freeze, two).names == ("network.head", "twin.head")


def test_classes_without_weight_are_told():
    memory = WeightMemory(3)
    memory.observe(torch.tensor([0, 1, 2]), torch.tensor([2.9, 0.05, 0.05]))
    notices = told(RobustNetwork(nn.Linear(1, 1), weights=memory), ("a", "b", "c"))
    assert len(notices) == 1
    assert "2 of 3 classes" in notices[0]
    assert "b, c" in notices[0]
    assert told(nn.Linear(1, 1), ("a",)) == ()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("robust.kind=ciw", "label_smoothing=0.1"), "label_smoothing"),
        (("robust.kind=gce", "robust.keep_weights=true"), "robust.keep_weights"),
        (("robust.kind=ciw", "robust.weigh_boxes=true"), "weigh_boxes"),
        (("robust.kind=co_teaching", "train.freeze.layers=1"), "freeze.layers"),
        (("robust.kind=civ",), "robust.kind"),
        (("robust.kinds=ciw",), "robust.kinds"),
        (("robust.reweighting.lamb=1.0",), "robust.reweighting.lamb"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(overrides, words):
    with pytest.raises(SettingsError) as caught:
        tiny(*overrides)
    assert words in str(caught.value)


def test_settings_are_a_line():
    assert tiny("robust.kind=cicw_m").robust.kind == "cicw_m"
    changed = tiny("robust.kind=ciw", "robust.reweighting.lam=0.5").robust
    assert changed.applied_reweighting.lam == 0.5
    assert dataclasses.replace(changed, reweighting=None).applied_reweighting.lam == 0.1
