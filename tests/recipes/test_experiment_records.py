"""Results survive the way to a file and back, whole, or say what is wrong with the file."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_result import made_up_result

from tilth.errors import DataError, StorageError
from tilth.recipes.experiment import Arm, ClusterView, ExperimentResult, SeedScore, Spread

FIGURES = st.one_of(st.none(), st.floats(0, 1), st.just(math.nan), st.just(math.inf))


def score(seed: int = 0, **figures: float | None) -> SeedScore:
    return SeedScore(seed=seed, **({"ap": None, "ap50": None, "ap75": None} | figures))


def test_round_trip_keeps_every_field(tmp_path: Path) -> None:
    result = made_up_result()
    result.to_json(tmp_path / "report.json")
    assert ExperimentResult.from_json(tmp_path / "report.json") == result


@given(ap50=FIGURES, clusters=st.lists(FIGURES, max_size=5), curve=st.lists(FIGURES, max_size=5))
def test_round_trip_of_unmeasured_figures_is_exact(
    tmp_path_factory: pytest.TempPathFactory, ap50: float, clusters: list, curve: list
) -> None:
    one = score(ap50=ap50, per_cluster_ap50=clusters, recall=curve, precision=curve)
    result = ExperimentResult(title="t", arms=[Arm(name="a", label="A", scores=[one])])
    path = tmp_path_factory.mktemp("round") / "report.json"
    result.to_json(path)
    assert ExperimentResult.from_json(path) == result
    finite = ap50 is not None and math.isfinite(ap50)
    assert json.loads(path.read_text())["arms"][0]["scores"][0]["ap50"] == (
        ap50 if finite else None
    )


def test_numpy_values_and_paths_become_plain(tmp_path: Path) -> None:
    settings = {"rate": np.float32(0.5), "sizes": np.array([1, 2]), "root": Path("/data")}
    ExperimentResult(title="t", settings=settings).to_json(tmp_path / "r.json")
    back = ExperimentResult.from_json(tmp_path / "r.json")
    assert back.settings == {"rate": 0.5, "sizes": [1, 2], "root": "/data"}


def test_a_setting_that_is_no_value_is_refused_and_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    ExperimentResult(title="old").to_json(path)
    with pytest.raises(DataError, match="cannot be written as JSON"):
        ExperimentResult(title="new", settings={"f": object()}).to_json(path)
    assert ExperimentResult.from_json(path).title == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["r.json"]


def test_a_folder_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        ExperimentResult(title="t").to_json(tmp_path / "file" / "r.json")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "truncated"),
        (b"[]", "Expected `object`"),
        (b"{}", "title"),
        (b'{"title": "t", "arms": [{"name": "a", "label": 3}]}', r"\$\.arms\[0\]\.label"),
        (b'{"title": "t", "format": "tilth.experiment/9"}', r"\$\.format"),
        (b'{"title": "\xff"}', "not an experiment result"),
    ],
)
def test_a_broken_file_is_named_with_its_field(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        ExperimentResult.from_json(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.json"):
        ExperimentResult.from_json(tmp_path / "none.json")


def test_records_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(DataError, match="2 recalls and 1 precisions"):
        score(recall=[0.0, 1.0], precision=[1.0])
    with pytest.raises(DataError, match="2 counts_after"):
        ClusterView(k=2, counts_before=[1, 2], counts_after=[1])
    with pytest.raises(DataError, match="3 numbers a point"):
        ClusterView(k=1, counts_before=[1], counts_after=[1], points_before=[[0.0, 0.0]])
    with pytest.raises(DataError, match="share a name"):
        ExperimentResult(title="t", arms=[Arm(name="a", label="A")] * 2)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8))
def test_spread_matches_numpy(values: list[float]) -> None:
    spread = Spread.of([*values, None, math.nan])
    assert spread.runs == len(values)
    assert spread.mean == pytest.approx(np.mean(values))
    assert spread.std == pytest.approx(np.std(values, ddof=1), abs=1e-12)
    assert (spread.low, spread.high) == (min(values), max(values))


def test_spread_of_one_seed_has_no_deviation_and_of_none_no_mean() -> None:
    assert Spread.of([0.5]) == Spread(mean=0.5, std=None, low=0.5, high=0.5, runs=1)
    assert Spread.of([None]) == Spread(mean=None, std=None, low=None, high=None, runs=0)


def test_points_that_cannot_be_drawn_are_dropped() -> None:
    points = [[0.0, 1.0, 0.0], [math.nan, 0.0, 0.0]]
    view = ClusterView(k=1, counts_before=[2], counts_after=[2], points_before=points)
    assert view.points_before == [[0.0, 1.0, 0.0]]


def test_arms_are_told_apart_by_protocol() -> None:
    result = made_up_result(examples=[])
    assert [arm.name for arm in result.source_arms] == ["rebalanced-source"]
    assert [arm.name for arm in result.held_out_arms] == [
        "pretrained",
        "raw",
        "random",
        "rebalanced",
    ]
