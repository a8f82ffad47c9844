"""The log of a run as a table that a spreadsheet opens: one row an evaluation."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tilth.data.atomic import atomic_writer
from tilth.train.trackers import flat_numbers

__all__ = ["results_table", "write_results_table"]


def results_table(
    records: Sequence[Mapping[str, Any]], *, steps_an_epoch: int
) -> tuple[list[str], list[list[float | str]]]:
    """Names of the columns, and a row an evaluation; a row a logged line where there is none.

    A row holds what was logged last up to its step. What is missing is empty.

    Args:
        records: the lines of ``metrics.jsonl``.

    >>> log = [{"step": 5, "loss": {"total": 0.5}}, {"step": 6, "evaluation": {"score": 0.25}}]
    >>> results_table(log, steps_an_epoch=4)
    (['step', 'epoch', 'loss/total', 'evaluation/score'], [[6, 1.5, 0.5, 0.25]])
    """
    kind = "evaluation" if any("evaluation" in record for record in records) else "loss"
    # At one step the evaluation is written before the line of losses that belongs to it.
    ordered = sorted(records, key=lambda record: (record["step"], kind in record))
    latest: dict[str, float] = {}
    rows: dict[int, dict[str, float]] = {}
    for record in ordered:
        latest |= {name: value for name, value in flat_numbers(record) if name != "step"}
        if kind in record:
            rows[record["step"]] = dict(latest)
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    table: list[list[float | str]] = [
        [step, step / steps_an_epoch, *(row.get(name, "") for name in names)]
        for step, row in rows.items()
    ]
    return ["step", "epoch", *names], table


def write_results_table(
    path: Path, records: Sequence[Mapping[str, Any]], *, steps_an_epoch: int
) -> None:
    """Write `results_table` as CSV.

    Raises:
        StorageError: the disk refused; an earlier table is untouched.
    """
    names, rows = results_table(records, steps_an_epoch=steps_an_epoch)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(
        [f"{value:.6g}" if isinstance(value, float) else value for value in row] for row in rows
    )
    with atomic_writer(path) as stream:
        stream.write(text.getvalue().encode("utf-8"))
