"""What is taken out is gone with all that hangs on it, and nothing else is touched."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_sets import small_dataset

from tilth.data.catalogue import Catalogue
from tilth.data.records import Transform
from tilth.errors import DataError


def add_derived(catalogue: Catalogue, parent: int, uri: str) -> int:
    """One picture made from another, with its labels; its id."""
    held = catalogue.read()
    one = held.take(np.flatnonzero(held.media.id == parent))
    media = replace(one.media, uri=[uri], parent_id=np.array([parent]))
    catalogue.add_derived(replace(one, media=media), [Transform(name="flip", seed=1)])
    ids, uris = catalogue.media_uris()
    return int(ids[uris.index(uri)])


def test_media_go_with_labels_features_tags_and_what_was_made_of_them(
    catalogue: Catalogue,
) -> None:
    catalogue.import_dataset(small_dataset())
    child = add_derived(catalogue, 100, "d/child.jpg")
    add_derived(catalogue, child, "d/grandchild.jpg")
    other = add_derived(catalogue, 110, "d/other.jpg")
    held = catalogue.read()
    for owner, ids in (("media", held.media.id), ("annotation", held.annotations.id)):
        catalogue.write_features(owner, ["a"], owner, ids, np.ones((len(ids), 1)))
    catalogue.tag_media(held.media.id, "t")
    version = catalogue.create_version("before")

    counted = catalogue.remove_media(np.array([100]), dry_run=True)
    assert catalogue.create_version("before").digest == version.digest, "a dry run changes nothing"
    removal = catalogue.remove_media(np.array([100]))
    assert removal == counted
    assert (removal.media, removal.derived, removal.annotations, removal.reviewed) == (1, 2, 9, 0)
    left = catalogue.read()
    assert left.media.id.tolist() == [110, 120, 130, other]
    assert len(left.annotations) == 9
    assert catalogue.read_features("media").ids.tolist() == [110, 120, 130, other]
    assert catalogue.tagged_media("t").tolist() == [110, 120, 130, other]
    np.testing.assert_array_equal(
        catalogue.read_features("annotation").ids, np.sort(left.annotations.id)
    )
    assert len(catalogue.read(version="before").media) == 7


def test_ids_that_are_given_again_have_no_old_features(catalogue: Catalogue) -> None:
    catalogue.import_dataset(small_dataset())
    ids = catalogue.read().annotations.id
    catalogue.write_features("f", ["a"], "annotation", ids, np.ones((len(ids), 1)))
    catalogue.remove_media(np.array([100, 110, 120, 130]))
    catalogue.import_dataset(small_dataset(prefix="new/"))
    again = catalogue.read().annotations.id
    assert set(again.tolist()) & set(ids.tolist())
    assert catalogue.missing_features("f", again).tolist() == again.tolist()


def test_a_parent_and_its_child_may_both_be_named(catalogue: Catalogue) -> None:
    catalogue.import_dataset(small_dataset())
    child = add_derived(catalogue, 100, "d/child.jpg")
    removal = catalogue.remove_media(np.array([child, 100]))
    assert (removal.media, removal.derived) == (2, 0)
    assert catalogue.read().media.id.tolist() == [110, 120, 130]


def test_an_unknown_medium_is_refused_and_nothing_goes(catalogue: Catalogue) -> None:
    catalogue.import_dataset(small_dataset())
    with pytest.raises(DataError, match="does not have"):
        catalogue.remove_media(np.array([100, 999]))
    assert len(catalogue.read().media) == 4


def test_more_media_than_a_statement_may_bind_are_removed(catalogue: Catalogue) -> None:
    catalogue.import_dataset(small_dataset(num_media=2_000, labels_each=1))
    ids, _ = catalogue.media_uris()
    assert catalogue.remove_media(ids[:1_950]).annotations == 1_950
    assert len(catalogue.read().media) == 50
