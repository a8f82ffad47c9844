"""How long `tilth demo` takes from nothing to the report, and what it finds.

python benchmarks/demo_minutes.py
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from evidence import claim, write_result

GOAL_MINUTES = 6.0


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [str(Path(sys.executable).with_name("tilth")), "demo", f"{folder}/demo", "--json"]
        started = time.perf_counter()
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        minutes = (time.perf_counter() - started) / 60
    document = json.loads(done.stdout)
    scores = {arm["arm"]: arm for arm in document["arms"]}
    gain = scores["rebalanced"]["ap50"]["mean"] - scores["random"]["ap50"]["mean"]
    write_result(
        "demo_minutes",
        [
            claim(
                "demo_minutes",
                minutes,
                unit="minutes",
                goal=GOAL_MINUTES,
                spread=(minutes, minutes),
                note="wall clock after installation: pretraining, then 3 seeds of 4 trained arms",
            ),
            claim(
                "demo_rebalanced_minus_random_map50",
                gain,
                unit="mAP50",
                better="higher",
                runs=scores["rebalanced"]["ap50"]["runs"],
                note="mean over seeds; standard deviations are in the detail",
            ),
        ],
        data={"name": "made by tilth demo, seed 0"},
        detail={"arms": document["arms"]},
    )


if __name__ == "__main__":
    main()
