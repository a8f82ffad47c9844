"""``instances.jsonl``: what the values of object masks are, a line a picture, ours.

    {"format": "tilth-masks-instance", "version": 1, "classes": [{"name": "cat", "id": 17}]}
    {"picture": "a/b.jpg", "width": 640, "height": 480, "mask": "a/b.png",
     "instances": [{"id": 1, "class": "cat", "score": 0.5, "crowd": true, "attributes": {}}]}

Where an instance has a ``mask`` of its own, all of that file that is not 0 is the instance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, field

from tilth.data.dataset import Dataset
from tilth.errors import LabelError

__all__ = ["INSTANCES", "Instance", "Picture", "listed_lines", "object_mask", "read_lines"]

INSTANCES = "instances.jsonl"
FORMAT = "tilth-masks-instance"
VERSION = 1

_Side = Annotated[int, Meta(ge=0, lt=2**31)]


class Class(Struct, omit_defaults=True):
    """A class of objects; ``id`` is the number that it came with."""

    name: Annotated[str, Meta(min_length=1)]
    id: Annotated[int, Meta(ge=-(2**62), le=2**62)]
    supercategory: str = ""


class Head(Struct, kw_only=True):
    """The first line."""

    format: str
    version: int
    classes: list[Class]


class Instance(Struct, omit_defaults=True, kw_only=True):
    """An object: ``id`` is its value in the mask of the picture."""

    id: Annotated[int, Meta(ge=1, lt=2**31)]
    name: str = field(name="class")
    mask: str | None = None
    score: float | None = None
    crowd: bool = False
    attributes: msgspec.Raw | UnsetType = UNSET


class Picture(Struct, omit_defaults=True, kw_only=True):
    """A picture, and its mask below the folder where there is one."""

    picture: str
    width: _Side = 0
    height: _Side = 0
    mask: str | None = None
    instances: list[Instance] = []


def read_lines(path: Path) -> tuple[Head, Iterator[tuple[int, Picture]]]:
    """The first line, and the pictures with the numbers of their lines.

    Raises:
        LabelError: not such a file, or (from the iterator) a line that cannot be read.
    """
    try:
        lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except OSError as error:
        raise LabelError("the list of instances cannot be read", where=str(path)) from error
    head: Head = _decoded(lines[0], Head, f"{path}:1")
    if head.format != FORMAT or head.version != VERSION:
        raise LabelError(
            "a list of instances of another kind",
            where=f"{path}:1",
            expected=f"{FORMAT}, version {VERSION}",
            got=f"{head.format[:40]}, version {head.version}",
        )
    numbered = enumerate(lines[1:], start=2)
    return head, (
        (number, _decoded(line, Picture, f"{path}:{number}"))
        for number, line in numbered
        if line.strip()
    )


def _decoded(line: bytes, kind: type[Any], where: str) -> Any:
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise LabelError(
            "a line that cannot be read",
            where=where,
            expected="a JSON object, as docs/reference/formats.md describes it",
            got=str(error)[:160],
        ) from error


def object_mask(stem: str, number: int) -> str:
    """The name of the mask of one object."""
    return f"{stem}__{number}.png"


def listed_lines(
    dataset: Dataset, names: Sequence[str], stems: Sequence[str], as_map: bool
) -> Iterator[bytes]:
    """The lines that say what the masks of a fitted data set are.

    Args:
        names, stems: what each picture is called, and its mask but for the suffix.
        as_map: one mask a picture; otherwise one for each object.
    """
    classes = [
        Class(name=category.name, id=category.origin_id, supercategory=category.supercategory)
        for category in dataset.categories
    ]
    yield msgspec.json.encode(Head(format=FORMAT, version=VERSION, classes=classes)) + b"\n"
    media = dataset.media
    for row, (name, stem) in enumerate(zip(names, stems, strict=True)):
        width, height = int(media.width[row]), int(media.height[row])
        picture = Picture(
            picture=name,
            width=max(width, 0),
            height=max(height, 0),
            mask=f"{stem}.png" if as_map and width > 0 and height > 0 else None,
            instances=_instances(dataset, row, None if as_map else stem),
        )
        yield msgspec.json.encode(picture) + b"\n"


def _instances(dataset: Dataset, media_row: int, stem: str | None) -> list[Instance]:
    labels, rows = dataset.annotations, dataset.rows_of(media_row)
    return [
        Instance(
            id=number,
            name=dataset.categories[category].name,
            mask=None if stem is None else object_mask(stem, number),
            score=None if score != score else score,
            crowd=crowd,
            attributes=msgspec.Raw(attributes) if attributes else UNSET,
        )
        for number, category, score, crowd, attributes in zip(
            range(1, rows.stop - rows.start + 1),
            labels.category_index[rows].tolist(),
            labels.score[rows].tolist(),
            labels.is_crowd[rows].tolist(),
            labels.attributes[rows],
            strict=True,
        )
    ]
