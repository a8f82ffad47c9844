"""Label Studio's run-length code for brush masks: bits that say what the bytes of a picture are.

Source: K. Schmidt, thi.ng/umbrella, package `rle-pack` (README, "Encoding format"); Label Studio
    stores the RGBA pixels of the brush in it, row by row, of which alpha is the mask.
Follows:
    head: 32 bits, number of words; 5, bits of a word - 1; 4 x 4, sizes - 1 -> `decode_brush`
    chunk: 1 bit, run or literals; 2 bits, which size; length - 1; word or words -> `decode_brush`
    run of one word -> `encode_brush`
Symbols: words = bytes of the picture, uint8 [h * w * 4]; size = bits that a chunk's length takes.
Differs: writes runs only, which any reader takes; a mask has few literals.
Checked by: `test_brush_decodes_an_example_worked_out_by_hand`, `test_any_mask_survives_a_brush`,
    `test_brush_matches_a_plain_decoder`
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tilth.data.label_maps import MAX_MAP_PIXELS
from tilth.errors import DataError

__all__ = ["decode_brush", "encode_brush"]

_CHANNELS = 4
_ALPHA = 3
_HEAD_BITS = 32 + 5 + 4 * 4
_SIZES = (3, 4, 8, 16)  # as Label Studio writes them
_WORD_BITS = 8


class _Bits:
    """Numbers out of bytes, from the highest bit on."""

    def __init__(self, data: bytes) -> None:
        self._data = data + bytes(8)  # so that a window never ends early
        self._end = 8 * len(data)
        self.at = 0

    def read(self, count: int) -> int:
        start = self.at
        self.at += count
        if self.at > self._end:
            raise DataError("a brush mask that breaks off")
        window = int.from_bytes(self._data[start >> 3 : (start >> 3) + 8], "big")
        return window >> (64 - (start & 7) - count) & ((1 << count) - 1)

    def words(self, number: int, bits: int) -> NDArray[np.uint8]:
        """``number`` words of ``bits`` bits."""
        start = self.at
        self.at += number * bits
        if self.at > self._end:
            raise DataError("a brush mask that breaks off")
        part = np.frombuffer(self._data[start >> 3 : (self.at + 7) >> 3], np.uint8)
        single = np.unpackbits(part)[start & 7 :][: number * bits].reshape(number, bits)
        return (single @ (1 << np.arange(bits)[::-1])).astype(np.uint8)


def decode_brush(code: Sequence[int], height: int, width: int) -> NDArray[np.bool_]:
    """The mask bool [h, w] of a brush region.

    Args:
        code: bytes as numbers, ``value.rle``.

    Raises:
        DataError: not such a code, or one of another size.
    """
    try:
        bits = _Bits(bytes(code))
    except (ValueError, TypeError) as error:
        raise DataError("a brush mask whose code is not bytes") from error
    count, word_bits = bits.read(32), bits.read(5) + 1
    sizes = [bits.read(4) + 1 for _ in range(4)]
    if height * width > MAX_MAP_PIXELS or count != _CHANNELS * height * width:
        raise DataError(
            "a brush mask of another size than its picture",
            expected=f"{_CHANNELS} x {height} x {width}",
            got=str(count),
        )
    if word_bits > _WORD_BITS:
        raise DataError("a brush mask whose words are no bytes", got=f"{word_bits} bits")
    words = np.zeros(count, dtype=np.uint8)
    at = 0
    while at < count:
        is_run = bits.read(1)
        length = bits.read(sizes[bits.read(2)]) + 1
        end = at + length
        if end > count:
            raise DataError("a brush mask that goes on beyond its picture")
        words[at:end] = bits.read(word_bits) if is_run else bits.words(length, word_bits)
        at = end
    return words.reshape(height, width, _CHANNELS)[:, :, _ALPHA] > 0


def encode_brush(mask: NDArray[np.bool_]) -> list[int]:
    """The code of a mask bool [h, w]: bytes as numbers.

    >>> encode_brush(np.array([[True]]))
    [0, 0, 0, 4, 57, 27, 252, 127, 192]
    """
    flat = np.asarray(mask, dtype=np.bool_).ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    bounds = np.concatenate([[0], edges, [flat.size]]) if flat.size else np.zeros(1, np.int64)
    parts = [f"{_CHANNELS * flat.size:032b}{_WORD_BITS - 1:05b}"]
    parts += [f"{size - 1:04b}" for size in _SIZES]
    longest = 1 << _SIZES[-1]
    for start, length in zip(bounds[:-1].tolist(), np.diff(bounds).tolist(), strict=True):
        word = "1" * _WORD_BITS if flat[start] else "0" * _WORD_BITS
        left = _CHANNELS * length
        while left:
            taken = min(left, longest)
            which = next(at for at, size in enumerate(_SIZES) if taken <= 1 << size)
            parts.append(f"1{which:02b}{taken - 1:0{_SIZES[which]}b}{word}")
            left -= taken
    text = "".join(parts)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))
