"""Classes renamed, joined and left out; the labels follow."""

from __future__ import annotations

import numpy as np
import pytest
from small_sets import small_dataset

from tilth.data.class_renaming import rename_classes
from tilth.errors import DataError


def names_of(dataset) -> list[str]:
    return [dataset.categories[row].name for row in dataset.annotations.category_index]


def test_a_class_gets_another_name_and_keeps_its_labels() -> None:
    before = small_dataset()
    after = rename_classes(before, {"dog": "puppy"})
    assert [category.name for category in after.categories] == ["person", "traffic light", "puppy"]
    assert names_of(after) == [name.replace("dog", "puppy") for name in names_of(before)]
    assert after.categories[2].origin_id == before.categories[2].origin_id


def test_two_classes_of_one_name_are_joined() -> None:
    after = rename_classes(small_dataset(), {"dog": "person"})
    assert [category.name for category in after.categories] == ["person", "traffic light"]
    counts = np.bincount(after.annotations.category_index)
    assert counts.tolist() == [6, 3]
    assert after.annotations.id.tolist() == small_dataset().annotations.id.tolist()


def test_names_can_be_exchanged() -> None:
    before = small_dataset()
    after = rename_classes(before, {"dog": "person", "person": "dog"})
    swap = {"dog": "person", "person": "dog"}
    assert names_of(after) == [swap.get(name, name) for name in names_of(before)]


def test_a_class_without_a_name_is_left_out_with_its_labels() -> None:
    before = small_dataset()
    after = rename_classes(before, {"traffic light": ""})
    assert [category.name for category in after.categories] == ["person", "dog"]
    assert names_of(after) == [name for name in names_of(before) if name != "traffic light"]
    assert after.media.uri == before.media.uri


def test_a_class_that_is_not_there_is_refused_with_the_nearest() -> None:
    with pytest.raises(DataError, match="no class 'dgo'") as caught:
        rename_classes(small_dataset(), {"dgo": "person"})
    assert caught.value.fix == "did you mean 'dog'?"
