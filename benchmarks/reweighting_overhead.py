"""What reweighting adds to a training step: CIW, CICW and CICW-M against plain cross-entropy.

One step is forward, loss, backward and an SGD update of a small ResNet on 128 pictures of 32 x 32.
Every method has a network of its own with the same weights to begin with; in each round all of
them take one step on the same pictures, in an order that rotates, and a method's overhead is its
time over that of cross-entropy in the same round, less 1: the median over rounds is the claim. One
thread, and CPU seconds of the process, which a shared machine disturbs least.

CICW-M's first look runs under `torch.no_grad` with the network in evaluation mode, as
`tilth.losses.robust` does it: running statistics decide, and are left alone. Beside the paired
ratios, `detail` holds the time of the loss functions by themselves, forward and backward.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from evidence import claim, write_result
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tilth.losses.class_weights import class_weights
from tilth.losses.mixup import mix, mixed_targets, weighted_mixup_plan
from tilth.losses.reweighting import Reweighting
from tilth.losses.reweighting_settings import ReweightingSettings
from tilth.models.small_cnn import SmallCnn
from tilth.seeding import generator

BATCH, NUM_CLASSES, STEPS = 128, 10, 1000
LATE = STEPS - 1  # past burn-in and ramp
GOALS = {"ciw": 0.02, "cicw": 0.05, "cicw_m": 0.4}
SETTINGS = {
    "ciw": ReweightingSettings(alpha=0.1, lam=0.1),
    "cicw": ReweightingSettings(alpha=0.1, lam=0.1, class_divergence="kl", gamma=0.3),
    "cicw_m": ReweightingSettings(alpha=0.1, lam=2.5, class_divergence="kl", gamma=0.01),
    # Reported beside the claims: the forms that need a root.
    "ciw, radius": ReweightingSettings(alpha=0.1, delta=0.5),
    "cicw, l2": ReweightingSettings(alpha=0.1, lam=0.1, class_divergence="l2", gamma=0.1),
    "cicw, anchored_kl": ReweightingSettings(alpha=0.1, class_divergence="anchored_kl"),
}
NOTES = {
    "ciw": "alpha 0.1, lam 0.1",
    "cicw": "the same with class weights under KL, gamma 0.3",
    "cicw_m": "lam 2.5, gamma 0.01, weighed again after mixing; one more forward pass, in "
    "evaluation mode without gradient",
}

LossOf = Callable[[nn.Module, Tensor, Tensor], Tensor]


def plain_loss(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(network(images), labels)


def weighted_loss(settings: ReweightingSettings) -> LossOf:
    reweighting = Reweighting(settings, STEPS)
    return lambda network, images, labels: reweighting.loss(network(images), labels, LATE)[0]


def blended_loss(settings: ReweightingSettings) -> LossOf:
    """CICW-M: a look, weights, blends by them, and weights again."""
    reweighting = Reweighting(settings, STEPS)

    def loss(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        network.eval()
        with torch.no_grad():
            weights = reweighting.loss(network(images), labels, LATE)[1]
        network.train()
        plan = weighted_mixup_plan(weights, generator=generator(0, "mixup", LATE))
        targets = mixed_targets(labels, plan, NUM_CLASSES)
        return reweighting.loss(network(mix(images, plan)), targets, LATE)[0]

    return loss


def losses() -> dict[str, LossOf]:
    made: dict[str, LossOf] = {"ce": plain_loss}
    for name, settings in SETTINGS.items():
        made[name] = (blended_loss if name == "cicw_m" else weighted_loss)(settings)
    return made


def seconds_of_rounds(width: int, rounds: int) -> dict[str, list[float]]:
    """CPU seconds of a step of each method in every round, after three that do not count."""
    torch.manual_seed(0)
    images, labels = torch.rand(BATCH, 3, 32, 32), torch.randint(NUM_CLASSES, (BATCH,))
    first = SmallCnn(NUM_CLASSES, width=width)
    made = losses()
    networks = {name: copy.deepcopy(first) for name in made}
    optimisers = {
        name: torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
        for name, network in networks.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in made}
    names = list(made)
    numbers = range(rounds + 3)
    for number in track(numbers, "steps", console=Console(stderr=True), transient=True):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            start = time.process_time()
            optimisers[name].zero_grad()
            made[name](networks[name], images, labels).backward()
            optimisers[name].step()
            if number >= 3:
                seconds[name].append(time.process_time() - start)
    return seconds


def milliseconds_alone(repeats: int = 200) -> dict[str, float]:
    """Of each loss by itself, from logits to their gradient, and of class weights of blends."""
    torch.manual_seed(0)
    labels = torch.randint(NUM_CLASSES, (BATCH,))
    logits = torch.randn(BATCH, NUM_CLASSES, requires_grad=True)
    identity = nn.Identity()
    found = {}
    for name, loss in losses().items():
        if name != "cicw_m":
            found[name] = _median_ms(lambda loss=loss: loss(identity, logits, labels).backward())
    plan = weighted_mixup_plan(torch.rand(BATCH), generator=generator(0))
    targets = mixed_targets(labels, plan, NUM_CLASSES)
    per_class = -logits.detach().log_softmax(dim=1)
    found["class weights of blends, kl"] = _median_ms(
        lambda: class_weights(per_class, targets, divergence="kl", gamma=0.01), repeats
    )
    return found


def _median_ms(run: Callable[[], Any], repeats: int = 200) -> float:
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        taken.append(time.process_time() - start)
    return 1e3 * statistics.median(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=101)
    parser.add_argument("--width", type=int, default=32, help="channels of the first stage")
    parser.add_argument("--dry", action="store_true", help="print, and write nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    seconds = seconds_of_rounds(options.width, options.rounds)
    overheads = {
        name: [one / plain - 1 for one, plain in zip(taken, seconds["ce"], strict=True)]
        for name, taken in seconds.items()
    }
    alone = milliseconds_alone()
    step_ms = 1e3 * statistics.median(seconds["ce"])
    made = [
        claim(
            f"{name}_step_overhead",
            statistics.median(overheads[name]),
            unit="of a step's time, added",
            goal=goal,
            spread=_tenths(overheads[name]),
            runs=options.rounds,
            note=f"batch {BATCH}, small ResNet of width {options.width}, 32 x 32, {step_ms:.0f} ms "
            f"a step of cross-entropy, CPU seconds, one thread; {NOTES[name]}; spread: first and "
            "last tenth of the rounds",
        )
        for name, goal in GOALS.items()
    ]
    detail = {
        "step_ms": {name: 1e3 * statistics.median(taken) for name, taken in seconds.items()},
        "overhead": {name: statistics.median(taken) for name, taken in overheads.items()},
        "loss_alone_ms": alone,
    }
    for name, values in detail.items():
        print(name, {key: round(value, 4) for key, value in values.items()})
    if not options.dry:
        write_result("reweighting_overhead", made, detail=detail)


def _tenths(values: list[float]) -> list[float]:
    tenths = statistics.quantiles(values, n=10)
    return [tenths[0], tenths[-1]]


if __name__ == "__main__":
    main()
