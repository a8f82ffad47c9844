"""A small YOLOv4-tiny learns eight pictures by heart: network, assignment and loss fit together."""

import numpy as np
import pytest
import torch

from tilth.data.dataset import AnnotationColumns, Dataset, MediaColumns
from tilth.data.detections import Detections
from tilth.data.records import Category, Geometry
from tilth.losses.detection import DetectionLoss
from tilth.losses.detection_settings import DetectionLossSettings
from tilth.metrics.average_precision import average_precision
from tilth.models.detection_network import detect
from tilth.models.yolov4 import YoloV4

SIDE = 128
PICTURES = 8
CLASSES = ("rectangle", "ellipse")


def draw_picture(rng):
    """A textured ground with three separate shapes; uint8 image, boxes, classes."""
    image = rng.integers(40, 120, (SIDE, SIDE, 3)).astype(np.float32)
    image += 30 * np.sin(np.arange(SIDE) / rng.uniform(3, 9))[None, :, None]
    lines, columns = np.mgrid[:SIDE, :SIDE] + 0.5
    boxes, classes = [], []
    while len(boxes) < 3:
        width, height = rng.integers(20, 56, 2)
        x0, y0 = rng.integers(0, SIDE - width), rng.integers(0, SIDE - height)
        box = (x0, y0, x0 + width, y0 + height)
        if any(x0 < b[2] and b[0] < box[2] and y0 < b[3] and b[1] < box[3] for b in boxes):
            continue
        category = int(rng.integers(len(CLASSES)))
        across = np.abs(columns - x0 - width / 2) / (width / 2)
        down = np.abs(lines - y0 - height / 2) / (height / 2)
        inside = np.maximum(across, down) <= 1 if category == 0 else across**2 + down**2 <= 1
        image[inside] = rng.integers(130, 256, 3)
        boxes.append(box)
        classes.append(category)
    return image.clip(0, 255).astype(np.uint8), boxes, classes


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    drawn = [draw_picture(rng) for _ in range(PICTURES)]
    images = torch.from_numpy(np.stack([image for image, _, _ in drawn])).permute(0, 3, 1, 2) / 255
    boxes = torch.tensor([box for _, found, _ in drawn for box in found], dtype=torch.float32)
    classes = torch.tensor([category for _, _, found in drawn for category in found])
    picture = torch.arange(PICTURES).repeat_interleave(3)
    return images, boxes, classes, picture


def as_dataset(boxes, classes, picture):
    count = len(boxes)
    corners = boxes.double().numpy()
    return Dataset(
        categories=tuple(Category(name=name, origin_id=row) for row, name in enumerate(CLASSES)),
        media=MediaColumns(
            id=np.arange(PICTURES),
            uri=[f"{row}.png" for row in range(PICTURES)],
            width=np.full(PICTURES, SIDE, np.int32),
            height=np.full(PICTURES, SIDE, np.int32),
            split=np.zeros(PICTURES, np.int8),
            parent_id=np.full(PICTURES, -1),
        ),
        annotations=AnnotationColumns(
            id=np.arange(count),
            media_index=picture.numpy(),
            category_index=classes.numpy(),
            boxes_xyxy=corners,
            area=(corners[:, 2:] - corners[:, :2]).prod(axis=1),
            is_crowd=np.zeros(count, bool),
            score=np.full(count, np.nan, np.float32),
            source=np.zeros(count, np.uint8),
            review_state=np.zeros(count, np.uint8),
            geometry=np.full(count, Geometry.BOX, np.uint8),
            segmentation=[None] * count,
            attributes=[None] * count,
        ),
    )


def as_detections(found):
    counts = [len(boxes) for boxes, _, _ in found]
    return Detections(
        media_index=np.repeat(np.arange(PICTURES), counts),
        category_index=torch.cat([classes for _, _, classes in found]).numpy(),
        boxes_xyxy=torch.cat([boxes for boxes, _, _ in found]).double().numpy(),
        score=torch.cat([scores for _, scores, _ in found]).numpy(),
    )


TRUE, DARKNET = DetectionLossSettings(), DetectionLossSettings(gradient="darknet")


@pytest.mark.parametrize(
    ("variant", "settings", "steps", "precision", "of_loss"),
    [
        ("yolov4-tiny", {"width": 0.25}, 120, torch.float32, TRUE),
        ("yolov4-tiny", {"width": 0.25}, 120, torch.bfloat16, TRUE),
        ("yolov4", {"width": 0.125, "depth": 0.1}, 90, torch.float32, TRUE),
        ("yolov4-tiny", {"width": 0.25}, 100, torch.float32, DARKNET),
    ],
    ids=["tiny", "tiny-bf16", "yolov4", "tiny-darknet-gradient"],
)
def test_overfits_eight_pictures(pictures, variant, settings, steps, precision, of_loss):
    images, boxes, classes, picture = pictures
    torch.manual_seed(0)
    model = YoloV4(len(CLASSES), variant=variant, **settings).to(memory_format=torch.channels_last)
    loss = DetectionLoss.of_network(model, of_loss)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    warm_up = torch.optim.lr_scheduler.LinearLR(optimiser, 0.1, total_iters=10)
    images = images.to(memory_format=torch.channels_last)
    box_and_class = []
    for _ in range(steps):
        with torch.autocast("cpu", dtype=precision, enabled=precision == torch.bfloat16):
            raw_maps = model(images)
        terms = loss(raw_maps, boxes, classes, picture)
        optimiser.zero_grad()
        terms["total"].backward()
        optimiser.step()
        warm_up.step()
        box_and_class.append((terms["box"] + terms["class"]).item())
    assert np.mean(box_and_class[-10:]) < 0.25 * box_and_class[0]
    measured = average_precision(
        as_dataset(boxes, classes, picture), as_detections(detect(model, images))
    )
    assert measured.ap50 > 0.95
