"""Run every benchmark that fits two cores, one after the other.

    python benchmarks/run_all.py [NAME ...]

One that cannot run here (a peer or the real data is missing) says so, and the next one starts.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
PEERS = ".venv-peers/{}/bin/python"  # made by `make bench`
BENCHMARKS: dict[str, list[str]] = {
    "help_seconds": [],
    "coco_import": [
        "--peer-python",
        PEERS.format("datumaro"),
        "--fiftyone-python",
        PEERS.format("fiftyone"),
    ],
    "image_metrics": ["--cleanvision", PEERS.format("cleanvision")],
    "label_errors": ["--cleanlab", PEERS.format("cleanlab")],
    "formats": ["--peer-python", PEERS.format("datumaro")],
    "frames": [],
    "recurrent": [],
    "text_frame": [],
    "darknet_parity": [],
    "detector_speed": [],
    "detector_families": [],
    "demo_minutes": [],
    "rebalance_pedestrians": [],
    "coco_person": [],
    "coco_person_study": [],  # goes on in the folder of the one before
    "label_noise": [],
    "reweighting_overhead": [],
    "metric_loss": [],
}


def main() -> None:
    chosen = sys.argv[1:] or BENCHMARKS
    failed = []
    for name in chosen:
        print(f"== {name}", flush=True)
        command = [sys.executable, f"benchmarks/{name}.py", *BENCHMARKS[name]]
        if subprocess.run(command, cwd=FOLDER.parent).returncode:
            failed.append(name)
    if failed:
        sys.exit(f"did not finish: {', '.join(failed)}")


if __name__ == "__main__":
    main()
