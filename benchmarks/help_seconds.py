"""How long a person waits for `tilth --help`: wall time of the whole process, median of many runs.

Beside it, the bare interpreter and the import of Typer alone, which are the floor.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from evidence import claim, write_result

RUNS = 21
GOAL_SECONDS = 0.4

COMMANDS = {
    "tilth --help": ["-m", "tilth", "--help"],
    "import typer": ["-c", "import typer"],
    "bare interpreter": ["-c", "pass"],
}
HEAVY = ("torch", "numpy", "pydantic", "sqlalchemy", "rich", "cv2", "sklearn")


def main() -> None:
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(RUNS):  # interleaved, so that all three see the same load
        for name, arguments in COMMANDS.items():
            seconds[name].append(_wall_seconds(arguments))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ours = seconds["tilth --help"]
    write_result(
        "help_seconds",
        [
            claim(
                "help_seconds",
                round(medians["tilth --help"], 4),
                unit="s",
                goal=GOAL_SECONDS,
                better="lower",
                spread=[round(min(ours), 4), round(max(ours), 4)],
                runs=RUNS,
                note="median wall time of the process; bare interpreter "
                f"{medians['bare interpreter']:.3f} s, Typer {medians['import typer']:.3f} s",
            )
        ],
        detail={"median_seconds": medians, "heavy_modules_loaded": _heavy_modules_loaded()},
    )


def _wall_seconds(arguments: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.perf_counter() - started


def _heavy_modules_loaded() -> list[str]:
    code = (
        "import sys\nfrom tilth.cli.app import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        f"print(*(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return done.stderr.split()


if __name__ == "__main__":
    main()
