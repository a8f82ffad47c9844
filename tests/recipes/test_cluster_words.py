"""Clusters are described by what sets them apart."""

from __future__ import annotations

import pytest

from tilth.curate.box_features import BOX_FEATURE_NAMES
from tilth.errors import DataError
from tilth.recipes.cluster_words import WORDS, describe_clusters

COLOURS = ["red_mean", "green_mean", "blue_mean"]


def test_the_strongest_features_come_first_and_no_more_than_three() -> None:
    names = ["grey_std", "relative_area", "aspect_ratio", "centre_x"]
    assert describe_clusters([[0.5, -2.0, 1.0, 0.9]], names) == ["small, wide, right"]


def test_an_average_cluster_is_called_so() -> None:
    assert describe_clusters([[0.1, -0.2]], ["grey_std", "relative_area"]) == ["average"]


def test_equal_channels_are_light_and_unequal_ones_a_tint() -> None:
    assert describe_clusters([[-1.0, -1.1, -0.9]], COLOURS) == ["dark"]
    assert describe_clusters([[1.0, -0.5, -0.5]], COLOURS) == ["reddish"]
    assert describe_clusters([[0.6, 0.5, 1.9]], COLOURS) == ["bright, bluish"]


def test_an_unknown_feature_keeps_its_name() -> None:
    assert describe_clusters([[2.0]], ["edge_density"]) == ["high edge density"]


def test_every_feature_of_a_box_has_words() -> None:
    assert set(BOX_FEATURE_NAMES) - set(COLOURS) <= set(WORDS)


def test_names_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="do not belong together"):
        describe_clusters([[1.0, 2.0]], ["grey_std"])
