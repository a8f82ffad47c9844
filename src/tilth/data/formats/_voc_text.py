"""The text of Pascal VOC files, from columns: a template an object, a template a file.

Every object has ``pose``, ``truncated`` and ``difficult``, because the readers of the development
kit's kin fail without them. What these cannot say exactly (a share, a *false* that somebody meant)
stands under ``attributes`` as well, where labelling tools put what VOC has no element for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np

from tilth.data.dataset import Dataset
from tilth.data.formats._attribute_text import attribute_text
from tilth.data.formats._xml_files import (
    XML_ILLEGAL,
    all_escaped,
    escaped,
    number_texts,
    plain_numbers,
)
from tilth.data.records import Geometry

__all__ = ["file_texts"]

_HEAD = (
    "<annotation>\n\t<folder>%s</folder>\n\t<filename>%s</filename>\n\t<source>\n"
    "\t\t<database>Unknown</database>\n\t</source>\n\t<size>\n\t\t<width>%d</width>\n"
    "\t\t<height>%d</height>\n\t\t<depth>3</depth>\n\t</size>\n\t<segmented>%d</segmented>\n"
)
# Filled in two steps: once for all objects of a class with the same attributes, then the corners.
_OBJECT = (
    "\t<object>\n\t\t<name>{name}</name>\n{before}\t\t<bndbox>\n\t\t\t<xmin>%s</xmin>\n"
    "\t\t\t<ymin>%s</ymin>\n\t\t\t<xmax>%s</xmax>\n\t\t\t<ymax>%s</ymax>\n\t\t</bndbox>\n"
    "{after}\t</object>\n"
)
_PART = (
    "\t\t<part>\n\t\t\t<name>%s</name>\n\t\t\t<bndbox>\n\t\t\t\t<xmin>%r</xmin>\n"
    "\t\t\t\t<ymin>%r</ymin>\n\t\t\t\t<xmax>%r</xmax>\n\t\t\t\t<ymax>%r</ymax>\n"
    "\t\t\t</bndbox>\n\t\t</part>\n"
)
_PICTURES_A_BLOCK = 256


def file_texts(
    dataset: Dataset, folders: Sequence[str], filenames: Sequence[str], origin: str
) -> Iterator[str]:
    """The text of each picture's file.

    Args:
        folders: what to say under ``folder``, a text a picture.
        filenames: the same for ``filename``.
        origin: "zero" writes pixel edges, "voc1" pixels from 1 (of boxes on whole pixels).
    """
    media, labels = dataset.media, dataset.annotations
    masked = np.zeros(len(media), dtype=np.bool_)
    masked[labels.media_index[labels.geometry == Geometry.RLE]] = True
    sizes = np.stack([media.width, media.height, masked.astype(np.int32)], axis=1)
    shift = 1.0 if origin == "voc1" else 0.0
    moved = np.array([shift, shift, 0.0, 0.0])
    names = tuple(escaped(category.name) for category in dataset.categories)
    for first in range(0, len(media), _PICTURES_A_BLOCK):
        block = range(first, min(first + _PICTURES_A_BLOCK, len(media)))
        start, end = int(dataset.offsets[block.start]), int(dataset.offsets[block.stop])
        corners = number_texts(labels.boxes_xyxy[start:end] + moved)
        objects = [
            _object_text(names[category], attributes, shift)
            for category, attributes in zip(
                labels.category_index[start:end].tolist(), labels.attributes[start:end], strict=True
            )
        ]
        bounds = (dataset.offsets[block.start : block.stop + 1] - start).tolist()
        heads = zip(
            all_escaped(folders[block.start : block.stop]),
            all_escaped(filenames[block.start : block.stop]),
            *sizes[block.start : block.stop].T.tolist(),
            strict=True,
        )
        for said, begin, stop in zip(heads, bounds[:-1], bounds[1:], strict=True):
            text = "".join(objects[begin:stop]) % tuple(corners[4 * begin : 4 * stop])
            yield f"{_HEAD % said}{text}</annotation>\n"


@lru_cache(maxsize=65_536)
def _object_text(name: str, attributes: bytes | None, shift: float) -> str:
    """An object with places for its corners."""
    before, after = (text.replace("%", "%%") for text in _around_box(attributes, shift))
    return _OBJECT.format(name=name.replace("%", "%%"), before=before, after=after)


def _around_box(attributes: bytes | None, shift: float) -> tuple[str, str]:
    """The elements before and after the box."""
    values = msgspec.json.decode(attributes, type=dict[str, Any]) if attributes else {}
    pose = values.pop("pose") if _is_pose(values.get("pose")) else "Unspecified"
    before = f"\t\t<pose>{escaped(pose)}</pose>\n"
    for name in ("truncated", "occluded", "difficult"):
        value = values.get(name)
        is_set = isinstance(value, int | float) and value > 0
        if name != "occluded" or is_set:
            before += f"\t\t<{name}>{is_set:d}</{name}>\n"
        if value is True:
            del values[name]
    after = _parts(values.get("parts"), shift)
    if after:
        del values["parts"]
    return before, after + _extension(values)


def _is_pose(pose: Any) -> bool:
    return (
        isinstance(pose, str)
        and pose == pose.strip()
        and pose not in ("", "Unspecified")
        and not XML_ILLEGAL.search(pose)
        and attribute_text(pose) == pose
    )


def _parts(parts: Any, shift: float) -> str:
    """Parts of an object (``[{"name": ..., "box": [x0, y0, x1, y1]}]``) in VOC's own element."""
    try:
        texts = []
        for part in parts:
            name, box = part["name"], np.array(part["box"], dtype=np.float64)
            plain = set(part) == {"name", "box"} and name == name.strip() and box.shape == (4,)
            if not plain or not np.isfinite(box).all():
                return ""
            texts.append(
                _PART % (escaped(name), *plain_numbers(box + np.array([shift, shift, 0, 0])))
            )
    except (TypeError, KeyError, ValueError, AttributeError):
        return ""
    return "".join(texts)


def _extension(values: dict[str, Any]) -> str:
    if not values:
        return ""
    entries = "".join(
        f"\t\t\t<attribute>\n\t\t\t\t<name>{escaped(name)}</name>\n"
        f"\t\t\t\t<value>{escaped(attribute_text(value))}</value>\n\t\t\t</attribute>\n"
        for name, value in values.items()
    )
    return f"\t\t<attributes>\n{entries}\t\t</attributes>\n"
