"""New pictures out of labelled ones, with boxes that follow: one warp, one colour matrix a picture.

Everything that a picture goes through is drawn from one seed as `AugmentParameters`, which are
returned, logged with the derived medium and enough to make the same picture again. All geometry is
one affine matrix (one interpolation, so nothing blurs twice), all colour one 3 x 4 matrix.

The defaults are those of the workflow that Tilth answers (NVIDIA's post: imgaug's brightness factor
1.1 to 1.5, scale 0.5 to 0.8, a shift of 60 pixels, read here as an eighth of a 480-pixel side and
drawn either way) plus a mirror; the other ranges start switched off. Rotation is among those as the
hull of a rotated box is looser than the object in it, which teaches a detector loose boxes.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from tilth.errors import SettingsError
from tilth.seeding import generator

__all__ = [
    "AugmentParameters",
    "Augmentation",
    "Augmented",
    "augment",
    "draw_parameters",
    "warp_boxes",
    "warp_image",
]

Range = tuple[float, float]

_LUMA = np.array([0.299, 0.587, 0.114])  # BT.601
# Luma and two colour differences; hue turns the differences, saturation stretches them.
_TO_YIQ = np.array([_LUMA, [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """From which ranges a new picture is drawn, and which boxes survive it.

    Attributes:
        scale: zoom about the centre; below 1 shows the mean colour around the picture.
        aspect: factor on the width alone, drawn like ``scale``.
        translate: shift along each axis as a share of that side, in either direction.
        flip_probability: how often the picture is mirrored left to right.
        rotation_degrees: rotation about the centre, either way, uniform up to this.
        brightness: factor on every level.
        contrast: factor on the distance from middle grey.
        saturation: factor on the distance from grey.
        hue_degrees: rotation of the colour circle, either way, uniform up to this.
        min_visible: a box stays when at least this share of its area is inside, 0 to 1.
        min_size_px: and when both visible sides are at least this long.
    """

    scale: Range = (0.5, 0.8)
    aspect: Range = (1.0, 1.0)
    translate: Range = (0.0, 0.125)
    flip_probability: float = 0.5
    rotation_degrees: float = 0.0
    brightness: Range = (1.1, 1.5)
    contrast: Range = (1.0, 1.0)
    saturation: Range = (1.0, 1.0)
    hue_degrees: float = 0.0
    min_visible: float = 0.3
    min_size_px: float = 4.0

    def __post_init__(self) -> None:
        for name in ("scale", "aspect", "translate", "brightness", "contrast", "saturation"):
            low, high = getattr(self, name)
            smallest = 0.01 if name in ("scale", "aspect") else 0.0
            if not smallest <= low <= high < float("inf"):
                raise SettingsError(
                    f"augmentation range '{name}' cannot be used",
                    expected=f"[low, high] with {smallest:g} <= low <= high",
                    got=str(list(getattr(self, name))),
                )
        for name, top in (
            ("flip_probability", 1.0),
            ("min_visible", 1.0),
            ("rotation_degrees", 180.0),
            ("hue_degrees", 180.0),
            ("min_size_px", float("inf")),
        ):
            if not 0.0 <= getattr(self, name) <= top:
                raise SettingsError(
                    f"augmentation setting '{name}' cannot be used",
                    expected=f"0 to {top:g}",
                    got=str(getattr(self, name)),
                )


@dataclass(frozen=True, kw_only=True)
class AugmentParameters:
    """What was drawn for one picture; with its pixels it makes the same picture again.

    Shifts are shares of the picture's sides, angles degrees, the rest factors. Order: mirror,
    zoom, rotate about the centre, then shift; contrast about middle grey before brightness.
    """

    flip: bool = False
    scale_x: float = 1.0
    scale_y: float = 1.0
    rotation_degrees: float = 0.0
    shift_x: float = 0.0
    shift_y: float = 0.0
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue_degrees: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a log or a `Transform`; ``AugmentParameters(**d)`` reads them back."""
        return dataclasses.asdict(self)

    def affine(self, width: int, height: int) -> NDArray[np.float64]:
        """float64 [2, 3]: old to new pixel-edge coordinates of a ``width`` x ``height`` picture."""
        angle = np.deg2rad(self.rotation_degrees)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        linear = turn @ np.diag([-self.scale_x if self.flip else self.scale_x, self.scale_y])
        centre = np.array([width / 2, height / 2])
        offset = centre - linear @ centre + (self.shift_x * width, self.shift_y * height)
        return np.concatenate([linear, offset[:, None]], axis=1)

    def colour_matrix(self) -> NDArray[np.float64]:
        """float64 [3, 4]: old R, G, B, 1 to new levels; brightness, contrast, saturation, hue."""
        angle = np.deg2rad(self.hue_degrees)
        cos, sin = self.saturation * np.cos(angle), self.saturation * np.sin(angle)
        chroma = np.array([[1.0, 0.0, 0.0], [0.0, cos, -sin], [0.0, sin, cos]])
        mixed = np.linalg.solve(_TO_YIQ, chroma @ _TO_YIQ) * (self.contrast * self.brightness)
        middle = 127.5 * (1.0 - self.contrast) * self.brightness
        return np.concatenate([mixed, np.full((3, 1), middle)], axis=1)


class Augmented(NamedTuple):
    """A new picture and its boxes; ``kept_rows`` says which old box each new one was."""

    image_rgb: NDArray[np.uint8]
    boxes_xyxy: NDArray[np.float64]
    kept_rows: NDArray[np.int64]
    parameters: AugmentParameters


def augment(
    image_rgb: NDArray[np.uint8],
    boxes_xyxy: NDArray[np.float64],
    seed: int,
    settings: Augmentation = Augmentation(),
) -> Augmented:
    """Draw parameters from ``seed`` and make one new picture of the same size.

    Args:
        image_rgb: uint8 [h, w, 3].
        boxes_xyxy: float64 [m, 4] absolute pixel-edge corners.

    Returns:
        The picture, float64 [k, 4] boxes clipped to it, int64 [k] rows of the boxes that were
        kept, and the parameters. Equal input gives equal output, bit for bit.

    >>> picture = np.zeros((60, 80, 3), np.uint8)
    >>> new = augment(picture, np.array([[30.0, 20, 50, 40]]), seed=1)
    >>> new.image_rgb.shape, new.kept_rows.tolist()
    ((60, 80, 3), [0])
    """
    height, width = image_rgb.shape[:2]
    parameters = draw_parameters(seed, settings)
    boxes, kept_rows = warp_boxes(boxes_xyxy, width, height, parameters, settings)
    return Augmented(warp_image(image_rgb, parameters), boxes, kept_rows, parameters)


def draw_parameters(seed: int, settings: Augmentation) -> AugmentParameters:
    """The parameters that ``seed`` stands for; needs no pixels.

    >>> draw_parameters(3, Augmentation()) == draw_parameters(3, Augmentation())
    True
    """
    # One draw a setting, in this order and used or not: changing one range leaves the others alone.
    uniform = generator(seed, "augment").random(12).tolist()

    def within(limits: Range, position: int) -> float:
        low, high = limits
        return low + (high - low) * uniform[position]

    def either_way(limit: float, position: int) -> float:
        return limit * (2.0 * uniform[position] - 1.0)

    def signed(limits: Range, position: int, sign_position: int) -> float:
        size = within(limits, position)
        return size if uniform[sign_position] < 0.5 else -size

    scale = within(settings.scale, 0)
    return AugmentParameters(
        flip=uniform[1] < settings.flip_probability,
        scale_x=scale * within(settings.aspect, 2),
        scale_y=scale,
        rotation_degrees=either_way(settings.rotation_degrees, 3),
        shift_x=signed(settings.translate, 4, 5),
        shift_y=signed(settings.translate, 6, 7),
        brightness=within(settings.brightness, 8),
        contrast=within(settings.contrast, 9),
        saturation=within(settings.saturation, 10),
        hue_degrees=either_way(settings.hue_degrees, 11),
    )


def warp_image(image_rgb: NDArray[np.uint8], parameters: AugmentParameters) -> NDArray[np.uint8]:
    """Apply the parameters to pixels, uint8 [h, w, 3] to the same shape.

    What comes in from beyond the border is the picture's mean colour, as Darknet fills it.
    """
    height, width = image_rgb.shape[:2]
    matrix = parameters.affine(width, height)
    # OpenCV counts from pixel centres; ours from the edge of the first pixel.
    matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    total = cv2.sumElems(image_rgb)
    fill = [part / (width * height) for part in total[:3]]
    warped = cv2.warpAffine(
        image_rgb,
        matrix,
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=fill,
    )
    return np.asarray(cv2.transform(warped, parameters.colour_matrix()), dtype=np.uint8)


def warp_boxes(
    boxes_xyxy: NDArray[np.float64],
    width: int,
    height: int,
    parameters: AugmentParameters,
    settings: Augmentation,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Apply the parameters to boxes of a ``width`` x ``height`` picture.

    Returns:
        float64 [k, 4]: the upright hull of each moved box, clipped to the picture; and int64 [k]:
        the rows of ``boxes_xyxy`` that stayed (see `Augmentation`).
    """
    boxes_xyxy = np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 4)
    matrix = parameters.affine(width, height)
    corners = boxes_xyxy[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    moved = corners @ matrix[:, :2].T + matrix[:, 2]
    hull = np.concatenate([moved.min(axis=1), moved.max(axis=1)], axis=1)
    clipped = np.clip(hull, 0.0, np.array([width, height, width, height], dtype=np.float64))
    visible_sides = clipped[:, 2:] - clipped[:, :2]
    hull_area = (hull[:, 2:] - hull[:, :2]).prod(axis=1)
    visible_share = visible_sides.prod(axis=1) / np.where(hull_area > 0, hull_area, 1.0)
    stays = (visible_share >= settings.min_visible) & (hull_area > 0)
    stays &= (visible_sides >= settings.min_size_px).all(axis=1)
    kept_rows = np.flatnonzero(stays)
    return clipped[kept_rows], kept_rows
