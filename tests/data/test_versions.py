"""Versions never change, and their digest speaks of content alone."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_sets import small_dataset

from tilth.data import versions
from tilth.data.catalogue import Catalogue
from tilth.data.dataset import Dataset
from tilth.data.digest import dataset_digest
from tilth.data.ragged import RaggedBytes
from tilth.data.records import Split
from tilth.errors import DataError, SettingsError


@pytest.mark.parametrize("name", ["", "a/../b", "..", ".a", "-a", "a b", "a\n", "é"])
def test_a_name_is_plain(catalogue: Catalogue, name: str) -> None:
    catalogue.import_dataset(small_dataset())
    with pytest.raises(SettingsError, match="name of a version"):
        catalogue.create_version(name)
    assert catalogue.versions() == []


def test_a_version_reads_back_as_it_was(catalogue: Catalogue) -> None:
    catalogue.import_dataset(small_dataset())
    before = catalogue.read()
    version = catalogue.create_version("v1")
    catalogue.update_boxes(before.annotations.id[:2], np.array([[0.0, 0.0, 1.0, 1.0]] * 2))
    catalogue.import_dataset(small_dataset(prefix="later/"))
    kept = catalogue.read(version="v1")
    for name in ("id", "width", "height", "split", "parent_id"):
        np.testing.assert_array_equal(getattr(kept.media, name), getattr(before.media, name))
    for name, values in vars(before.annotations).items():
        if isinstance(values, np.ndarray):
            found = getattr(kept.annotations, name)
            assert found.dtype == values.dtype, name
            np.testing.assert_array_equal(found, values, err_msg=name)
    assert kept.annotations.segmentation == before.annotations.segmentation
    assert list(kept.annotations.attributes) == list(before.annotations.attributes)
    assert kept.categories == before.categories
    assert (version.num_media, version.num_annotations) == (4, 9)
    assert dataset_digest(kept) == version.digest


def test_reading_a_version_makes_no_object_per_row(catalogue: Catalogue) -> None:
    catalogue.import_dataset(small_dataset())
    catalogue.create_version("v1")
    labels = catalogue.read(version="v1").annotations
    assert isinstance(labels.segmentation, RaggedBytes)
    assert not labels.boxes_xyxy.flags.owndata, "a view of the stored bytes"
    assert not labels.boxes_xyxy.flags.writeable


def test_a_name_holds_one_content_for_good(catalogue: Catalogue) -> None:
    catalogue.import_dataset(small_dataset())
    first = catalogue.create_version("v1")
    assert catalogue.create_version("v1") == first
    catalogue.set_splits(np.array([100]), np.array([Split.TEST], dtype=np.int8))
    with pytest.raises(DataError, match="holds other content"):
        catalogue.create_version("v1")
    second = catalogue.create_version("v2")
    assert second.digest != first.digest
    assert catalogue.versions() == [first, second]
    with pytest.raises(DataError, match="no version 'v3'"):
        catalogue.read(version="v3")


def test_columns_larger_than_a_part_are_cut_and_joined(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "_PART", 40)
    catalogue.import_dataset(small_dataset(num_media=9))
    before = catalogue.read()
    catalogue.create_version("v1")
    kept = catalogue.read(version="v1")
    np.testing.assert_array_equal(kept.annotations.boxes_xyxy, before.annotations.boxes_xyxy)
    assert kept.annotations.segmentation == before.annotations.segmentation


def test_repetitive_columns_are_compressed_and_read_back(catalogue: Catalogue) -> None:
    catalogue.import_dataset(small_dataset(num_media=400, labels_each=5))
    before = catalogue.read()
    catalogue.create_version("v1")
    np.testing.assert_array_equal(
        catalogue.read(version="v1").annotations.media_index, before.annotations.media_index
    )


def shuffled(dataset: Dataset, seed: int) -> Dataset:
    """The same content under other ids and in another order."""
    rng = np.random.default_rng(seed)
    moved = dataset.take(rng.permutation(len(dataset.media)))
    rows = np.concatenate(
        [rng.permutation(np.arange(s, e)) for s, e in pairwise(moved.offsets)]
    ).astype(np.int64)
    labels = moved.annotations
    columns = {
        name: values[rows] if isinstance(values, np.ndarray) else [values[row] for row in rows]
        for name, values in vars(labels).items()
    }
    ids = rng.permutation(len(moved.media)) + 5_000
    return replace(
        moved,
        media=replace(moved.media, id=ids),
        annotations=replace(labels, **{**columns, "id": rng.permutation(len(rows))}),
    )


@given(seed=st.integers(0, 2**32 - 1))
def test_the_digest_does_not_see_ids_or_order(seed: int) -> None:
    dataset = small_dataset(num_media=5, labels_each=4)
    # Two labels that only their polygons tell apart.
    labels = dataset.annotations
    boxes = labels.boxes_xyxy.copy()
    boxes[:4] = boxes[0]
    dataset = replace(dataset, annotations=replace(labels, boxes_xyxy=boxes))
    assert dataset_digest(shuffled(dataset, seed)) == dataset_digest(dataset)


def test_two_catalogues_filled_in_another_order_agree(tmp_path: Path) -> None:
    parts = [small_dataset(prefix="a/"), small_dataset(prefix="b/")]
    digests = []
    for name, order in (("x", parts), ("y", parts[::-1])):
        catalogue = Catalogue.create(f"sqlite:///{tmp_path / name}.db")
        for part in order:
            catalogue.import_dataset(part)
        digests.append(catalogue.create_version("v").digest)
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    "column",
    ["boxes_xyxy", "category_index", "area", "is_crowd", "score", "source", "review_state"],
)
def test_the_digest_sees_every_label_column(column: str) -> None:
    dataset = small_dataset()
    values = getattr(dataset.annotations, column).copy()
    values[0] = not values[0] if values.dtype == bool else values[0] + 1
    changed = replace(dataset, annotations=replace(dataset.annotations, **{column: values}))
    assert dataset_digest(changed) != dataset_digest(dataset)


def test_the_digest_sees_media_splits_categories_and_polygons() -> None:
    dataset = small_dataset()
    media, labels = dataset.media, dataset.annotations
    split = media.split.copy()
    split[2] = Split.VAL
    changed = [
        replace(dataset, media=replace(media, split=split)),
        replace(dataset, media=replace(media, uri=[*media.uri[:3], "x.jpg"])),
        replace(dataset, media=replace(media, parent_id=np.array([-1, -1, -1, 100]))),
        replace(dataset, categories=dataset.categories[::-1]),
        replace(
            dataset,
            annotations=replace(labels, segmentation=[b"[[1]]", *labels.segmentation[1:]]),
        ),
        replace(dataset, annotations=replace(labels, attributes=[None] * 9)),
    ]
    digests = {dataset_digest(other) for other in [dataset, *changed]}
    assert len(digests) == 7


def test_the_digest_of_a_known_set_is_pinned() -> None:
    # A change here breaks the trace from every recorded run to its data.
    assert dataset_digest(small_dataset()) == (
        "2db76fa8580c59db17ee1b102099a343fc1ae3a6ff4c57251d5107bcc7c3e58b"
    )
