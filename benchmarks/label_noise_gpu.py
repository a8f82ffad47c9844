"""Training on wrong labels at full size: all of CIFAR-10, PreAct ResNet-18, on a GPU.

The schedule is that of the program that the paper of CIW and CICW was released with: 50,000 steps
of 128 pictures, SGD with Nesterov's momentum 0.9, a learning rate of 0.1 that falls to a tenth
after epochs 30, 80 and 110, no weight decay, pictures mirrored and moved by up to 4 pixels; a tenth
of the rows is held back with its wrong labels, and the epoch with the highest accuracy on it is
reported beside the last one. `--schedule short` is 30 epochs under one rise and fall of the rate.

Differs from that program: each picture is moved on its own and not a batch as one, all rows are
shuffled and not four batches, the units' shortcuts are the paper's, and test pictures are those of
the folder that --cifar10 names. So no number of this file is the paper's.

    python benchmarks/label_noise_gpu.py --cifar10 FOLDER --bf16
    python benchmarks/label_noise_gpu.py --smoke        a few steps on a CPU, of 10,000 pictures
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from evidence import claim, write_result
from label_noise_data import Pictures, full_cifar10
from label_noise_runs import (
    METHODS,
    Finished,
    ResultFile,
    Schedule,
    sources_digest,
    split_of,
    trained,
)
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

from tilth.data.label_noise import inject_label_noise
from tilth.errors import SettingsError
from tilth.models.preact_resnet import PreactResNet
from tilth.seeding import generator

NOISES = ("sym04", "sym08", "asym04", "cifar10n_worse", "cifar10n_aggre")
MADE: dict[str, dict[str, Any]] = {
    "sym04": {"kind": "symmetric_flip", "rate": 0.4},
    "sym08": {"kind": "symmetric_flip", "rate": 0.8},
    "asym04": {"kind": "asymmetric", "rate": 0.4, "flips": "cifar10"},
}
CHOSEN = ("ce", "gce", "mixup", "ciw", "cicw", "cicw_m")

RELEASE = Schedule(
    steps=50_000,
    learning_rate=0.1,
    drops_at=tuple(round(epoch * 50_000 / 128) for epoch in (30, 80, 110)),
    flip=True,
    crop=4,
    device="cuda",
)
SHORT = replace(RELEASE, steps=0, epochs=30, drops_at=())
HELD_BACK = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cifar10", type=Path, help="folder or .npz of all 60,000 pictures")
    parser.add_argument("--work", type=Path, default=Path("/tmp/label-noise"))
    parser.add_argument("--schedule", choices=("release", "short"), default="release")
    parser.add_argument("--bf16", action="store_true", help="convolutions in bfloat16")
    parser.add_argument("--noise", nargs="+", choices=NOISES, default=["sym04", "cifar10n_worse"])
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(CHOSEN))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--smoke", action="store_true", help="try the program, without evidence")
    arguments = parser.parse_args()
    schedule = schedule_of(arguments)
    runs = [
        (noise, method, seed)
        for seed in range(arguments.seeds)
        for noise in arguments.noise
        for method in arguments.methods
    ]
    kept = ResultFile(arguments.work / "gpu-runs.jsonl", digest=f"{sources_digest()} {schedule}")
    if arguments.smoke:
        kept.path.unlink(missing_ok=True)
    results = finished(runs, kept, schedule, arguments)
    for run, result in results.items():
        print(*run, f"last {result.last:.4f} chosen {result.chosen:.4f} best {result.best:.4f}")
    if not arguments.smoke:
        record(results, schedule, arguments)


def schedule_of(arguments: argparse.Namespace) -> Schedule:
    """The schedule asked for, on the device there is.

    Raises:
        SettingsError: no GPU.
    """
    schedule = RELEASE if arguments.schedule == "release" else SHORT
    schedule = replace(schedule, bf16=arguments.bf16)
    if arguments.smoke:
        return replace(schedule, steps=6, batch_size=16, device="cpu")
    if not torch.cuda.is_available():
        raise SettingsError(
            "50,000 steps of this network take weeks without a GPU",
            expected="a CUDA device",
            got="none",
            fix="try the program with --smoke, or run benchmarks/label_noise.py on the CPU",
        )
    return schedule


def pictures_of(noise: str, seed: int, arguments: argparse.Namespace) -> Pictures:
    """All pictures, with these wrong labels."""
    source = arguments.cifar10 or arguments.data / "label-noise" / "cifar10_jpeg.npz"
    labels = f"{noise.removeprefix('cifar10n_')}_label" if noise not in MADE else "clean_label"
    pictures = full_cifar10(
        source,
        data=arguments.data,
        work=arguments.work,
        labels=labels,
        allow_part=arguments.smoke,
    )
    if noise not in MADE:
        return pictures
    noisy, _ = inject_label_noise(pictures.clean_labels, 10, seed=seed, **MADE[noise])
    return pictures.with_labels(noisy)


def finished(
    runs: Sequence[tuple[str, str, int]],
    kept: ResultFile,
    schedule: Schedule,
    arguments: argparse.Namespace,
) -> dict[tuple[str, str, int], Finished]:
    """What each run gave, one after the other; those of an earlier call are taken up."""
    results = {}
    columns = (*Progress.get_default_columns()[:-1], MofNCompleteColumn(), TimeRemainingColumn())
    before = kept.read()
    for noise, method, seed in runs:
        key = (noise, method, str(seed))
        if key not in before:
            pictures = pictures_of(noise, seed, arguments)
            with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
                line = bar.add_task(f"{noise}, {method}", total=schedule.num_steps(45_000))
                before[key] = run_one(
                    pictures,
                    method,
                    schedule,
                    seed,
                    width=8 if arguments.smoke else 64,
                    bar=lambda step, bar=bar, line=line: bar.update(line, completed=step),
                )
            kept.add(key, before[key])
        results[noise, method, seed] = before[key]
    return results


def run_one(
    pictures: Pictures, method: str, schedule: Schedule, seed: int, *, width: int, bar: Any
) -> Finished:
    """One run; the rows that are held back are the same for all methods of a seed."""
    order = generator(seed, "held back").permutation(len(pictures.labels))
    count = round(HELD_BACK * len(order))
    check, rest = pictures.take(order[:count]), pictures.take(order[count:])
    device = schedule.device
    return trained(
        lambda: PreactResNet(10, width=width).to(memory_format=torch.channels_last),
        METHODS[method],
        schedule,
        train=split_of(rest.train_images, rest.labels, device),
        clean_labels=torch.from_numpy(rest.clean_labels).to(device),
        test=split_of(pictures.test_images, pictures.test_labels, device),
        check=split_of(check.train_images, check.labels, device),
        num_classes=10,
        seed=seed,
        stepped=bar,
    )


def record(
    results: dict[tuple[str, str, int], Finished],
    schedule: Schedule,
    arguments: argparse.Namespace,
) -> None:
    """The claims: accuracy of the last epoch, beside it that of the chosen one."""
    pictures = pictures_of(arguments.noise[0], 0, arguments)
    claims = []
    for noise in arguments.noise:
        for method in arguments.methods:
            runs = [results[noise, method, seed] for seed in range(arguments.seeds)]
            last = [run.last for run in runs]
            chosen = statistics.mean(run.chosen or 0.0 for run in runs)
            claims.append(
                claim(
                    f"cifar10_full_{noise}_{method}",
                    statistics.mean(last),
                    unit="accuracy",
                    better="higher",
                    spread=(min(last), max(last)),
                    runs=len(runs),
                    note=f"PreAct ResNet-18, {runs[0].steps} steps, "
                    f"{100 * runs[0].wrong_share:.1f} % wrong; last epoch; chosen on noisy rows "
                    f"{100 * chosen:.1f} %; {statistics.mean(r.seconds for r in runs):.0f} s; peak "
                    f"{max(r.peak_bytes for r in runs) / 2**30:.1f} GiB; {torch_device()}",
                )
            )
    write_result(
        "label_noise_gpu",
        claims,
        data={"name": pictures.name, "digest": pictures.digest},
        detail={"schedule": repr(schedule), "device": torch_device()},
    )


def torch_device() -> str:
    """The name of the GPU."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


if __name__ == "__main__":
    main()
