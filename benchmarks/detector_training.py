"""Seconds of a training step with its real input: ours in two ways, and Ultralytics', in turns.

Part of `detector_speed.py`. The same pictures for all, each decoded once and kept in memory by
either side, mosaic for every sample, SGD and a moving average of the weights, equal threads, no
evaluation. Ours goes through `tilth.train.loop.fit` as a run does.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tilth.data.dataset import Dataset
from tilth.data.formats import load_format
from tilth.data.records import Geometry
from tilth.losses.detection import DetectionLoss
from tilth.models.yolov4 import YoloV4
from tilth.train.augment_settings import AugmentSettings
from tilth.train.loading import DetectionBatches
from tilth.train.loop import LoopSettings, fit

PEER = Path(__file__).with_name("ultralytics_steps.py")
PICTURES = 256
WARM = 4


class Pictures:
    """What both sides train on: paths, labels, and the folder in which the peer finds them."""

    def __init__(self, source: Path | None, folder: Path) -> None:
        root = made_pictures(folder / "made") if source is None else source
        labels = root / "instances.json"
        dataset, _ = load_format("coco").read(labels, media_root=root / "images")
        # Every n-th, so that the choice does not hang on the order of the file.
        step = max(1, len(dataset.media) // PICTURES)
        self.dataset = dataset.take(np.arange(len(dataset.media))[::step][:PICTURES])
        self.paths = [root / "images" / Path(uri).name for uri in self.dataset.media.uri]
        self.name = "made pictures" if source is None else source.name
        self.folder = folder
        write_for_peer(self.dataset, self.paths, folder)


def made_pictures(root: Path) -> Path:
    """Coloured rectangles on noise, 640 x 480, for machines without the real pictures."""
    random = np.random.default_rng(0)
    (root / "images").mkdir(parents=True)
    images, annotations = [], []
    for number in range(PICTURES):
        coarse = random.integers(0, 256, (15, 20, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC)
        for _ in range(int(random.integers(1, 8))):
            width, height = random.integers(16, 200, 2)
            x, y = int(random.integers(0, 640 - width)), int(random.integers(0, 480 - height))
            colour = tuple(int(level) for level in random.integers(0, 256, 3))
            picture.paste(colour, (x, y, x + int(width), y + int(height)))
            box = [x, y, int(width), int(height)]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
        name = f"{number}.jpg"
        picture.save(root / "images" / name, quality=90)
        images.append({"id": number, "file_name": name, "width": 640, "height": 480})
    labels = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person"}],
    }
    (root / "instances.json").write_text(json.dumps(labels), encoding="utf-8")
    return root


def write_for_peer(dataset: Dataset, paths: list[Path], folder: Path) -> None:
    """Links to the pictures and Ultralytics' text labels beside them."""
    for kind in ("images", "labels"):
        (folder / "set" / kind).mkdir(parents=True)
    annotations, media = dataset.annotations, dataset.media
    is_box = (annotations.geometry != Geometry.LABEL) & ~annotations.is_crowd
    for row, path in enumerate(paths):
        (folder / "set" / "images" / path.name).symlink_to(path.resolve())
        boxes = annotations.boxes_xyxy[is_box & (annotations.media_index == row)]
        size = np.array([media.width[row], media.height[row]], dtype=np.float64)
        centre, sides = (
            (boxes[:, :2] + boxes[:, 2:]) / 2 / size,
            (boxes[:, 2:] - boxes[:, :2]) / size,
        )
        lines = [
            f"0 {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n" for x, y, w, h in np.hstack([centre, sides])
        ]
        (folder / "set" / "labels" / f"{path.stem}.txt").write_text("".join(lines))
    (folder / "data.yaml").write_text(
        f"path: {folder / 'set'}\ntrain: images\nval: images\nnames:\n  0: person\n"
    )


def measure_training(
    source: Path | None,
    *,
    peer_python: Path | None,
    size: int,
    batch: int,
    steps: int,
    threads: int,
    rounds: int,
    bfloat16: bool,
) -> dict[str, Any]:
    """Rounds of all sides, in turns."""
    ways = {
        "tilth": {"precision": "bf16" if bfloat16 else "no", "channels_last": True},
        "plain eager": {"precision": "no", "channels_last": False},
    }
    found: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        pictures = Pictures(source, Path(folder).resolve())
        for number in range(rounds):
            for name, settings in ways.items():
                run_dir = Path(folder) / f"{name}-{number}"
                taken = our_steps(pictures, run_dir, settings, size=size, batch=batch, steps=steps)
                found.setdefault(name, []).append(taken)
            if peer_python is not None:
                sizes = (size, batch, WARM, steps, threads)
                found.setdefault("ultralytics", []).append(
                    peer_steps(peer_python, pictures.folder, sizes)
                )
    return {"pictures": pictures.name, "rounds": found}


def our_steps(
    pictures: Pictures,
    run_dir: Path,
    settings: Mapping[str, Any],
    *,
    size: int,
    batch: int,
    steps: int,
) -> dict[str, Any]:
    """CPU and wall seconds an image of yolov4-tiny's training loop, and its wait for data."""
    torch.manual_seed(0)
    model = YoloV4(1, variant="yolov4-tiny")
    loss = DetectionLoss.of_network(model)
    batches = DetectionBatches(
        pictures.paths,
        pictures.dataset,
        size=size,
        batch_size=batch,
        seed=0,
        settings=AugmentSettings(mosaic=1.0),
    )
    for number in range(len(pictures.paths) // batch):  # every picture is decoded, as the peer's
        batches.batch(number)
    marks: list[tuple[float, float]] = []

    def noted(network: nn.Module, batch: Mapping[str, Any]) -> Mapping[str, Tensor]:
        marks.append((time.process_time(), time.perf_counter()))
        targets = (batch["boxes_xyxy"], batch["class_index"], batch["image_index"])
        return loss(network(batch["images"]), *targets)

    fit(
        model,
        noted,
        batches,
        settings=LoopSettings(
            steps=WARM + steps + 1, log_every=WARM, device="cpu", checkpoint_every=10**6, **settings
        ),
        run_dir=run_dir,
        progress=False,
    )
    cpu, wall = (marks[-1][kind] - marks[WARM][kind] for kind in (0, 1))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(torch.zeros(1, 3, size, size))
    return {
        "cpu_seconds_per_image": cpu / steps / batch,
        "wall_seconds_per_image": wall / steps / batch,
        "gflop_per_image": counter.get_total_flops() / 1e9,
        "data_wait_share": wait_share(run_dir / "metrics.jsonl"),
    }


def wait_share(metrics: Path) -> float:
    """Of the wall time, over the steps after the first `WARM`."""
    records = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    shares = [one["data_wait_share"] for one in records if "data_wait_share" in one]
    return statistics.mean(shares[1:-1] or shares)  # the last one is of a single step


def peer_steps(python: Path, folder: Path, sizes: tuple[int, ...]) -> dict[str, Any]:
    """The same of the peer, in its own process."""
    threads = str(sizes[-1])
    done = subprocess.run(
        [str(python), str(PEER), str(folder), *map(str, sizes)],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
        capture_output=True,
        text=True,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        raise RuntimeError(f"the peer gave no answer: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return json.loads(lines[-1])
