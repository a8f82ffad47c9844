"""Where a result was made: the machine, and the versions of what computed it."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

import torch

__all__ = ["machine", "package_versions"]

PACKAGES = (
    "tilth",
    "torch",
    "accelerate",
    "numpy",
    "opencv-python-headless",
    "scikit-learn",
    "faster-coco-eval",
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
    """Installed versions of the packages that decide the numbers."""
    return {name: metadata.version(name) for name in PACKAGES}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
