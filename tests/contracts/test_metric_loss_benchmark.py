"""The benchmark of learned metrics: its metrics are what they say, its tasks repeat, all its claims
are made."""

from __future__ import annotations

import functools
import itertools
import sys
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tilth.errors import SettingsError, StorageError, TilthError
from tilth.losses.surrogate_sequences import soft_string

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "benchmarks"))

import metric_loss  # noqa: E402
import metric_loss_arms as arms  # noqa: E402
import metric_loss_masks as masks  # noqa: E402
import metric_loss_metrics as metrics  # noqa: E402
import metric_loss_peers as peers  # noqa: E402
import metric_loss_sounds as sounds  # noqa: E402
import metric_loss_speech as speech  # noqa: E402
import metric_loss_strings as strings  # noqa: E402
import metric_loss_tasks as tasks  # noqa: E402

PEERS = ROOT / ".venv-peers" / "metrics" / "bin" / "python"


def plain_hausdorff95(found: np.ndarray, true: np.ndarray) -> float:
    """Pixel by pixel: edges, every distance between them, the percentile of the nearest."""

    def edge(mask: np.ndarray) -> list[tuple[int, int]]:
        padded = np.pad(mask, 1)
        return [
            (y, x)
            for y, x in itertools.product(*map(range, mask.shape))
            if mask[y, x]
            and not all(
                padded[y + 1 + dy, x + 1 + dx] for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0))
            )
        ]

    one, other = edge(found), edge(true)
    if not one or not other:
        return 0.0 if one == other else metrics.CAP
    ways = []
    for own, opposite in ((one, other), (other, one)):
        nearest = sorted(min(np.hypot(y - v, x - u) for v, u in opposite) for y, x in own)
        place = 0.95 * (len(nearest) - 1)
        low = int(place)
        high = min(low + 1, len(nearest) - 1)
        ways.append(nearest[low] + (place - low) * (nearest[high] - nearest[low]))
    return min(max(ways), metrics.CAP)


@functools.cache
def plain_edit_distance(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """The recursion of the definition."""
    if not one or not other:
        return len(one) + len(other)
    return min(
        plain_edit_distance(one[1:], other) + 1,
        plain_edit_distance(one, other[1:]) + 1,
        plain_edit_distance(one[1:], other[1:]) + (one[0] != other[0]),
    )


def sure_frames(classes: list[int]) -> np.ndarray:
    return np.eye(11, dtype=np.float32)[classes]


@pytest.fixture(scope="module")
def peer_python() -> Path:
    if not PEERS.is_file():
        pytest.skip(f"no {PEERS} (made by `make bench`)")
    return PEERS


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    """Twenty sounds of tones that come and go, as files of 8 kHz."""
    folder = tmp_path_factory.mktemp("speech")
    draws = np.random.default_rng(0)
    time = np.arange(20_000) / sounds.RATE
    for number in range(20):
        tones = sum(np.sin(2 * np.pi * f * time) for f in draws.uniform(150, 2500, 4))
        sound = tones * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * time + number)) / 8
        with wave.open(str(folder / f"{number}.wav"), "wb") as file:
            file.setparams((1, 2, sounds.RATE, 0, "NONE", ""))
            file.writeframes((32767 * sound).astype("<i2").tobytes())
    return folder


@pytest.mark.parametrize("seed", range(20))
def test_hausdorff_distance_equals_its_slow_twin(seed):
    draws = np.random.default_rng(seed)
    shape = (1, 9, 11)
    found, true = (draws.random(shape) < draws.uniform(0.02, 0.7) for _ in range(2))
    expected = plain_hausdorff95(found[0], true[0])
    got = metrics.hausdorff95(found.astype(np.float32), true.astype(np.float32))
    assert got == pytest.approx(expected, abs=1e-9)
    assert metrics.hausdorff95(true, found) == pytest.approx(got, abs=1e-12)


def test_masks_without_a_pixel_have_a_fixed_distance():
    nothing, something = np.zeros((1, 8, 8)), np.pad(np.ones((1, 2, 2)), ((0, 0), (3, 3), (3, 3)))
    assert metrics.hausdorff95(nothing, nothing) == 0
    assert metrics.hausdorff95(nothing, something) == metrics.CAP
    assert metrics.hausdorff95(something, nothing) == metrics.CAP
    assert metrics.hausdorff95(0.49 * something, nothing) == 0
    assert (metrics.dice(nothing, nothing), metrics.dice(nothing, something)) == (1, 0)
    assert metrics.dice(something, something) == 1


def test_hausdorff_distance_of_a_moved_square_is_the_way():
    square = np.zeros((20, 20))
    square[5:9, 5:9] = 1
    assert metrics.hausdorff95(square, np.roll(square, 3, axis=1)) == 3


def test_frames_spell_a_string_as_ctc_does():
    assert metrics.read_string(sure_frames([10, 10, 3, 3, 10, 3, 4, 4, 10])) == [3, 3, 4]
    assert metrics.read_string(sure_frames([10, 10])) == []
    assert metrics.read_string(sure_frames([0])) == [0]


def test_soft_string_of_sure_frames_is_what_the_metric_reads():
    draws = np.random.default_rng(0)
    for _ in range(20):
        frames = sure_frames(draws.choice([1, 2, 10, 10], size=12).tolist())
        read = metrics.read_string(frames)
        soft = soft_string(torch.from_numpy(frames)[None], slots=12)[0]
        assert soft.sum(dim=1).tolist() == [1.0] * len(read) + [0.0] * (12 - len(read))
        assert soft[: len(read)].argmax(dim=1).tolist() == read


def test_edit_distance_equals_its_slow_twin(peer_python):
    metric = metrics.EditDistance(peers=peer_python)
    draws = np.random.default_rng(0)
    for _ in range(50):
        frames = draws.random((9, 11)).astype(np.float32)
        true = draws.integers(0, 10, draws.integers(1, 6))
        expected = plain_edit_distance(tuple(metrics.read_string(frames)), tuple(true.tolist()))
        target = np.pad(true, (0, 3), constant_values=-1)
        assert metric(frames, target) == pytest.approx(min(expected / len(true), 1))


def test_sounds_survive_their_spectra():
    """A round trip, and the same spectra as torch's."""
    sound = np.random.default_rng(0).standard_normal(speech.SAMPLES).astype(np.float32)
    spectra = sounds.spectrum(sound)
    assert spectra.shape == (sounds.WINDOW // 2 + 1, speech.FRAMES)
    assert np.abs(sounds.sound_of(spectra) - sound).max() < 1e-5
    expected = torch.stft(
        torch.from_numpy(sound),
        sounds.WINDOW,
        sounds.HOP,
        window=torch.hann_window(sounds.WINDOW),
        return_complex=True,
    )
    assert np.abs(spectra - expected.numpy()).max() < 1e-4


def test_sounds_of_true_magnitudes_and_phases_are_the_clean_ones():
    clean = np.random.default_rng(1).standard_normal(speech.SAMPLES).astype(np.float32)
    spectra = sounds.spectrum(clean)
    power = np.abs(spectra) ** sounds.POWER
    target = np.stack([power, np.angle(spectra), np.angle(spectra)])
    first, second = sounds.sounds(power[None], target)
    assert np.abs(first - clean).max() < 1e-3
    assert sounds.si_sdr(first, second) > 60
    assert sounds.si_sdr(clean, clean + np.roll(clean, 1)) < 3


def test_pesq_is_best_without_noise_and_falls_with_it(peer_python, recorded):
    task = speech.speech_task(places(recorded, peer_python))
    batch = task.train_batches(0).batch(0)
    perfect = batch["target"].clone()
    perfect[:, 2] = perfect[:, 1]
    best = task.scores(batch["target"][:2, :1], perfect[:2])
    noisy = task.scores(batch["noisy"][:2], batch["target"][:2])
    assert (best > 4.4).all()
    assert (noisy < best).all()
    assert (noisy >= task.limits[0]).all()
    assert task.scores(torch.zeros(1, 1, 129, 96), batch["target"][:1])[0] == 1.0


def places(speech_folder: Path, python: Path, data: Path = Path(), work: Path = Path()):
    return tasks.Places(data=data, work=work, speech=speech_folder, peers=python)


@pytest.mark.parametrize("made", [masks.masks_task, strings.strings_task, speech.speech_task])
def test_a_batch_follows_from_its_number_and_the_seed(made, shared_data, recorded):
    task = made(places(recorded, Path(sys.executable), shared_data))
    first, again = task.train_batches(0), task.train_batches(0)
    again.batch(7)
    for step in (3, -3):
        one, two = first.batch(step), again.batch(step)
        assert all(torch.equal(one[name], two[name]) for name in one)
    others = [task.train_batches(0).batch(4), task.train_batches(1).batch(3), first.batch(-3)]
    for other in others:
        assert all(not torch.equal(first.batch(3)[name], other[name]) for name in other)
    assert all(len(value) == task.batch_size for value in first.batch(3).values())


@pytest.mark.parametrize(
    ("made", "network"),
    [
        (masks.masks_task, masks.TwoScales),
        (strings.strings_task, strings.Reader),
        (speech.speech_task, speech.Masking),
    ],
)
def test_both_losses_reach_the_network(made, network, shared_data, recorded):
    task = made(places(recorded, Path(sys.executable), shared_data))
    model, batch = network(), task.train_batches(0).batch(0)
    prediction, target = task.outputs(model, batch)
    assert len(prediction) == len(target) == task.batch_size
    assert prediction.min() >= 0
    assert not target.requires_grad
    for loss in (prediction.square().sum(), task.proxy(model, batch)):
        model.zero_grad()
        loss.backward()
        assert all(bool(weight.grad.isfinite().all()) for weight in model.parameters())
        assert any(bool(weight.grad.any()) for weight in model.parameters())
    assert sum(weight.numel() for weight in model.parameters()) < 300_000


def line_task(tmp_path: Path, made: list[int] | None = None) -> tasks.Task:
    """Numbers times two, learnt by one weight; counts how often it is trained from nothing."""

    class Numbers:
        def batch(self, step):
            return {"x": torch.full((4, 1), 1.0 + (step % 3))}

    def build():
        (made if made is not None else []).append(1)
        return nn.Linear(1, 1)

    def proxy(model, batch):
        return (model(batch["x"]) - 2 * batch["x"]).square().mean()

    def networks(seed):
        kept = tasks.Pretraining(kept=(2, 5), learning_rate=0.01)
        return tasks.checkpoints(
            "line", build, Numbers(), proxy, kept, seed=seed, work=tmp_path, digest="d"
        )

    return tasks.Task(
        name="line",
        title="",
        definition="",
        unit="",
        train_batches=lambda seed: Numbers(),
        checkpoints=networks,
        outputs=lambda model, batch: (model(batch["x"]), 2 * batch["x"]),
        proxy=proxy,
        metric=lambda prediction, target: float(abs(prediction - target).max()),
        goal="lower",
        limits=(0.0, 90.0),
        inputs="table",
        evaluate=lambda model: {"slope": float(model.weight.detach())},
        steps=30,
        learning_rate=0.05,
        batch_size=4,
    )


def test_every_arm_starts_where_the_pretraining_ended(tmp_path):
    task = line_task(tmp_path)
    start = task.network(0).weight.clone()
    trained, done = tasks.trained(task, lambda model, batch, step: task.proxy(model, batch), seed=0)
    assert done.before["slope"] == pytest.approx(float(start.detach()))
    assert abs(done.after["slope"] - 2) < abs(done.before["slope"] - 2)
    assert done.after["slope"] == pytest.approx(float(trained.weight.detach()))
    assert torch.equal(task.network(0).weight, start)
    _, again = tasks.trained(task, lambda model, batch, step: task.proxy(model, batch), seed=0)
    assert again.after == done.after


def test_pretraining_is_done_once_and_keeps_earlier_networks(tmp_path):
    made: list[int] = []
    task = line_task(tmp_path, made)
    first = task.checkpoints(0)
    assert len(made) == 3  # one to train, two to hold what was kept
    again = task.checkpoints(0)
    assert len(made) == 5
    assert torch.equal(first[1].weight, again[1].weight)
    assert not torch.equal(first[0].weight, first[1].weight)
    assert not torch.equal(task.network(1).weight, task.network(0).weight)


def test_results_are_taken_up_again_only_of_the_same_sources(tmp_path):
    kept = tasks.ResultFile(tmp_path / "runs.jsonl")
    done = tasks.Finished(before={"hd95": 2.0}, after={"hd95": 1.0}, step_seconds=0.1, seconds=2.0)
    assert kept.read(lambda key: "a") == {}
    kept.add(("hd95", "proxy", "0"), done, digest="a")
    kept.add(("pesq", "proxy", "0"), replace(done, metric_calls=3), digest="b")
    assert kept.read(lambda key: "a") == {("hd95", "proxy", "0"): done}
    assert len(kept.read(lambda key: {"hd95": "a", "pesq": "b"}[key[0]])) == 2
    assert kept.read(lambda key: "c") == {}


def test_the_bank_has_outputs_of_all_networks_and_keeps_its_values(tmp_path):
    asked: list[int] = []
    task = line_task(tmp_path)
    task = replace(task, metric=lambda p, t: asked.append(1) or float(abs(p - t).max()))
    bank = arms.bank_of(task, 0, work=tmp_path, size=20)
    assert len(bank) == len(asked) == 20
    assert bank.values.tolist() == pytest.approx(
        (bank.predictions - bank.targets)[:, 0].abs().tolist()
    )
    again = arms.bank_of(task, 0, work=tmp_path, size=20)
    assert len(asked) == 20
    assert torch.equal(again.predictions, bank.predictions)
    assert not torch.equal(arms.bank_of(task, 1, work=tmp_path, size=20).values, bank.values)


@pytest.mark.parametrize("arm", list(arms.ARMS))
def test_every_arm_steps_and_tells_what_it_cost(arm, tmp_path, monkeypatch):
    monkeypatch.setattr(arms, "NETWORKS", arms.SurrogateSettings(members=1, fit_steps=30))
    task = line_task(tmp_path)
    loss = arms.ARMS[arm](task, 0, tmp_path)
    _, done = tasks.trained(task, loss, seed=0)
    told = loss.told()
    looks = -(-task.steps // 6)
    assert told["metric_calls"] == (0 if arm == "proxy" else looks * task.batch_size)
    assert done.after["slope"] != done.before["slope"]
    if arm != "proxy":
        assert told["looks"] == looks
        assert len(told["watched"]) == told["looks"]


def run_of(value: float, arm: str, task: str) -> tasks.Finished:
    more = {"metric_calls": 0, "metric_seconds": 0.0}
    if arm != "proxy":
        more |= {"surrogate_ms_per_batch": 20.0, "metric_ms_per_batch": 200.0, "alarms": 3}
        more |= {"looks": 9, "first_alarm": 12, "reasons": ["exploited: so"]}
        more |= {"watched": [[6, 2.0, 2.0, 0.9], [234, 2.6, 1.2, 0.3]]}
    values = {task: value, "beside": 0.5}
    return tasks.Finished(
        before={task: 2.0, "beside": 0.4}, after=values, step_seconds=0.1, seconds=9.0, more=more
    )


def test_every_claim_of_the_issue_is_made(monkeypatch):
    made = {}
    monkeypatch.setattr(
        metric_loss, "write_result", lambda name, claims, **more: made.update(claims=claims, **more)
    )
    monkeypatch.setattr(metric_loss, "exact_errors", lambda: {"ridge": (1e-9, 2e-7)})
    values = {"proxy": 2.0, "frozen": 2.5, "refreshed": 1.8, "refreshed_anchored": 1.6}
    values[arms.EXPLOITED] = 9.0
    results = {
        run: run_of(values[run[1]] + run[2] / 100, run[1], run[0])
        for run in metric_loss.chosen_runs([], range(3))
    }
    described = {
        name: replace(line_task(Path()), name=name, goal="higher" if name == "pesq" else "lower")
        for name in metric_loss.TASKS
    }
    metric_loss.record(results, described, {"name": "n"})
    claims = {entry["claim"]: entry for entry in made["claims"]}
    everywhere = set(arms.ARMS) - {arms.EXPLOITED}
    assert set(claims) == {f"{task}_{arm}" for task in metric_loss.TASKS for arm in everywhere} | {
        "hd95_exploited",
        "surrogate_step_vs_metric_call",
        "exploit_alarm_caught",
        "surrogate_exact_max_abs",
    }
    assert claims["hd95_refreshed"]["met"]
    assert claims["hd95_refreshed"]["spread"] == pytest.approx([1.8, 1.82])
    assert "better than proxy by 0.400" in claims["hd95_refreshed_anchored"]["note"]
    assert not claims["pesq_refreshed"]["met"]
    assert claims["hd95_frozen"]["goal"] is None
    assert claims["surrogate_step_vs_metric_call"]["value"] == pytest.approx(0.1)
    assert claims["exploit_alarm_caught"]["value"] == 1
    assert claims["surrogate_exact_max_abs"]["met"]


def test_only_chooses_runs():
    assert metric_loss.chosen_runs(["pesq/proxy"], range(2)) == [
        ("pesq", "proxy", 0),
        ("pesq", "proxy", 1),
    ]
    assert len(metric_loss.chosen_runs(["hd95"], range(1))) == len(arms.ARMS)
    assert metric_loss.chosen_runs(["nothing"], range(1)) == []


def test_the_control_is_run_anew_only_when_its_own_code_changes():
    assert metric_loss.sources_digest(("hd95", "proxy", "0")) == metric_loss.sources_digest(
        ("hd95", "proxy", "1")
    )
    assert metric_loss.sources_digest(("hd95", "proxy", "0")) != metric_loss.sources_digest(
        ("hd95", "frozen", "0")
    )
    assert metric_loss.sources_digest(("hd95", "proxy", "0")) != metric_loss.sources_digest(
        ("pesq", "proxy", "0")
    )


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(StorageError, match="no Python with the libraries"):
        strings.strings_task(tasks.Places(data=tmp_path, work=tmp_path))
    with pytest.raises(StorageError, match="no recorded prompts"):
        speech.speech_task(
            tasks.Places(data=tmp_path, work=tmp_path, peers=Path(sys.executable), speech=tmp_path)
        )
    with pytest.raises(SettingsError, match="rising steps"):
        tasks.Pretraining(kept=(5, 2), learning_rate=0.1)
    with pytest.raises(SettingsError, match="low and high"):
        replace(line_task(tmp_path), limits=(1.0, 1.0))


def test_a_library_that_fails_is_told_and_the_next_question_is_answered():
    peer = peers.Peer(Path(sys.executable))
    with pytest.raises(TilthError, match="did not answer"):
        peer.ask("no such function")
    assert peer.ask("versions", "numpy") == {"numpy": np.__version__}
    peer.close()
