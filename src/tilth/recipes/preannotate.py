"""A detector's boxes into the catalogue, as labels that wait for review.

Pictures are written batch by batch, so that an interrupted run goes on where it stopped; labels by
hand are not touched, and neither is what a review has decided.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from tilth.data.dataset import Dataset
from tilth.data.preannotation import trusted
from tilth.data.project import Project
from tilth.data.records import Category, Split
from tilth.errors import EmptyDatasetError, SettingsError, TilthError
from tilth.recipes.catalogue_detections import as_labels, detect_readable
from tilth.recipes.class_mapping import ClassMapping, map_classes
from tilth.recipes.detector_source import OpenedDetector

__all__ = ["PreannotateSettings", "preannotate"]

BATCH_PICTURES = 32  # what a kill costs: these are detected again


@dataclass(frozen=True, kw_only=True)
class PreannotateSettings:
    """What is proposed, and where.

    Attributes:
        name: of the detector among the sources of labels; "" takes its own.
        split: only pictures of this part.
        score: detections below it are not proposed.
        iou: of two boxes of a class that overlap more, the weaker one is dropped.
        only_unlabelled: leave out pictures that have a label.
        classes: detector's class -> the task's; others are matched by name.
        add_classes: give the task the classes that it lacks and the detector finds.
        overwrite: replace what this detector proposed before with other weights or settings.
    """

    name: str = ""
    split: str = ""
    score: float = 0.25
    iou: float = 0.5
    only_unlabelled: bool = False
    classes: Mapping[str, str] = field(default_factory=dict)
    add_classes: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        for name in ("score", "iou"):
            if not 0 < getattr(self, name) <= 1:
                raise SettingsError(
                    f"setting '{name}' of the pre-annotation cannot be used",
                    expected="above 0, up to 1",
                    got=str(getattr(self, name)),
                )
        if self.split and self.split.upper() not in Split.__members__:
            raise SettingsError(
                "no such split",
                expected=", ".join(split.name.lower() for split in Split),
                got=self.split,
            )


def preannotate(
    project: Project,
    opened: OpenedDetector,
    settings: PreannotateSettings,
    *,
    task: str = "detection",
    progress: bool = False,
) -> dict[str, Any]:
    """Propose labels for the original pictures of a task; a second call skips those that are done.

    Raises:
        EmptyDatasetError: no picture is asked for.
        SettingsError: a class that is mapped does not exist, or none is left.
    """
    dataset = project.catalogue.read(task)
    origin = f"model:{settings.name or opened.name}"
    mapping, dataset = _mapping(opened, dataset, settings)
    identity = _identity(opened, settings, mapping)
    work = _planned(
        dataset,
        _asked(dataset, settings),
        project.catalogue.media_seen_by(origin, task=task),
        identity,
        overwrite=settings.overwrite,
    )
    changed = Counter(added=0, removed=0, answered=0)
    errors: list[TilthError] = []
    with Progress(console=Console(stderr=True), disable=not progress, transient=True) as bar:
        line = bar.add_task("pre-annotating", total=len(work.todo))
        for start in range(0, len(work.todo), BATCH_PICTURES):
            pictures = dataset.take(work.todo[start : start + BATCH_PICTURES])
            rows, found = detect_readable(
                project, opened, pictures, score=settings.score, iou=settings.iou, errors=errors
            )
            labels = as_labels(pictures.take(rows), mapping.apply(found), _provenance(opened))
            written = project.catalogue.write_model_labels(
                _of_found_classes(labels), task=task, origin=origin, identity=identity
            )
            changed.update(asdict(written))
            bar.advance(line, len(pictures.media))
    return {
        "detector": opened.name,
        "weights": opened.weights,
        "weights_digest": opened.weights_digest,
        "origin": origin,
        "pictures": len(work.todo) - len(errors),
        "already": work.already,
        "of_other_weights": work.of_other_weights,
        **changed,
        "classes": mapping.names,
        "unknown_classes": list(mapping.unknown),
        "errors": tuple(errors),
    }


@dataclass(frozen=True, kw_only=True, eq=False)
class _Work:
    """Rows of the pictures to do, and how many of those asked for need nothing."""

    todo: NDArray[np.int64]
    already: int
    of_other_weights: int


def _planned(
    dataset: Dataset,
    asked: NDArray[np.int64],
    seen: dict[str, NDArray[np.int64]],
    identity: str,
    *,
    overwrite: bool,
) -> _Work:
    """Leave out what this detector has done, and what it did with other weights or settings."""
    ids = dataset.media.id[asked]
    done = np.isin(ids, seen.get(identity, ids[:0]))
    others = [of_identity for name, of_identity in seen.items() if name != identity]
    kept = np.zeros(len(ids), dtype=np.bool_)
    if others and not overwrite:
        kept = ~done & np.isin(ids, np.concatenate(others))
    return _Work(
        todo=asked[~done & ~kept], already=int(done.sum()), of_other_weights=int(kept.sum())
    )


def _mapping(
    opened: OpenedDetector, dataset: Dataset, settings: PreannotateSettings
) -> tuple[ClassMapping, Dataset]:
    """The mapping, and the data set with the classes that may be added."""
    names = [category.name for category in dataset.categories]
    mapping = map_classes(opened.detector.class_names, names, settings.classes)
    if settings.add_classes and mapping.unknown:
        first = max((category.origin_id for category in dataset.categories), default=0) + 1
        added = [Category(name=n, origin_id=first + i) for i, n in enumerate(mapping.unknown)]
        dataset = replace(dataset, categories=(*dataset.categories, *added))
        names = [*names, *mapping.unknown]
        mapping = map_classes(opened.detector.class_names, names, settings.classes)
    if not mapping.names:
        raise SettingsError(
            "the detector knows no class of the task",
            expected=", ".join(names) or "a class; the task has none yet",
            got=", ".join(opened.detector.class_names),
            fix="--map DETECTOR=TASK, or --add-classes",
        )
    return mapping, dataset


def _of_found_classes(labels: Dataset) -> Dataset:
    """Without the classes at the end that no label has: they are not to be added for nothing."""
    used = np.unique(labels.annotations.category_index)
    place = np.full(len(labels.categories), -1, dtype=np.int64)
    place[used] = np.arange(len(used))
    category_index = place[labels.annotations.category_index]
    return replace(
        labels,
        categories=tuple(labels.categories[row] for row in used.tolist()),
        annotations=replace(labels.annotations, category_index=category_index),
    )


def _asked(dataset: Dataset, settings: PreannotateSettings) -> NDArray[np.int64]:
    """Rows of the pictures to look at."""
    media = dataset.media
    asked = media.parent_id < 0
    if settings.split:
        asked &= media.split == Split[settings.split.upper()]
    if settings.only_unlabelled:
        labelled = trusted(dataset)
        pictures = np.unique(labelled.annotations.media_index)
        asked &= ~np.isin(media.id, labelled.media.id[pictures])
    rows = np.flatnonzero(asked)
    if not len(rows):
        raise EmptyDatasetError(
            "no picture to pre-annotate",
            expected=f"an original picture{' without a label' * settings.only_unlabelled}"
            f"{f' of the {settings.split} split' * bool(settings.split)}",
            got=f"{len(media)} pictures, none of them such",
        )
    return rows


def _identity(opened: OpenedDetector, settings: PreannotateSettings, mapping: ClassMapping) -> str:
    """Of everything that decides what is proposed."""
    # Settings at their defaults are left out: a release that adds one changes no identity.
    model = asdict(opened.detector.settings)
    defaults = {each.name: each.default for each in fields(opened.detector.settings)}
    decides = {
        "weights": opened.weights_digest,
        "model": {name: value for name, value in model.items() if value != defaults[name]},
        "classes": mapping.names,
        "score": settings.score,
        "iou": settings.iou,
    }
    text = json.dumps(decides, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _provenance(opened: OpenedDetector) -> bytes:
    """What every label says of its origin, as JSON."""
    says = {"detector": opened.name, "weights": opened.weights_digest[:16]}
    return json.dumps(says, sort_keys=True).encode()
