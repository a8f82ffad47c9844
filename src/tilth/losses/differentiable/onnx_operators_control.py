"""ONNX operators that run a graph inside the graph: If, Loop and Scan.

Gradients pass through the numbers that a branch or a body computes with, not through the condition
or the number of rounds.
"""

from collections.abc import Callable, Sequence
from itertools import count

import torch
from torch import Tensor

from tilth.errors import DataError
from tilth.losses.differentiable.onnx_graph import Graph, Node

__all__ = ["CONTROL", "Run"]

# Runs an inner graph on its inputs; names of the outer graph are seen inside.
Run = Callable[[Graph, Sequence[Tensor]], list[Tensor]]


def branch(node: Node, run: Run, condition: Tensor) -> tuple[Tensor, ...]:
    """One of two graphs."""
    name = "then_branch" if bool(condition) else "else_branch"
    return tuple(run(node.graphs[name], []))


def loop(
    node: Node, run: Run, limit: Tensor | None, condition: Tensor | None, *carried: Tensor
) -> tuple[Tensor, ...]:
    """The body again and again while its condition holds, at most ``limit`` times."""
    body = node.graphs["body"]
    states, collected = list(carried), [[] for _ in body.outputs[1 + len(carried) :]]  # type: ignore[var-annotated]
    rounds = count() if limit is None else range(int(limit))
    going = condition is None or bool(condition)
    for turn in rounds:
        if not going:
            break
        found = run(body, [torch.tensor(turn), torch.tensor(going), *states])
        going, states = bool(found[0]), found[1 : 1 + len(states)]
        for rows, row in zip(collected, found[1 + len(states) :], strict=True):
            rows.append(row)
    return (*states, *(torch.stack(rows) if rows else torch.zeros(0) for rows in collected))


def scan(node: Node, run: Run, *inputs: Tensor) -> tuple[Tensor, ...]:
    """The body for each slice of the scanned inputs, states handed on."""
    if node.opset < 9:
        raise DataError(
            f"node '{node.name}' (Scan) is of opset {node.opset}, which runs over batches too",
            expected="opset 9 or newer",
            fix="onnx.version_converter.convert_version(model, 17), or export it again",
        )
    scanned = node.option("num_scan_inputs")
    body = node.graphs["body"]
    states, sequences = list(inputs[:-scanned]), inputs[-scanned:]
    results = len(body.outputs) - len(states)
    axes_in = node.option("scan_input_axes") or [0] * scanned
    turned_in = node.option("scan_input_directions") or [0] * scanned
    slices = [
        (sequence.flip(axis) if turned else sequence).unbind(axis)
        for sequence, axis, turned in zip(sequences, axes_in, turned_in, strict=True)
    ]
    collected: list[list[Tensor]] = [[] for _ in range(results)]
    for parts in zip(*slices, strict=True):
        found = run(body, [*states, *parts])
        states = found[: len(states)]
        for rows, row in zip(collected, found[len(states) :], strict=True):
            rows.append(row)
    axes_out = node.option("scan_output_axes") or [0] * results
    turned_out = node.option("scan_output_directions") or [0] * results
    stacked = [
        torch.stack(rows[::-1] if turned else rows, axis)
        for rows, axis, turned in zip(collected, axes_out, turned_out, strict=True)
    ]
    return (*states, *stacked)


CONTROL: dict[str, Callable[..., tuple[Tensor, ...]]] = {
    "If": branch,
    "Loop": loop,
    "Scan": scan,
}
