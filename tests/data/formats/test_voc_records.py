"""Two ways to read Pascal VOC files that must agree: a scan of many, and a parse of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from voc_texts import BOMB, DEVKIT, voc_object, voc_text

from tilth.data.formats._voc_records import VocRecords, parse_file, scan_files
from tilth.errors import (
    TilthError,
)


def plain(records: VocRecords) -> dict[str, Any]:
    fields = dict(vars(records))
    fields["corners"] = np.nan_to_num(
        np.concatenate([np.empty((0, 4)), *records.corners]), nan=-1
    ).tolist()
    return fields


spaces = st.sampled_from(["", "\n", "\t\t", " \r\n"])
words = st.text("aé <>&;'\"%]\x0b\x85 0129.\n", max_size=5)
numbers = st.sampled_from(["1", "0", "-3", "7.25", "1e3", "nan", "x", "", "10000000000", " 5 "])


@st.composite
def leaves(draw: st.DrawFn) -> str:
    tag = draw(
        st.sampled_from(["pose", "truncated", "difficult", "occluded", "score", "name", "part"])
    )
    return f"<{tag}>{draw(st.sampled_from(['0', '1', 'Left', '0.5', 'true', ' 1 ', '']))}</{tag}>"


@st.composite
def any_file(draw: st.DrawFn, escape: Callable[[str], str]) -> bytes:
    def gap() -> str:
        return draw(spaces)

    text = draw(
        st.sampled_from(["", '<?xml version="1.0"?>', '<?xml version="1.0" encoding="UTF-8"?>\n'])
    )
    text += (
        draw(st.sampled_from(["<annotation>", '<annotation verified="yes">', "<annotation >"]))
        + gap()
    )
    text += f"<filename>{escape(draw(words))}</filename>{gap()}"
    text += draw(st.sampled_from(["", "<source><database>x</database></source>", "<!-- x -->"]))
    width, height = draw(numbers), draw(numbers)
    text += f"<size>{gap()}<width>{width}</width><height>{height}</height></size>{gap()}"
    for _ in range(draw(st.integers(0, 2))):
        order = draw(st.sampled_from([[0, 1, 2, 3]] * 3 + [[2, 0, 3, 1]]))
        tags = ["xmin", "ymin", "xmax", "ymax"]
        corners = gap().join(f"<{tags[at]}>{draw(numbers)}</{tags[at]}>" for at in order)
        flags = gap().join(draw(st.lists(leaves(), max_size=3)))
        behind = draw(st.sampled_from(["", "<difficult>1</difficult>", "<![CDATA[x]]>", "stray"]))
        text += f"<object>{gap()}<name>{escape(draw(words))}</name>{gap()}{flags}{gap()}"
        text += f"<bndbox>{corners}</bndbox>{gap()}{behind}</object>{gap()}"
    return (text + "</annotation>" + gap()).encode()


@settings(max_examples=300)
@given(data=st.data())
def test_scanning_and_parsing_give_the_same_records(data: Any) -> None:
    """Of files that the scanner takes; the others are parsed anyway."""
    escape = data.draw(
        st.sampled_from([lambda t: t, lambda t: t.replace("&", "").replace("<", "")])
    )
    files = data.draw(st.lists(any_file(escape), min_size=1, max_size=3))
    scanned = scan_files(files)
    if scanned is not None:
        parsed = VocRecords()
        for text in files:
            parsed.extend(parse_file(text, "x"))
        assert plain(scanned) == plain(parsed)


def test_the_scanner_takes_what_tools_write() -> None:
    """Otherwise the test above would hold of nothing."""
    pretty = DEVKIT.encode()
    compact = voc_text(voc_object(), voc_object("größe", (1.5, 2, 3, 4))).encode()
    roboflow = compact.replace(b"\n", b"\r\n")
    scanned = scan_files([pretty, compact, roboflow, voc_text().encode()])
    assert scanned is not None
    assert scanned.count == [2, 2, 2, 0]


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.replace("<object>", "<!-- a --><object>"),
        lambda t: t.replace("cat", "<![CDATA[cat]]>"),
        lambda t: t.replace("cat", "c&amp;t"),
        lambda t: t.replace("<object>", '<object id="3">'),
        lambda t: t.replace("<size>", "<size >"),
        lambda t: t.replace("</annotation>", "</annotation><annotation></annotation>"),
        lambda t: t.replace("<pose>", "stray<pose>"),
        lambda t: "\ufeff" + t,
    ],
)
def test_the_scanner_leaves_other_shapes_to_the_parser(change: Callable[[str], str]) -> None:
    assert scan_files([change(voc_text(voc_object())).encode()]) is None


def test_the_end_of_one_file_is_not_the_start_of_the_next() -> None:
    whole = voc_text(voc_object()).encode()
    assert scan_files([whole[:40], whole[40:]]) is None
    assert scan_files([whole + whole, b""]) is None


@settings(max_examples=150)
@given(data=st.data())
def test_any_bytes_end_in_records_or_an_error_of_ours(data: Any) -> None:
    text = data.draw(
        st.sampled_from([DEVKIT.encode(), BOMB.encode(), voc_text(voc_object()).encode()])
    )
    at = data.draw(st.integers(0, len(text)))
    junk = data.draw(st.one_of(st.binary(max_size=8), st.sampled_from([b"9" * 5000, b"<a>" * 300])))
    spoilt = text[:at] + junk + text[at + data.draw(st.integers(0, 9)) :]
    scanned = scan_files([spoilt])
    try:
        parsed = parse_file(spoilt, "x")
    except TilthError:
        assert scanned is None, "what is not XML is not scanned"
        return
    assert scanned is None or plain(scanned) == plain(parsed)
