"""The text of CVAT files, from columns: images with shapes, or a video with tracks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np

from tilth.data.dataset import Dataset
from tilth.data.formats._attribute_text import attribute_text
from tilth.data.formats._mask_crops import runs_to_crop
from tilth.data.formats._xml_files import escaped, plain_numbers
from tilth.data.records import Category, Geometry, Source, Split
from tilth.data.runs import runs_from_json

__all__ = ["CORNERS", "SUBSETS", "element_text", "image_texts", "labels_text", "points_text"]

SUBSETS = {Split.TRAIN: "Train", Split.VAL: "Validation", Split.TEST: "Test"}
_PICTURES_A_BLOCK = 256
CORNERS = ' xtl="%r" ytl="%r" xbr="%r" ybr="%r"'


def labels_text(categories: Sequence[Category], attributes: Sequence[Sequence[str]]) -> str:
    """The element ``labels``: classes in order, each with the attributes that its shapes have.

    CVAT refuses a file with attributes that its labels do not declare.
    """
    entries = "".join(
        f"\n        <label>\n          <name>{escaped(category.name)}</name>\n"
        f"          <attributes>{''.join(map(_declared, names))}</attributes>\n        </label>"
        for category, names in zip(categories, attributes, strict=True)
    )
    return f"      <labels>{entries}\n      </labels>\n"


def _declared(name: str) -> str:
    return (
        f"\n            <attribute><name>{escaped(name)}</name><mutable>True</mutable>"
        "<input_type>text</input_type><default_value></default_value><values></values></attribute>"
    )


def image_texts(dataset: Dataset, names: Sequence[str]) -> Iterator[str]:
    """Each picture as an ``<image>`` with its labels."""
    media, labels = dataset.media, dataset.annotations
    classes = [escaped(category.name) for category in dataset.categories]
    for first in range(0, len(media), _PICTURES_A_BLOCK):
        block = range(first, min(first + _PICTURES_A_BLOCK, len(media)))
        start, end = int(dataset.offsets[block.start]), int(dataset.offsets[block.stop])
        corners = plain_numbers(labels.boxes_xyxy[start:end])
        shapes = list(_shape_texts(dataset, classes, start, end, corners))
        bounds = (dataset.offsets[block.start : block.stop + 1] - start).tolist()
        for row, begin, stop in zip(block, bounds[:-1], bounds[1:], strict=True):
            subset = SUBSETS.get(Split(media.split[row]))
            inside = f' subset="{subset}"' if subset else ""
            yield (
                f'  <image id="{row}" name="{escaped(names[row])}"{inside}'
                f' width="{media.width[row]}" height="{media.height[row]}">\n'
                f"{''.join(shapes[begin:stop])}  </image>\n"
            )


def _shape_texts(
    dataset: Dataset, classes: list[str], start: int, end: int, corners: Sequence[float]
) -> Iterator[str]:
    labels = dataset.annotations
    for at, (category, geometry, source, attributes) in enumerate(
        zip(
            labels.category_index[start:end].tolist(),
            labels.geometry[start:end].tolist(),
            labels.source[start:end].tolist(),
            labels.attributes[start:end],
            strict=True,
        )
    ):
        if geometry == Geometry.BOX:
            place = CORNERS % tuple(corners[4 * at : 4 * at + 4])
            yield element_text("box", classes[category], source, attributes) % place
        elif geometry == Geometry.LABEL:
            yield element_text("tag", classes[category], source, attributes) % ""
        elif geometry == Geometry.POLYGON:
            parts = msgspec.json.decode(labels.segmentation[start + at] or b"[[]]")
            place = f' points="{points_text(parts[0])}"'
            yield element_text("polygon", classes[category], source, attributes) % place
        else:
            place = _mask_text(labels.segmentation[start + at] or b"{}")
            yield element_text("mask", classes[category], source, attributes) % place


def points_text(corners: Sequence[float]) -> str:
    """Flat corners as ``x,y;x,y``."""
    values = [f"{value!r}" for value in plain_numbers(np.array(corners, dtype=np.float64))]
    return ";".join(map(",".join, zip(values[0::2], values[1::2], strict=True)))


def _mask_text(segmentation: bytes) -> str:
    """Row-major runs of the crop around a mask, zeros first."""
    runs, height, _ = runs_from_json(segmentation)
    crop, left, top = runs_to_crop(runs, height)
    flat = np.concatenate([[False], crop.ravel()])
    edges = np.concatenate([[0], np.flatnonzero(np.diff(flat)), [crop.size]])
    counts = ", ".join(map(str, np.diff(edges).tolist()))
    size = f'width="{crop.shape[1]}" height="{crop.shape[0]}"'
    return f' rle="{counts}" left="{left}" top="{top}" {size}'


@lru_cache(maxsize=65_536)
def element_text(
    tag: str, label: str, source: int, attributes: bytes | None, *, state: str = ""
) -> str:
    """A shape or tag, with one ``%s`` for its place.

    Args:
        label: escaped; empty within a track, which has it.
        state: further XML attributes: of a shape of a track ``frame``, ``outside``, ``keyframe``.
    """
    values = msgspec.json.decode(attributes, type=dict[str, Any]) if attributes else {}
    covered, behind = ("", "") if tag == "tag" else _native(values)
    head = f'{state} label="{label}"' if label else state
    made = "auto" if source == Source.MODEL else "manual"
    entries = "".join(
        f'      <attribute name="{escaped(name)}">{escaped(attribute_text(value))}</attribute>\n'
        for name, value in values.items()
    )
    head, behind, entries = (text.replace("%", "%%") for text in (head, behind, entries))
    return f'    <{tag}{head} source="{made}"{covered}%s{behind}>\n{entries}    </{tag}>\n'


def _native(values: dict[str, Any]) -> tuple[str, str]:
    """What CVAT says of a shape in XML attributes, before and after its corners.

    Taken out of ``values``, but for what these cannot say exactly (how much is hidden).
    """
    hidden = values.get("occluded")
    before = f' occluded="{isinstance(hidden, int | float) and hidden > 0:d}"'
    if hidden is True:
        del values["occluded"]
    order, group = (_taken_number(values, name) for name in ("z_order", "group_id"))
    return before, f' z_order="{order or 0}"' + ("" if group is None else f' group_id="{group}"')


def _taken_number(values: dict[str, Any], name: str) -> int | None:
    value = values.get(name)
    if type(value) is not int or (name == "z_order" and value == 0):
        return None
    del values[name]
    return value
