"""Where a result was made is plain, true, and no reason to lose the result."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from drawn_sets import drawn_project

from tilth import __version__
from tilth.recipes.provenance import machine, package_versions, record_once


def test_machine_and_versions_survive_json() -> None:
    for values in (machine(), package_versions()):
        assert msgspec.json.decode(msgspec.json.encode(values)) == values


def test_machine_is_this_one() -> None:
    found = machine()
    assert found["cores"] == len(os.sched_getaffinity(0))
    assert found["python"] == platform.python_version()
    assert found["processor"]
    assert (found["accelerator"] == "none") != torch.cuda.is_available()


def test_versions_are_those_that_are_imported() -> None:
    found = package_versions()
    assert found["tilth"] == __version__
    assert found["numpy"] == np.__version__
    assert found["torch"] == torch.__version__.split("+")[0] or torch.__version__ == found["torch"]


def test_a_package_of_another_name_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    original = metadata.version

    def version(name: str) -> str:
        if name == "opencv-python-headless":
            raise metadata.PackageNotFoundError(name)
        return original(name)

    monkeypatch.setattr(metadata, "version", version)
    assert "opencv-python-headless" not in package_versions()
    assert "numpy" in package_versions()


def test_a_run_is_recorded_once_until_its_results_change(tmp_path: Path) -> None:
    catalogue = drawn_project(tmp_path / "p", train=2, test=1).catalogue
    for ap50 in (0.5, 0.5, 0.6, None, None):
        record_once(catalogue, "first", "abc", {"steps": 3}, {"ap50": ap50})
    record_once(catalogue, "first", "def", {"steps": 3}, {"ap50": 0.5})
    assert [(run.digest, run.results["ap50"]) for run in catalogue.runs()] == [
        ("abc", 0.5),
        ("abc", 0.6),
        ("abc", None),
        ("def", 0.5),
    ]
