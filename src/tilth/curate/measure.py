"""Fills the catalogue with image metrics and box features, once for each picture and box.

A picture is read and decoded once; its numbers, those of its boxes and its content hash come out
of that one pass. Every finished batch is written, so a run that is killed goes on where it stopped,
and a second run over a measured project decodes nothing.
"""

from __future__ import annotations

from concurrent.futures import Executor
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from tilth.curate.box_features import BOX_FEATURE_NAMES, box_features
from tilth.curate.executors import InlineExecutor, as_finished, process_executor
from tilth.curate.image_metrics import IMAGE_METRIC_NAMES, image_metrics
from tilth.data.dataset import Dataset
from tilth.data.images import content_hash, decode_image, expect_size
from tilth.data.media_source import is_plain
from tilth.data.preannotation import is_trusted
from tilth.data.project import Project
from tilth.data.records import Geometry
from tilth.errors import DataError, MediaError, TilthError

__all__ = ["BOX_FEATURE_SET", "IMAGE_FEATURE_SET", "MeasureReport", "measure"]

IMAGE_FEATURE_SET = "image_metrics"
BOX_FEATURE_SET = "box_features"

BATCH_PICTURES = 32  # about a tenth of a second of work: what a kill can cost, times the workers
FEW_PICTURES = 256  # starting a pool of processes takes longer than measuring these


@dataclass(frozen=True, kw_only=True)
class MeasureReport:
    """What one run of `measure` did.

    Attributes:
        pictures, boxes: how many got their numbers now.
        already: pictures that needed nothing.
        errors: one an unreadable picture (`MediaError`) or unusable box (`DataError`), the picture
            in ``where``. Everything else was measured; these are tried again next time.
    """

    pictures: int
    boxes: int
    already: int
    errors: tuple[TilthError, ...]


def measure(
    project: Project,
    *,
    task: str = "detection",
    executor: Executor | None = None,
    progress: bool = True,
) -> MeasureReport:
    """Measure every picture and box of a task that the catalogue has no numbers for.

    Boxes that a model proposed are measured once they are reviewed, and rejected ones never: they
    are no neighbours of the others either.

    Args:
        executor: where to decode: any `concurrent.futures` executor, `dask_executor(address)` for
            a cluster. By default this process for a few pictures, else one process a core.
        progress: show a bar on standard error.

    Raises:
        CatalogueError, StorageError: numbers could not be written; earlier batches are kept.
    """
    dataset = project.catalogue.read(task)
    dataset = dataset.keep_annotations(is_trusted(dataset))
    todo, errors = _unmeasured(project, dataset, progress)
    already = len(dataset.media) - len(todo) - len(errors)
    pictures = boxes = 0
    console = Console(stderr=True)
    with (
        _own_executor(len(todo)) if executor is None else nullcontext(executor) as runner,
        Progress(console=console, disable=not progress, transient=True) as bar,
    ):
        batches = [todo[at : at + BATCH_PICTURES] for at in range(0, len(todo), BATCH_PICTURES)]
        line = bar.add_task("measuring", total=len(todo))
        for batch in as_finished(runner, _measure_batch, batches):
            _write(project, batch)
            pictures += len(batch.media_ids)
            boxes += sum(map(len, batch.annotation_ids))
            errors += batch.errors
            bar.advance(line, batch.seen)
    errors.sort(key=lambda error: error.where or "")
    return MeasureReport(pictures=pictures, boxes=boxes, already=already, errors=tuple(errors))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Picture:
    """What a worker has to know: its share of the data set, nothing of the catalogue."""

    media_id: int
    path: Path
    size: tuple[int, int]
    needs_metrics: bool
    annotation_ids: NDArray[np.int64]
    boxes_xyxy: NDArray[np.float64]


@dataclass(kw_only=True, eq=False)
class _Batch:
    """What comes back, as columns that grow picture by picture."""

    seen: int
    media_ids: list[int] = field(default_factory=list)
    metrics: list[NDArray[np.float64]] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)
    annotation_ids: list[NDArray[np.int64]] = field(default_factory=list)
    box_values: list[NDArray[np.float64]] = field(default_factory=list)
    errors: list[TilthError] = field(default_factory=list)


def _own_executor(num_pictures: int) -> Executor:
    return InlineExecutor() if num_pictures < FEW_PICTURES else process_executor()


def _fetch(project: Project, uris: list[str], progress: bool) -> None:
    """Fetch what is remote, or in a video; what cannot be had is an error of its picture later."""
    if all(map(is_plain, uris)):
        return
    console = Console(stderr=True)
    with Progress(console=console, disable=not progress, transient=True) as bar:
        line = bar.add_task("fetching", total=None)
        project.prefetch(uris, advance=lambda count: bar.advance(line, count))


def _unmeasured(
    project: Project, dataset: Dataset, progress: bool
) -> tuple[list[_Picture], list[TilthError]]:
    """The pictures to decode, and those that cannot even be found."""
    media, annotations = dataset.media, dataset.annotations
    without_metrics = np.isin(
        media.id, project.catalogue.missing_features(IMAGE_FEATURE_SET, media.id)
    )
    boxed_rows = np.flatnonzero(annotations.geometry != Geometry.LABEL)
    offsets = np.searchsorted(annotations.media_index[boxed_rows], np.arange(len(media) + 1))
    without_boxes = np.isin(
        annotations.id,
        project.catalogue.missing_features(BOX_FEATURE_SET, annotations.id[boxed_rows]),
    )
    # Overlap looks at neighbours: one box to measure means all boxes of its picture.
    has_boxes_to_do = np.bincount(
        annotations.media_index[without_boxes], minlength=len(media)
    ).astype(bool)
    todo: list[_Picture] = []
    errors: list[TilthError] = []
    rows = np.flatnonzero(without_metrics | has_boxes_to_do).tolist()
    _fetch(project, [media.uri[row] for row in rows], progress)
    for row in rows:
        own = (
            boxed_rows[offsets[row] : offsets[row + 1]] if has_boxes_to_do[row] else boxed_rows[:0]
        )
        try:
            path = _path_of(project, media.uri[row])
        except MediaError as error:
            errors.append(error)
            continue
        todo.append(
            _Picture(
                media_id=int(media.id[row]),
                path=path,
                size=(int(media.width[row]), int(media.height[row])),
                needs_metrics=bool(without_metrics[row]),
                annotation_ids=annotations.id[own],
                boxes_xyxy=annotations.boxes_xyxy[own],
            )
        )
    return todo, errors


def _path_of(project: Project, uri: str) -> Path:
    # `media_path` asks the catalogue whether it knows an absolute path; this one comes from there.
    return Path(uri) if uri.startswith("/") and is_plain(uri) else project.media_path(uri)


def _measure_batch(pictures: list[_Picture]) -> _Batch:
    batch = _Batch(seen=len(pictures))
    for picture in pictures:
        try:
            _measure_picture(picture, batch)
        except MediaError as error:
            batch.errors.append(error)
        except DataError as error:
            error.where = f"{picture.path}: {error.where}"
            batch.errors.append(error)
    return batch


def _measure_picture(picture: _Picture, batch: _Batch) -> None:
    try:
        data = picture.path.read_bytes()
    except OSError as error:
        raise MediaError(
            "the picture cannot be opened", where=str(picture.path), got=error.strerror
        ) from error
    image_rgb = decode_image(data, where=str(picture.path))
    expect_size(image_rgb, picture.size, where=str(picture.path))
    if picture.needs_metrics:
        batch.metrics.append(image_metrics(image_rgb))
        batch.media_ids.append(picture.media_id)
        batch.hashes.append(content_hash(data))
    if len(picture.annotation_ids):
        batch.box_values.append(box_features(image_rgb, picture.boxes_xyxy))
        batch.annotation_ids.append(picture.annotation_ids)


def _write(project: Project, batch: _Batch) -> None:
    catalogue = project.catalogue
    # Features last: they are what marks a picture as done.
    if batch.media_ids:
        media_ids = np.array(batch.media_ids, dtype=np.int64)
        catalogue.set_content_hashes(media_ids, batch.hashes)
    if batch.annotation_ids:
        catalogue.write_features(
            BOX_FEATURE_SET,
            BOX_FEATURE_NAMES,
            "annotation",
            np.concatenate(batch.annotation_ids),
            np.concatenate(batch.box_values),
        )
    if batch.media_ids:
        catalogue.write_features(
            IMAGE_FEATURE_SET, IMAGE_METRIC_NAMES, "media", media_ids, np.stack(batch.metrics)
        )
