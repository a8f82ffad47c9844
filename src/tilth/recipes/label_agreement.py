"""The labels of a project against a detector that is asked now."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from rich.console import Console
from rich.progress import Progress

from tilth.curate.agreement_records import store_agreement
from tilth.curate.box_pairs import AgreementSettings, Finding
from tilth.curate.label_agreement import compare_labels
from tilth.curate.proposals import ComparedLabels, without_rejected
from tilth.data.dataset import Dataset
from tilth.data.detections import Detections
from tilth.data.preannotation import trusted
from tilth.data.project import Project
from tilth.data.records import Split
from tilth.errors import EmptyDatasetError, TilthError
from tilth.recipes.catalogue_detections import as_labels, detect_readable
from tilth.recipes.class_mapping import map_classes
from tilth.recipes.detector_source import OpenedDetector

__all__ = ["compare_with_detector", "propose_missed"]

BATCH_PICTURES = 64


def compare_with_detector(
    project: Project,
    opened: OpenedDetector,
    settings: AgreementSettings,
    *,
    classes: dict[str, str] | None = None,
    split: str = "",
    iou: float = 0.5,
    task: str = "detection",
    progress: bool = False,
) -> ComparedLabels:
    """Detect in the labelled originals and compare; the catalogue keeps the numbers.

    Labels that wait for review or were rejected are no labels; what was rejected is not reported
    as missed again. Labels of classes that the detector does not know are not compared.

    Raises:
        EmptyDatasetError: no labelled picture.
    """
    every = project.catalogue.read(task)
    known = trusted(every)
    chosen = known.media.parent_id < 0
    if split:
        chosen &= known.media.split == Split[split.upper()]
    dataset = known.take(np.flatnonzero(chosen))
    names = [category.name for category in dataset.categories]
    mapping = map_classes(opened.detector.class_names, names, classes or {})
    is_known = np.isin(dataset.annotations.category_index, [r for r in mapping.rows if r >= 0])
    dataset = dataset.keep_annotations(is_known)
    if not len(dataset.annotations):
        raise EmptyDatasetError(
            "no label to compare",
            expected="labels of the detector's classes",
            got=f"classes {', '.join(names) or '-'}; the detector knows "
            f"{', '.join(opened.detector.class_names)}",
            fix="--map DETECTOR=TASK",
        )
    errors: list[TilthError] = []
    dataset, found = _detected(project, opened, dataset, settings, iou, errors, progress)
    found = _unrejected(every, dataset, mapping.apply(found))
    agreement = compare_labels(dataset, found, settings=settings)
    store_agreement(project.catalogue, dataset, found, agreement)
    return ComparedLabels(
        dataset=dataset,
        detections=found,
        agreement=agreement,
        classes=mapping.names,
        unknown_classes=mapping.unknown,
        errors=tuple(errors),
    )


def propose_missed(
    project: Project, compared: ComparedLabels, opened: OpenedDetector, *, task: str = "detection"
) -> int:
    """Write the missed objects as proposals for review, in place of earlier ones; their number."""
    agreement = compared.agreement
    missed = agreement.detection_row[agreement.finding == Finding.MISSED]
    found = compared.detections.take(missed)
    labels = as_labels(compared.dataset, found, b'{"found_by":"agreement"}')
    written = project.catalogue.write_model_labels(
        labels, task=task, origin=f"missed:{opened.name}", identity=opened.weights_digest[:16]
    )
    return written.added


def _detected(
    project: Project,
    opened: OpenedDetector,
    dataset: Dataset,
    settings: AgreementSettings,
    iou: float,
    errors: list[TilthError],
    progress: bool,
) -> tuple[Dataset, Detections]:
    """The pictures that could be read, and what is in them, in the detector's classes."""
    kept, parts, number = [], [], 0
    with Progress(console=Console(stderr=True), disable=not progress, transient=True) as bar:
        line = bar.add_task("detecting", total=len(dataset.media))
        for start in range(0, len(dataset.media), BATCH_PICTURES):
            rows = np.arange(start, min(start + BATCH_PICTURES, len(dataset.media)))
            read, found = detect_readable(
                project,
                opened,
                dataset.take(rows),
                score=settings.weak_score,
                iou=iou,
                errors=errors,
            )
            parts.append(replace(found, media_index=found.media_index + number))
            kept.append(rows[read])
            number += len(read)
            bar.advance(line, len(rows))
    return dataset.take(np.concatenate(kept)), Detections.joined(parts)


def _unrejected(every: Dataset, dataset: Dataset, found: Detections) -> Detections:
    """Without detections that a review has rejected; ``found`` counts the rows of ``dataset``."""
    rows = np.searchsorted(every.media.id, dataset.media.id)
    return without_rejected(every.take(rows), found)
