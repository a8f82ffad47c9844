"""Pictures in and out: always uint8 RGB, or an error that names the file.

EXIF rotation is not applied, because the boxes of COCO and its kin refer to the stored pixels.
Pillow reads every header and most files. JPEGs, the bulk of all data sets, are decoded by OpenCV
(a third faster), but only when they end with their end marker: OpenCV turns a truncated file into
a half-grey picture without a word, Pillow refuses it. A file that lost its middle but has its end
marker is not noticed: neither library says so, and only the grey in the picture tells.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from tilth.data.atomic import atomic_writer
from tilth.errors import MediaError

__all__ = [
    "MAX_PIXELS",
    "PICTURE_SUFFIXES",
    "content_hash",
    "decode_image",
    "expect_size",
    "read_at_least",
    "read_bytes",
    "read_image",
    "read_size",
    "write_jpeg",
]

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
"""Of the files in a folder that are taken for pictures."""

MAX_PIXELS = 500_000_000
"""Larger pictures are refused before they are decoded: 1.5 GB of RGB is a decompression bomb."""

_JPEG_END = b"\xff\xd9"


def read_image(path: Path, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """The picture as uint8 [h, w, 3] RGB; grey, palette, alpha and 16-bit are converted.

    Alpha is dropped, not blended; 16-bit samples keep their high byte; of an animation the first
    frame is read.

    Raises:
        MediaError: missing, truncated, not a picture, or more than ``max_pixels``.
    """
    return decode_image(read_bytes(path), where=str(path), max_pixels=max_pixels)


def decode_image(
    data: bytes, *, where: str = "bytes", max_pixels: int = MAX_PIXELS
) -> NDArray[np.uint8]:
    """As `read_image`, from the bytes of the file; ``where`` names them in errors."""
    with _opened(io.BytesIO(data), where, max_pixels) as picture:
        if picture.format == "JPEG" and picture.mode in ("RGB", "L") and data.endswith(_JPEG_END):
            return _decode_jpeg(data, where)
        try:
            return _to_rgb(picture, where)
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            raise _broken(where, error) from error


def read_at_least(
    path: Path, least: Callable[[int, int], tuple[int, int]], *, max_pixels: int = MAX_PIXELS
) -> tuple[NDArray[np.uint8], tuple[int, int], int]:
    """A picture that is going to be made smaller, its stored width and height, and what of it came.

    One that is four times as large as needed, or more, comes back at a half, a quarter or an
    eighth of its size, but at least twice as large as needed: JPEGs are decoded so, which takes a
    fraction of the time and memory; of others, squares of pixels are averaged. The last square of
    a row or column may reach beyond the picture: 1,201 pixels at a quarter are 301, which stand for
    1,204.

    Args:
        least: the width and height that are needed, of the stored ones.

    Returns:
        uint8 [h, w, 3], (width, height), and the stored pixels along the side of one that came.

    Raises:
        MediaError: see `read_image`.
    """
    data, where = read_bytes(path), str(path)
    with _opened(io.BytesIO(data), where, max_pixels) as picture:
        width, height = picture.size
        factor = _reduction((width, height), least(width, height))
        plain = picture.mode in ("RGB", "L")
        try:
            if picture.format == "JPEG" and plain and data.endswith(_JPEG_END):
                return _decode_jpeg(data, where, factor), (width, height), factor
            if factor > 1:
                whole = picture if plain else Image.fromarray(_to_rgb(picture, where))
                picture = whole.reduce(factor)
            return _to_rgb(picture, where), (width, height), factor
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            raise _broken(where, error) from error


def _reduction(size: tuple[int, int], needed: tuple[int, int]) -> int:
    for factor in (8, 4, 2):
        if all(side >= 2 * factor * least for side, least in zip(size, needed, strict=True)):
            return factor
    return 1


def expect_size(
    image_rgb: NDArray[np.uint8] | tuple[int, int], size: tuple[int, int], *, where: str
) -> None:
    """Refuse a picture that is not the one its labels were made for.

    Args:
        image_rgb: the picture, or its width and height.
        size: width and height that the labels say; 0 where they do not.

    Raises:
        MediaError: the picture has another size, so that boxes would lie elsewhere in it.
    """
    found = image_rgb if isinstance(image_rgb, tuple) else (image_rgb.shape[1], image_rgb.shape[0])
    if all(size) and found != tuple(size):
        raise MediaError(
            "the picture has another size than its labels were made for",
            where=where,
            expected="{} x {}".format(*size),
            got="{} x {}".format(*found),
            fix="put the original picture back, or import its labels again",
        )


def read_size(path: Path, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Width and height in pixels, from the header alone.

    Raises:
        MediaError: missing, not a picture, or more than ``max_pixels``.
    """
    try:
        stream = path.open("rb")
    except OSError as error:
        raise _unreadable(path, error) from error
    with stream, _opened(stream, str(path), max_pixels) as picture:
        return picture.size


def write_jpeg(path: Path, image_rgb: NDArray[np.uint8], quality: int = 95) -> None:
    """Write a JPEG in one step: the file is there whole or not at all.

    Args:
        image_rgb: uint8 [h, w, 3].
        quality: 1 to 100.

    Raises:
        StorageError: the write failed; a file that was there before is unchanged.
    """
    import cv2  # a tenth of a second to load; reading a header does without it

    bgr = cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR)
    encoded, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not encoded:
        raise MediaError("the picture cannot be written as JPEG", where=str(path))
    with atomic_writer(path) as stream:
        stream.write(data.tobytes())


def content_hash(data: bytes) -> str:
    """The name of a file's bytes in the catalogue: 128 bits of BLAKE2b, in hexadecimal."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def read_bytes(path: Path) -> bytes:
    """The file as it is.

    Raises:
        MediaError: missing, or not readable.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error
    if not data:
        raise MediaError(
            "not a picture that can be read",
            where=str(path),
            got="an empty file",
            fix="fetch the file again, or take it out of the label file",
        )
    return data


def _opened(stream: IO[bytes], where: str, max_pixels: int) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our limit is below
            picture = Image.open(stream)
    except UnidentifiedImageError as error:  # its words hold the address of the stream
        raise MediaError(
            "not a picture that can be read", where=where, got="no known format"
        ) from error
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise MediaError(
            "not a picture that can be read", where=where, got=str(error) or type(error).__name__
        ) from error
    width, height = picture.size
    if width * height > max_pixels:
        picture.close()
        raise MediaError(
            "the picture is too large",
            where=where,
            expected=f"at most {max_pixels:,} pixels",
            got=f"{width} x {height} = {width * height:,}",
        )
    return picture


def _decode_jpeg(data: bytes, where: str, factor: int = 1) -> NDArray[np.uint8]:
    import cv2

    sizes = {
        1: cv2.IMREAD_COLOR,
        2: cv2.IMREAD_REDUCED_COLOR_2,
        4: cv2.IMREAD_REDUCED_COLOR_4,
        8: cv2.IMREAD_REDUCED_COLOR_8,
    }
    flags = sizes[factor] | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        decoded = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    except cv2.error as error:
        raise _broken(where, error) from error
    if decoded is None:
        raise _broken(where, ValueError("no picture in the file"))
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB, dst=decoded)  # type: ignore[return-value]


def _to_rgb(picture: Image.Image, where: str) -> NDArray[np.uint8]:
    if picture.mode.startswith("I"):  # I;16 and its byte orders; I from older PNG readers
        samples = np.asarray(picture)
        if samples.min() < 0 or samples.max() > 65535:
            raise MediaError("grey values beyond 16 bits have no agreed white", where=where)
        grey = (samples >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if picture.mode == "F":
        raise MediaError(
            "a floating-point picture has no agreed white",
            where=where,
            fix="convert it to 8 or 16 bits",
        )
    return np.array(picture.convert("RGB"))


def _unreadable(path: Path, error: OSError) -> MediaError:
    missing = isinstance(error, FileNotFoundError)
    return MediaError(
        "the picture is missing" if missing else "the picture cannot be opened",
        where=str(path),
        got=None if missing else error.strerror,
        fix="put it back; or take it out: tilth remove --missing; moved ones: import again"
        if missing
        else None,
    )


def _broken(where: str, error: Exception) -> MediaError:
    return MediaError(
        "the picture is truncated or broken",
        where=where,
        got=str(error),
        fix="fetch the file again, or take it out of the label file",
    )
