"""Sizes from headers: the same as Pillow reads, and reported where there are none."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tilth.data.formats._header_sizes import picture_sizes
from tilth.data.images import MAX_PIXELS, read_size
from tilth.data.problems import LabelReport
from tilth.errors import MediaError

CODINGS: list[tuple[str, str, dict[str, Any]]] = [
    ("JPEG", "RGB", {}),
    ("JPEG", "L", {}),
    ("JPEG", "RGB", {"progressive": True}),
    ("JPEG", "RGB", {"exif": b"Exif\0\0" + b"x" * 20_000}),
    ("JPEG", "RGB", {"comment": b"\xff\xc0 is no frame here"}),
    ("PNG", "P", {}),
    ("PNG", "RGBA", {}),
    ("GIF", "P", {}),
    ("BMP", "RGB", {}),
    ("WEBP", "RGB", {}),
    ("TIFF", "I;16", {}),
]


def encoded(coding: str, mode: str, size: tuple[int, int], options: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, size).save(stream, coding, **options)
    return stream.getvalue()


@pytest.mark.parametrize(("coding", "mode", "options"), CODINGS)
@pytest.mark.parametrize("size", [(1, 1), (37, 300), (300, 37)])
def test_sizes_are_those_that_pillow_reads(
    tmp_path: Path, coding: str, mode: str, options: dict[str, Any], size: tuple[int, int]
) -> None:
    path = tmp_path / "picture"
    path.write_bytes(encoded(coding, mode, size, options))
    report = LabelReport(where="")
    width, height = picture_sizes([str(path)], report)
    assert (width.tolist(), height.tolist()) == ([size[0]], [size[1]])
    assert read_size(path) == size
    assert report.problems == ()


def test_what_has_no_size_is_reported(tmp_path: Path) -> None:
    bomb = bytearray(encoded("PNG", "L", (5, 5), {}))
    bomb[16:24] = (MAX_PIXELS).to_bytes(4, "big") + (9).to_bytes(4, "big")
    (tmp_path / "bomb").write_bytes(bomb)
    (tmp_path / "text").write_text("no picture")
    (tmp_path / "good").write_bytes(encoded("JPEG", "L", (5, 6), {}))
    uris = [f"{tmp_path}/{name}" for name in ("bomb", "text", "good", "none", "a\0b", "")]
    report = LabelReport(where="")
    width, height = picture_sizes([*uris, "s3://bucket/a.jpg", str(tmp_path)], report)
    assert width.tolist() == [0, 0, 5, 0, 0, 0, 0, 0]
    assert height.tolist() == [0, 0, 6, 0, 0, 0, 0, 0]
    (problem,) = report.problems
    assert (problem.count, problem.action) == (7, "kept without a size")


def test_many_pictures_keep_their_order(tmp_path: Path) -> None:
    paths = []
    for width in range(1, 1300):
        paths.append(tmp_path / str(width))
        header = encoded("PNG", "1", (1, 1), {})[:33]
        paths[-1].write_bytes(header[:16] + width.to_bytes(4, "big") + header[20:])
    width, _ = picture_sizes([str(path) for path in paths], LabelReport(where=""))
    assert width.tolist() == list(range(1, 1300))


@given(data=st.data(), case=st.sampled_from(CODINGS[:7]))
def test_spoilt_headers_give_pillows_size_or_none(
    data: st.DataObject, case: tuple[str, str, dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    coding, mode, options = case
    text = encoded(coding, mode, (37, 30), options)
    at = data.draw(st.integers(0, len(text)))
    path = tmp_path_factory.mktemp("spoilt") / "picture"
    path.write_bytes(text[:at] + data.draw(st.binary(max_size=6)) + text[at:])
    report = LabelReport(where="")
    width, height = picture_sizes([str(path)], report)
    try:
        expected = read_size(path)
    except MediaError:
        return
    assert (int(width[0]), int(height[0])) == expected
