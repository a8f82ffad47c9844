"""What a detector with anchors finds in the pictures of a batch, as a metric of boxes takes it.

Which boxes are kept is chosen without a gradient, as in use; the numbers of those that are kept
carry it, back into the network's maps.
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tilth.losses.detection import AnchorGrid
from tilth.losses.metric_loss import Outputs
from tilth.ops.anchor_grid import decode_map
from tilth.ops.nms import non_maximum_suppression

__all__ = ["MOST_BOXES", "detected_boxes", "found_boxes", "true_boxes"]

MOST_BOXES = 50  # of a picture: a metric that looks at more is still taught by the best of them
CANDIDATES = 1000  # of a picture, that suppression looks at
IOU_THRESHOLD = 0.5


def detected_boxes(network: AnchorGrid) -> Outputs:
    """A detector's outputs: boxes found [n, m, 5 + k] and true ones [n, q, 5].

    Args:
        network: knows its anchors; the model of a batch gives its maps.
    """

    def outputs(model: Any, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        raw_maps = model(batch["images"])
        truths = true_boxes(
            batch["boxes_xyxy"], batch["class_index"], batch["image_index"], len(batch["images"])
        )
        return found_boxes(raw_maps, network), truths

    return outputs


def found_boxes(
    raw_maps: list[Tensor], network: AnchorGrid, *, most: int = MOST_BOXES
) -> Float[Tensor, "n m 5+k"]:
    """x0 y0 x1 y1 in pixels of the network's input, the chance that something is there, and those
    of the classes if so; the likeliest box of a picture first, and rows of zeros after the last.

    Of two boxes of a class that overlap by more than half, the weaker one is left out; a weak box
    is otherwise there, for a gradient that may raise it.
    """
    with torch.autocast(raw_maps[0].device.type, enabled=False):
        every = _decoded(raw_maps, network)
    with torch.no_grad():
        chosen = [_strongest(picture, most) for picture in every]
    largest = max(max(len(rows) for rows in chosen), 1)
    filled = [
        torch.cat([picture[rows], picture.new_zeros(largest - len(rows), picture.shape[1])])
        for picture, rows in zip(every, chosen, strict=True)
    ]
    return torch.stack(filled)


def true_boxes(
    boxes_xyxy: Float[Tensor, "t 4"],
    class_index: Int64[Tensor, "t"],
    image_index: Int64[Tensor, "t"],
    num_images: int,
) -> Float[Tensor, "n q 5"]:
    """x0 y0 x1 y1 and the class of each picture's truths; rows of zeros after the last."""
    rows = torch.cat([boxes_xyxy.float(), class_index.float()[:, None]], dim=1)
    own = [rows[image_index == number] for number in range(num_images)]
    largest = max(max(map(len, own), default=0), 1)
    filled = rows.new_zeros(num_images, largest, 5)
    for number, each in enumerate(own):
        filled[number, : len(each)] = each
    return filled


def _decoded(raw_maps: list[Tensor], network: AnchorGrid) -> Float[Tensor, "n s 5+k"]:
    """Every slot of every head."""
    heads = zip(
        raw_maps,
        network.anchors,
        network.strides,
        network.grid_scales,
        network.is_activated,
        strict=True,
    )
    parts = []
    for raw_map, anchors, stride, grid_scale, is_activated in heads:
        decoded = decode_map(
            raw_map, anchors, stride=stride, grid_scale=grid_scale, is_activated=is_activated
        )
        columns = [
            decoded.boxes_xyxy,
            decoded.objectness_logits[..., None].sigmoid(),
            decoded.class_logits.sigmoid(),
        ]
        parts.append(torch.cat(columns, dim=-1).flatten(1, 3))
    return torch.cat(parts, dim=1)


def _strongest(slots: Float[Tensor, "s 5+k"], most: int) -> Int64[Tensor, "m"]:
    """Rows of the slots that are kept, best first."""
    chance, class_index = slots[:, 5:].max(dim=1)
    strength = slots[:, 4] * chance
    best = torch.argsort(strength, descending=True, stable=True)[:CANDIDATES]
    kept = non_maximum_suppression(
        slots[best, :4],
        strength[best],
        class_index[best],
        iou_threshold=IOU_THRESHOLD,
        max_kept=most,
    )
    return best[kept]
