"""Run-length masks as COCO defines them: column-major runs that alternate, zeros first.

Source: T.-Y. Lin et al., 2014, Microsoft COCO: Common Objects in Context, arXiv:1405.0312v3;
    the encoding itself is stated by the COCO API, `common/maskApi.c`.
Follows:
    run lengths -> `encode`, `decode`
    text of the runs (5 bits a character, a sixth says that more follow) -> `to_text`, `from_text`
Symbols: counts = cnts = runs in column order, int64 [r]; the first counts zeros and may be 0.
Differs: whole arrays at a time instead of one character after the other.
Checked by: `test_encode_matches_pycocotools`, `test_text_matches_pycocotools`,
    `test_area_and_box_match_pycocotools`, `test_any_runs_survive_the_text`
"""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tilth.errors import DataError

__all__ = ["area", "box_xyxy", "decode", "encode", "from_json", "from_text", "to_text", "to_texts"]

_MAX_CHARACTERS = 13  # 13 x 5 bits hold any 64-bit number


def encode(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The runs of a mask.

    Args:
        mask: bool [h, w].

    >>> encode(np.array([[False, True], [True, True]])).tolist()
    [1, 3]
    """
    column_major = np.asarray(mask, dtype=np.bool_).T.ravel()
    if not column_major.size:
        return np.zeros(0, dtype=np.int64)
    changes = np.flatnonzero(column_major[1:] != column_major[:-1]) + 1
    starts = np.concatenate([[0], changes, [column_major.size]])
    counts = np.diff(starts)
    return np.concatenate([[0], counts]) if column_major[0] else counts


def decode(counts: NDArray[np.int64], height: int, width: int) -> NDArray[np.bool_]:
    """The mask bool [h, w] of its runs.

    Raises:
        DataError: the runs do not cover exactly ``height * width`` pixels.
    """
    counts = np.asarray(counts, dtype=np.int64)
    if (counts < 0).any() or int(counts.sum()) != height * width:
        raise DataError(
            "the runs do not fill the picture",
            expected=f"{height} x {width} = {height * width}",
            got=str(int(counts.sum())),
        )
    ones = np.arange(len(counts)) % 2 == 1
    return np.repeat(ones, counts).reshape(width, height).T


def area(counts: NDArray[np.int64]) -> int:
    """Pixels inside the mask."""
    return int(np.asarray(counts)[1::2].sum())


def box_xyxy(counts: NDArray[np.int64], height: int) -> NDArray[np.float64]:
    """The smallest box float64 [4] around the mask, in pixel edges; zeros for an empty mask."""
    ends = np.cumsum(np.asarray(counts, dtype=np.int64))
    starts = ends[:-1:2] if len(ends) > 1 else ends[:0]
    stops = ends[1::2]
    inside = stops > starts
    starts, last = starts[inside], stops[inside] - 1
    if not len(starts):
        return np.zeros(4)
    columns, last_columns = starts // height, last // height
    wraps = bool((last_columns > columns).any())  # a run into the next column touches both borders
    top = 0 if wraps else int((starts % height).min())
    bottom = height if wraps else int((last % height).max()) + 1
    return np.array([columns.min(), top, last_columns.max() + 1, bottom], dtype=np.float64)


def to_text(counts: NDArray[np.int64]) -> bytes:
    """The compressed string of the runs, as COCO files carry it.

    >>> to_text(np.array([1, 3]))
    b'13'
    """
    values = np.asarray(counts, dtype=np.int64).copy()
    values[3:] -= np.asarray(counts, dtype=np.int64)[1:-2]  # from the fourth on, a difference
    characters, used = _characters(values)
    return characters[used].tobytes()


def to_texts(counts: NDArray[np.int64], offsets: NDArray[np.int64]) -> list[bytes]:
    """The compressed strings of many masks at a time.

    Args:
        offsets: int64 [k + 1]; mask i has the runs ``counts[offsets[i]:offsets[i + 1]]``.
    """
    values = np.asarray(counts, dtype=np.int64).copy()
    place_in_mask = np.arange(len(values)) - np.repeat(offsets[:-1], np.diff(offsets))
    later = np.flatnonzero(place_in_mask >= 3)
    values[later] -= counts[later - 2]
    characters, used = _characters(values)
    text = characters[used].tobytes()
    ends = np.concatenate([[0], np.cumsum(np.count_nonzero(used, axis=1))])[offsets].tolist()
    return [text[start:end] for start, end in pairwise(ends)]


def _characters(values: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The characters of each number, lowest bits first: [n, places], and which of them count."""
    largest = int(np.abs(values).max(initial=0))
    places = min(largest.bit_length() // 5 + 1, _MAX_CHARACTERS)  # a bit more for the sign
    characters = np.zeros((len(values), places), dtype=np.uint8)
    used = np.zeros_like(characters, dtype=np.bool_)
    open_ = np.ones(len(values), dtype=np.bool_)
    for place in range(places):
        low = values & 0x1F
        values = values >> 5
        # Done when the rest is only the sign, and the sign is what bit 4 already says.
        more = np.where(low & 0x10, values != -1, values != 0)
        characters[:, place] = 48 + low + np.where(more, 0x20, 0)
        used[:, place] = open_
        open_ &= more
        if not open_.any():
            break
    return characters, used


def from_text(text: bytes | str) -> NDArray[np.int64]:
    """The runs int64 [r] of a compressed string.

    Raises:
        DataError: a character outside the code, or a string that breaks off.
    """
    data = np.frombuffer(text.encode() if isinstance(text, str) else text, dtype=np.uint8)
    if not len(data):
        return np.zeros(0, dtype=np.int64)
    codes = data.astype(np.int64) - 48
    last = (codes & 0x20) == 0
    if (codes < 0).any() or (codes > 0x3F).any() or not last[-1]:
        raise DataError("a run-length string that cannot be read", got=repr(bytes(data[:40])))
    starts = np.concatenate([[0], np.flatnonzero(last)[:-1] + 1])
    places = np.arange(len(codes)) - np.repeat(starts, np.diff([*starts, len(codes)]))
    if places.max() >= _MAX_CHARACTERS:
        raise DataError("a run-length string with a number beyond 64 bits")
    values = np.add.reduceat((codes & 0x1F) << (5 * places), starts)
    negative = (codes[last] & 0x10) != 0
    bits = 5 * (places[last] + 1)
    values = np.where(negative, values | (np.int64(-1) << bits), values)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def from_json(segmentation: bytes) -> tuple[NDArray[np.int64], int, int]:
    """Runs, height and width of a segmentation as COCO's JSON writes it, either kind of counts.

    Raises:
        DataError: not a run-length mask.
    """
    try:
        fields = json.loads(segmentation)
        counts, (height, width) = fields["counts"], map(int, fields["size"])
        if not isinstance(counts, str):
            return np.array(counts, dtype=np.int64), height, width
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise DataError(
            "not a run-length mask",
            expected='{"size": [h, w], "counts": ...}',
            got=segmentation[:80].decode(errors="replace"),
        ) from error
    return from_text(counts), height, width
