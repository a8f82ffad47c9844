"""The records of LabelMe's files: decoded typed, or field by field where there are further fields.

What somebody else's tool adds to a shape or to the file (LabelMe itself keeps such fields) takes
the second way, which is some times slower. The picture inside (``imageData``) is passed over.
Points stay text until those of many files become one array, without an object for each.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Raw
from numpy.typing import NDArray

__all__ = ["File", "Shape", "decode_file", "decode_points"]

Pixels = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Points = Raw  # [[x, y], ...]


class Shape(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """One shape; ``points`` are x and y in pixels.

    ``score`` and ``attributes`` are fields of X-AnyLabeling, ``part_of`` is ours.
    """

    label: str
    points: Points
    shape_type: str = "polygon"
    group_id: int | str | None = None
    description: str | None = None
    flags: dict[str, Any] | None = None
    mask: str | None = None
    score: float | None = None
    attributes: dict[str, Any] | None = None
    part_of: int | None = None
    line_color: Raw = Raw()  # of LabelMe before version 4, as is the next
    fill_color: Raw = Raw()
    extra: dict[str, Any] | None = msgspec.field(name="(fields beyond)", default=None)

    def all_attributes(self) -> dict[str, Any]:
        """What goes beyond label, shape and score."""
        found = dict(self.extra or {})
        found |= self.flags or {}
        found |= self.attributes or {}
        if self.group_id is not None:
            found["group_id"] = self.group_id
        if self.description:
            found["description"] = self.description
        return found


class FlagDetail(msgspec.Struct):
    """What a flag of a picture does not say; one for each label, where one needs it."""

    label: str
    score: float | None = None
    attributes: dict[str, Any] | None = None


class File(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """One label file."""

    shapes: list[Shape]
    imagePath: str | None = None
    imageHeight: Pixels | None = None
    imageWidth: Pixels | None = None
    flags: dict[str, Any] | None = None
    flag_details: list[FlagDetail] | None = None
    version: Raw = Raw()
    imageData: Raw = Raw()
    lineColor: Raw = Raw()
    fillColor: Raw = Raw()
    extra: dict[str, Raw] | None = msgspec.field(name="(fields beyond)", default=None)


_PASSED_OVER = frozenset(
    {"version", "imageData", "lineColor", "fillColor", "line_color", "fill_color"}
)
_SHAPE_FIELDS = frozenset(Shape.__struct_encode_fields__)
_FILE_FIELDS = frozenset(File.__struct_encode_fields__)
_IN_NUMBERS = b"0123456789+-.eE \t\r\n"
_decode_numbers = msgspec.json.Decoder(list[float]).decode
_decode_tidy = msgspec.json.Decoder(File).decode


def decode_file(data: bytes) -> File:
    """One label file.

    Raises:
        msgspec.DecodeError: not JSON, or a field that is not what LabelMe writes.
    """
    try:
        return _decode_tidy(data)
    except msgspec.ValidationError:
        return _with_further_fields(data)


def _with_further_fields(data: bytes) -> File:
    fields = msgspec.json.decode(data, type=dict[str, Raw])
    extra = {name: fields.pop(name) for name in list(fields) if name not in _FILE_FIELDS}
    shapes = msgspec.json.decode(fields.pop("shapes", b"null"), type=list[dict[str, Any]])
    known: dict[str, Any] = {
        name: msgspec.json.decode(text) for name, text in fields.items() if name not in _PASSED_OVER
    }
    file = msgspec.convert(known | {"shapes": [_shape_fields(shape) for shape in shapes]}, File)
    file.extra = extra or None
    return file


def _shape_fields(shape: dict[str, Any]) -> dict[str, Any]:
    fields = {name: value for name, value in shape.items() if name not in _PASSED_OVER}
    further = {name: fields.pop(name) for name in list(fields) if name not in _SHAPE_FIELDS}
    if "points" in fields:
        fields["points"] = Raw(msgspec.json.encode(fields["points"]))
    return fields | {"(fields beyond)": further or None}


def decode_points(files: Iterable[File]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The points of all shapes, float64 [p, 2], and how many each shape has, int64 [m].

    Raises:
        msgspec.DecodeError: points that are not pairs of numbers.
    """
    shapes = chain.from_iterable(file.shapes for file in files)
    texts = [bytes(shape.points) for shape in shapes]
    counts = [text.count(b"]") - 1 for text in texts]
    # Without its numbers a list of points is brackets and commas: those that it must have.
    shapes_of = {count: b"[" + b",".join([b"[,]"] * count) + b"]" for count in set(counts)}
    wanted = b"".join([shapes_of[count] for count in counts])
    if b"".join(texts).translate(None, _IN_NUMBERS) != wanted:
        raise msgspec.DecodeError("points that are not pairs of numbers")
    inside = b",".join([text for text, count in zip(texts, counts, strict=True) if count])
    numbers = _decode_numbers(b"[" + inside.translate(None, b"[]") + b"]")
    return np.array(numbers, np.float64).reshape(-1, 2), np.array(counts, np.int64)
