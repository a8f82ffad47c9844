"""Labels against the proposals of a model that the catalogue holds already."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tilth.curate.agreement_records import store_agreement
from tilth.curate.box_pairs import AgreementSettings, pairwise_iou
from tilth.curate.label_agreement import Agreement, compare_labels
from tilth.data.dataset import Dataset
from tilth.data.detections import Detections
from tilth.data.preannotation import awaits_review, trusted
from tilth.data.project import Project
from tilth.data.records import Geometry, ReviewState, Split
from tilth.errors import EmptyDatasetError, TilthError

__all__ = [
    "ComparedLabels",
    "compare_with_proposals",
    "proposals_as_detections",
    "without_rejected",
]


@dataclass(frozen=True, kw_only=True, eq=False)
class ComparedLabels:
    """A comparison, with what is needed to list it.

    Attributes:
        dataset: the labels of the pictures that were compared.
        detections: of the same pictures and classes.
        classes: detector's class -> the task's, of a detector that was asked now.
        unknown_classes: of the detector, not of the task.
        errors: one an unreadable picture.
    """

    dataset: Dataset
    detections: Detections
    agreement: Agreement
    classes: dict[str, str] = field(default_factory=dict)
    unknown_classes: tuple[str, ...] = ()
    errors: tuple[TilthError, ...] = ()


def compare_with_proposals(
    project: Project,
    settings: AgreementSettings,
    *,
    split: str = "",
    task: str = "detection",
) -> ComparedLabels:
    """Compare the labels of the pictures that have proposals; the catalogue keeps the numbers.

    Raises:
        EmptyDatasetError: no picture has both.
    """
    every = project.catalogue.read(task)
    if split:
        every = every.of_split(Split[split.upper()])
    dataset, found = proposals_as_detections(every)
    rows = np.searchsorted(every.media.id, dataset.media.id)
    found = without_rejected(every.take(rows), found)
    agreement = compare_labels(dataset, found, settings=settings)
    store_agreement(project.catalogue, dataset, found, agreement)
    return ComparedLabels(dataset=dataset, detections=found, agreement=agreement)


def proposals_as_detections(dataset: Dataset) -> tuple[Dataset, Detections]:
    """The labels of the pictures that have proposals waiting for review, and those proposals.

    A picture without any proposal is left out: whether a model has looked at it is not known.

    Raises:
        EmptyDatasetError: no picture has both labels and proposals.
    """
    waiting = awaits_review(dataset) & (dataset.annotations.geometry != Geometry.LABEL)
    proposed = np.unique(dataset.annotations.media_index[waiting])
    labelled = trusted(dataset.take(proposed))
    if not len(labelled.annotations):
        raise EmptyDatasetError(
            "no picture has both labels and a model's proposals",
            expected="proposals to compare the labels with",
            got=f"{len(proposed)} pictures with proposals, none of them labelled",
            fix="tilth preannotate --run NAME, or tilth agreement --run NAME",
        )
    rows = np.flatnonzero(waiting)
    place = np.full(len(dataset.media), -1, dtype=np.int64)
    place[np.searchsorted(dataset.media.id, labelled.media.id)] = np.arange(len(labelled.media))
    media_index = place[dataset.annotations.media_index[rows]]
    rows, media_index = rows[media_index >= 0], media_index[media_index >= 0]
    score = dataset.annotations.score[rows]
    return labelled, Detections(
        media_index=media_index,
        category_index=dataset.annotations.category_index[rows],
        boxes_xyxy=dataset.annotations.boxes_xyxy[rows],
        score=np.where(np.isnan(score), 1.0, score).astype(np.float32),
    )


def without_rejected(
    dataset: Dataset, detections: Detections, *, same_place_iou: float = 0.5
) -> Detections:
    """The detections but for those that a review has rejected before: class and place are known.

    Args:
        dataset: with the rejected labels; ``detections`` count its pictures and classes.
    """
    labels = dataset.annotations
    rejected = np.flatnonzero(labels.review_state == ReviewState.REJECTED)
    refused = np.zeros(len(detections), dtype=np.bool_)
    for row in rejected.tolist():
        same = detections.media_index == labels.media_index[row]
        same &= detections.category_index == labels.category_index[row]
        near = np.flatnonzero(same)
        iou = pairwise_iou(labels.boxes_xyxy[[row]], detections.boxes_xyxy[near])[0]
        refused[near] |= iou >= same_place_iou
    return detections.take(np.flatnonzero(~refused))
