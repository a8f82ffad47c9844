"""The peer of `detector_speed.py`: CPU seconds of Ultralytics' training steps, as a JSON line.

Runs in an environment of its own (`.venv-peers/ultralytics`, AGPL-3.0), by that interpreter; it
imports nothing of Tilth, and nothing of Tilth imports it. Ultralytics asks for torchvision, whose
compiled operators do not fit every build of torch and which training does not use; a stand-in that
has its version and its `nms` is written beside the run.

    python ultralytics_steps.py FOLDER SIZE BATCH WARM STEPS THREADS
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

STAND_IN = """
__version__ = "0.28.0"
class _Ops:
    @staticmethod
    def nms(boxes, scores, threshold):
        import torch
        order, kept = scores.argsort(descending=True), []
        while len(order):
            best, order = order[0], order[1:]
            kept.append(best)
            low = torch.maximum(boxes[best, :2], boxes[order, :2])
            high = torch.minimum(boxes[best, 2:], boxes[order, 2:])
            shared = (high - low).clamp(min=0).prod(1)
            area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
            order = order[shared <= threshold * (area[best] + area[order] - shared)]
        return torch.stack(kept) if kept else scores.new_zeros(0, dtype=torch.long)
ops = _Ops()
"""


def main(folder: Path, size: int, batch: int, warm: int, steps: int, threads: int) -> None:
    os.environ |= {"YOLO_CONFIG_DIR": str(folder), "YOLO_OFFLINE": "true", "YOLO_VERBOSE": "false"}
    stand_in = folder / "stand-in"
    for path, text in (
        ("torchvision/__init__.py", STAND_IN),
        ("torchvision-0.28.0.dist-info/METADATA", "Name: torchvision\nVersion: 0.28.0\n"),
    ):
        (stand_in / path).parent.mkdir(parents=True, exist_ok=True)
        (stand_in / path).write_text(text, encoding="utf-8")
    sys.path.insert(0, str(stand_in))

    import torch
    import ultralytics
    from torch.utils.flop_counter import FlopCounterMode
    from ultralytics import YOLO

    marks: list[tuple[float, float]] = []

    def note(trainer: Any) -> None:
        torch.set_num_threads(threads)
        marks.append((time.process_time(), time.perf_counter()))
        if len(marks) <= warm + steps:
            return
        model = trainer.model.eval()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, 3, size, size))
        cpu, wall = (marks[-1][kind] - marks[warm][kind] for kind in (0, 1))
        print(
            json.dumps(
                {
                    "cpu_seconds_per_image": cpu / steps / batch,
                    "wall_seconds_per_image": wall / steps / batch,
                    "gflop_per_image": counter.get_total_flops() / 1e9,
                    "version": ultralytics.__version__,
                    "torch": torch.__version__,
                }
            ),
            flush=True,
        )
        os._exit(0)  # what follows (validation, saving) is no training step

    model = YOLO("yolo11n.yaml")
    model.add_callback("on_train_batch_start", note)
    model.train(
        data=str(folder / "data.yaml"),
        imgsz=size,
        batch=batch,
        nbs=batch,  # one optimiser step a batch, as ours
        epochs=1000,
        workers=0,  # in line: its CPU time is then all in this process
        cache="ram",
        optimizer="SGD",
        device="cpu",
        deterministic=False,
        mosaic=1.0,
        close_mosaic=0,
        val=False,
        plots=False,
        save=False,
        verbose=False,
        project=str(folder / "runs"),
        exist_ok=True,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
