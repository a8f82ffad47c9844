"""Where a result was made: the machine, the versions of what computed it, the data it saw."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from tilth.data.catalogue import Catalogue

__all__ = ["machine", "package_versions", "record_once"]

PACKAGES = (
    "tilth",
    "torch",
    "accelerate",
    "numpy",
    "opencv-python-headless",
    "scikit-learn",
)


def machine() -> dict[str, str | int]:
    """Processor, cores that this process may use, accelerator, system."""
    cuda = torch.cuda.is_available()
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "accelerator": torch.cuda.get_device_name() if cuda else "none",
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
    }


def package_versions() -> dict[str, str]:
    """Installed versions of the packages that decide the numbers.

    One that was installed under another name (OpenCV has several) is left out: a report is not
    worth losing for it.
    """
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def record_once(
    catalogue: Catalogue,
    name: str,
    digest: str,
    settings: Mapping[str, Any],
    results: Mapping[str, Any],
) -> None:
    """Record a run with the digest of its data, unless it stands there with these results.

    A recipe that is called again finds its finished runs; they are not new ones.
    """
    same = (name, digest, dict(results))
    if all((run.name, run.digest, run.results) != same for run in catalogue.runs()):
        catalogue.record_run(name, digest, settings, results)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
