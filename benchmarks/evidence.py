"""Every number that Tilth states, and where it comes from.

A benchmark `benchmarks/<name>.py` ends with `write_result("<name>", [claim(...), ...])`, which
writes `benchmarks/results/<name>.json`. Run as a script (`make evidence`) this file prints all
claims, unmet ones first, and writes `docs/evidence.md`.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "evidence.md"

Claim = dict[str, Any]

COLUMNS = (
    "claim",
    "goal",
    "the source's number, its protocol",
    "ours",
    "spread (runs)",
    "ours without leakage",
    "command",
    "note",
)


def claim(
    name: str,
    value: float,
    *,
    unit: str,
    goal: float | None = None,
    better: Literal["lower", "higher"] = "lower",
    spread: Sequence[float] = (),
    runs: int = 1,
    note: str = "",
    source_value: float | None = None,
    without_leakage: float | None = None,
) -> Claim:
    """One claim: a measured value beside its goal.

    Args:
        goal: the bound to keep; None for a value that is reported without one.
        spread: lowest and highest of the runs.
        note: the peer, the protocol, or why the goal is not met.
        source_value: the number that the source states, under its own protocol.
        without_leakage: our number under the leak-free protocol, where the claim's own leaks.
    """
    met = None
    if goal is not None:
        met = value <= goal if better == "lower" else value >= goal
    return {
        "claim": name,
        "value": value,
        "unit": unit,
        "goal": goal,
        "better": better,
        "met": met,
        "spread": list(spread),
        "runs": runs,
        "note": note,
        "source_value": source_value,
        "without_leakage": without_leakage,
    }


def write_result(
    benchmark: str,
    claims: Sequence[Claim],
    *,
    data: Mapping[str, Any] | None = None,
    detail: Mapping[str, Any] | None = None,
) -> Path:
    """Write ``benchmarks/results/<benchmark>.json`` in one step."""
    command = shlex.join(["python", *_relative_argv()])
    result = {
        "benchmark": benchmark,
        "command": command,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": machine(),
        "data": dict(data or {}),
        "claims": list(claims),
        "detail": dict(detail or {}),
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{benchmark}.json"
    temporary = path.with_suffix(".json.part")
    temporary.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)
    print(f"wrote {path.relative_to(ROOT)}")
    return path


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    packages = {}
    for package in ("numpy", "torch", "opencv-python-headless", "sqlalchemy", "scikit-learn"):
        try:
            packages[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "load_at_end": round(os.getloadavg()[0], 1),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "packages": packages,
    }


def load_claims() -> list[tuple[dict[str, Any], Claim]]:
    """All committed claims with the result that each stands in, unmet ones first."""
    rows = []
    for path in sorted(RESULTS.glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        rows += [(result, entry) for entry in result["claims"]]
    return sorted(rows, key=lambda row: {False: 0, True: 1, None: 2}[row[1]["met"]])


def markdown(rows: Sequence[tuple[dict[str, Any], Claim]]) -> str:
    """The page `docs/evidence.md`."""
    lines = [
        "# Evidence",
        "",
        "Written by `make evidence` from `benchmarks/results/`; do not edit. Unmet goals first.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
    ]
    for result, entry in rows:
        mark = {True: "", False: " **not met**", None: ""}[entry["met"]]
        lines.append(
            f"| `{entry['claim']}` | {_goal(entry)}{mark} | {_number(entry['source_value'])} "
            f"| {_number(entry['value'])} {entry['unit']} | {_spread(entry)} "
            f"| {_number(entry.get('without_leakage'))} | `{result['command']}` "
            f"| {entry['note'].replace('|', '/')} |"
        )
    machines = sorted({f"{r['machine']['cpu']}, {r['machine']['cores']} cores" for r, _ in rows})
    lines += ["", "Machines: " + "; ".join(machines) + ". They are shared: trust the ratios.", ""]
    return "\n".join(lines)


def _goal(entry: Claim) -> str:
    if entry["goal"] is None:
        return "reported"
    return f"{'≤' if entry['better'] == 'lower' else '≥'} {_number(entry['goal'])}"


def _spread(entry: Claim) -> str:
    ends = " to ".join(_number(value) for value in entry["spread"])
    return f"{ends or '-'} ({entry['runs']})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _relative_argv() -> list[str]:
    script = Path(sys.argv[0]).resolve()
    name = str(script.relative_to(ROOT)) if script.is_relative_to(ROOT) else script.name
    return [name, *sys.argv[1:]]


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    )
    return done.stdout.strip()


def main() -> None:
    from rich.console import Console
    from rich.table import Table

    rows = load_claims()
    table = Table(title="Evidence (unmet first)")
    for column in ("claim", "value", "unit", "goal", "met", "spread (runs)", "benchmark"):
        table.add_column(column, justify="right" if column in ("value", "goal") else "left")
    for result, entry in rows:
        met = {True: "yes", False: "[red]no[/red]", None: "-"}[entry["met"]]
        table.add_row(
            entry["claim"],
            _number(entry["value"]),
            entry["unit"],
            _goal(entry),
            met,
            _spread(entry),
            result["benchmark"],
        )
    Console(width=140).print(table)
    PAGE.write_text(markdown(rows), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
