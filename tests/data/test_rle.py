"""Run-length masks against pycocotools, whose C code defines them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as oracle

from tilth.data import rle
from tilth.errors import DataError

masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24))


@given(mask=masks)
def test_encode_matches_pycocotools(mask: np.ndarray) -> None:
    encoded = oracle.encode(np.asfortranarray(mask.astype(np.uint8)))
    counts = rle.encode(mask)
    assert rle.to_text(counts) == encoded["counts"]
    np.testing.assert_array_equal(rle.decode(counts, *mask.shape), mask)


@given(mask=masks)
def test_text_matches_pycocotools(mask: np.ndarray) -> None:
    text = oracle.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
    np.testing.assert_array_equal(rle.from_text(text), rle.encode(mask))
    np.testing.assert_array_equal(rle.from_text(text.decode()), rle.encode(mask))


@given(mask=masks)
def test_area_and_box_match_pycocotools(mask: np.ndarray) -> None:
    encoded = oracle.encode(np.asfortranarray(mask.astype(np.uint8)))
    counts = rle.encode(mask)
    assert rle.area(counts) == oracle.area(encoded)
    x, y, w, h = oracle.toBbox(encoded).tolist()
    assert rle.box_xyxy(counts, mask.shape[0]).tolist() == [x, y, x + w, y + h]


@given(counts=st.lists(st.integers(0, 2**31 - 1), max_size=30))
def test_any_runs_survive_the_text(counts: list[int]) -> None:
    assert rle.from_text(rle.to_text(np.array(counts, dtype=np.int64))).tolist() == counts


@given(mask=masks)
def test_both_json_spellings_are_read(mask: np.ndarray) -> None:
    counts = rle.encode(mask)
    for spelled in (counts.tolist(), rle.to_text(counts).decode()):
        text = json.dumps({"size": list(mask.shape), "counts": spelled}).encode()
        found, height, width = rle.from_json(text)
        np.testing.assert_array_equal(rle.decode(found, height, width), mask)


@pytest.mark.parametrize("text", [b"\x01", b"z~\x7f", b"P", b"o" * 20 + b"0"])
def test_broken_text_is_refused(text: bytes) -> None:
    with pytest.raises(DataError, match="run-length"):
        rle.from_text(text)


def test_runs_that_do_not_fill_the_picture_are_refused() -> None:
    for counts in ([1, 2], [5, -1]):
        with pytest.raises(DataError, match="do not fill"):
            rle.decode(np.array(counts), 2, 2)


@pytest.mark.parametrize("text", [b"[]", b"{}", b"nonsense", b'{"size":[1],"counts":[]}'])
def test_what_is_no_mask_is_refused(text: bytes) -> None:
    with pytest.raises(DataError, match="not a run-length mask"):
        rle.from_json(text)
