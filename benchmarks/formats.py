"""Label formats in and out, against labelformat, supervision and Datumaro on the same files.

The set has COCO train2017's size, 118,287 pictures and 860,001 boxes, made from a seed; the files
of every format are written by Tilth, once. Each tool runs in a fresh process of its own, all tools
of one format in turn. The clock starts after imports and after whatever layout or objects in memory
a tool needs, with the files in the page cache; an import ends with all boxes in memory, an export
with the files written, to memory where there is /dev/shm (a disk takes from 0.05 to 0.7 ms to make
a file, which is most of the time for all). A tool that passes the limit counts as the limit: then
the ratio is a lower bound.

    python benchmarks/formats.py --peer-python /path/to/python-with-datumaro [--images 5000]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

IMAGES = 118_287
PEERS = ("labelformat", "supervision", "datumaro")
DIRECTIONS = ("import", "export")
ONCE_OVER_S = 60  # a run that takes longer is not repeated
FLOORS = {"import": "parser", "export": "making of the files"}
NOT_MEASURED = "folders and masks_*: their labels are pictures, so the time is an image codec's"

Run = dict[str, Any]


# --- one run, in its own process -----------------------------------------------------------------


def worker(tool: str, direction: str, name: str, folder: Path, scratch: Path) -> None:
    from label_set import load_set
    from label_tools import TOOLS

    given = load_set(folder)
    timed, boxes_of = TOOLS[tool][direction](name, given, folder / name, scratch)
    del given
    start = time.perf_counter()
    found = timed()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    boxes = boxes_of(found)
    answer = None
    if boxes is not None:
        answer = {"boxes": len(boxes), "mean": round(float(boxes.mean()), 2)}
    print(json.dumps({"seconds": seconds, "peak_gb": peak, "answer": answer}))


def measure(tool: str, direction: str, name: str, folder: Path, python: str, limit: float) -> Run:
    """One run; ``error`` where it does not end well, ``limited`` where it takes too long."""
    with tempfile.TemporaryDirectory(dir=scratch_home(direction, folder)) as scratch:
        command = [python, __file__, "--worker", tool, direction, name, str(folder), scratch]
        os.sync()  # so that nobody pays for what was written before
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
        except subprocess.TimeoutExpired:
            return {"seconds": limit, "limited": True}
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            return {"error": lines[-1][:300] if lines else f"exit code {done.returncode}"}
        run: Run = json.loads(done.stdout.strip().splitlines()[-1])
        if direction == "export":
            run["files"], run["mb"] = size_of(Path(scratch))
        return run


def scratch_home(direction: str, folder: Path) -> Path:
    """Where a run puts its files: in memory for an export, so that no disk is compared."""
    in_memory = Path("/dev/shm")
    return in_memory if direction == "export" and in_memory.is_dir() else folder


def size_of(folder: Path) -> tuple[int, float]:
    """Regular files below a folder, and their megabytes; links are not followed."""
    sizes = [
        os.lstat(os.path.join(parent, name)).st_size
        for parent, _, names in os.walk(folder)
        for name in names
        if not os.path.islink(os.path.join(parent, name))
    ]
    return len(sizes), round(sum(sizes) / 1e6, 1)


# --- all runs ------------------------------------------------------------------------------------


def write_files(name: str, folder: Path) -> None:
    """The label files that every tool reads, in a process of its own."""
    if (folder / name).exists():
        return
    staged = folder / f".{name}"
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir()
    command = [sys.executable, __file__, "--worker", "tilth", "export", name, str(folder)]
    subprocess.run([*command, str(staged)], check=True, stdout=subprocess.DEVNULL)
    staged.rename(folder / name)


def run_format(
    name: str, direction: str, folder: Path, pythons: dict[str, str], args: argparse.Namespace
) -> dict[str, list[Run]]:
    """All tools that know a format, interleaved, so that a busy minute hits them alike."""
    from label_tools import KNOWN

    tools = [tool for tool in pythons if name in KNOWN[tool]]
    runs: dict[str, list[Run]] = {tool: [] for tool in tools}
    for _ in range(args.repeats):
        for tool in tools:
            if runs[tool] and is_enough(runs[tool][-1]):
                continue
            run = measure(tool, direction, name, folder, pythons[tool], args.limit)
            runs[tool].append(run)
            print(f"{direction} {name} {tool}: {shown(run)}", flush=True)
    return runs


def is_enough(run: Run) -> bool:
    return "error" in run or "limited" in run or run["seconds"] > ONCE_OVER_S


def shown(run: Run) -> str:
    if "error" in run:
        return run["error"]
    if "limited" in run:
        return f"more than {run['seconds']:.0f} s"
    counted = {key: run[key] for key in ("answer", "files", "mb") if run.get(key) is not None}
    return f"{run['seconds']:.3f} s, {run['peak_gb']:.2f} GB, {counted}"


def disagreement(runs: dict[str, list[Run]]) -> str | None:
    """What tools found that Tilth did not: then their times compare nothing.

    Corners may be off by what dialects differ in (a pixel, the decimals of a share).
    """
    answers = {tool: run[-1].get("answer") for tool, run in runs.items() if tool != "floor"}
    ours = answers.pop("tilth")
    for tool, theirs in answers.items():
        if ours is None or theirs is None:
            continue
        if theirs["boxes"] != ours["boxes"] or abs(theirs["mean"] - ours["mean"]) > 1:
            return f"{tool} found {theirs}, Tilth {ours}"
    return None


# --- what it comes to ----------------------------------------------------------------------------


def seconds(runs: list[Run]) -> list[float]:
    return [run["seconds"] for run in runs if "seconds" in run]


def ratios(runs: dict[str, list[Run]]) -> tuple[str, list[float]] | None:
    """The fastest peer and its times over ours; a peer that ran once is over each of ours."""
    times = {tool: seconds(runs[tool]) for tool in PEERS if tool in runs and seconds(runs[tool])}
    ours = seconds(runs["tilth"])
    if not times or not ours:
        return None
    fastest = min(times, key=lambda tool: statistics.median(times[tool]))
    middle = statistics.median(times[fastest])
    theirs = times[fastest] if len(times[fastest]) == len(ours) else [middle] * len(ours)
    return fastest, [a / b for a, b in zip(theirs, ours, strict=True)]


def speed_claim(direction: str, results: dict[str, dict[str, list[Run]]], scale: str) -> Any:
    from evidence import claim

    found = {name: found for name, runs in results.items() if (found := ratios(runs))}
    medians = {name: statistics.median(values) for name, (_, values) in found.items()}
    worst = min(medians, key=medians.__getitem__)
    peer, values = found[worst]
    floor = statistics.median(seconds(results[worst]["floor"]))
    at_floor = statistics.median(seconds(results[worst][peer])) / floor if floor else 0.0
    others = ", ".join(
        f"{name} {medians[name]:.1f} ({found[name][0]})" for name in medians if name != worst
    )
    return claim(
        f"format_{direction}_vs_fastest_peer",
        medians[worst],
        unit="time of the fastest peer over ours",
        goal=5.0,
        better="higher",
        spread=[min(values), max(values)],
        runs=len(values),
        note=f"worst format: {worst} ({peer}), where the bare {FLOORS[direction]} would be "
        f"{at_floor:.1f}; {scale}; others: {others or 'none'}",
    )


def peak_claim(results: dict[str, dict[str, dict[str, list[Run]]]], scale: str) -> Any:
    from evidence import claim

    peaks = {
        f"{direction} of {name}": max(run["peak_gb"] for run in runs["tilth"])
        for direction, formats in results.items()
        for name, runs in formats.items()
    }
    worst = max(peaks, key=peaks.__getitem__)
    return claim(
        "format_peak_gb",
        peaks[worst],
        unit="GB (GiB) resident",
        goal=1.5,
        spread=[min(peaks.values()), max(peaks.values())],
        runs=len(peaks),
        note=f"highest of all formats, both ways: {worst}; whole process; {scale}",
    )


def summary(runs: dict[str, list[Run]]) -> dict[str, Any]:
    return {tool: tool_summary(measured) for tool, measured in runs.items()}


def tool_summary(runs: list[Run]) -> dict[str, Any]:
    last, times = runs[-1], seconds(runs)
    if "error" in last:
        return {"did_not_run": last["error"]}
    if "limited" in last:
        return {"more_than_s": last["seconds"]}
    sizes = {key: last[key] for key in ("files", "mb", "answer") if last.get(key) is not None}
    return {
        "median_s": round(statistics.median(times), 3),
        "spread_s": [round(min(times), 3), round(max(times), 3)],
        "peak_gb": round(max(run["peak_gb"] for run in runs), 3),
    } | sizes


def report(
    results: dict[str, dict[str, dict[str, list[Run]]]],
    sizes: dict[str, tuple[int, float]],
    args: argparse.Namespace,
) -> None:
    from evidence import write_result
    from label_set import BOXES_A_PICTURE

    boxes = round(args.images * BOXES_A_PICTURE)
    scale = f"{args.images:,} pictures, {boxes:,} boxes"
    write_result(
        "formats",
        [
            *(speed_claim(direction, results[direction], scale) for direction in DIRECTIONS),
            peak_claim(results, scale),
        ],
        data={
            "name": "made by label_set.py, seed 0",
            "pictures": args.images,
            "boxes": boxes,
            "files": {name: {"files": n, "mb": mb} for name, (n, mb) in sizes.items()},
        },
        detail={
            "limit_s": args.limit,
            "floor": "the bare parser (msgspec, lxml, pyarrow) over the files, or reading and "
            "splitting them; for an export the same bytes into as many files, not synced",
            "not_measured": NOT_MEASURED,
            **{
                direction: {name: summary(runs) for name, runs in formats.items()}
                for direction, formats in results.items()
            },
        },
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker", nargs=5, help=argparse.SUPPRESS)
    parser.add_argument("--peer-python", help="an interpreter with Datumaro")
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--limit", type=float, default=600, help="seconds for one run of a tool")
    parser.add_argument("--formats", help="only these, with commas between them")
    parser.add_argument("--cache", type=Path, help="keep the set and its files in this folder")
    parser.add_argument("--no-result", action="store_true", help="print, and write no result")
    return parser.parse_args()


def chosen_formats(args: argparse.Namespace) -> Iterator[str]:
    from label_tools import TARGETS

    wanted = args.formats.split(",") if args.formats else list(TARGETS)
    return (name for name in TARGETS if name in wanted)


def run_all(folder: Path, args: argparse.Namespace) -> None:
    from label_set import make_set

    pythons = {tool: sys.executable for tool in ("tilth", "labelformat", "supervision")}
    if args.peer_python:
        pythons["datumaro"] = args.peer_python
    pythons["floor"] = sys.executable
    folder.mkdir(parents=True, exist_ok=True)
    make_set(folder, args.images)
    sizes: dict[str, tuple[int, float]] = {}
    results: dict[str, dict[str, dict[str, list[Run]]]] = {name: {} for name in DIRECTIONS}
    for name in chosen_formats(args):
        write_files(name, folder)
        sizes[name] = size_of(folder / name)
        print(f"{name}: {sizes[name][0]:,} files, {sizes[name][1]:,} MB", flush=True)
        for direction in DIRECTIONS:
            runs = results[direction][name] = run_format(name, direction, folder, pythons, args)
            if wrong := disagreement(runs):
                raise SystemExit(f"{name}: {wrong}")
    if not args.no_result:
        report(results, sizes, args)


def main() -> None:
    args = arguments()
    if args.worker:
        tool, direction, name, folder, scratch = args.worker
        worker(tool, direction, name, Path(folder), Path(scratch))
    elif args.cache:
        run_all(args.cache / str(args.images), args)
    else:
        with tempfile.TemporaryDirectory() as folder:
            run_all(Path(folder), args)


if __name__ == "__main__":
    main()
