"""Wrong labels found: quality and CPU time beside cleanlab, on the same probabilities.

Settings: CIFAR-10 with the synthetic noise of confident learning's authors and their held-out
ResNet-50 probabilities (0.2 and 0.4 of the labels wrong, by a matrix of mistakes); the human labels
of CIFAR-10N, judged by the 0.2 model, which has seen other labels of the same pictures (no
held-out model of the human labels arrives anywhere; its errors are of synthetic noise, so these
three are settings of a foreign judge); and 20,000 digits of MNIST whose labels are flipped here in
five ways, judged by a logistic regression on 50 principal components, held out in 4 folds.

Both are asked for a mask of wrong labels with each filter that both have, and with their defaults.
cleanlab runs in its own interpreter (--cleanlab PYTHON) on float32 probabilities, as ours, with
n_jobs=1 and with its default number of processes, whose CPU time counts. Times are CPU seconds,
the least of the rounds; sizes beyond the real data are made up from noisy one-hots.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from evidence import ROOT, claim, write_result

SHARED = Path(os.environ.get("TILTH_SHARED_DATA", ROOT.parent / "shared" / "data"))
FOLDER = SHARED / "label-noise"

# Ours -> cleanlab's name of the same filter.
FILTERS = {
    "prune_by_noise_rate": "prune_by_noise_rate",
    "prune_by_class": "prune_by_class",
    "both": "both",
    "confident_learning": "confident_learning",
    "predicted_neq_given": "predicted_neq_given",
    "low_normalised_margin": "low_normalized_margin",
    "low_self_confidence": "low_self_confidence",
}
DEFAULT = "default"
MADE_UP = ((200_000, 10), (50_000, 100))

CLEANLAB = """
import json, os, resource, sys, time, warnings
warnings.filterwarnings("ignore")
import numpy as np
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
folder, rounds, names = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])

def cpu():
    parts = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(p.ru_utime + p.ru_stime for p in parts)

out = {}
for name in names:
    stored = np.load(os.path.join(folder, name + ".npz"))
    labels, probabilities = stored["labels"], stored["probabilities"]
    out[name], masks = {}, {}
    for by in json.loads(sys.argv[4]) + ["default", "default_n_jobs_1"]:
        settings = {"filter_by": by, "n_jobs": 1}
        if by.startswith("default"):
            settings = {} if by == "default" else {"n_jobs": 1}
        seconds, walls = [], []
        for _ in range(rounds):
            start, wall = cpu(), time.perf_counter()
            masks[by] = find_label_issues(labels, probabilities, **settings)
            seconds.append(cpu() - start)
            walls.append(time.perf_counter() - wall)
        out[name][by] = {"seconds": min(seconds), "wall": min(walls)}
    scores = get_label_quality_scores(labels, probabilities)
    np.savez(os.path.join(folder, name + ".cleanlab.npz"), scores=scores, **masks)
print(json.dumps(out))
"""

Setting = tuple[np.ndarray, np.ndarray, np.ndarray]


def real_settings() -> dict[str, Setting]:
    """Given labels, float32 probabilities and true labels of every setting with known truth."""
    stored = np.load(FOLDER / "confident_learning_cifar10.npz")
    human = np.load(FOLDER / "cifar10n_labels.npz")
    clean = human["clean_label"].astype(np.int64)
    settings: dict[str, Setting] = {}
    for rate in ("0.2", "0.4"):
        labels = stored[f"labels_noise{rate}_sparsity0.0"].astype(np.int64)
        chances = stored[f"probs_noise{rate}_sparsity0.0"].astype(np.float32)
        settings[f"cifar10_synthetic_{rate}"] = (labels, chances, clean)
    judge = settings["cifar10_synthetic_0.2"][1]
    for name in ("aggre_label", "random_label1", "worse_label"):
        settings[f"cifar10n_{name.removesuffix('_label')}"] = (
            human[name].astype(np.int64),
            judge,
            clean,
        )
    return settings | digit_settings()


def digit_settings(rows: int = 20_000) -> dict[str, Setting]:
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold

    stored = np.load(FOLDER / "mnist.npz")
    chosen = np.random.default_rng(0).permutation(len(stored["y_train"]))[:rows]
    pixels = stored["x_train"][chosen].reshape(rows, -1).astype(np.float32) / 255
    true = stored["y_train"][chosen].astype(np.int64)
    features = PCA(50, random_state=0).fit_transform(pixels)
    features /= features.std()
    settings = {}
    for kind, rate in (
        ("symmetric", 0.05),
        ("symmetric", 0.2),
        ("symmetric", 0.4),
        ("pair", 0.2),
        ("asymmetric", 0.4),
    ):
        given = flipped(true, kind, rate)
        chances = np.empty((rows, 10), dtype=np.float32)
        folds = StratifiedKFold(4, shuffle=True, random_state=0)
        for train, held_out in folds.split(features, given):
            model = LogisticRegression(C=1.0, max_iter=300).fit(features[train], given[train])
            chances[held_out] = model.predict_proba(features[held_out])
        settings[f"mnist_{kind}_{rate}"] = (given, chances, true)
    return settings


def flipped(true: np.ndarray, kind: str, rate: float, seed: int = 1) -> np.ndarray:
    """Always to another class: to any, to the next, or from five classes to the one alike."""
    stream = np.random.default_rng(seed)
    chosen, given = stream.random(len(true)) < rate, true.copy()
    if kind == "symmetric":
        given[chosen] = (true[chosen] + stream.integers(1, 10, size=chosen.sum())) % 10
    elif kind == "pair":
        given[chosen] = (true[chosen] + 1) % 10
    else:
        for source, target in {7: 1, 2: 7, 5: 6, 6: 5, 3: 8}.items():
            given[chosen & (true == source)] = target
    return given


def made_up(rows: int, classes: int) -> Setting:
    """For the time alone: a tenth wrong, probabilities of a model that is right four times in 5."""
    stream = np.random.default_rng(0)
    true = stream.integers(classes, size=rows)
    given = np.where(stream.random(rows) < 0.1, stream.integers(classes, size=rows), true)
    seen = np.where(stream.random(rows) < 0.2, stream.integers(classes, size=rows), true)
    logits = stream.gumbel(size=(rows, classes)).astype(np.float32)
    logits[np.arange(rows), seen] += 4
    chances = np.exp(logits - logits.max(axis=1, keepdims=True))
    return given, chances / chances.sum(axis=1, keepdims=True), true


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def timed(function: Callable[[], np.ndarray], rounds: int) -> tuple[np.ndarray, dict[str, float]]:
    seconds, walls = [], []
    for _ in range(rounds):
        start, wall = cpu_seconds(), time.perf_counter()
        found = function()
        seconds.append(cpu_seconds() - start)
        walls.append(time.perf_counter() - wall)
    return found, {"seconds": min(seconds), "wall": min(walls)}


def cleanlab_masks(
    python: Path, settings: dict[str, Setting], rounds: int
) -> tuple[dict[str, Any], dict[str, dict[str, np.ndarray]]]:
    with tempfile.TemporaryDirectory() as folder:
        for name, (labels, chances, _) in settings.items():
            np.savez(Path(folder) / f"{name}.npz", labels=labels, probabilities=chances)
        arguments = [folder, str(rounds), json.dumps(list(settings))]
        done = subprocess.run(
            [str(python), "-c", CLEANLAB, *arguments, json.dumps(list(FILTERS.values()))],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            sys.exit(f"cleanlab did not finish: {done.stderr[-2000:]}")
        masks = {n: dict(np.load(Path(folder) / f"{n}.cleanlab.npz")) for n in settings}
    return json.loads(done.stdout.splitlines()[-1]), masks


def f1(mask: np.ndarray, wrong: np.ndarray) -> dict[str, float]:
    hits = int((mask & wrong).sum())
    return {
        "precision": hits / max(int(mask.sum()), 1),
        "recall": hits / max(int(wrong.sum()), 1),
        "f1": 2 * hits / max(int(mask.sum() + wrong.sum()), 1),
    }


def average_precision(quality: np.ndarray, wrong: np.ndarray) -> float:
    """Of the whole ranking, lowest quality first."""
    hits = wrong[np.argsort(quality, kind="stable")]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cleanlab", type=Path, help="a Python that has cleanlab 2.9 or newer")
    parser.add_argument("--rounds", type=int, default=7)
    chosen = parser.parse_args()
    if chosen.cleanlab is None or not chosen.cleanlab.exists():
        sys.exit("name a Python that has cleanlab: --cleanlab .venv-peers/cleanlab/bin/python")
    if not (FOLDER / "confident_learning_cifar10.npz").exists():
        sys.exit(f"the label-noise data is not under {SHARED} (set TILTH_SHARED_DATA)")
    settings = real_settings()
    big = {f"made_up_{rows}_{k}": made_up(rows, k) for rows, k in MADE_UP}
    peer_times, peer_masks = cleanlab_masks(chosen.cleanlab, settings | big, chosen.rounds)
    quality, times = {}, {}
    for name, setting in (settings | big).items():
        rows, own = judged(setting, peer_masks[name], chosen.rounds)
        times[name] = {"tilth": own, "cleanlab": peer_times[name]}
        if name in settings:
            quality[name] = rows
    write(settings, quality, times, chosen.rounds)


def judged(
    setting: Setting, peer: dict[str, np.ndarray], rounds: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Quality of every filter of both, and our times."""
    from tilth.curate.label_errors import find_label_errors, label_error_mask

    labels, chances, true = setting
    wrong = labels != true
    rows: dict[str, Any] = {"share_wrong": float(wrong.mean())}
    times: dict[str, Any] = {}
    for ours, theirs in (FILTERS | {"posterior": DEFAULT}).items():
        mask, times[ours] = timed(
            lambda f=ours: label_error_mask(labels, chances, filter=f), rounds
        )
        rows[ours] = {"tilth": f1(mask, wrong), "cleanlab": f1(peer[theirs], wrong)}
        rows[ours]["masks_agree"] = float((mask == peer[theirs]).mean())
    found, times["everything"] = timed(lambda: find_label_errors(labels, chances), 1)
    rows["ranking_average_precision"] = {
        "tilth": average_precision(found.quality, wrong),
        "cleanlab": average_precision(peer["scores"], wrong),
    }
    rows["estimated_share_wrong"] = {
        "value": found.noise.share_wrong,
        "interval": list(found.noise.share_wrong_interval),
    }
    suggestions = found.suggested == true
    rows["suggestion_right"] = float(suggestions[wrong & found.is_error].mean())
    return rows, times


def ratios_of(times: dict[str, Any]) -> dict[str, float]:
    """cleanlab's CPU seconds over ours: the same filter in one process, and default to default."""
    ours, theirs = times["tilth"], times["cleanlab"]
    same = {o: theirs[t]["seconds"] / ours[o]["seconds"] for o, t in FILTERS.items()}
    own = ours["posterior"]["seconds"]
    same["default"] = theirs["default"]["seconds"] / own
    same["default, n_jobs=1"] = theirs["default_n_jobs_1"]["seconds"] / own
    return same


def write(
    settings: dict[str, Setting], quality: dict[str, Any], times: dict[str, Any], rounds: int
) -> None:
    default = {
        name: rows["posterior"]["tilth"]["f1"] - rows["posterior"]["cleanlab"]["f1"]
        for name, rows in quality.items()
    }
    same = {
        f: statistics.mean(r[f]["tilth"]["f1"] - r[f]["cleanlab"]["f1"] for r in quality.values())
        for f in FILTERS
    }
    best = max(
        FILTERS, key=lambda f: statistics.mean(r[f]["cleanlab"]["f1"] for r in quality.values())
    )
    to_best = statistics.mean(
        r["posterior"]["tilth"]["f1"] - r[best]["cleanlab"]["f1"] for r in quality.values()
    )
    ranking = statistics.mean(
        r["ranking_average_precision"]["tilth"] - r["ranking_average_precision"]["cleanlab"]
        for r in quality.values()
    )
    ratios = {name: ratios_of(one) for name, one in times.items()}
    every = [value for one in ratios.values() for value in one.values()]
    worst = min(((v, n, f) for n, one in ratios.items() for f, v in one.items()))
    by_filter = {f: statistics.median(one[f] for one in ratios.values()) for f in ratios[worst[1]]}
    print(json.dumps({"default": default, "same": same, "ratios": ratios}, indent=1))
    claims = [
        claim(
            "label_error_f1_vs_cleanlab",
            statistics.mean(default.values()),
            unit="difference of F1, mean over settings",
            goal=0.0,
            better="higher",
            spread=[min(default.values()), max(default.values())],
            runs=len(default),
            note="default against default (ours 'posterior', cleanlab 'prune_by_noise_rate'); "
            f"spread over {len(default)} settings; against its best filter here ({best}) "
            f"{to_best:+.4f}; average precision of the ranking against its default score "
            f"{ranking:+.4f}; same filters: "
            + ", ".join(f"{name} {value:+.4f}" for name, value in same.items()),
        ),
        claim(
            "label_error_speed_vs_cleanlab",
            statistics.median(every),
            unit="ratio of CPU time",
            goal=5.0,
            better="higher",
            spread=[min(every), max(every)],
            runs=rounds,
            note="median over all settings, filters and defaults, least of the rounds each; median "
            "by filter: "
            + ", ".join(f"{name} {value:.1f}" for name, value in by_filter.items())
            + f"; lowest: {worst[2]} on {worst[1]}",
        ),
    ]
    digest = hashlib.blake2b(digest_size=16)
    for labels, chances, _ in settings.values():
        digest.update(labels.tobytes() + chances.tobytes())
    write_result(
        "label_errors",
        claims,
        data={"name": "label-noise: CIFAR-10, CIFAR-10N, MNIST", "digest": digest.hexdigest()},
        detail={"quality": quality, "times": times, "ratios": ratios},
    )


if __name__ == "__main__":
    main()
