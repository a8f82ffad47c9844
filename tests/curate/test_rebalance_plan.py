"""Plans: what they ask for, that they survive a text editor, and what they refuse."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
from curate_sets import dataset_of
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tilth.curate.augment import Augmentation
from tilth.curate.rebalance_plan import ClusterPlan, RebalancePlan, plan, random_plan
from tilth.data.dataset import Dataset
from tilth.data.records import Split
from tilth.errors import DataError, SettingsError


def split_set(splits: list[Split], parents: list[int] | None = None) -> Dataset:
    dataset = dataset_of([1] * len(splits))
    media = dataclasses.replace(
        dataset.media,
        split=np.array(splits, dtype=np.int8),
        parent_id=np.array(parents or [-1] * len(splits)),
    )
    return dataclasses.replace(dataset, media=media)


TRAIN, VAL, TEST, NONE = Split.TRAIN, Split.VAL, Split.TEST, Split.NONE


def test_equal_raises_every_cluster_to_the_largest() -> None:
    made = plan(split_set([TRAIN] * 6), np.array([0, 0, 0, 1, 2, 2]))
    assert [(c.cluster, c.have, c.target, c.to_make) for c in made.clusters] == [
        (0, 3, 3, 0),
        (1, 1, 3, 2),
        (2, 2, 3, 1),
    ]
    assert made.to_make == 3


def test_a_number_is_the_target_of_all_that_have_less() -> None:
    made = plan(split_set([TRAIN] * 4), np.array([0, 0, 0, 1]), target=2)
    assert [c.target for c in made.clusters] == [3, 2]


def test_only_training_originals_count() -> None:
    dataset = split_set([TRAIN, VAL, TEST, TRAIN, TRAIN], [-1, -1, -1, 1, -1])
    made = plan(dataset, np.array([0, 0, 1, 0, -1]))
    assert [(c.cluster, c.media_ids) for c in made.clusters] == [(0, (1,))]


def test_the_control_makes_as_many_from_all_training_pictures() -> None:
    dataset = split_set([TRAIN, TEST, TRAIN])
    control = random_plan(dataset, 5, seed=3)
    assert control.draw == "uniform"
    assert control.to_make == 5
    assert control.clusters[0].media_ids == (1, 3)


@pytest.mark.parametrize("make", [lambda d: plan(d, np.zeros(2, int)), lambda d: random_plan(d, 3)])
def test_refuses_to_plan_without_splits(make: object) -> None:
    with pytest.raises(DataError, match="no splits"):
        make(split_set([NONE, NONE]))  # type: ignore[operator]
    with pytest.raises(DataError, match="training split"):
        make(split_set([VAL, TEST]))  # type: ignore[operator]


def test_refuses_clusters_of_another_set_and_none_at_all() -> None:
    with pytest.raises(DataError, match="do not belong together"):
        plan(split_set([TRAIN] * 2), np.zeros(3, int))
    with pytest.raises(DataError, match="no training picture is in a cluster"):
        plan(split_set([TRAIN] * 2), np.full(2, -1))


def example() -> RebalancePlan:
    return plan(
        split_set([TRAIN] * 5),
        np.array([0, 0, 1, 3, 0]),
        name="first",
        seed=7,
        augmentation=Augmentation(scale=(0.4, 1.25), min_visible=0.5),
    )


def test_round_trip_keeps_the_plan(tmp_path: Path) -> None:
    example().save(tmp_path / "plan.toml")
    assert RebalancePlan.load(tmp_path / "plan.toml") == example()
    control = random_plan(split_set([TRAIN] * 3), 4)
    control.save(tmp_path / "plan.toml")
    assert RebalancePlan.load(tmp_path / "plan.toml") == control


@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(0, 9)), min_size=1, max_size=5),
    st.integers(0, 2**62),
)
def test_round_trip_keeps_any_plan(tmp_path_factory, sizes, seed) -> None:  # type: ignore[no-untyped-def]
    first, clusters = 1, []
    for number, (have, more) in enumerate(sizes):
        media_ids = tuple(range(first, first + have))
        clusters.append(ClusterPlan(cluster=number, target=have + more, media_ids=media_ids))
        first += have
    made = RebalancePlan(name="any-1", seed=seed, clusters=tuple(clusters))
    path = tmp_path_factory.mktemp("plans") / "plan.toml"
    made.save(path)
    assert RebalancePlan.load(path) == made


def edited(tmp_path: Path, old: str, new: str) -> Path:
    path = tmp_path / "plan.toml"
    example().save(path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return path


def test_an_edited_target_is_what_will_be_made(tmp_path: Path) -> None:
    loaded = RebalancePlan.load(edited(tmp_path, "target = 3", "target = 10"))
    assert [c.to_make for c in loaded.clusters] == [7, 9, 9]


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        ("target = 3", "target = 0", SettingsError, "cannot shrink"),
        ("target = 3", 'target = "many"', SettingsError, "target"),
        ("target = 3", "traget = 3", SettingsError, "did you mean"),
        ('name = "first"', 'name = "../elsewhere"', SettingsError, "name of a folder"),
        ('draw = "round_robin"', 'draw = "by luck"', SettingsError, "draw"),
        ("min_visible = 0.5", "min_visible = 5", SettingsError, "min_visible"),
        ("format = 1", "format = 9", SettingsError, "another age"),
        ("1 = [3]", "1 = [1]", DataError, "twice"),
        ("1 = [3]", "5 = [3]", DataError, "do not match"),
        ("1 = [3]", "1 = []", DataError, "no picture"),
        ("1 = [3]", '1 = ["three"]', SettingsError, "media ids"),
        ("seed = 7", "seed = = 7", SettingsError, "not TOML"),
    ],
)
def test_refuses_edits_that_cannot_be_meant(
    tmp_path: Path, old: str, new: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        RebalancePlan.load(edited(tmp_path, old, new))


def test_the_table_shows_have_target_and_to_make() -> None:
    stream = io.StringIO()
    Console(file=stream, width=80).print(example().table())
    rows = [line.split() for line in stream.getvalue().replace("│", " ").splitlines()]
    for expected in (["0", "3", "3", "0"], ["1", "1", "3", "2"], ["3", "1", "3", "2"]):
        assert expected in rows
    assert ["all", "5", "9", "4"] in rows
