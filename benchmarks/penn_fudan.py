"""Read the Penn-Fudan pedestrians' own annotation text into a COCO instances file.

The set's corners are 1-based and inclusive ("Top left pixel co-ordinates : (1, 1)"), so a box
(xmin, ymin) - (xmax, ymax) is the pixel-edge box xmin-1, ymin-1, xmax, ymax.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

BOX = re.compile(r"\(Xmin, Ymin\) - \(Xmax, Ymax\) : \((\d+), (\d+)\) - \((\d+), (\d+)\)")
SIZE = re.compile(r"Image size \(X x Y x C\) : (\d+) x (\d+)")


def write_coco(source: Path, target: Path) -> Path:
    """Write ``target`` (JSON) for the pictures of ``source/images``; returns ``target``."""
    images: list[dict] = []
    annotations: list[dict] = []
    for image_id, path in enumerate(sorted((source / "annotations").glob("*.txt"))):
        text = path.read_text(encoding="latin-1")
        size = SIZE.search(text)
        if size is None:
            raise ValueError(f"{path}: no 'Image size (X x Y x C)' line")
        width, height = map(int, size.groups())
        images.append(
            {"id": image_id, "file_name": f"{path.stem}.jpg", "width": width, "height": height}
        )
        for match in BOX.finditer(text):
            xmin, ymin, xmax, ymax = map(int, match.groups())
            box = [xmin - 1, ymin - 1, xmax - xmin + 1, ymax - ymin + 1]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": 1,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
    labels = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person"}],
    }
    target.write_text(json.dumps(labels), encoding="utf-8")
    return target
