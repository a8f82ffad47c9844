"""A small detection set from real pictures that installed libraries already carry.

Handwritten digits (scikit-learn) and faces (scikit-image's excerpt of Labeled Faces in the Wild)
are pasted into crops of photographs and textures (both libraries), under four conditions:

    near by day, far by day, near at dusk, far at dusk

Training pictures were "collected" mostly near by day; the detector is deployed equally in all
four. That is the imbalance which the demo measures and mends. Objects and background regions of
the deployment pictures never occur in training.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tilth.data.atomic import atomic_writer
from tilth.data.images import write_jpeg
from tilth.errors import SettingsError
from tilth.lazy import require
from tilth.seeding import generator

__all__ = ["CONDITIONS", "DemoSet", "write_demo_set"]

Picture = NDArray[np.uint8]
# Draws an object so many pixels high: its colours float [h, w, 3], 0 to 255, and its opacity, 0 to
# 1, of a shape that multiplies them.
Painter = Callable[[np.random.Generator, int], tuple[NDArray[Any], NDArray[Any]]]

CATEGORIES = ("digit", "face")


@dataclass(frozen=True, kw_only=True)
class Condition:
    """How a scene is taken: object height in pixels (low, high) and exposure factor (low, high)."""

    height_px: tuple[float, float]
    exposure: tuple[float, float]


CONDITIONS: dict[str, Condition] = {
    "near, day": Condition(height_px=(42, 72), exposure=(0.9, 1.15)),
    "far, day": Condition(height_px=(14, 26), exposure=(0.9, 1.15)),
    "near, dusk": Condition(height_px=(42, 72), exposure=(0.18, 0.35)),
    "far, dusk": Condition(height_px=(14, 26), exposure=(0.18, 0.35)),
}


@dataclass(frozen=True, kw_only=True)
class DemoSet:
    """One folder of pictures with its label file.

    Attributes:
        name: folder name; also the stream of random numbers.
        shares: how many pictures of each condition.
        side: which half of every source picture and which objects it may use, 0 or 1.
        photographs: whether backgrounds may be photographs, or textures alone.
    """

    name: str
    shares: Mapping[str, int]
    side: int
    photographs: bool = True


def write_demo_set(folder: Path, demo_set: DemoSet, *, size: int, seed: int) -> Path:
    """Write ``folder/<name>/*.jpg`` and ``folder/<name>.json`` (COCO), unless they are there.

    Args:
        size: pictures are ``size`` x ``size`` pixels, 72 at least: the nearest objects fill that.
        seed: the same seed gives the same bytes.

    Returns:
        The path of the label file, which is written last: where it is, all pictures are.

    Raises:
        SettingsError: a set of that name is there, made with another seed, size or share.
    """
    path = folder / f"{demo_set.name}.json"
    made_with = {"seed": seed, "size": size, "shares": dict(demo_set.shares)}
    if path.is_file():
        _refuse_other_set(path, made_with)
        return path
    backgrounds = _backgrounds(demo_set.side, photographs=demo_set.photographs)
    painters = {"digit": _digit_painter(demo_set.side), "face": _face_painter(demo_set.side)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    scenes = [name for name, count in demo_set.shares.items() for _ in range(count)]
    for number, condition in enumerate(scenes):
        rng = generator(seed, "demo", demo_set.name, number)
        picture, boxes = _scene(rng, backgrounds, painters, CONDITIONS[condition], size)
        file_name = f"{number:04d}.jpg"
        write_jpeg(folder / demo_set.name / file_name, picture)
        images.append({"id": number, "file_name": file_name, "width": size, "height": size})
        for category, (x0, y0, x1, y1) in boxes:
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": number,
                    "category_id": category,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": (x1 - x0) * (y1 - y0),
                    "iscrowd": 0,
                    "attributes": {"condition": condition},
                }
            )
    categories = [{"id": index, "name": name} for index, name in enumerate(CATEGORIES)]
    labels = {
        "info": made_with,
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }
    with atomic_writer(path) as stream:
        stream.write(json.dumps(labels).encode())
    return path


def _refuse_other_set(path: Path, made_with: Mapping[str, Any]) -> None:
    there = json.loads(path.read_bytes()).get("info")
    if there != made_with:
        raise SettingsError(
            "the folder holds demo pictures of another kind",
            where=str(path),
            expected=json.dumps(made_with),
            got=json.dumps(there),
            fix="tilth demo SOME_OTHER_FOLDER",
        )


def _scene(
    rng: np.random.Generator,
    backgrounds: list[Picture],
    painters: Mapping[str, Painter],
    condition: Condition,
    size: int,
) -> tuple[Picture, list[tuple[int, tuple[int, int, int, int]]]]:
    """Paste one to four objects into a random crop, then expose the whole scene."""
    scene = _random_crop(rng, backgrounds[rng.integers(len(backgrounds))], size)
    taken: list[tuple[int, tuple[int, int, int, int]]] = []
    for _ in range(int(rng.integers(1, 5))):
        category = int(rng.integers(len(CATEGORIES)))
        height = int(rng.uniform(*condition.height_px))
        patch, opacity = painters[CATEGORIES[category]](rng, height)
        h, w = patch.shape[:2]
        x0, y0 = int(rng.integers(0, size - w + 1)), int(rng.integers(0, size - h + 1))
        box = (x0, y0, x0 + w, y0 + h)
        if any(_overlap(box, other) for _, other in taken):
            continue
        window = scene[y0 : y0 + h, x0 : x0 + w]
        window[:] = patch * opacity + window * (1 - opacity)
        taken.append((category, box))
    scene *= rng.uniform(*condition.exposure)
    scene += rng.normal(0, 4, scene.shape)  # sensor noise, so that dusk is harder than a scaling
    return np.clip(scene, 0, 255).astype(np.uint8), taken


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _random_crop(rng: np.random.Generator, picture: Picture, size: int) -> NDArray[np.float32]:
    side = int(rng.uniform(0.5, 1.0) * min(picture.shape[:2]))
    y = int(rng.integers(0, picture.shape[0] - side + 1))
    x = int(rng.integers(0, picture.shape[1] - side + 1))
    crop = picture[y : y + side, x : x + side]
    return cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32)


def _digit_painter(side: int) -> Painter:
    """A digit as a sticker: ink on a pale plate that is 4/5 as wide as high."""
    digits = require("sklearn.datasets", extra="demo").load_digits().images[side::2] / 16.0

    def paint(rng: np.random.Generator, height: int) -> tuple[NDArray[Any], NDArray[Any]]:
        shape = (max(1, height * 4 // 5), height)
        digit = digits[rng.integers(len(digits))]
        ink = np.clip(cv2.resize(digit, shape, interpolation=cv2.INTER_CUBIC), 0, 1)[..., None]
        plate, colour = rng.uniform(190, 250, 3), rng.uniform(0, 90, 3)
        return (plate * (1 - ink) + colour * ink).astype(np.float32), np.ones((height, 1, 1))

    return paint


def _face_painter(side: int) -> Painter:
    """A face behind an oval vignette, in a warm tone."""
    faces = require("skimage.data", extra="demo").lfw_subset()[:100][side::2]

    def paint(rng: np.random.Generator, height: int) -> tuple[NDArray[Any], NDArray[Any]]:
        face = faces[rng.integers(len(faces))]
        if rng.random() < 0.5:
            face = face[:, ::-1]
        grey = cv2.resize(np.ascontiguousarray(face), (height, height))[..., None] * 255
        tone = np.array([1.0, rng.uniform(0.8, 0.95), rng.uniform(0.65, 0.85)])
        y, x = np.mgrid[0:height, 0:height] / max(height - 1, 1) * 2 - 1
        opacity = np.clip(4 * (1.02 - np.hypot(x, y)), 0, 1)[..., None]
        return (grey * tone).astype(np.float32), opacity

    return paint


def _backgrounds(side: int, *, photographs: bool) -> list[Picture]:
    """The left (side 0) or right (side 1) half of each source picture, in colour."""
    skimage = require("skimage.data", extra="demo")
    pictures = [skimage.brick(), skimage.grass(), skimage.gravel()]
    if photographs:
        samples = require("sklearn.datasets", extra="demo").load_sample_images().images
        pictures += [*samples, skimage.coffee(), skimage.chelsea(), skimage.rocket()]
    halves = []
    for picture in pictures:
        colour = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)
        middle = colour.shape[1] // 2
        halves.append(np.ascontiguousarray(colour[:, :middle] if side == 0 else colour[:, middle:]))
    return halves
