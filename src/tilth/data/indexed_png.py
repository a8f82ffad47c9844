"""Indexed PNGs in and out: the values of the pixels, not their colours.

A label map is a palette PNG (the index is the value, the palette only for the eye) or a grey one of
1 to 16 bits. Grey of 2 or 4 bits is read as it is stored, not stretched to 255. A picture of
colours is given back as colours: which class a colour stands for, its format knows. JPEG is
refused, because it changes values.

`voc_palette` is the development kit's (Everingham et al., The PASCAL VOC Challenge, IJCV 2010,
`VOClabelcolormap`); index 255, "void", is its light (224, 224, 192).
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from tilth.data.label_maps import MAX_MAP_PIXELS
from tilth.errors import LabelError

__all__ = ["LabelPicture", "decode_png", "encode_png", "voc_palette"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_BIT_DEPTH_AT, _COLOUR_TYPE_AT = 24, 25  # of the header chunk, which comes first (PNG, 11.2.1)
_GREY = 0
_COMPRESSION = 3  # of 9: a third larger than the best, in a third of the time
_STRETCH = {2: 85, 4: 17}  # by which Pillow multiplies grey of so many bits


@dataclass(frozen=True)
class LabelPicture:
    """What a PNG holds.

    Attributes:
        values: uint8 or uint16 [h, w], as stored; or uint8 [h, w, 3] where it holds colours.
        palette: uint8 [k, 3], the colours of the indices; None for grey and colours.
    """

    values: NDArray[Any]
    palette: NDArray[np.uint8] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.values.shape[1], self.values.shape[0]

    @property
    def is_colour(self) -> bool:
        return self.values.ndim == 3


def voc_palette() -> NDArray[np.uint8]:
    """uint8 [256, 3]: the bits of an index dealt out to red, green and blue, from the top.

    >>> voc_palette()[[0, 1, 15, 255]].tolist()
    [[0, 0, 0], [128, 0, 0], [192, 128, 128], [224, 224, 192]]
    """
    index = np.arange(256)[:, None]
    colours = np.zeros((256, 3), dtype=np.int64)
    for bit in range(8):
        colours |= (index >> (3 * bit + np.arange(3)) & 1) << (7 - bit)
    return colours.astype(np.uint8)


def encode_png(values: NDArray[Any], *, palette: NDArray[np.uint8] | None = None) -> bytes:
    """The PNG of a label map: bool as 1 bit, uint8 as indices or grey, uint16 as 16-bit grey.

    Args:
        palette: uint8 [k, 3]; makes uint8 an indexed picture.
    """
    picture = Image.fromarray(np.ascontiguousarray(values))
    if palette is not None:
        picture.putpalette(palette.tobytes())
    stream = io.BytesIO()
    picture.save(stream, "PNG", compress_level=_COMPRESSION)
    return stream.getvalue()


def decode_png(data: bytes, *, where: str = "bytes") -> LabelPicture:
    """The values of a PNG.

    Args:
        where: the file, for errors.

    Raises:
        LabelError: no PNG, a broken or a too large one, or one that is partly transparent.
    """
    if not data.startswith(_SIGNATURE):
        raise _refused(data, where)
    try:
        with PngImageFile(io.BytesIO(data)) as picture:  # our limit, not that of Image.open
            if picture.width * picture.height > MAX_MAP_PIXELS:
                raise LabelError(
                    "mask that is too large",
                    where=where,
                    expected=f"at most {MAX_MAP_PIXELS:,} pixels",
                    got=f"{picture.width} x {picture.height}",
                )
            return _values(picture, data, where)
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError, struct.error) as error:
        words = str(error) or type(error).__name__
        raise LabelError("mask that cannot be read", where=where, got=words) from error


def _values(picture: Image.Image, data: bytes, where: str) -> LabelPicture:
    if picture.mode == "P":
        palette = np.array(picture.getpalette("RGB") or [], dtype=np.uint8).reshape(-1, 3)
        return LabelPicture(np.asarray(picture), palette)
    if picture.mode == "1":
        return LabelPicture(np.asarray(picture).astype(np.uint8))
    if picture.mode == "L":
        depth = data[_BIT_DEPTH_AT] if data[_COLOUR_TYPE_AT] == _GREY else 8
        return LabelPicture(np.asarray(picture) // np.uint8(_STRETCH.get(depth, 1)))
    if picture.mode.startswith("I"):
        return LabelPicture(np.asarray(picture).astype(np.uint16))
    if picture.mode in ("LA", "RGBA", "RGB"):
        channels = np.asarray(picture)
        colours = channels[..., :-1] if picture.mode.endswith("A") else channels
        if picture.mode.endswith("A") and (channels[..., -1] != 255).any():
            raise LabelError(
                "mask that is partly transparent: what lies there is not said",
                where=where,
                fix="save it without alpha",
            )
        return LabelPicture(colours[..., 0] if picture.mode == "LA" else colours)
    raise LabelError("mask in a mode that holds no values", where=where, got=picture.mode)


def _refused(data: bytes, where: str) -> LabelError:
    if data.startswith(_JPEG):
        return LabelError(
            "mask in JPEG: its compression changes values, so that no class is certain",
            where=where,
            expected="PNG",
            fix="write the masks again from their source, as PNG",
        )
    return LabelError("mask that is no PNG", where=where, got=repr(data[:8]))
