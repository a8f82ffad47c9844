"""What a picture costs in each family of detectors, on one core.

    python benchmarks/detector_families.py [--rounds 3]

Random weights: time does not depend on them. CPU time of one thread (the runner is shared), batch 1
for looking, batch 2 for a training step of forward, loss and backward; float32, as built, with
nothing folded (`detector_speed.py` measures what folding and bfloat16 bring to YOLOv4).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from evidence import write_result

from tilth.recipes.detection_families import family_of
from tilth.recipes.model_settings import ModelSettings

CLASSES = 80
SIZES = (320, 640)
NETWORKS = {
    "yolov4-tiny": {"variant": "yolov4-tiny", "width": 1.0},
    "yolov4": {"variant": "yolov4", "width": 1.0},
    "d-fine": {"variant": "d-fine", "width": 1.0},
    "d-fine, half": {"variant": "d-fine", "width": 0.5, "depth": 0.34},
    "d-fine, quarter": {"variant": "d-fine", "width": 0.25, "depth": 0.34},
    "rt-detr-v2": {"variant": "rt-detr-v2", "width": 1.0},
    "rt-detr-v2, half": {"variant": "rt-detr-v2", "width": 0.5, "depth": 0.34},
    "deim-v2": {"variant": "deim-v2", "width": 1.0},
    "deim-v2, half": {"variant": "deim-v2", "width": 0.5, "depth": 0.34},
}
"""Name in the table -> settings of `model`."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    rows = []
    for name, given in NETWORKS.items():
        settings = ModelSettings(**given)  # type: ignore[arg-type]
        family = family_of(settings)
        torch.manual_seed(0)
        model = family.build(settings, CLASSES, root=Path())
        row: dict[str, Any] = {"network": name, "settings": given}
        row["parameters_m"] = sum(each.numel() for each in model.parameters()) / 1e6
        for size in SIZES:
            row[f"look_{size}_cpu_ms"] = 1e3 * median_cpu(looking(model, size), rounds)
        row["step_320_cpu_s"] = median_cpu(training(model, family.loss(model)), rounds) / 2
        rows.append(row)
        print(as_markdown(row), flush=True)
    detail = {"classes": CLASSES, "threads": 1, "rounds": rounds, "rows": rows}
    write_result("detector_families", [], detail=detail)


def as_markdown(row: Mapping[str, Any]) -> str:
    """A line of the table in docs/how-to/choose-a-detector.md."""
    looks = " | ".join(f"{row[f'look_{size}_cpu_ms']:.0f}" for size in SIZES)
    step = 1e3 * row["step_320_cpu_s"]
    return f"| {row['network']} | {row['parameters_m']:.1f} M | {looks} | {step:.0f} |"


def looking(model: Any, size: int) -> Callable[[], None]:
    """Boxes and scores of one picture."""
    images = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))

    def look() -> None:
        model.eval()
        with torch.no_grad():
            model.decode(model(images))

    return look


def training(model: Any, loss: Any) -> Callable[[], None]:
    """Loss and gradients of two pictures of 320 pixels with two objects each."""
    boxes = [[20.0, 30.0, 120.0, 200.0], [150.0, 90.0, 300.0, 240.0]] * 2
    batch = {
        "images": torch.rand(2, 3, 320, 320, generator=torch.Generator().manual_seed(0)),
        "boxes_xyxy": torch.tensor(boxes),
        "class_index": torch.tensor([0, 1, 2, 3]),
        "image_index": torch.tensor([0, 0, 1, 1]),
        "box_weights": torch.ones(4),
        "ignore_boxes_xyxy": torch.zeros(0, 4),
        "ignore_image_index": torch.zeros(0, dtype=torch.int64),
    }

    def step() -> None:
        model.train()
        model.zero_grad(set_to_none=True)
        loss(model, batch)["total"].backward()

    return step


def median_cpu(work: Callable[[], None], rounds: int) -> float:
    """Seconds of this process, after one call to warm up."""
    work()
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
