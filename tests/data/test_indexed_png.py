"""Label maps as PNG: the values that are stored, in every depth, or a refusal that says why."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from tilth.data import indexed_png
from tilth.data.indexed_png import decode_png, encode_png, voc_palette
from tilth.errors import LabelError

sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def raw_png(width: int, height: int, depth: int, colour: int, rows: bytes, *more: bytes) -> bytes:
    """A PNG byte by byte, as the standard lays it out."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    data = [chunk(b"IHDR", header), *more, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return SIGNATURE + b"".join(data)


def pillow_bytes(picture: Image.Image, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind)
    return stream.getvalue()


def test_the_palette_is_that_of_the_development_kit() -> None:
    """VOClabelcolormap: aeroplane, bicycle, ..., tvmonitor, and void."""
    palette = voc_palette()
    assert palette.shape == (256, 3)
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 15: (192, 128, 128)}
    known |= {20: (0, 64, 128), 255: (224, 224, 192)}
    assert {index: tuple(palette[index].tolist()) for index in known} == known
    assert len(np.unique(palette, axis=0)) == 256


@given(values=arrays.arrays(np.uint8, sizes))
def test_indices_come_back_and_their_palette_too(values: np.ndarray) -> None:
    data = encode_png(values, palette=voc_palette())
    assert data[24:26] == b"\x08\x03", "eight bits, indexed"
    found = decode_png(data)
    np.testing.assert_array_equal(found.values, values)
    assert found.palette is not None
    np.testing.assert_array_equal(found.palette, voc_palette())


@given(values=arrays.arrays(st.sampled_from([np.bool_, np.uint8, np.uint16]), sizes))
def test_grey_of_1_8_and_16_bits_comes_back(values: np.ndarray) -> None:
    data = encode_png(values)
    assert data[24] == {"b": 1, "u": 8 * values.itemsize}[values.dtype.kind]
    found = decode_png(data)
    assert found.palette is None
    np.testing.assert_array_equal(found.values, values)


@pytest.mark.parametrize(("depth", "packed"), [(2, 0b00_01_10_11), (4, 0x3F)])
def test_grey_of_2_and_4_bits_is_not_stretched(depth: int, packed: int) -> None:
    """A decoder for the eye makes 85 or 17 of 1; as a label 1 is 1."""
    width = 8 // depth
    data = raw_png(width, 1, depth, 0, bytes([0, packed]))
    wanted = [packed >> (8 - depth * (at + 1)) & (1 << depth) - 1 for at in range(width)]
    assert decode_png(data).values.tolist() == [wanted]


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_few_indices_in_few_bits_are_indices(depth: int) -> None:
    palette = chunk(b"PLTE", bytes([9, 9, 9, 200, 0, 0]))
    found = decode_png(raw_png(2, 1, depth, 3, bytes([0, 1 << (8 - 2 * depth)]), palette))
    assert found.values.tolist() == [[0, 1]]
    assert found.palette is not None
    assert found.palette[:2].tolist() == [[9, 9, 9], [200, 0, 0]]


def test_colours_are_given_back_as_colours() -> None:
    pixels = np.array([[[1, 2, 3], [255, 0, 0]]], np.uint8)
    found = decode_png(pillow_bytes(Image.fromarray(pixels)))
    assert found.is_colour
    np.testing.assert_array_equal(found.values, pixels)


def test_opaque_alpha_is_dropped_and_any_other_refused() -> None:
    pixels = np.full((2, 3, 4), 255, np.uint8)
    np.testing.assert_array_equal(
        decode_png(pillow_bytes(Image.fromarray(pixels))).values, pixels[..., :3]
    )
    pixels[0, 0, 3] = 254
    with pytest.raises(LabelError, match="transparent"):
        decode_png(pillow_bytes(Image.fromarray(pixels)), where="a.png")


def test_a_jpeg_is_refused_whatever_its_name_and_the_reason_given() -> None:
    data = pillow_bytes(Image.new("L", (8, 8), 3), "JPEG")
    with pytest.raises(LabelError, match="compression changes values") as caught:
        decode_png(data, where="a.png")
    assert caught.value.where == "a.png"


def test_a_picture_beyond_all_sizes_is_refused_by_its_header() -> None:
    bomb = raw_png(100_000, 100_000, 8, 3, b"", chunk(b"PLTE", b"\0\0\0"))
    with pytest.raises(LabelError, match="too large") as caught:
        decode_png(bomb)
    assert caught.value.got == "100000 x 100000"


VALID = encode_png(np.arange(12, dtype=np.uint8).reshape(3, 4), palette=voc_palette())


@given(at=st.integers(0, len(VALID) - 1), byte=st.integers(0, 255), cut=st.booleans())
def test_a_spoilt_file_ends_in_a_picture_or_an_error_of_ours(at: int, byte: int, cut: bool) -> None:
    data = VALID[:at] if cut else VALID[:at] + bytes([byte]) + VALID[at + 1 :]
    try:
        found = decode_png(data, where="x.png")
    except LabelError:
        return
    assert found.values.ndim in (2, 3)


@given(data=st.binary(max_size=60))
def test_any_bytes_after_the_signature_end_in_an_error_of_ours(data: bytes) -> None:
    with pytest.raises(LabelError):
        decode_png(SIGNATURE + data)
    assert indexed_png.decode_png(VALID).size == (4, 3)
