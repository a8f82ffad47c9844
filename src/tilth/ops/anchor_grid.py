"""Read boxes out of a detection head's map: a grid of cells, a few anchors in each.

Source: Bochkovskiy, Wang, Liao, 2020, YOLOv4: Optimal Speed and Accuracy of Object Detection,
    arXiv 2004.10934v1 (section 3.4, "eliminate grid sensitivity"); box parameters from Redmon,
    Farhadi, 2018, YOLOv3, arXiv 1804.02767v1 (section 2.1).
Follows: section 2.1 and section 3.4 -> `decode_boxes`; a whole map -> `decode_map`.
Symbols: raw_map = t_x t_y t_w t_h t_o and class logits, channel-wise per anchor; stride = pixels
    per cell; anchors = p_w p_h in pixels; grid_scale = the factor above 1 of section 3.4, Darknet's
    scale_x_y.
Differs: exp(t_w) and exp(t_h) are cut at exp(8), so that a wild step of training gives a very large
    box instead of infinity.
Checked by: `test_decode_matches_plain_twin`, `test_centre_reaches_the_cell_border`
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Anchors", "DecodedMap", "decode_boxes", "decode_map"]

# One head's pairs of width and height, in pixels of the network's input.
Anchors = Sequence[Sequence[float | int]]

MAX_LOG_SCALE = 8.0
PROBABILITY_EPS = 1e-7


@dataclass(frozen=True, kw_only=True)
class DecodedMap:
    """One head's predictions in float32, for every picture, anchor and cell.

    Attributes:
        boxes_xyxy: [b, a, h, w, 4] pixels of the network's input.
        objectness_logits: [b, a, h, w].
        class_logits: [b, a, h, w, c].
    """

    boxes_xyxy: Float[Tensor, "b a h w 4"]
    objectness_logits: Float[Tensor, "b a h w"]
    class_logits: Float[Tensor, "b a h w c"]


def decode_map(
    raw_map: Float[Tensor, "b channels h w"],
    anchors: Anchors,
    *,
    stride: int,
    grid_scale: float,
    is_activated: bool = False,
) -> DecodedMap:
    """Boxes and logits of one head, in float32 whatever the map's precision.

    Args:
        is_activated: the map went through a sigmoid already, and sizes are (2 t)² anchors
            (Scaled-YOLOv4; Darknet's new_coords).
    """
    height, width = raw_map.shape[-2:]
    raw = raw_map.float().unflatten(1, (len(anchors), -1)).movedim(2, -1)
    columns = torch.arange(width, device=raw.device, dtype=torch.float32)
    rows = torch.arange(height, device=raw.device, dtype=torch.float32)
    cells = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)
    anchor_sizes = raw.new_tensor([list(pair) for pair in anchors])[:, None, None, :]
    boxes = decode_boxes(
        raw[..., :4],
        cells,
        anchor_sizes,
        stride=stride,
        grid_scale=grid_scale,
        is_activated=is_activated,
    )
    logits = torch.logit(raw[..., 4:], eps=PROBABILITY_EPS) if is_activated else raw[..., 4:]
    return DecodedMap(
        boxes_xyxy=boxes, objectness_logits=logits[..., 0], class_logits=logits[..., 1:]
    )


def decode_boxes(
    params: Float[Tensor, "*#n 4"],
    cells: Float[Tensor, "*#n 2"],
    anchor_sizes: Float[Tensor, "*#n 2"],
    *,
    stride: int,
    grid_scale: float,
    is_activated: bool = False,
) -> Tensor:
    """Boxes [..., 4] in pixels of the network's input; shapes broadcast.

    Args:
        params: t_x, t_y, t_w and t_h, float32.
        cells: column and row of each.
        anchor_sizes: width and height in pixels.
        is_activated: as in `decode_map`.
    """
    place = params[..., 0:2] if is_activated else params[..., 0:2].sigmoid()
    offset = grid_scale * place - (grid_scale - 1) / 2  # section 3.4
    centre = (cells + offset) * stride
    if is_activated:
        factors = (2 * params[..., 2:4]).square()
    else:
        factors = params[..., 2:4].clamp(max=MAX_LOG_SCALE).exp()
    half = anchor_sizes * factors / 2  # section 2.1
    return torch.cat([centre - half, centre + half], dim=-1)
