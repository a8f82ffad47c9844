"""CVAT's images, a stretch of the file at a time, so that no file is too large for the memory.

A file is cut behind ``</image>``. A stretch that looks as CVAT writes it, with boxes alone, is
taken apart by one regular expression whose tiles cover every byte; any other is parsed by lxml. A
file with comments, CDATA or tracks is read by lxml from one end to the other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import compress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from tilth.data.formats._cvat_records import CvatRecords, Label, label_fields, read_image
from tilth.data.formats._xml_files import is_plain_utf8, parse_xml
from tilth.data.problems import LabelReport
from tilth.data.records import Geometry

__all__ = ["line_in_stretch", "read_stretches", "scan_stretch"]

_STRETCH_BYTES = 2**20
_MOST_BYTES = 2**26  # without the end of an image: that is none
_CUT = b"</image>"

_TEXT = rb'[^<>&"\x00-\x1f]*+'
_SPACE = rb"[ \t\n\r]*+"
_NUMBER = rb"-?[0-9]{1,9}(?:\.[0-9]{1,20})?"
_FIELD = rb'(?:label|source|occluded|z_order|group_id)="' + _TEXT + b'"'
_ENTRY = rb'<attribute name="(' + _TEXT + rb')">([^<>&\x00-\x08\x0b-\x1f]*+)</attribute>' + _SPACE
_IMAGE = (
    rb'<image id="[0-9]+" name="(' + _TEXT + rb')"(?: subset="(' + _TEXT + rb')")?+'
    rb'(?: task_id="[0-9]+")?+ width="([0-9]{1,9})" height="([0-9]{1,9})">' + _SPACE
)
_BOX = (
    b"<box ((?:" + _FIELD + b" )*+)"
    + b" ".join(rb'%b="(%b)"' % (name, _NUMBER) for name in (b"xtl", b"ytl", b"xbr", b"ybr"))
    + b"((?: " + _FIELD + b")*+ ?(?:/>|>" + _SPACE
    + b"(?:" + _ENTRY.replace(b"(", b"(?:") + b")*+</box>))" + _SPACE
)  # fmt: skip
_TILE = re.compile(_BOX + b"|" + _CUT + _SPACE + b"(?:" + _IMAGE + rb"|\Z)")
_GAP, _BEFORE, _XTL, _AFTER, _NAME, _SUBSET, _WIDTH, _HEIGHT, _STRIDE = 0, 1, 2, 6, 7, 8, 9, 10, 11
_ANY_FIELD = re.compile(rb'([a-z_]+)="(' + _TEXT + b')"')
_ANY_ENTRY = re.compile(_ENTRY)
_ANY_SHAPE = re.compile(rb"<(?:box|polygon|ellipse|mask|tag)[\s/>]")


def read_stretches(
    stream: BinaryIO, begin: int, report: LabelReport
) -> Iterator[CvatRecords | None]:
    """The images of a file, some at a time; None where lxml must read the file as a whole.

    Args:
        begin: where the first ``<image`` stands.

    Raises:
        LabelError: not well-formed.
    """
    stream.seek(0)
    lines = stream.read(begin).count(b"\n")
    at, rest = begin, b""
    while data := stream.read(_STRETCH_BYTES):
        data = rest + data
        cut = data.rfind(_CUT) + len(_CUT)
        if b"<!" in data or (cut < len(_CUT) and len(data) > _MOST_BYTES):
            yield None
            return
        stretch, rest = (data[:cut], data[cut:]) if cut >= len(_CUT) else (b"", data)
        if stretch:
            records = scan_stretch(stretch, at)
            yield _parsed(stretch, lines, report) if records is None else records
        at, lines = at + len(stretch), lines + stretch.count(b"\n")
    if rest.strip() != b"</annotations>":
        yield None


def scan_stretch(stretch: bytes, start: int) -> CvatRecords | None:
    """The records of a stretch of canonical images with boxes; None where it is another.

    Args:
        start: where in the file it begins.
    """
    text = _CUT + stretch.lstrip(b" \t\n\r")
    if not is_plain_utf8(text):
        return None
    pieces = _TILE.split(text)
    columns = [pieces[group::_STRIDE] for group in range(_STRIDE)]
    is_box = columns[_XTL]
    edges = [at for at, piece in enumerate(is_box) if piece is None]
    widths = list(filter(None, columns[_WIDTH]))
    if any(columns[_GAP]) or len(edges) != len(widths) + 1:
        return None
    try:
        label = list(map(_label, compress(columns[_BEFORE], is_box), filter(None, columns[_AFTER])))
    except _NotCanonicalError:
        return None
    numbers = [list(map(float, filter(None, columns[_XTL + corner]))) for corner in range(4)]
    is_image = columns[_WIDTH]
    return CvatRecords(
        name=[name.decode() for name in compress(columns[_NAME], is_image)],
        width=list(map(int, widths)),
        height=list(map(int, filter(None, columns[_HEIGHT]))),
        subset=[(subset or b"").decode() for subset in compress(columns[_SUBSET], is_image)],
        count=(np.diff(edges) - 1).tolist(),
        label=label,
        geometry=[int(Geometry.BOX)] * len(label),
        box=[np.array(numbers, dtype=np.float64).T],
        segmentation=[None] * len(label),
        area=[float("nan")] * len(label),
        line=[0] * len(label),
        stretch=[(0, start)],
    )


class _NotCanonicalError(Exception):
    """A box that only lxml takes apart."""


@lru_cache(maxsize=65_536)
def _label(before: bytes, after: bytes) -> Label:
    """Class, attributes and source from the text around the corners; few boxes differ in it."""
    head, _, inside = after.partition(b">")
    pairs = _ANY_FIELD.findall(before + head)
    fields = {name.decode(): value.decode() for name, value in pairs}
    if len(fields) < len(pairs):
        raise _NotCanonicalError
    entries = _ANY_ENTRY.findall(inside)
    return label_fields(fields, ((name.decode(), value.decode()) for name, value in entries))


def _parsed(stretch: bytes, lines: int, report: LabelReport) -> CvatRecords:
    root = parse_xml(b"<annotations>" + stretch + b"</annotations>", report.where, lines=lines)
    records = CvatRecords()
    for element in root.iterchildren("image"):
        read_image(element, lines, records, report)
    return records


def line_in_stretch(path: Path, start: int, row: int) -> int:
    """The line of the shape that is number ``row`` (from 0) behind a place in the file."""
    with path.open("rb") as stream:
        lines = 1 + stream.read(start).count(b"\n")
        data = stream.read(_STRETCH_BYTES + _MOST_BYTES)
    for at, match in enumerate(_ANY_SHAPE.finditer(data)):
        if at == row:
            return lines + data.count(b"\n", 0, match.start())
    return lines
