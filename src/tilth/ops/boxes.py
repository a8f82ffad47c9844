"""Areas, overlaps and conversions of boxes, from IoU to the complete IoU of Zheng et al.

Source: Zheng, Wang, Liu, Li, Ye, Ren, 2020, Distance-IoU Loss: Faster and Better Learning for
    Bounding Box Regression, arXiv 1911.08287v1; and Rezatofighi et al., 2019, Generalized
    Intersection over Union, arXiv 1902.09630v2, for `aligned_giou`.
Follows: Eq. 1 -> `aligned_iou`; Eq. 3 -> `aligned_giou`; Eq. 6 and 7 -> `aligned_diou`;
    Eq. 8 to 11 -> `aligned_ciou`.
Symbols: boxes_xyxy = B = box corners x0 y0 x1 y1 [n, 4] in pixels; union = |B u B_gt|;
    centre_distance = rho^2(b, b_gt) = squared distance of the centres; diagonal = c^2 = squared
    diagonal of the smallest box that holds both; aspect = v; trade_off = alpha.
Differs: returns the similarity, so that a loss is one minus it; alpha is a constant to the
    gradient, as the paper's text says; the factor 1 / (w^2 + h^2) stays in the gradient of v,
    because pixel boxes do not make it explode; a box without width or height has overlap 0 and
    finite gradients.
Checked by: `test_eq1_iou_by_counting_pixels`, `test_eq3_giou_by_hand`, `test_eq7_diou_by_hand`,
    `test_eq10_ciou_matches_plain_twin`, `test_eq11_trade_off_is_constant_to_the_gradient`,
    `test_gradients_are_finite_for_degenerate_boxes`
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = [
    "aligned_ciou",
    "aligned_diou",
    "aligned_giou",
    "aligned_iou",
    "box_area",
    "clip_boxes",
    "cxcywh_to_xyxy",
    "distance_penalty",
    "pairwise_iou",
    "xyxy_to_cxcywh",
]

# Smallest divisor: far below any real area in pixels, far above float32's smallest number, so that
# the gradient of a division by it stays finite.
EPSILON = 1e-9


def box_area(boxes_xyxy: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch"]:
    """Areas in square pixels; a box turned inside out has area 0.

    >>> box_area(torch.tensor([[0.0, 0.0, 4.0, 3.0]]))
    tensor([12.])
    """
    size = (boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]).clamp(min=0)
    return size[..., 0] * size[..., 1]


def xyxy_to_cxcywh(boxes_xyxy: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 4"]:
    """Corners to centre, width and height."""
    low, high = boxes_xyxy[..., :2], boxes_xyxy[..., 2:]
    return torch.cat([(low + high) / 2, high - low], dim=-1)


def cxcywh_to_xyxy(boxes_cxcywh: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 4"]:
    """Centre, width and height to corners."""
    centre, half = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:] / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def clip_boxes(
    boxes_xyxy: Float[Tensor, "*batch 4"], width: int, height: int
) -> Float[Tensor, "*batch 4"]:
    """Move corners that lie outside a ``width`` x ``height`` picture onto its border."""
    limit = boxes_xyxy.new_tensor([width, height, width, height])
    return boxes_xyxy.clamp(min=0).minimum(limit)


def pairwise_iou(
    first_xyxy: Float[Tensor, "*batch n 4"], second_xyxy: Float[Tensor, "*batch m 4"]
) -> Float[Tensor, "*batch n m"]:
    """IoU of every box of the first set with every box of the second.

    >>> pairwise_iou(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[1.0, 0.0, 3.0, 2.0]]))
    tensor([[0.3333]])
    """
    return aligned_iou(first_xyxy[..., :, None, :], second_xyxy[..., None, :, :])


def aligned_iou(first_xyxy: Float[Tensor, "*#n 4"], second_xyxy: Float[Tensor, "*#n 4"]) -> Tensor:
    """IoU of the boxes that stand in the same row; shapes broadcast. Zheng et al., Eq. 1."""
    return _intersection_and_union(first_xyxy, second_xyxy)[0]


def aligned_giou(first_xyxy: Float[Tensor, "*#n 4"], second_xyxy: Float[Tensor, "*#n 4"]) -> Tensor:
    """Generalised IoU, -1 to 1: IoU less the empty share of the smallest box around both."""
    iou, union = _intersection_and_union(first_xyxy, second_xyxy)
    enclosing = _enclosing_size(first_xyxy, second_xyxy)
    enclosing_area = (enclosing[..., 0] * enclosing[..., 1]).clamp(min=EPSILON)
    return iou - (enclosing_area - union).clamp(min=0) / enclosing_area  # Eq. 3


def aligned_diou(first_xyxy: Float[Tensor, "*#n 4"], second_xyxy: Float[Tensor, "*#n 4"]) -> Tensor:
    """Distance IoU, -1 to 1: IoU less the squared distance of the centres over the diagonal's."""
    iou, _ = _intersection_and_union(first_xyxy, second_xyxy)
    return iou - distance_penalty(first_xyxy, second_xyxy)  # Eq. 7


def aligned_ciou(first_xyxy: Float[Tensor, "*#n 4"], second_xyxy: Float[Tensor, "*#n 4"]) -> Tensor:
    """Complete IoU, -2 to 1: distance IoU less a penalty for a different aspect ratio."""
    iou, _ = _intersection_and_union(first_xyxy, second_xyxy)
    angle = _aspect_angle(second_xyxy) - _aspect_angle(first_xyxy)
    aspect = 4 / math.pi**2 * angle**2  # Eq. 9
    with torch.no_grad():
        # At a perfect fit both terms of the divisor vanish, and so must the penalty.
        trade_off = aspect / (1 - iou + aspect).clamp(min=EPSILON)  # Eq. 11
    return iou - distance_penalty(first_xyxy, second_xyxy) - trade_off * aspect  # Eq. 10


def distance_penalty(
    first_xyxy: Float[Tensor, "*#n 4"], second_xyxy: Float[Tensor, "*#n 4"]
) -> Tensor:
    """Squared distance of the centres over the squared diagonal of the box around both, 0 to 1."""
    shift = first_xyxy[..., :2] + first_xyxy[..., 2:] - second_xyxy[..., :2] - second_xyxy[..., 2:]
    centre_distance = (shift**2).sum(-1) / 4
    diagonal = (_enclosing_size(first_xyxy, second_xyxy) ** 2).sum(-1)
    return centre_distance / diagonal.clamp(min=EPSILON)  # Eq. 6


def _intersection_and_union(first_xyxy: Tensor, second_xyxy: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and the area of the union."""
    low = torch.maximum(first_xyxy[..., :2], second_xyxy[..., :2])
    high = torch.minimum(first_xyxy[..., 2:], second_xyxy[..., 2:])
    overlap = (high - low).clamp(min=0)
    intersection = overlap[..., 0] * overlap[..., 1]
    union = box_area(first_xyxy) + box_area(second_xyxy) - intersection
    return intersection / union.clamp(min=EPSILON), union  # Eq. 1


def _enclosing_size(first_xyxy: Tensor, second_xyxy: Tensor) -> Tensor:
    low = torch.minimum(first_xyxy[..., :2], second_xyxy[..., :2])
    high = torch.maximum(first_xyxy[..., 2:], second_xyxy[..., 2:])
    return high - low


def _aspect_angle(boxes_xyxy: Tensor) -> Tensor:
    """arctan(w / h), finite in value and gradient also where the height is 0."""
    width, height = (boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]).unbind(-1)
    return torch.atan(width / height.clamp(min=EPSILON))
