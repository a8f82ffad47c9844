"""`tilth demo` keeps to its own folder, and goes the whole way."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from drawn_sets import drawn_project

from tilth.data.project import Project
from tilth.data.records import Split
from tilth.errors import SettingsError
from tilth.recipes.demo import demo
from tilth.recipes.experiment import ExperimentResult


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("ten years of work")
    with pytest.raises(SettingsError, match="a folder of its own") as caught:
        demo(tmp_path, seed=0, progress=False)
    assert caught.value.where == str(tmp_path)
    assert "thesis.txt" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_somebodys_own_project_is_left_alone(tmp_path: Path) -> None:
    project = drawn_project(tmp_path / "own", train=2, test=1)
    with pytest.raises(SettingsError, match="a folder of its own") as caught:
        demo(project.root, seed=0, progress=False)
    assert "pictures/00.jpg" in str(caught.value)
    assert len(project.catalogue.read().media) == 3
    assert not (project.root / "pretraining").exists()


def run_demo(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    script = str(Path(__file__).parent / "small_demo.py")
    return subprocess.run(
        [sys.executable, script, str(folder), *flags],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "160"},
        check=False,
    )


@pytest.mark.slow
@pytest.mark.cluster
def test_the_whole_way_and_again_from_another_place(tmp_path: Path) -> None:
    first = run_demo(tmp_path / "demo")
    assert first.returncode == 0, first.stderr
    report = tmp_path / "demo" / "runs" / "demo" / "report.html"
    assert first.stdout.splitlines()[-1] == f"report: {report}"
    for label in ("pretrained", "raw pictures", "random augmentation", "cluster-rebalanced"):
        assert label in first.stdout
    page = report.read_text(encoding="utf-8")
    assert "digits and faces" in page
    assert "helped most" in page

    result = ExperimentResult.from_json(report.with_name("report.json"))
    assert result.class_names == ["digit", "face"]
    assert [arm.steps for arm in result.arms] == [0, 5, 5, 5, 0, 5]
    assert result.arm("raw").num_train_images == 18 + 4 + 2 + 1
    assert result.arm("random").num_derived_images == result.arm("rebalanced").num_derived_images
    assert result.clusters is not None
    assert max(result.clusters.images_after) - min(result.clusters.images_after) < (
        max(result.clusters.images_before) - min(result.clusters.images_before)
    )

    project = Project.open(tmp_path / "demo")
    media = project.catalogue.read().media
    assert sum(media.split == Split.TEST) == 4 * 6
    assert all(not uri.startswith("/") for uri in media.uri)

    # Nothing in the folder knows where it lies: a moved one is gone on with.
    shutil.move(tmp_path / "demo", tmp_path / "moved")
    again = run_demo(tmp_path / "moved", "--json")
    assert again.returncode == 0, again.stderr
    arms = {arm["arm"]: arm["ap50"]["mean"] for arm in json.loads(again.stdout)["arms"]}
    assert arms == {arm.name: arm.ap50.mean for arm in result.arms}
    other = run_demo(tmp_path / "moved", "--seed", "1", "--json")
    assert other.returncode == SettingsError.exit_code
    assert "another kind" in other.stdout + other.stderr
