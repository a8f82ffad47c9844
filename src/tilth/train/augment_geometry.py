"""Where a picture's points go: one matrix a picture, for pixels and boxes alike.

Matrices are float64 [3, 3] and act on columns (x, y, 1) of pixel-edge coordinates: from the stored
picture, in its own pixels, to the square that the network sees.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tilth.train.augment_parameters import PictureParameters

__all__ = [
    "Rectangle",
    "Resize",
    "fitted_size",
    "picture_matrix",
    "placement_matrix",
    "seen_boxes",
    "square_matrix",
    "tiles_of",
    "warped_boxes",
]

Resize = Literal["letterbox", "stretch"]
"""Whether a picture keeps its shape in the square, and is padded, or fills it."""

Rectangle = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels of the sample."""

_NEAREST = 0.05  # what perspective brings nearer than this would be at the eye or behind it


class _Axis(NamedTuple):
    factor: float
    offset: float


def fitted_size(width: int, height: int, size: int, resize: Resize) -> tuple[int, int]:
    """Width and height that a picture takes in a square of side ``size``.

    >>> fitted_size(100, 50, 64, "letterbox")
    (64, 32)
    """
    if resize == "stretch":
        return size, size
    ratio = size / max(height, width)  # as `tilth.ops.letterbox.letterbox`
    return max(1, round(width * ratio)), max(1, round(height * ratio))


def placement_matrix(width: int, height: int, size: int, resize: Resize) -> NDArray[np.float64]:
    """Puts a whole picture into the square: padded around its middle, or stretched."""
    new_width, new_height = fitted_size(width, height, size, resize)
    left, top = (size - new_width) // 2, (size - new_height) // 2
    return _axes(_Axis(new_width / width, left), _Axis(new_height / height, top))


def square_matrix(parameters: PictureParameters, size: int) -> NDArray[np.float64]:
    """What happens inside the square: mirror, zoom, turn, shear, tilt about the centre, shift."""
    x = parameters.scale * (-1 if parameters.flip else 1)
    y = parameters.scale * (-1 if parameters.vertical_flip else 1)
    shifts = (parameters.shift_x * size, parameters.shift_y * size)
    middle = size / 2
    bends = (
        parameters.rotation_degrees,
        parameters.shear_x_degrees,
        parameters.shear_y_degrees,
        parameters.perspective_x,
        parameters.perspective_y,
    )
    if not any(bends):
        return _axes(_Axis(x, middle * (1 - x) + shifts[0]), _Axis(y, middle * (1 - y) + shifts[1]))
    angle, shear_x, shear_y = np.deg2rad(bends[:3])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shear = np.array([[1, np.tan(shear_x)], [np.tan(shear_y), 1]])
    centred = np.eye(3)
    centred[:2, :2] = turn @ shear @ np.diag([x, y])
    tilt = np.eye(3)
    tilt[2, :2] = -np.asarray(bends[3:]) / middle
    to_centre, back = np.eye(3), np.eye(3)
    to_centre[:2, 2] = -middle
    back[:2, 2] = middle + np.asarray(shifts)
    return back @ tilt @ centred @ to_centre


def picture_matrix(
    parameters: PictureParameters,
    picture_size: tuple[int, int],
    size: int,
    resize: Resize,
    *,
    corner: int | None = None,
) -> NDArray[np.float64]:
    """From a stored picture of ``picture_size`` (width, height) to the sample.

    Args:
        corner: of the tile in a mosaic (see `tiles_of`), None for a sample of one picture.
    """
    width, height = picture_size
    if any(parameters.sides):
        placed = _cropped(parameters.sides, picture_size, size, resize)
    else:
        placed = placement_matrix(width, height, size, resize)
    matrix = square_matrix(parameters, size) @ placed
    if corner is None or not parameters.is_pushed:
        return matrix
    # Darknet moves every second picture of a mosaic into its corner, so that more of it is seen
    # and less of what pads it.
    hull = warped_boxes(np.array([[0.0, 0.0, width, height]]), matrix)[0]
    push = np.eye(3)
    push[0, 2] = -hull[0] if corner in (0, 2) else size - hull[2]
    push[1, 2] = -hull[1] if corner in (0, 1) else size - hull[3]
    return push @ matrix


def tiles_of(cut: tuple[float, float] | None, size: int) -> tuple[Rectangle, ...]:
    """The rectangles of a sample's pictures: top left, top right, bottom left, bottom right.

    >>> tiles_of((0.25, 0.5), 64)
    ((0, 0, 16, 32), (16, 0, 64, 32), (0, 32, 16, 64), (16, 32, 64, 64))
    """
    if cut is None:
        return ((0, 0, size, size),)
    x, y = (min(max(1, round(share * size)), size - 1) for share in cut)
    return ((0, 0, x, y), (x, 0, size, y), (0, y, x, size), (x, y, size, size))


def warped_boxes(
    boxes_xyxy: NDArray[np.float64], matrix: NDArray[np.float64]
) -> NDArray[np.float64]:
    """float64 [n, 4]: the upright hulls of the moved boxes, not clipped."""
    if not matrix[0, 1] and not matrix[1, 0] and not matrix[2, :2].any():
        factor, offset = matrix[[0, 1, 0, 1], [0, 1, 0, 1]], matrix[[0, 1, 0, 1], 2]
        moved = boxes_xyxy * factor + offset
        first, second = moved[:, :2], moved[:, 2:]
        return np.concatenate([np.minimum(first, second), np.maximum(first, second)], axis=1)
    corners = boxes_xyxy[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    homogeneous = corners @ matrix[:, :2].T + matrix[:, 2]
    points = homogeneous[..., :2] / np.maximum(homogeneous[..., 2:], _NEAREST)
    return np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1)


def seen_boxes(
    boxes_xyxy: NDArray[np.float64],
    tile: Rectangle,
    bound: Rectangle,
    *,
    min_visible: float,
    min_side: float,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Boxes cut at ``bound`` [n, 4], and which of them are still worth learning [n].

    Args:
        boxes_xyxy: moved boxes, as `warped_boxes` gives them.
        tile: where their picture is seen; enough of a box must lie in it.
        bound: where boxes end; the tile, or all of the sample.
    """
    inside = boxes_xyxy.clip(tile[:2] * 2, tile[2:] * 2)
    sides, sides_before = inside[:, 2:] - inside[:, :2], boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    visible = sides.prod(axis=1) >= min_visible * sides_before.prod(axis=1)
    kept = visible & (sides >= min_side).all(axis=1)
    return inside if bound == tile else boxes_xyxy.clip(bound[:2] * 2, bound[2:] * 2), kept


def _cropped(
    sides: tuple[float, float, float, float],
    picture_size: tuple[int, int],
    size: int,
    resize: Resize,
) -> NDArray[np.float64]:
    """What lies between the moved sides fills the square, or is padded to it."""
    width, height = picture_size
    left, top = sides[0] * width, sides[1] * height
    new_width, new_height = (1 - sides[0] - sides[2]) * width, (1 - sides[1] - sides[3]) * height
    factors = (size / new_width, size / new_height)
    if resize == "letterbox":
        factors = (min(factors),) * 2
    x = _Axis(factors[0], (size - factors[0] * new_width) / 2 - factors[0] * left)
    y = _Axis(factors[1], (size - factors[1] * new_height) / 2 - factors[1] * top)
    return _axes(x, y)


def _axes(x: _Axis, y: _Axis) -> NDArray[np.float64]:
    return np.array([[x.factor, 0, x.offset], [0, y.factor, y.offset], [0, 0, 1]], dtype=np.float64)
