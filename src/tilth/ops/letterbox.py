"""Fit a picture of any shape into a square, and carry boxes along and back.

By `letterbox` without bending it, or by `stretch` as Darknet does.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

__all__ = ["FILL", "Placement", "from_letterbox", "letterbox", "stretch", "to_letterbox"]

FILL = 127  # Darknet pads with 0.5


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where the picture lies in the square.

    Attributes:
        scale_x, scale_y: pixels of the square per pixel of the picture. They differ by what it
            takes to make the resized picture a whole number of pixels wide and high.
        left, top: pixels of padding before the picture.
    """

    scale_x: float
    scale_y: float
    left: int
    top: int


def letterbox(
    image: UInt8[Tensor, "3 h w"], size: int, *, padding: Literal["grey", "mean"] = "grey"
) -> tuple[UInt8[Tensor, "3 {size} {size}"], Placement]:
    """Resize so that the longer side is ``size`` pixels, and pad the shorter one on both sides.

    Args:
        image: RGB, 0 to 255.
        size: side of the square in pixels.
        padding: ``"grey"`` (127) or ``"mean"``, the picture's mean colour.

    >>> square, placement = letterbox(torch.zeros(3, 50, 100, dtype=torch.uint8), 64)
    >>> square.shape, placement.top
    (torch.Size([3, 64, 64]), 16)
    """
    height, width = image.shape[-2:]
    ratio = size / max(height, width)
    new_height, new_width = max(1, round(height * ratio)), max(1, round(width * ratio))
    left, top = (size - new_width) // 2, (size - new_height) // 2
    resized = interpolate(
        image[None], size=(new_height, new_width), mode="bilinear", antialias=True
    )[0]
    square = image.new_empty(3, size, size)
    square[:] = FILL if padding == "grey" else _mean_colour(image)
    square[:, top : top + new_height, left : left + new_width] = resized
    placement = Placement(
        scale_x=new_width / width, scale_y=new_height / height, left=left, top=top
    )
    return square, placement


def stretch(
    image: UInt8[Tensor, "3 h w"], size: int
) -> tuple[UInt8[Tensor, "3 {size} {size}"], Placement]:
    """Resize both sides to ``size`` pixels, whatever the shape was.

    >>> square, placement = stretch(torch.zeros(3, 50, 100, dtype=torch.uint8), 64)
    >>> square.shape, placement.scale_x, placement.scale_y
    (torch.Size([3, 64, 64]), 0.64, 1.28)
    """
    height, width = image.shape[-2:]
    square = interpolate(image[None], size=(size, size), mode="bilinear", antialias=True)[0]
    return square, Placement(scale_x=size / width, scale_y=size / height, left=0, top=0)


def to_letterbox(
    boxes_xyxy: Float[Tensor, "*batch 4"], placement: Placement
) -> Float[Tensor, "*batch 4"]:
    """Boxes of the picture, in pixels of the square."""
    scale, offset = _scale_and_offset(boxes_xyxy, placement)
    return boxes_xyxy * scale + offset


def from_letterbox(
    boxes_xyxy: Float[Tensor, "*batch 4"], placement: Placement
) -> Float[Tensor, "*batch 4"]:
    """Boxes of the square, in pixels of the picture; the inverse of `to_letterbox`."""
    scale, offset = _scale_and_offset(boxes_xyxy, placement)
    return (boxes_xyxy - offset) / scale


def _scale_and_offset(like: Tensor, placement: Placement) -> tuple[Tensor, Tensor]:
    scale = [placement.scale_x, placement.scale_y] * 2
    offset = [placement.left, placement.top] * 2
    return like.new_tensor(scale), like.new_tensor(offset)


def _mean_colour(image: Tensor) -> Tensor:
    return image.to(torch.float32).mean(dim=(1, 2), keepdim=True).round().to(torch.uint8)
