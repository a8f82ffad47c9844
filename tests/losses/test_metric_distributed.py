"""Two processes share the metric's calls, and end with one surrogate and one network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from metric_toys import Points, largest_error, mean_squares, network, outputs
from torch import distributed

from tilth.losses.metric_loss import MetricLoss
from tilth.losses.metric_settings import MetricSettings
from tilth.losses.metric_surrogate import MetricSurrogate
from tilth.losses.surrogate_settings import SurrogateSettings

pytestmark = pytest.mark.cluster

SETTINGS = MetricSettings(
    metric="metric_toys:largest_error",
    begin=0.3,
    look_every=2,
    calls_per_look=8,
    refresh_steps=2,
    window=16,
    workers=0,
    on_alarm="warn",
    network=SurrogateSettings(members=2, width=4, fit_steps=20, batch_size=16),
)


def trained(rank):
    """What a process ends with after 24 steps, its gradients averaged with the other's."""
    surrogate = MetricSurrogate(largest_error, settings=SETTINGS.network)
    loss = MetricLoss(mean_squares, surrogate, outputs=outputs, steps=24, settings=SETTINGS)
    model = network()
    for step in range(24):
        terms = loss(model, Points().batch(2 * step + rank))
        model.zero_grad()
        terms["total"].backward()
        for parameter in model.parameters():
            distributed.all_reduce(parameter.grad)
            with torch.no_grad():
                parameter -= 0.05 * parameter.grad / 2
    return {
        "model": model.state_dict(),
        "surrogate": surrogate.state_dict(),
        "factor": loss.balance.factor,
        "values": loss.replay.all().values,
        "readings": [reading.true for reading in loss.watch.readings],
        "calls": float(terms["metric_calls"]),
    }


def test_two_processes_end_alike(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*command, __file__, str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    one, other = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    for name in ("model", "surrogate"):
        assert all(torch.equal(one[name][key], other[name][key]) for key in one[name])
    assert torch.equal(one["values"], other["values"])
    assert one["factor"] == other["factor"] > 0
    assert one["readings"] == other["readings"] != []
    assert one["calls"] == 8 * 12  # four a process and look
    assert len(one["values"]) == 8 * 11  # those of the last look are still waited for


if __name__ == "__main__":
    distributed.init_process_group("gloo")
    number = distributed.get_rank()
    torch.save(trained(number), Path(sys.argv[1]) / f"{number}.pt")
    distributed.destroy_process_group()
