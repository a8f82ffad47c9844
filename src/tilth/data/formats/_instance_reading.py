"""Object masks with ``instances.jsonl``: the list and the pixels brought together, as columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from msgspec import UnsetType
from numpy.typing import NDArray

from tilth.data.dataset import Dataset
from tilth.data.formats._instance_lines import INSTANCES, Head, Instance, Picture, read_lines
from tilth.data.formats._mask_files import PlacedMask, Progress, masks_dataset, read_placed
from tilth.data.formats._mask_pictures import Matched, picture_folder
from tilth.data.formats._mask_regions import binary_regions, regions_of
from tilth.data.formats._media_names import media_uri
from tilth.data.formats._text_files import files_below
from tilth.data.problems import LabelReport
from tilth.data.records import Category
from tilth.errors import LabelError

__all__ = ["read_listed"]


@dataclass
class _Files:
    """Mask files, and the row of the picture that each belongs to."""

    names: list[str] = field(default_factory=list)
    media_rows: list[int] = field(default_factory=list)


@dataclass
class _Listed:
    """The list as columns.

    Attributes:
        uris, sizes: of the pictures.
        maps, objects: the files with all objects of a picture, and those with one.
        key: of each instance: its file (objects after maps), and its value there.
        category, score, crowd, attributes: of each instance.
    """

    uris: list[str] = field(default_factory=list)
    sizes: dict[int, tuple[int, int]] = field(default_factory=dict)
    maps: _Files = field(default_factory=_Files)
    objects: _Files = field(default_factory=_Files)
    key: list[tuple[str, int]] = field(default_factory=list)
    category: list[int] = field(default_factory=list)
    score: list[float] = field(default_factory=list)
    crowd: list[bool] = field(default_factory=list)
    attributes: list[bytes | None] = field(default_factory=list)


def read_listed(
    path: Path,
    media_root: Path | None,
    on_unknown: str,
    report: LabelReport,
    progress: Progress | None,
) -> Dataset:
    """The data set of a folder with ``instances.jsonl``.

    Raises:
        LabelError: a line that cannot be read, or a class that the first line does not name.
        PathEscapeError: a picture outside ``media_root``.
    """
    head, pictures = read_lines(path / INSTANCES)
    categories = _categories(head, path)
    rows = {category.name: row for row, category in enumerate(categories)}
    root = (media_root or picture_folder(path)).resolve()
    there = set(files_below(path, (".png",), report))
    listed = _Listed()
    for line, picture in pictures:
        _take(listed, picture, f"{INSTANCES}:{line}", root, rows, there, on_unknown, report)
    lost = there.difference(listed.maps.names, listed.objects.names)
    report.add("mask that the list does not name", "left out", sorted(lost))
    masks = _read_masks(path, listed, report, progress)
    return _joined(masks, listed, categories, report)


def _categories(head: Head, path: Path) -> tuple[Category, ...]:
    where = f"{path / INSTANCES}:1"
    names, numbers = [each.name for each in head.classes], [each.id for each in head.classes]
    for what, found in (("name", names), ("number", numbers)):
        if len(set(found)) < len(found):
            raise LabelError(f"two classes of one {what}", where=where)
    return tuple(
        Category(name=each.name, origin_id=each.id, supercategory=each.supercategory)
        for each in head.classes
    )


def _take(
    listed: _Listed,
    picture: Picture,
    place: str,
    root: Path,
    rows: dict[str, int],
    there: set[str],
    on_unknown: str,
    report: LabelReport,
) -> None:
    """One line of the list."""
    uri = media_uri(picture.picture, root, f"{report.where}: {place}")
    media_row = len(listed.uris)
    listed.uris.append(uri)
    if picture.width and picture.height:
        listed.sizes[media_row] = (picture.width, picture.height)
    if picture.mask is not None:
        _add_file(listed.maps, picture.mask, media_row, place, there, report)
    for instance in picture.instances:
        row = rows.get(instance.name)
        if row is None:
            _report_unknown(instance, place, rows, on_unknown, report)
            continue
        file, value = picture.mask, instance.id
        if instance.mask is not None:
            file, value = instance.mask, 1
            _add_file(listed.objects, file, media_row, place, there, report)
        if file is None:
            report.add("object without a mask", "left out", [f"{place}: object {instance.id}"])
            continue
        listed.key.append((file, value))
        listed.category.append(row)
        listed.score.append(np.nan if instance.score is None else instance.score)
        listed.crowd.append(instance.crowd)
        listed.attributes.append(_attributes(instance, place, report))


def _report_unknown(
    instance: Instance, place: str, rows: dict[str, int], on_unknown: str, report: LabelReport
) -> None:
    if on_unknown == "error":
        raise LabelError(
            f"class '{instance.name[:80]}' is not in the first line of the list",
            where=f"{report.where}: {place}",
            expected=", ".join(list(rows)[:20]) or "no classes are known",
            fix="add the class to the first line, or pass --on-unknown skip",
        )
    report.add("object of an unknown class", "left out", [f"{place}: '{instance.name[:80]}'"])


def _attributes(instance: Instance, place: str, report: LabelReport) -> bytes | None:
    if isinstance(instance.attributes, UnsetType):
        return None
    text = bytes(instance.attributes).strip()
    if text in (b"null", b"{}"):
        return None
    if not text.startswith(b"{"):
        report.add("attributes that are no object", "left out", [place])
        return None
    return text


def _add_file(
    files: _Files, name: str, media_row: int, place: str, there: set[str], report: LabelReport
) -> None:
    if name not in there:
        report.add("mask that is not there", "its objects are left out", [f"{place}: {name[:80]}"])
        return
    files.names.append(name)
    files.media_rows.append(media_row)


def _read_masks(
    path: Path, listed: _Listed, report: LabelReport, progress: Progress | None
) -> list[PlacedMask]:
    masks: list[PlacedMask] = []
    for files, take in ((listed.maps, regions_of), (listed.objects, binary_regions)):
        twice = sorted(name for name, count in Counter(files.names).items() if count > 1)
        report.add("mask of two objects or pictures", "the first kept", twice)
        first = {name: row for row, name in reversed(list(enumerate(files.names)))}
        rows = sorted(first.values())
        names = [files.names[row] for row in rows]
        matched = Matched(listed.uris, [files.media_rows[row] for row in rows])
        masks += read_placed(path, names, matched, take, report, progress, listed.sizes)
    return masks


def _joined(
    masks: Sequence[PlacedMask],
    listed: _Listed,
    categories: tuple[Category, ...],
    report: LabelReport,
) -> Dataset:
    """The regions of the masks with what the list says of them."""
    file_row = {mask.name: row for row, mask in enumerate(masks)}
    files = np.fromiter((file_row.get(name, -1) for name, _ in listed.key), np.int64)
    values = np.fromiter((value for _, value in listed.key), np.int64, len(listed.key))
    file_of = np.repeat(np.arange(len(masks)), [len(mask.regions.values) for mask in masks])
    value_of = np.concatenate([np.zeros(0, np.int64), *(m.regions.values for m in masks)])
    row = _rows_of(files << 32 | values, file_of << 32 | value_of)

    def places(bad: NDArray[np.bool_]) -> list[str]:
        found = np.flatnonzero(bad).tolist()
        return [f"{listed.key[at][0]}: object {listed.key[at][1]}" for at in found]

    used = np.zeros(len(values), dtype=np.bool_)
    used[row[row >= 0]] = True
    report.add("object without a pixel", "left out", places(~used & (files >= 0)))
    nameless = np.flatnonzero(row < 0).tolist()
    words = [f"{masks[file_of[at]].name}: value {value_of[at]}" for at in nameless]
    report.add("value that the list does not name", "left out", words)
    category = np.array([*listed.category, -1], np.int64)
    return masks_dataset(
        listed.uris,
        masks,
        categories,
        category[row],
        report,
        sizes=listed.sizes,
        score=np.array([*listed.score, np.nan], np.float32)[row],
        is_crowd=np.array([*listed.crowd, False], np.bool_)[row],
        attributes=[None if at < 0 else listed.attributes[at] for at in row.tolist()],
    )


def _rows_of(known: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first row of each wanted number among the known ones; -1 where it is not there."""
    if not len(known):
        return np.full(len(wanted), -1, dtype=np.int64)
    order = np.argsort(known, kind="stable")
    at = np.minimum(np.searchsorted(known[order], wanted), len(known) - 1)
    rows = order[at]
    return np.where(known[rows] == wanted, rows, -1)
