"""Two processes weigh their batches as one process weighs the whole, to the last bit."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from tilth.errors import DataError, TrainingError
from tilth.losses.global_batch import gathered_columns
from tilth.losses.instance_weights import instance_weights
from tilth.losses.reweighting import Reweighting
from tilth.losses.reweighting_settings import ReweightingSettings

pytestmark = pytest.mark.cluster

# Batches of the two processes; a ragged pair, an even one, and one that leaves a process empty.
SPLITS = ((13, 6), (8, 8), (9, 0))
FORMS = (
    {"divergence": "kl", "lam": 0.3},
    {"divergence": "alpha", "alpha": 0.1, "lam": 0.1},
    {"divergence": "alpha", "alpha": 0.1, "delta": 0.4},
    {"divergence": "chi2", "delta": 0.2},
    {"divergence": "tv", "delta": 0.33},
    {"divergence": "cvar", "lam": 0.2},
)
SETTINGS = ReweightingSettings(class_divergence="kl", gamma=0.2, lam=0.3, per_class=True)
LATE, STEPS = 99, 100


def whole_batch(size):
    generator = torch.Generator().manual_seed(size)
    losses = torch.rand(size, generator=generator) ** 2 * 5
    groups = torch.randint(3, (size,), generator=generator)
    mask = torch.rand(size, generator=generator) > 0.2
    losses[1] = math.inf
    return losses, groups, mask


def network():
    torch.manual_seed(0)
    return nn.Linear(6, 4)


def pictures(size):
    generator = torch.Generator().manual_seed(size)
    return torch.randn(size, 6, generator=generator), torch.randint(4, (size,), generator=generator)


def settings_of(scope):
    return ReweightingSettings(lam=SETTINGS.lam, scope=scope)


def messages(group, size, capacity):
    """How many collectives it takes to gather."""
    sent, real = [], distributed.all_gather

    def counted(*arguments, **keywords):
        sent.append(1)
        return real(*arguments, **keywords)

    distributed.all_gather = counted
    gathered_columns(torch.ones(2, size, dtype=torch.float64), group, capacity=capacity)
    distributed.all_gather = real
    return len(sent)


def work(folder):
    """What every process does; run by torchrun."""
    distributed.init_process_group("gloo")
    rank, group = distributed.get_rank(), distributed.group.WORLD
    results = {"weights": [], "errors": []}
    for split in SPLITS:
        own = slice(sum(split[:rank]), sum(split[: rank + 1]))
        losses, groups, mask = (part[own] for part in whole_batch(sum(split)))
        for form in FORMS:
            for capacity in (None, 20):
                plain = instance_weights(losses, process_group=group, capacity=capacity, **form)
                keywords = {"mask": mask, "groups": groups, "capacity": capacity, **form}
                grouped = instance_weights(losses, process_group=group, **keywords)
                results["weights"] += [plain, grouped]

    broken = torch.tensor([1.0, math.nan]) if rank else torch.tensor([1.0, 2.0, 3.0])
    try:
        instance_weights(broken, lam=1.0, process_group=group)
    except TrainingError as error:
        results["errors"].append(error.where)

    results["collectives"] = [messages(group, 3 + rank, capacity) for capacity in (None, 4)]
    try:
        gathered_columns(torch.ones(2, 5, dtype=torch.float64), group, capacity=4)
    except DataError as error:
        results["errors"].append(error.got)

    inputs, labels = pictures(12)
    own = slice(0, 7) if rank == 0 else slice(7, 12)
    for scope in ("global", "local"):
        model = DistributedDataParallel(network())
        total, weights = Reweighting(settings_of(scope), STEPS).loss(
            model(inputs[own]), labels[own], LATE
        )
        total.backward()
        results[scope] = {"gradient": model.module.weight.grad, "weights": weights}
    model = DistributedDataParallel(network())
    Reweighting(SETTINGS, STEPS).loss(model(inputs[own]), labels[own], LATE)[0].backward()
    results["per_class"] = {"gradient": model.module.weight.grad}
    torch.save(results, Path(folder) / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*command, __file__, str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=os.path.dirname(__file__),
        capture_output=True,
        text=True,
        timeout=400,  # on a busy machine
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


def test_weights_over_two_processes_are_those_of_one(two_processes):
    found = iter(zip(*(results["weights"] for results in two_processes), strict=True))
    for split in SPLITS:
        losses, groups, mask = whole_batch(sum(split))
        for form in FORMS:
            plain = instance_weights(losses, **form)
            grouped = instance_weights(losses, mask=mask, groups=groups, **form)
            for _ in ("counted first", "with a capacity"):
                assert torch.equal(torch.cat(next(found)), plain)
                assert torch.equal(torch.cat(next(found)), grouped)
    assert next(found, None) is None


def test_gradient_over_two_processes_is_that_of_one(two_processes):
    inputs, labels = pictures(12)
    for key, settings in (("global", settings_of("global")), ("per_class", SETTINGS)):
        model = network()
        total, weights = Reweighting(settings, STEPS).loss(model(inputs), labels, LATE)
        total.backward()
        for results in two_processes:
            torch.testing.assert_close(results[key]["gradient"], model.weight.grad)
        if key == "global":
            parts = torch.cat([results[key]["weights"] for results in two_processes])
            torch.testing.assert_close(parts, weights)


def test_local_scope_weighs_every_batch_by_itself(two_processes):
    inputs, labels = pictures(12)
    gradients = []
    for results, own in zip(two_processes, (slice(0, 7), slice(7, 12)), strict=True):
        model = network()
        total, weights = Reweighting(settings_of("local"), STEPS).loss(
            model(inputs[own]), labels[own], LATE
        )
        total.backward()
        gradients.append(model.weight.grad)
        torch.testing.assert_close(results["local"]["weights"], weights)
    for results in two_processes:
        torch.testing.assert_close(results["local"]["gradient"], sum(gradients) / 2)


def test_a_bad_loss_in_one_process_stops_all_of_them(two_processes):
    for results in two_processes:
        where, got = results["errors"]
        assert "row 4" in where
        assert got.startswith("5 in process")


def test_a_capacity_saves_a_message(two_processes):
    assert [results["collectives"] for results in two_processes] == [[2, 1], [2, 1]]


if __name__ == "__main__":
    work(sys.argv[1])
