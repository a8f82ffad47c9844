"""The regions of a mask picture: the pixels of each of its values, as runs, boxes and areas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilth.data.indexed_png import LabelPicture
from tilth.data.label_maps import runs_of_values
from tilth.data.runs import Runs, all_to_json
from tilth.errors import LabelError

__all__ = ["Regions", "binary_regions", "regions_of", "regions_of_runs"]


@dataclass(frozen=True)
class Regions:
    """What one mask picture holds.

    Attributes:
        width, height: pixels.
        values: int64 [k], those that are there, sorted. Of a picture of colours a value is
            ``red << 16 | green << 8 | blue``.
        texts: k run-length masks in JSON.
        boxes_xyxy: float64 [k, 4], pixel edges.
        areas: int64 [k], pixels.
        colours: int64 [k], the colour that the palette gives to each value; -1 where it has none.
        kind: "indexed", "grey", "grey16", "colour"; or "other", of a binary mask.
    """

    width: int
    height: int
    values: NDArray[np.int64]
    texts: list[bytes]
    boxes_xyxy: NDArray[np.float64]
    areas: NDArray[np.int64]
    colours: NDArray[np.int64]
    kind: str


def regions_of(picture: LabelPicture, *, zero: bool = False) -> Regions:
    """The regions of all values of a picture, by one pass over its pixels.

    Args:
        zero: those of value 0 too, which is the background otherwise; black is a colour.
    """
    if picture.is_colour:
        kind = "colour"
    elif picture.palette is not None:
        kind = "indexed"
    else:
        kind = "grey" if picture.values.itemsize == 1 else "grey16"
    pixels = _packed(picture.values) if picture.is_colour else picture.values
    by_value = runs_of_values(pixels)
    if not zero and kind != "colour":
        by_value.pop(0, None)
    return regions_of_runs(by_value, picture.size, kind, picture.palette)


def regions_of_runs(
    by_value: dict[int, Runs],
    size: tuple[int, int],
    kind: str,
    palette: NDArray[np.uint8] | None = None,
) -> Regions:
    """The regions of the runs of each value."""
    width, height = size
    count = len(by_value)
    values = np.fromiter(by_value, np.int64, count)
    colours = np.full(count, -1, dtype=np.int64)
    if palette is not None:
        known = values < len(palette)
        colours[known] = _packed(palette)[values[known]]
    boxes = [runs.box_xyxy(height) for runs in by_value.values()]
    return Regions(
        width=width,
        height=height,
        values=values,
        texts=all_to_json(list(by_value.values()), height, width),
        boxes_xyxy=np.array(boxes, dtype=np.float64).reshape(-1, 4),
        areas=np.fromiter((runs.area for runs in by_value.values()), np.int64, count),
        colours=colours,
        kind=kind,
    )


def binary_regions(picture: LabelPicture, *, components: bool = False) -> Regions:
    """All that is not 0 as one region of the value 1, or one for each connected part.

    The kind is "other" where there are values between nothing and all.
    """
    pixels = picture.values
    if picture.is_colour:
        if (pixels != pixels[..., :1]).any():
            raise LabelError("mask of colours, not of 0 and 255")
        pixels = pixels[..., 0]
    whole = np.iinfo(pixels.dtype).max
    plain = picture.palette is not None or bool(((pixels <= 1) | (pixels == whole)).all())
    inside = (pixels != 0).astype(np.uint8)
    if components:
        import cv2  # exact here, and a tenth of a second to load

        by_value = runs_of_values(cv2.connectedComponents(inside, connectivity=8)[1])
    else:
        by_value = runs_of_values(inside)
    by_value.pop(0, None)
    return regions_of_runs(by_value, picture.size, "grey" if plain else "other")


def _packed(colours: NDArray[Any]) -> NDArray[np.int32]:
    channels = colours.astype(np.int32)
    return channels[..., 0] << 16 | channels[..., 1] << 8 | channels[..., 2]
