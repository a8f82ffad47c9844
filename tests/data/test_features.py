"""Features are kept once, and an edit makes them stale."""

from __future__ import annotations

import numpy as np
import pytest
from small_sets import small_dataset

from tilth.data.catalogue import Catalogue
from tilth.errors import DataError


def test_rows_come_back_by_id_and_nan_stays_nan(catalogue: Catalogue) -> None:
    catalogue.import_dataset(small_dataset())
    ids = np.array([130, 100])
    catalogue.write_features("m", ["a", "b"], "media", ids, np.array([[1.5, np.nan], [3.0, -0.0]]))
    found = catalogue.read_features("m")
    assert found.columns == ("a", "b")
    assert found.ids.tolist() == [100, 130]
    np.testing.assert_array_equal(found.values, [[3.0, -0.0], [1.5, np.nan]])


def test_writing_again_replaces(catalogue: Catalogue) -> None:
    catalogue.import_dataset(small_dataset())
    for value in (1.0, 2.0):
        catalogue.write_features("m", ["a"], "media", np.array([100]), np.array([[value]]))
    assert catalogue.read_features("m").values.tolist() == [[2.0]]


def test_an_edited_annotation_is_missing_again(catalogue: Catalogue) -> None:
    catalogue.import_dataset(small_dataset())
    ids = catalogue.read().annotations.id
    values = np.arange(18, dtype=np.float64).reshape(9, 2)
    catalogue.write_features("f", ["x", "y"], "annotation", ids, values)
    assert len(catalogue.missing_features("f", ids)) == 0
    catalogue.update_boxes(ids[3:5], np.array([[0.0, 0.0, 2.0, 2.0]] * 2))
    assert catalogue.missing_features("f", ids[::-1]).tolist() == ids[[4, 3]].tolist()
    assert catalogue.read_features("f").ids.tolist() == np.delete(ids, [3, 4]).tolist()
    catalogue.write_features("f", ["x", "y"], "annotation", ids[3:5], values[3:5])
    np.testing.assert_array_equal(catalogue.read_features("f").values, values)


def test_an_unknown_set_is_empty_and_all_of_it_is_missing(catalogue: Catalogue) -> None:
    ids = np.array([3, 1])
    assert catalogue.missing_features("never", ids).tolist() == [3, 1]
    found = catalogue.read_features("never")
    assert (found.columns, found.values.shape) == ((), (0, 0))


def test_a_set_keeps_its_definition(catalogue: Catalogue) -> None:
    catalogue.import_dataset(small_dataset())
    catalogue.write_features("m", ["a"], "media", np.array([100]), np.array([[1.0]]))
    with pytest.raises(DataError, match="defined otherwise"):
        catalogue.write_features("m", ["b"], "media", np.array([100]), np.array([[1.0]]))
    with pytest.raises(DataError, match="defined otherwise"):
        catalogue.write_features("m", ["a"], "annotation", np.array([1]), np.array([[1.0]]))
    with pytest.raises(DataError, match="do not agree"):
        catalogue.write_features("m", ["a"], "media", np.array([100]), np.array([[1.0, 2.0]]))


def test_unknown_owners_are_refused_and_nothing_is_written(catalogue: Catalogue) -> None:
    catalogue.import_dataset(small_dataset())
    with pytest.raises(DataError, match="does not have"):
        catalogue.write_features("m", ["a"], "media", np.array([100, 5]), np.array([[1.0], [2.0]]))
    assert catalogue.missing_features("m", np.array([100])).tolist() == [100]
