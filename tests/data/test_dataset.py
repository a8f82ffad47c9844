"""Columns are cut and joined as a list of records would be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from small_sets import small_dataset

from tilth.data.dataset import Dataset
from tilth.data.ragged import RaggedBytes
from tilth.data.records import Split


def rows_of_records(dataset: Dataset) -> list[tuple[str, list[tuple[object, ...]]]]:
    """The slow plain twin: each medium with its labels as tuples."""
    labels = dataset.annotations
    return [
        (
            uri,
            [
                (labels.id[r], *labels.boxes_xyxy[r], labels.segmentation[r], labels.attributes[r])
                for r in np.flatnonzero(labels.media_index == row)
            ],
        )
        for row, uri in enumerate(dataset.media.uri)
    ]


@given(rows=st.lists(st.integers(0, 5), max_size=10), packed=st.booleans())
def test_take_matches_records(rows: list[int], packed: bool) -> None:
    dataset = small_dataset(num_media=6)
    if packed:
        shapes = RaggedBytes.of(dataset.annotations.segmentation)
        dataset = replace(dataset, annotations=replace(dataset.annotations, segmentation=shapes))
    records = rows_of_records(dataset)
    taken = dataset.take(np.array(rows, dtype=np.int64))
    assert rows_of_records(taken) == [records[row] for row in rows]


def test_rows_of_a_medium_are_a_slice() -> None:
    dataset = small_dataset(num_media=3, labels_each=2)
    assert [dataset.rows_of(i) for i in range(3)] == [slice(0, 2), slice(2, 4), slice(4, 4)]


def test_of_split_takes_that_part() -> None:
    dataset = small_dataset()
    split = np.array([Split.TRAIN, Split.TEST, Split.TRAIN, Split.NONE], dtype=np.int8)
    dataset = replace(dataset, media=replace(dataset.media, split=split))
    assert dataset.of_split(Split.TRAIN).media.id.tolist() == [100, 120]
    assert len(dataset.of_split(Split.VAL).annotations) == 0


def test_keep_annotations_keeps_every_medium() -> None:
    dataset = small_dataset()
    kept = dataset.keep_annotations(dataset.annotations.is_crowd)
    assert len(kept.media) == 4
    assert kept.annotations.is_crowd.all()
    assert np.bincount(kept.annotations.media_index, minlength=4).tolist() == [1, 1, 1, 0]


def test_attributes_of_media_go_along() -> None:
    dataset = small_dataset()
    assert dataset.take(np.array([1])).media.attributes == ()
    media = replace(dataset.media, attributes=[b"0", b"1", None, b"3"])
    taken = replace(dataset, media=media).take(np.array([3, 2]))
    assert list(taken.media.attributes) == [b"3", None]
