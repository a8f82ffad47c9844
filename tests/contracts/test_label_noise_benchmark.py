"""The benchmark of wrong labels treats all methods alike, and makes every claim of its issue."""

from __future__ import annotations

import html
import re
import sys
import typing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tilth.errors import DataError
from tilth.losses.robust_settings import RobustKind

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "benchmarks"))

import label_noise  # noqa: E402
import label_noise_data  # noqa: E402
import label_noise_figure  # noqa: E402
import label_noise_gpu  # noqa: E402
import label_noise_runs as runs  # noqa: E402

CLAIMS = {
    f"{task}_{method}"
    for task in ("mnist_sym04", "mnist_sym08", "cifar10n_worse")
    for method in ("ce", "gce", "ciw", "cicw", "cicw_m")
}


def blobs(count: int, seed: int) -> runs.Split:
    """Grey pictures of three classes, which differ in where they are bright."""
    draws = np.random.default_rng(seed)
    labels = draws.integers(0, 3, count)
    images = draws.integers(0, 60, (count, 6, 6))
    images[np.arange(count), labels * 2] += 120
    return runs.split_of(images.astype(np.uint8), labels.astype(np.int64))


def small_run(method: str, *, seed: int = 0) -> runs.Finished:
    train, test = blobs(96, 1), blobs(40, 2)
    wrong = torch.arange(96) % 4 == 0
    noisy = replace(train, labels=torch.where(wrong, (train.labels + 1) % 3, train.labels))
    return runs.trained(
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), nn.Linear(8, 3)),
        runs.METHODS[method],
        runs.Schedule(epochs=20, batch_size=16, learning_rate=0.2),
        train=noisy,
        clean_labels=train.labels,
        test=test,
        check=blobs(30, 3),
        num_classes=3,
        seed=seed,
    )


def finished(last: float) -> runs.Finished:
    return runs.Finished(
        last=last, best=last, memorised=0.1, wrong_share=0.4, seconds=1.0, steps=9, epochs=[last]
    )


def test_every_method_of_the_switch_is_compared():
    kinds = {method.robust.kind for method in runs.METHODS.values()}
    assert kinds == set(typing.get_args(RobustKind))


@pytest.mark.parametrize("method", list(runs.METHODS))
def test_every_method_learns_and_repeats(method):
    first, again = small_run(method), small_run(method)
    assert replace(first, seconds=0) == replace(again, seconds=0)
    assert first.last > 0.5
    assert first.best >= first.last
    assert first.chosen in first.epochs
    assert (first.steps, len(first.epochs)) == (120, 20)
    assert first.wrong_share == 0.25
    assert 0 <= first.memorised <= 1


def test_all_methods_start_from_the_same_weights_and_batches():
    schedule = runs.Schedule(flip=True, crop=2, batch_size=8)
    train = runs.split_of(np.arange(20 * 75, dtype=np.uint8).reshape(20, 5, 5, 3), np.arange(20))
    one, two = (runs._batch(train, 3, 2, schedule, 0) for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in ("images", "label", "row"))
    other_seed, other_step = (
        runs._batch(train, 3, 2, schedule, 1),
        runs._batch(train, 4, 2, schedule, 0),
    )
    assert not torch.equal(one["row"], other_seed["row"])
    assert not torch.equal(one["row"], other_step["row"])
    assert torch.equal(one["label"], one["row"])


def corner(whole: torch.Tensor, down: int, along: int) -> torch.Tensor:
    return whole[:, down : down + 6, along : along + 6]


def test_pictures_are_moved_each_on_its_own():
    """A crop is the picture itself, over a border of zeros; a flip keeps its values."""
    images = torch.rand(64, 2, 6, 6)
    draws = np.random.default_rng(0)
    moved = runs._moved(images, runs.Schedule(crop=1), draws)
    padded = nn.functional.pad(images, (1, 1, 1, 1))
    offsets = [
        [divmod(at, 3) for at in range(9) if torch.equal(one, corner(whole, *divmod(at, 3)))]
        for one, whole in zip(moved, padded, strict=True)
    ]
    assert all(len(found) == 1 for found in offsets)
    assert len({found[0] for found in offsets}) == 9
    flipped = runs._moved(images, runs.Schedule(flip=True), draws)
    is_flipped = [not torch.equal(one, two) for one, two in zip(flipped, images, strict=True)]
    assert 0 < sum(is_flipped) < 64
    assert torch.equal(flipped[is_flipped], images[is_flipped].flip(3))


def test_results_are_taken_up_again_only_of_the_same_code(tmp_path):
    kept = runs.ResultFile(tmp_path / "runs.jsonl", digest="a")
    assert kept.read() == {}
    kept.add(("mnist", "ce", "0"), finished(0.5))
    kept.add(("mnist", "ce", "1"), finished(0.6))
    assert kept.read() == {("mnist", "ce", "0"): finished(0.5), ("mnist", "ce", "1"): finished(0.6)}
    assert runs.ResultFile(kept.path, digest="b").read() == {}


def test_every_claim_of_the_issue_is_made(monkeypatch):
    made = {}
    monkeypatch.setattr(
        label_noise, "write_result", lambda name, claims, **_: made.update(claims=claims)
    )
    chosen = label_noise.chosen_runs([], range(3), quick=False)
    assert len(chosen) == (6 * len(runs.METHODS) + len(label_noise.CLAIMED)) * 3
    label_noise.record({run: finished(0.8 + run[2] / 100) for run in chosen}, {"name": "n"})
    claims = {entry["claim"]: entry for entry in made["claims"]}
    assert set(claims) == CLAIMS
    assert claims["mnist_sym04_cicw_m"]["goal"] == 0.94
    assert claims["mnist_sym08_cicw_m"]["met"]
    assert "pixels in 0..1: 81.0 %" in claims["mnist_sym08_gce"]["note"]
    assert claims["mnist_sym04_ce"]["spread"] == pytest.approx([0.8, 0.82])


def test_only_and_quick_choose_runs():
    quick = label_noise.chosen_runs(["mnist_sym08"], range(1), quick=True)
    assert [method for _, method, _ in quick] == list(label_noise.QUICK)
    assert label_noise.chosen_runs(["mnist_sym04/sce"], range(2), quick=False) == [
        ("mnist_sym04", "sce", 0),
        ("mnist_sym04", "sce", 1),
    ]
    assert label_noise.chosen_runs(["nothing"], range(1), quick=False) == []


def test_the_figure_names_each_noise_and_method(tmp_path):
    chosen = label_noise.chosen_runs([], range(2), quick=False)
    results = {run: finished(0.3 + run[2] / 50) for run in chosen}
    label_noise_figure.draw(label_noise.panels(results), tmp_path / "figure.svg", caption="a < b")
    text = (tmp_path / "figure.svg").read_text()
    assert "a &lt; b" in text
    text = html.unescape(re.sub(r'</text><text class="note" [^>]*>', " ", text))
    drawn = [task for task in label_noise.TASKS.values() if not task.control]
    for task in drawn:
        assert task.title in text
        assert task.definition in text
    assert all(method.label in text for method in runs.METHODS.values())
    assert text.count('class="seed') == len(drawn) * len(runs.METHODS) * 2


def test_human_labels_fit_the_pictures(shared_data, tmp_path):
    source = shared_data / "label-noise" / "cifar10_jpeg.npz"
    pictures = label_noise_data.cifar10(shared_data, work=tmp_path)
    assert pictures.train_images.shape == (10_000, 32, 32, 3)
    assert pictures.test_images.shape == (2_000, 32, 32, 3)
    assert 0.39 < pictures.wrong_share < 0.42
    assert len(list(tmp_path.iterdir())) == 1  # kept: the next call does not decode
    with pytest.raises(DataError, match="not all training pictures"):
        label_noise_data.full_cifar10(source, data=shared_data, work=tmp_path)


def test_digits_are_the_same_for_every_noise_and_their_wrong_labels_follow_the_seed(shared_data):
    made = [
        label_noise.TASKS[name].pictures(shared_data, Path(), seed)
        for name, seed in (("mnist_sym04", 0), ("mnist_sym04", 1), ("mnist_asym04", 0))
    ]
    assert all(np.array_equal(made[0].train_images, one.train_images) for one in made)
    assert abs(made[0].wrong_share - 0.4) < 0.02
    assert not np.array_equal(made[0].labels, made[1].labels)
    changed = made[2].labels != made[2].clean_labels
    assert set(made[2].clean_labels[changed]) == {2, 3, 5, 6, 7}
    assert np.bincount(made[0].clean_labels).min() > 800


@pytest.mark.slow
def test_the_large_run_can_be_tried_on_a_cpu(shared_data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        sys,
        "argv",
        f"gpu --smoke --data {shared_data} --work {tmp_path} --methods cicw_m co_teaching "
        "--noise sym04 cifar10n_aggre".split(),
    )
    label_noise_gpu.main()
    assert capsys.readouterr().out.count("chosen") == 4
