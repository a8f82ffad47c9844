"""How much memory a training step may take, on a GPU, a machine or a container."""

from __future__ import annotations

import os
import re
from pathlib import Path

import torch

__all__ = ["free_memory"]

_MEMINFO = Path("/proc/meminfo")
_CONTAINER = Path("/sys/fs/cgroup")


def free_memory(device: torch.device) -> int:
    """Bytes that are free on ``device``: what the file cache could give back is free too."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # What this process holds in torch's own cache can be used again.
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free = _machine_memory(_MEMINFO)
    in_container = _container_memory(_CONTAINER)
    return free if in_container is None else min(free, in_container)


def _machine_memory(meminfo: Path) -> int:
    try:
        found = re.search(r"MemAvailable:\s+(\d+) kB", meminfo.read_text(encoding="ascii"))
    except OSError:
        found = None
    if found is None:  # no Linux: half of the memory there is
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return int(found[1]) * 1024


def _container_memory(folder: Path) -> int | None:
    """What the limit of a control group leaves, None where there is no limit."""
    try:
        limit = (folder / "memory.max").read_text(encoding="ascii").strip()
        used = int((folder / "memory.current").read_text(encoding="ascii"))
        counts = dict(
            line.split() for line in (folder / "memory.stat").read_text("ascii").splitlines()
        )
    except (OSError, ValueError):
        return None
    if limit == "max":
        return None
    cached = int(counts.get("file", 0)) - int(counts.get("shmem", 0))
    return int(limit) - used + cached
