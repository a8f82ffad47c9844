"""A COCO file of small pictures, written for the tests of this folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image


def write_coco_set(folder: Path, num_pictures: int) -> Path:
    """``photos/1.png`` and so on, one box in each, mostly dark, a few bright; the label file."""
    rng = np.random.default_rng(0)
    (folder / "photos").mkdir(parents=True)
    images, annotations = [], []
    for number in range(1, num_pictures + 1):
        picture = rng.integers(100, 140, (48, 64, 3), dtype=np.uint8)
        level = 230 if number % 6 == 0 else 20
        x, y = int(rng.integers(0, 40)), int(rng.integers(0, 24))
        picture[y : y + 20, x : x + 20] = level + rng.integers(-15, 15, (20, 20, 3))
        Image.fromarray(picture).save(folder / "photos" / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 64, "height": 48})
        annotations.append(
            {
                "id": number,
                "image_id": number,
                "category_id": 1 + number % 2,
                "bbox": [x, y, 20, 20],
                "area": 400,
                "iscrowd": 0,
            }
        )
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    document = {"images": images, "annotations": annotations, "categories": categories}
    path = folder / "labels.json"
    path.write_text(json.dumps(document))
    return path
