"""Carries out a rebalancing plan: new pictures on disk, registered with parent and transform.

Only training originals are parents, so nothing derived from a picture that measures can be trained
on. Which parent gives which copy, and what is drawn for it, follows from the plan alone: the number
of workers changes nothing, and a run that was killed goes on with the files it finds.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from tilth.curate.augment import AugmentParameters, warp_image
from tilth.curate.executors import InlineExecutor, as_finished, process_executor
from tilth.curate.rebalance_draws import JPEG_QUALITY, Copy, draw_copies, folder_of
from tilth.curate.rebalance_plan import RebalancePlan, plan, random_plan
from tilth.data.dataset import AnnotationColumns, Dataset, MediaColumns
from tilth.data.images import expect_size, read_image, read_size, write_jpeg
from tilth.data.preannotation import trusted
from tilth.data.project import Project
from tilth.data.records import Geometry, ReviewState, Source, Split, Transform
from tilth.errors import DataError, MediaError

__all__ = ["RebalancePlan", "RebalanceReport", "pictures_of", "plan", "random_plan", "run"]

BATCH_PARENTS = 8
FEW_PICTURES = 64  # starting a pool of processes takes longer than making these


@dataclass(frozen=True, kw_only=True)
class RebalanceReport:
    """What one run made of a plan.

    Attributes:
        made: pictures written now.
        found: pictures that an earlier run of the same plan had made.
        without_objects: copies left out because every draw lost all objects of the parent.
        errors: one a parent that could not be read; its copies are tried again next time.
    """

    made: int
    found: int
    without_objects: int
    errors: tuple[MediaError, ...]


def run(
    project: Project,
    plan: RebalancePlan,
    *,
    task: str = "detection",
    executor: Executor | None = None,
    progress: bool = True,
) -> RebalanceReport:
    """Make the pictures of a plan under ``augmented/<plan name>/`` and register them.

    Args:
        executor: where to work: any `concurrent.futures` executor. By default this process for a
            few pictures, else one process a core.
        progress: show a bar on standard error.

    Raises:
        DataError: a parent is unknown, derived, or not in the training split; or the name of the
            plan belongs to a different one.
        CatalogueError, StorageError: something could not be written; run again to go on.
    """
    dataset = trusted(project.catalogue.read(task))  # no copies of what nobody has reviewed
    copies, without_objects = _drawn(project, dataset, plan)
    known = set(dataset.media.uri)
    _refuse_other_plan(known, {copy.uri for copy in copies}, plan.name)
    todo = [copy for copy in copies if copy.uri not in known]
    made, found, errors = 0, len(copies) - len(todo), list[MediaError]()
    with (
        _own_executor(len(todo)) if executor is None else nullcontext(executor) as runner,
        Progress(console=Console(stderr=True), disable=not progress, transient=True) as bar,
    ):
        line = bar.add_task("augmenting", total=len(todo))
        for outcome in as_finished(runner, _make_batch, _batches(project, dataset, todo)):
            done = [todo[index] for index in outcome.made + outcome.found]
            if done:
                columns, transforms = _derived(dataset, done)
                project.catalogue.add_derived(columns, transforms, task=task)
            made += len(outcome.made)
            found += len(outcome.found)
            errors += outcome.errors
            bar.advance(line, outcome.seen)
    return RebalanceReport(
        made=made, found=found, without_objects=without_objects, errors=tuple(errors)
    )


def pictures_of(dataset: Dataset, plan_name: str) -> NDArray[np.bool_]:
    """bool [n]: which media of a data set a plan has made."""
    folder = folder_of(plan_name)
    return np.array([uri.startswith(folder) for uri in dataset.media.uri], dtype=bool)


def _drawn(project: Project, dataset: Dataset, plan: RebalancePlan) -> tuple[list[Copy], int]:
    """The copies of a plan, and how many more would lose all their objects."""

    def size_of(row: int) -> tuple[int, int]:
        width, height = int(dataset.media.width[row]), int(dataset.media.height[row])
        if width and height:
            return width, height
        return read_size(project.media_path(dataset.media.uri[row]))  # no label file said it

    copies = list(draw_copies(dataset, plan, size_of))
    kept = [copy for copy in copies if copy is not None]
    return kept, len(copies) - len(kept)


def _refuse_other_plan(known: set[str], wanted: set[str], name: str) -> None:
    strangers = {uri for uri in known if uri.startswith(folder_of(name))} - wanted
    if strangers:
        raise DataError(
            f"the name '{name}' belongs to another plan, or its labels have changed since",
            where=folder_of(name),
            expected="only pictures of this plan",
            got=f"{len(strangers)} others, {min(strangers)} first",
            fix="give the plan a new name",
        )


def _own_executor(num_pictures: int) -> Executor:
    return InlineExecutor() if num_pictures < FEW_PICTURES else process_executor()


@dataclass(frozen=True, kw_only=True)
class _Job:
    """One parent and its copies: the parent is decoded once for all of them."""

    parent: Path
    size: tuple[int, int]
    copies: tuple[tuple[int, Path, AugmentParameters], ...]


@dataclass(kw_only=True)
class _Outcome:
    """Which copies are on disk now, by index, and what went wrong."""

    seen: int
    made: list[int] = field(default_factory=list)
    found: list[int] = field(default_factory=list)
    errors: list[MediaError] = field(default_factory=list)


def _batches(project: Project, dataset: Dataset, todo: Sequence[Copy]) -> list[list[_Job]]:
    by_parent: dict[int, list[int]] = {}
    for index, copy in enumerate(todo):
        by_parent.setdefault(copy.parent_row, []).append(index)
    jobs = [
        _Job(
            parent=project.media_path(dataset.media.uri[row]),
            size=(todo[indices[0]].width, todo[indices[0]].height),
            copies=tuple(
                (index, project.root / todo[index].uri, todo[index].parameters) for index in indices
            ),
        )
        for row, indices in by_parent.items()
    ]
    return [jobs[at : at + BATCH_PARENTS] for at in range(0, len(jobs), BATCH_PARENTS)]


def _make_batch(jobs: Sequence[_Job]) -> _Outcome:
    outcome = _Outcome(seen=sum(len(job.copies) for job in jobs))
    for job in jobs:
        missing = []
        for copy in job.copies:
            # Writing is atomic and the name says what makes the picture: a file is a whole copy.
            if copy[1].exists():
                outcome.found.append(copy[0])
            else:
                missing.append(copy)
        if not missing:
            continue
        try:
            image_rgb = _read_parent(job)
        except MediaError as error:
            outcome.errors.append(error)
            continue
        for index, path, parameters in missing:
            write_jpeg(path, warp_image(image_rgb, parameters), JPEG_QUALITY)
            outcome.made.append(index)
    return outcome


def _read_parent(job: _Job) -> NDArray[np.uint8]:
    image_rgb = read_image(job.parent)
    expect_size(image_rgb, job.size, where=str(job.parent))
    return image_rgb


def _derived(dataset: Dataset, copies: Sequence[Copy]) -> tuple[Dataset, list[Transform]]:
    """The new pictures as a data set: boxes only, each carried over from an annotation."""
    annotations = dataset.annotations
    rows = np.concatenate([copy.kept_rows for copy in copies])
    boxes = np.concatenate([copy.boxes_xyxy for copy in copies])
    n, m = len(copies), len(rows)
    media = MediaColumns(
        id=np.arange(n, dtype=np.int64),
        uri=[copy.uri for copy in copies],
        width=np.array([copy.width for copy in copies], dtype=np.int32),
        height=np.array([copy.height for copy in copies], dtype=np.int32),
        split=np.full(n, Split.TRAIN, dtype=np.int8),
        parent_id=dataset.media.id[[copy.parent_row for copy in copies]],
    )
    carried = AnnotationColumns(
        id=annotations.id[rows],  # unique within a picture, and the way back to the original
        media_index=np.repeat(np.arange(n), [len(copy.kept_rows) for copy in copies]),
        category_index=annotations.category_index[rows],
        boxes_xyxy=boxes,
        area=(boxes[:, 2:] - boxes[:, :2]).prod(axis=1),
        is_crowd=annotations.is_crowd[rows],
        score=np.full(m, np.nan, dtype=np.float32),
        source=np.full(m, Source.SYNTHETIC, dtype=np.uint8),
        review_state=np.full(m, ReviewState.UNREVIEWED, dtype=np.uint8),
        geometry=np.full(m, Geometry.BOX, dtype=np.uint8),
        segmentation=[None] * m,
        attributes=[None] * m,
    )
    transforms = [
        Transform(name="augment", seed=copy.seed, parameters=copy.parameters.to_dict())
        for copy in copies
    ]
    return Dataset(categories=dataset.categories, media=media, annotations=carried), transforms
