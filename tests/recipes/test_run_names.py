"""A run's name is one plain folder in runs/."""

from __future__ import annotations

from pathlib import Path

import pytest

from tilth.data.project import Project
from tilth.errors import SettingsError
from tilth.recipes.run_names import existing_run, new_run


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project.init(tmp_path_factory.mktemp("names") / "project")


@pytest.mark.parametrize("name", ["first", "2026-11-24_b.1", "_x", "7"])
def test_plain_names_are_folders_of_runs(name: str, project: Project) -> None:
    assert new_run(project, name) == project.runs / name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        ".hidden",
        "-dash",
        "a/b",
        "a\\b",
        "a b",
        "a\n",
        "\0",
        "caf\u00e9",
        "../x",
        "/x",
    ],
)
def test_other_names_are_refused(name: str, project: Project) -> None:
    with pytest.raises(SettingsError, match="name of a run") as caught:
        new_run(project, name)
    assert caught.value.got == repr(name)


def test_an_arm_of_an_experiment_is_found_and_nothing_outside(project: Project) -> None:
    arm = existing_run(project, "experiment/raw-seed0")
    assert arm == (project.runs / "experiment" / "raw-seed0").resolve()
    for name in ("..", "", "experiment/..", "experiment/../../x", str(Path("/x"))):
        with pytest.raises(SettingsError, match="stays inside"):
            existing_run(project, name)
