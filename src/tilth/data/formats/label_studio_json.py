"""Label Studio JSON: annotations and predictions with boxes, polygons, brushes, choices, videos.

A task has ``data`` that names its picture, ``annotations`` by people and ``predictions`` by models,
each with results: rectanglelabels, polygonlabels, ellipselabels, brushlabels, choices (labels of
the whole picture) and videorectangle. Lengths are percent of the picture, angles are clockwise; a
turned box is read as a polygon. (labelstud.io, "Export annotations", "Import pre-annotations".)
JSON_MIN is read as well. The file has no list of classes: --option classes gives their order.

Predictions become labels whose source is a model, with their score. Of several annotators all are
read, each label with ``annotator`` as an attribute, unless --option annotators says which. An
annotation that was cancelled is left out and reported. The key frames of a video become boxes in
every frame, ``clip.mp4#frame=11`` for Label Studio's frame 12, with ``track_id`` and ``keyframe``.

Pictures are named by ``/data/local-files/?d=...``, ``/data/upload/...``, a path or an address
(s3://, https://); the first is what is written. What Label Studio has no field for (attributes, the
state of review) is written in the ``meta`` of a region, under ``tilth``, and read from there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tilth.data.atomic import atomic_writer
from tilth.data.dataset import Dataset, MediaColumns
from tilth.data.formats._class_list import class_list, matched_classes
from tilth.data.formats._columns import annotation_columns, report_rows
from tilth.data.formats._fit import fit
from tilth.data.formats._header_sizes import picture_sizes
from tilth.data.formats._label_studio_media import local_url
from tilth.data.formats._label_studio_records import read_tasks
from tilth.data.formats._label_studio_tasks import Choice, Gathered
from tilth.data.formats._label_studio_text import task_texts
from tilth.data.formats._media_names import relative_names
from tilth.data.holds import Holds
from tilth.data.problems import LabelReport
from tilth.data.records import Geometry
from tilth.data.storage import is_url
from tilth.errors import EmptyDatasetError, LabelError

__all__ = ["HOLDS", "TARGET", "ReadOptions", "WriteOptions", "adapt", "read", "recognises", "write"]

_HEAD_BYTES = 65_536
_KEYS = re.compile(
    rb'"(annotations|predictions|completions|from_name|annotator|annotation_id)"\s*:'
)
_DATA = re.compile(rb'"(data|annotation_id|annotator)"\s*:')

TARGET = "file"
HOLDS = Holds(
    labels=True,
    boxes=True,
    polygons=True,
    masks=True,
    scores=True,
    attributes="all",
    crowd=True,
    class_order=False,
    provenance=True,
)


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Whose labels are read, and of what.

    Attributes:
        annotators: all of a task's annotations, the first, the last, or those that are marked as
            ground truth.
        predictions: all, those of tasks that nobody has annotated, or none.
        frames: of a video all frames, or the key frames alone.
        data_key: the field of a task's data that names the picture; found where left empty.
        classes: the classes in order: a file, or names with commas between them.
    """

    annotators: Literal["all", "first", "last", "ground_truth"] = "all"
    predictions: Literal["all", "unlabelled", "none"] = "all"
    frames: Literal["all", "keyframes"] = "all"
    data_key: str = ""
    classes: str = ""


@dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """How tasks are written.

    Attributes:
        prefix: what comes before the path of a picture; Label Studio finds pictures of this
            machine below the folder that LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT names.
        model_version: of the predictions.
    """

    prefix: str = "/data/local-files/?d="
    model_version: str = "tilth"


def recognises(path: Path) -> bool:
    """A JSON list whose first task has what a task has."""
    if path.suffix.lower() != ".json":
        return False
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
    except (OSError, ValueError):
        return False
    is_list = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"["
    return is_list and _KEYS.search(head) is not None and _DATA.search(head) is not None


def read(
    path: Path,
    *,
    media_root: Path | None = None,
    on_unknown: Literal["error", "skip"] = "error",
    options: ReadOptions = ReadOptions(),
    report: LabelReport | None = None,
) -> tuple[Dataset, LabelReport]:
    """Read an export; pictures are opened only where nothing else says their size.

    Args:
        media_root: the folder that local names are relative to; otherwise the file's own.
        on_unknown: what to do with a label that the given list of classes does not have.
        report: takes the problems; a new one when left out.

    Raises:
        LabelError: not an export, or an unknown label.
        PathEscapeError: a picture outside ``media_root``.
        EmptyDatasetError: no pictures in the file.
    """
    report = report or LabelReport(where=str(path))
    try:
        data = path.read_bytes()
    except OSError as error:
        got = error.strerror
        raise LabelError("the label file cannot be read", where=str(path), got=got) from error
    choice = Choice(
        annotators=options.annotators,
        predictions=options.predictions,
        data_key=options.data_key,
        frames=options.frames,
    )
    found = Gathered((media_root or path.parent).resolve(), choice, report)
    for block in read_tasks(data, report):
        found.add_block(block)
    del data
    _note(found, report)
    media = found.media()
    if not len(media):
        raise EmptyDatasetError("no pictures with labels in the file", where=str(path))
    return _dataset(found, media, options, on_unknown, report), report


def _note(found: Gathered, report: LabelReport) -> None:
    people, models = found.num_annotations, found.num_predictions
    report.notes.append(f"{people} annotations and {models} predictions")
    if found.num_several:
        report.notes.append(
            f"{found.num_several} tasks have several annotations: all are read, with 'annotator' "
            "as an attribute (--option annotators=first, last or ground_truth takes one)"
        )


def _dataset(
    found: Gathered,
    media: MediaColumns,
    options: ReadOptions,
    on_unknown: str,
    report: LabelReport,
) -> Dataset:
    columns = found.columns()

    def place(row: int) -> str:
        return f"{found.places[columns['saying'][row]]}, result[{columns['number'][row]}]"

    listed = class_list(options.classes, [], report)
    categories, category_row = matched_classes(
        columns["code"], list(found.codes), listed, on_unknown, report, place
    )
    known = np.flatnonzero(category_row >= 0)
    annotations = annotation_columns(
        media,
        media_index=columns["media"][known],
        category_index=category_row[known],
        boxes_xyxy=columns["box"][known],
        report=report,
        place=lambda row: place(int(known[row])),
        segmentation=columns["segmentation"].take(known),
        attributes=columns["attributes"].take(known),
        **{
            name: columns[name][known]
            for name in ("geometry", "area", "is_crowd", "score", "source", "review_state")
        },
    )
    report.num_media, report.num_annotations = len(media), len(annotations)
    return Dataset(categories=categories, media=media, annotations=annotations)


def adapt(
    dataset: Dataset, *, options: WriteOptions = WriteOptions()
) -> tuple[Dataset, LabelReport]:
    """What Label Studio holds of a data set, and what that costs."""
    report = LabelReport(where="label_studio_json")
    fitted = fit(dataset, HOLDS, report)
    fitted = replace(fitted, media=_with_sizes(fitted))
    labels, media = fitted.annotations, fitted.media
    unsized = (media.width == 0) | (media.height == 0)
    lost = unsized[labels.media_index] & np.isin(labels.geometry, (Geometry.BOX, Geometry.POLYGON))
    kind = "shape in a picture of unknown size, of which there is no percent"
    report_rows(report, kind, "left out", lost, lambda row: f"label {labels.id[row]}")
    return (fitted.keep_annotations(~lost) if lost.any() else fitted), report


def _with_sizes(dataset: Dataset) -> MediaColumns:
    """The media, with sizes from their headers where labels need one that nobody has said."""
    media = dataset.media
    needed: NDArray[np.bool_] = (media.width == 0) | (media.height == 0)
    needed &= np.diff(dataset.offsets) > 0
    rows = np.flatnonzero(needed)
    if not len(rows):
        return media
    found = picture_sizes([media.uri[row] for row in rows.tolist()], LabelReport(where=""))
    width, height = media.width.copy(), media.height.copy()
    width[rows], height[rows] = found
    return replace(media, width=width, height=height)


def write(
    dataset: Dataset,
    path: Path,
    *,
    media_root: Path | None = None,
    options: WriteOptions = WriteOptions(),
) -> LabelReport:
    """Write an export in one step: it is there whole or not at all.

    Args:
        media_root: pictures are named relative to this folder; addresses in full.

    Raises:
        StorageError: the write failed; a file that was there before is unchanged.
    """
    dataset, report = adapt(dataset, options=options)
    report.where = str(path)
    names = iter(relative_names([u for u in dataset.media.uri if not is_url(u)], media_root))
    urls = [
        uri if is_url(uri) else local_url(next(names), options.prefix) for uri in dataset.media.uri
    ]
    with atomic_writer(path) as stream:
        stream.write(b"[")
        stream.writelines(_separated(task_texts(dataset, urls, options.model_version)))
        stream.write(b"\n]\n")
    return report


def _separated(texts: Iterator[bytes]) -> Iterator[bytes]:
    for count, text in enumerate(texts):
        yield b",\n" if count else b"\n"
        yield text
