"""Two processes with a part of the batch each learn, and remember, what one with all of it does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import distributed, nn

from tilth.losses.robust import RobustLoss
from tilth.losses.robust_settings import RobustSettings

pytestmark = pytest.mark.cluster

KINDS = {"elr": {}, "ciw": {"keep_weights": True}, "cicw": {"keep_weights": True}}
PARTS = {"elr": (0, 4, 8), "ciw": (0, 5, 8), "cicw": (0, 3, 8)}


def learnt(kind, *, rank=None):
    """Gradients and remembered numbers after three steps, of all or of a process' part."""
    torch.manual_seed(0)
    loss = RobustLoss(
        RobustSettings(kind=kind, **KINDS[kind]), num_classes=3, steps=20, num_examples=30
    )
    model = loss.network(lambda: nn.Linear(5, 3))
    for number in range(10, 13):
        random = torch.Generator().manual_seed(number)
        rows = torch.randperm(30, generator=random)[:8]
        given = {
            "images": torch.randn(8, 5, generator=random),
            "label": rows % 3,
            "row": rows,
            "weight": torch.rand(8, generator=random) if kind != "elr" else torch.ones(8),
        }
        if rank is not None:
            own = slice(*PARTS[kind][rank : rank + 2])
            given = {name: value[own] for name, value in given.items()}
        loss(model, {**given, "batch_number": number})["total"].backward()
        for parameter in model.parameters():
            if rank is not None:  # as DistributedDataParallel does
                distributed.all_reduce(parameter.grad)
                parameter.grad /= 2
            with torch.no_grad():
                parameter -= 0.1 * parameter.grad
            parameter.grad = None
    return model.state_dict()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_two_processes_remember_what_one_does(tmp_path, kind):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*command, __file__, kind, str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=400,  # on a busy machine
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    alone = learnt(kind)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name, value in alone.items():
            torch.testing.assert_close(found[name], value, msg=f"{name} of process {rank}")


if __name__ == "__main__":
    distributed.init_process_group("gloo")
    own_rank = distributed.get_rank()
    torch.save(learnt(sys.argv[1], rank=own_rank), Path(sys.argv[2]) / f"{own_rank}.pt")
    distributed.destroy_process_group()
