"""A model's labels: replaced together, never over a reviewed one, not learned from before that."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_sets import small_dataset

from tilth.data.catalogue import Catalogue
from tilth.data.dataset import AnnotationColumns, Dataset
from tilth.data.preannotation import awaits_review, trusted
from tilth.data.records import Geometry, ReviewState, Source
from tilth.errors import DataError

BOX, OTHER, FAR = (5.0, 5.0, 25.0, 25.0), (30.0, 5.0, 50.0, 25.0), (60.0, 40.0, 90.0, 70.0)


@pytest.fixture
def catalogue(database_url: str) -> Catalogue:
    """Four pictures of 100 x 80, three of them with three labels by hand."""
    made = Catalogue.create(database_url)
    made.import_dataset(small_dataset(), origin="hand")
    return made


def proposals(catalogue: Catalogue, rows: list[tuple[int, int, tuple[float, ...]]]) -> Dataset:
    """All pictures with these boxes: (row of the picture, of the class, box)."""
    dataset = catalogue.read()
    rows = sorted(rows, key=lambda row: row[0])
    boxes = np.array([row[2] for row in rows]).reshape(-1, 4)
    count = len(rows)
    return replace(
        dataset,
        annotations=AnnotationColumns(
            id=np.zeros(count, dtype=np.int64),
            media_index=np.array([row[0] for row in rows], dtype=np.int64),
            category_index=np.array([row[1] for row in rows], dtype=np.int64),
            boxes_xyxy=boxes,
            area=(boxes[:, 2:] - boxes[:, :2]).prod(axis=1),
            is_crowd=np.zeros(count, dtype=bool),
            score=np.full(count, 0.75, dtype=np.float32),
            source=np.zeros(count, dtype=np.uint8),
            review_state=np.zeros(count, dtype=np.uint8),
            geometry=np.full(count, Geometry.BOX, dtype=np.uint8),
            segmentation=[None] * count,
            attributes=[b'{"detector":"first"}'] * count,
        ),
    )


def write(catalogue: Catalogue, rows: list[tuple[int, int, tuple[float, ...]]], identity="aa"):
    return catalogue.write_model_labels(
        proposals(catalogue, rows), origin="model:first", identity=identity
    )


def models(catalogue: Catalogue) -> AnnotationColumns:
    dataset = catalogue.read()
    return dataset.keep_annotations(awaits_review(dataset)).annotations


def test_a_models_labels_come_beside_those_by_hand(catalogue: Catalogue) -> None:
    before = catalogue.read().annotations
    done = write(catalogue, [(0, 0, BOX), (0, 1, OTHER), (3, 2, FAR)])
    assert (done.added, done.removed, done.answered) == (3, 0, 0)
    after = catalogue.read()
    by_hand = after.annotations.source == Source.HUMAN
    assert after.annotations.boxes_xyxy[by_hand].tolist() == before.boxes_xyxy.tolist()
    made = models(catalogue)
    assert made.media_index.tolist() == [0, 0, 3]
    assert made.category_index.tolist() == [0, 1, 2]
    assert made.boxes_xyxy.tolist() == [list(BOX), list(OTHER), list(FAR)]
    assert made.score.tolist() == [0.75] * 3
    assert list(made.attributes) == [b'{"detector":"first"}'] * 3


def test_a_second_run_replaces_the_first_and_nothing_else(catalogue: Catalogue) -> None:
    write(catalogue, [(0, 0, BOX), (1, 0, BOX)])
    catalogue.write_model_labels(
        proposals(catalogue, [(0, 0, BOX)]), origin="model:second", identity="aa"
    )
    before = catalogue.read().annotations
    done = write(catalogue, [(0, 0, FAR)], identity="bb")
    assert (done.added, done.removed) == (1, 2)
    after = catalogue.read().annotations
    assert len(after) == len(before) - 1
    assert (after.source == Source.HUMAN).sum() == (before.source == Source.HUMAN).sum()
    assert sorted(models(catalogue).boxes_xyxy.tolist()) == sorted([list(BOX), list(FAR)])


def test_what_was_reviewed_is_never_replaced_nor_proposed_again(catalogue: Catalogue) -> None:
    write(catalogue, [(0, 0, BOX), (0, 1, OTHER), (0, 2, FAR)])
    accepted, rejected, moved = models(catalogue).id
    catalogue.review(np.array([accepted]), ReviewState.ACCEPTED)
    catalogue.review(np.array([rejected]), ReviewState.REJECTED)
    catalogue.update_boxes(np.array([moved]), np.array([[61.0, 41.0, 90.0, 70.0]]))
    again = write(catalogue, [(0, 0, BOX), (0, 1, OTHER), (0, 2, FAR), (0, 1, FAR)], identity="bb")
    # The same class in the same place has an answer; another class there has none.
    assert (again.added, again.removed, again.answered) == (1, 0, 3)
    labels = catalogue.read().annotations
    state = dict(zip(labels.id.tolist(), labels.review_state.tolist(), strict=True))
    source = dict(zip(labels.id.tolist(), labels.source.tolist(), strict=True))
    kept = [int(accepted), int(rejected), int(moved)]
    assert [ReviewState(state[i]).name for i in kept] == ["ACCEPTED", "REJECTED", "CORRECTED"]
    assert [Source(source[i]).name for i in kept] == ["HUMAN", "MODEL", "HUMAN"]


def test_a_picture_that_was_seen_is_known_also_without_objects(catalogue: Catalogue) -> None:
    media = catalogue.read().media.id
    assert catalogue.media_seen_by("model:first") == {}
    write(catalogue, [(0, 0, BOX)])
    seen = catalogue.media_seen_by("model:first")
    assert {name: ids.tolist() for name, ids in seen.items()} == {"aa": media.tolist()}
    half = proposals(catalogue, []).take(np.array([1, 2]))
    catalogue.write_model_labels(half, origin="model:first", identity="bb")
    seen = catalogue.media_seen_by("model:first")
    assert {name: ids.tolist() for name, ids in seen.items()} == {
        "aa": media[[0, 3]].tolist(),
        "bb": media[[1, 2]].tolist(),
    }
    # Names that begin alike, and other tasks, are others.
    assert catalogue.media_seen_by("model") == {}
    assert catalogue.media_seen_by("model:first", task="other") == {}


def test_a_picture_of_another_catalogue_is_refused(catalogue: Catalogue) -> None:
    dataset = proposals(catalogue, [(0, 0, BOX)])
    media = replace(dataset.media, uri=["elsewhere.jpg", *dataset.media.uri[1:]])
    with pytest.raises(DataError, match="does not have"):
        catalogue.write_model_labels(
            replace(dataset, media=media), origin="model:first", identity="aa"
        )
    assert len(models(catalogue)) == 0


def test_review_of_an_unknown_label_changes_nothing(catalogue: Catalogue) -> None:
    known = catalogue.read().annotations.id[0]
    with pytest.raises(DataError, match="label that the catalogue"):
        catalogue.review(np.array([known, 99_999]), ReviewState.ACCEPTED)
    assert not catalogue.read().annotations.review_state.any()


def test_proposals_are_not_trusted_until_they_are_reviewed(catalogue: Catalogue) -> None:
    dataset = catalogue.read()
    assert trusted(dataset) is dataset
    # Picture 3 has nothing but proposals: whether it is empty, nobody knows.
    write(catalogue, [(0, 0, BOX), (3, 0, BOX), (3, 1, FAR)])
    known = trusted(catalogue.read())
    assert known.media.uri == dataset.media.uri[:3]
    assert known.annotations.id.tolist() == dataset.annotations.id.tolist()
    first, last = models(catalogue).id[1:]
    catalogue.review(np.array([first]), ReviewState.ACCEPTED)
    catalogue.review(np.array([last]), ReviewState.REJECTED)
    known = trusted(catalogue.read())
    assert len(known.media) == 4
    assert known.annotations.id.tolist() == [*dataset.annotations.id.tolist(), int(first)]


def test_a_picture_whose_proposals_were_all_rejected_is_empty(catalogue: Catalogue) -> None:
    write(catalogue, [(3, 0, BOX)])
    catalogue.review(models(catalogue).id, ReviewState.REJECTED)
    known = trusted(catalogue.read())
    assert len(known.media) == 4
    assert not (known.annotations.media_index == 3).any()
