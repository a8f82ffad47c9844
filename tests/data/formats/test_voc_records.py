"""Two ways to read Pascal VOC files that must agree: a scan of many, and a parse of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from voc_texts import BOMB, DEVKIT, voc_object, voc_text

from tilth.data.formats._voc_records import CORNERS, VocRecords, parse_file, scan_files
from tilth.errors import (
    TilthError,
)


def plain(records: VocRecords) -> dict[str, Any]:
    fields = dict(vars(records))
    fields["corners"] = np.nan_to_num(
        np.concatenate([np.empty((0, 4)), *records.corners]), nan=-1
    ).tolist()
    return fields


TIDY = {
    "space": ["", "\n", "\t\t", " \r\n"],
    "word": ["a", " a b ", "größe", "10", "a.jpg", ""],
    "number": ["1", "0", "-3", "7.25", "640"],
    "side": ["0", "640", "007"],
    "head": ["", '<?xml version="1.0"?>', '<?xml version="1.0" encoding="UTF-8"?>\n'],
    "root": ["<annotation>", '<annotation verified="yes">'],
    "source": ["", "<source><database>x</database></source>"],
    "tag": ["pose", "truncated", "difficult", "occluded", "score"],
    "value": ["0", "1", "Left", "0.5", "true", " 1 ", "Unspecified", ""],
    "behind": ["", "<difficult>1</difficult>"],
}
ODD = {
    "space": ["<!-- x -->", "stray"],
    "word": ["a&amp;b", "<", "&what;", "\x0b", "\x85", "\ufffe", "]]>", "<b/>", "\0"],
    "number": ["1e3", "nan", "x", "", "10000000000", " 5 ", "+1", ".5"],
    "side": ["", "-1", "9" * 40, "x"],
    "head": ["\ufeff", "\n", '<?xml version="1.0" encoding="latin-1"?>'],
    "root": ["<annotation >", "<annotations>"],
    "source": ["<!-- x -->", "<owner><name>x</name></owner>", "<source>x</source>"],
    "tag": ["name", "part", "bndbox", "size", "attributes"],
    "value": ["<x>1</x>", "a&lt;b", "<![CDATA[1]]>"],
    "behind": ["<name>b</name>", "<part><name>x</name></part>", "<bndbox></bndbox>"],
}


@st.composite
def any_file(draw: st.DrawFn) -> bytes:
    """A file as tools write it, or with a few things that only lxml takes apart."""

    def some(kind: str) -> str:
        return draw(st.sampled_from(ODD[kind] if draw(st.integers(0, 49)) == 49 else TIDY[kind]))

    def leaf() -> str:
        tag = some("tag")
        return f"<{tag}>{some('value')}</{tag}>"

    text = some("head") + some("root") + some("space")
    text += f"<filename>{some('word')}</filename>{some('space')}{some('source')}"
    text += f"<size>{some('space')}<width>{some('side')}</width><height>{some('side')}</height>"
    text += f"</size>{some('space')}"
    for _ in range(draw(st.integers(0, 2))):
        tags = draw(st.sampled_from([CORNERS] * 20 + [CORNERS[::-1]]))
        corners = some("space").join(f"<{tag}>{some('number')}</{tag}>" for tag in tags)
        flags = "".join(leaf() for _ in range(draw(st.integers(0, 3))))
        text += f"<object><name>{some('word')}</name>{some('space')}{flags}<bndbox>{corners}"
        text += f"</bndbox>{some('behind')}{some('space')}</object>{some('space')}"
    return (text + "</annotation>" + some("space")).encode()


def test_scanning_and_parsing_give_the_same_records() -> None:
    """Of files that the scanner takes, which are many; the others are parsed anyway."""
    scanned_files = 0

    @settings(max_examples=400)
    @given(files=st.lists(any_file(), min_size=1, max_size=3))
    def agree(files: list[bytes]) -> None:
        nonlocal scanned_files
        scanned = scan_files(files)
        if scanned is not None:
            scanned_files += len(files)
            parsed = VocRecords()
            for text in files:
                parsed.extend(parse_file(text, "x"))
            assert plain(scanned) == plain(parsed)

    agree()
    assert scanned_files > 100


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
