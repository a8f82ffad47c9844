"""The recurrent layer against `torch.nn`: time of forward and backward together, in one process.

Ours and its peer take turns on the same inputs and the same weights, many times over; a ratio is
that of one turn, and the median of the ratios is the claim. One thread, and CPU seconds of the
process, which a shared machine disturbs least. `torch.nn` runs as it comes: RNN and GRU step by
step in C++, LSTM in oneDNN's kernel, which our layer calls too; with lengths, `torch.nn` packs its
sequences and leaves that kernel.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from evidence import claim, write_result
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tilth.models.recurrent import Recurrent

# batch, steps, inputs, hidden: the tutorial's; a long narrow one; a short wide one.
SHAPES = ((64, 50, 128, 128), (32, 100, 64, 64), (16, 20, 96, 256))
PEERS = {"elman": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


def in_turn(
    ours: Callable[[], None], peer: Callable[[], None], *, rounds: int
) -> tuple[list[float], list[float]]:
    """CPU seconds of each, in turn in every round, after five rounds that do not count."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 5):
        for taken, run in zip(seconds, (ours, peer), strict=True):
            start = time.process_time()
            run()
            if number >= 5:
                taken.append(time.process_time() - start)
    return seconds


def compared(ours: Callable[[], None], peer: Callable[[], None], *, rounds: int) -> dict[str, Any]:
    own, other = in_turn(ours, peer, rounds=rounds)
    ratios = [one / two for one, two in zip(own, other, strict=True)]
    tenths = statistics.quantiles(ratios, n=10)
    return {
        "ratio": statistics.median(ratios),
        "spread": [tenths[0], tenths[-1]],
        "ms": 1e3 * statistics.median(own),
        "peer_ms": 1e3 * statistics.median(other),
    }


def step_of(layer: nn.Module, inputs: torch.Tensor, weights: torch.Tensor, *lengths: torch.Tensor):
    """One forward and backward pass of a layer that takes lengths."""

    def run() -> None:
        (layer(inputs, *lengths)[0] * weights).sum().backward()

    return run


def packed_step_of(
    layer: nn.Module, inputs: torch.Tensor, weights: torch.Tensor, lengths: torch.Tensor
):
    """The same as `torch.nn` has it: pack, run, unpack."""

    def run() -> None:
        packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
        outputs, _ = pad_packed_sequence(layer(packed)[0], batch_first=True)
        (outputs * weights).sum().backward()

    return run


def measured(shape: tuple[int, int, int, int], rounds: int) -> dict[str, Any]:
    """Every comparison at one shape."""
    batch, steps, channels, hidden = shape
    torch.manual_seed(0)
    inputs = torch.randn(batch, steps, channels, requires_grad=True)
    weights = torch.randn(batch, steps, hidden)
    lengths = torch.randint(steps // 4, steps + 1, (batch,))
    lengths[0] = steps
    found = {}
    for name, make in PEERS.items():
        peer = make(channels, hidden, batch_first=True)
        layer = Recurrent.from_torch(peer)
        found[name] = compared(
            step_of(layer, inputs, weights), step_of(peer, inputs, weights), rounds=rounds
        )
        found[f"{name}, lengths"] = compared(
            step_of(layer, inputs, weights, lengths),
            packed_step_of(peer, inputs, weights, lengths),
            rounds=rounds,
        )
    for engine in ("auto", "scan"):
        layers = [Recurrent(cell, channels, hidden, engine=engine) for cell in ("cifg", "lstm")]
        found[f"cifg against our lstm, {engine}"] = compared(
            *(step_of(layer, inputs, weights) for layer in layers), rounds=rounds
        )
        counts = [sum(weight.numel() for weight in layer.parameters()) for layer in layers]
        found["cifg parameters"] = {"cifg": counts[0], "lstm": counts[1]}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=101)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    found = {" x ".join(map(str, shape)): measured(shape, rounds) for shape in SHAPES}
    for shape, results in found.items():
        for name, one in results.items():
            print(f"{shape:>18} {name:<32}", one)
    write_result("recurrent", claims(found, rounds), detail={"by_shape": found} | threads())


def threads() -> dict[str, Any]:
    """What else a time depends on."""
    return {
        "threads": torch.get_num_threads(),
        "onednn": torch.backends.mkldnn.is_available(),
        "blas": "MKL" if torch.backends.mkl.is_available() else "other",
    }


def claims(found: dict[str, dict[str, Any]], rounds: int) -> list[dict[str, Any]]:
    """The tutorial's shape makes the claims; the other two stand in their notes."""
    first, *others = found
    notes = {
        "elman": "the peer, torch.nn.RNN, runs step by step in C++; ours is the fused scan",
        "gru": "the peer, torch.nn.GRU, runs step by step in C++; ours is the fused scan",
        "lstm": "peer and layer both run oneDNN's kernel, so this is the layer's own overhead; "
        "with lengths torch.nn.LSTM leaves that kernel, and the layer does not: "
        f"{found[first]['lstm, lengths']['ratio']:.2f}",
    }
    made = []
    for name, note in notes.items():
        one = found[first][name]
        elsewhere = ", ".join(f"{found[shape][name]['ratio']:.2f} at {shape}" for shape in others)
        made.append(
            claim(
                f"{name}_time_vs_torch",
                one["ratio"],
                unit="ratio of time, forward and backward",
                goal=1.2,
                spread=one["spread"],
                runs=rounds,
                note=f"{first} (batch, steps, inputs, hidden), CPU seconds, one thread; {note}; "
                f"{elsewhere}; spread: first and last tenth",
            )
        )
    scan = found[first]["cifg against our lstm, scan"]
    kernel = found[first]["cifg against our lstm, auto"]
    counts = found[first]["cifg parameters"]
    made.append(
        claim(
            "cifg_time_vs_lstm",
            scan["ratio"],
            unit="ratio of time, forward and backward",
            spread=scan["spread"],
            runs=rounds,
            note=f"both by our fused scan; {counts['cifg']} weights for {counts['lstm']}; in "
            f"oneDNN's kernel, where a CIFG must run as an LSTM, {kernel['ratio']:.2f}",
        )
    )
    return made


if __name__ == "__main__":
    main()
