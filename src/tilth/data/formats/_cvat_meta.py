"""What the head of a CVAT file says: classes, and of a video its name, size and frames."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from tilth.data.formats._cvat_records import side
from tilth.data.problems import LabelReport

__all__ = ["MAX_FRAMES", "Clip", "clips", "label_names"]

MAX_FRAMES = 1_000_000  # nine hours at 30 a second
_STEP = re.compile(r"step\s*=\s*([1-9][0-9]{0,5})", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One video of a file.

    Attributes:
        source: its file name, empty where it is not said.
        width, height: pixels, 0 where not said.
        start, step: the first frame that was labelled, and from one such frame to the next.
        size: how many were, 0 where not said.
    """

    source: str = ""
    width: int = 0
    height: int = 0
    start: int = 0
    step: int = 1
    size: int = 0


def label_names(meta: Any) -> list[str]:
    """The classes in order, those of all tasks; empty where none are listed."""
    names = (label.findtext("name") for label in meta.iterfind(".//labels/label"))
    return list(dict.fromkeys(name.strip() for name in names if name and name.strip()))


def clips(meta: Any, report: LabelReport) -> dict[str, Clip]:
    """The tasks of a file by their id; one without an id under an empty one."""
    found = {}
    for task in [*meta.iterfind(".//task"), *meta.iterfind("job")]:
        found[(task.findtext("id") or "").strip()] = _clip(task, meta, report)
    return found or {"": _clip(meta, meta, report)}


def _clip(task: Any, meta: Any, report: LabelReport) -> Clip:
    def whole(path: str) -> int | None:
        return side(task.findtext(path))

    source = (task.findtext("source") or meta.findtext("source") or "").strip()
    if source.startswith("/") or "\\" in source:  # the path on somebody's machine
        source = re.split(r"[/\\]", source)[-1]
    size = task.find("original_size")
    size = meta.find("original_size") if size is None else size
    sides = [0 if size is None else side(size.findtext(n)) or 0 for n in ("width", "height")]
    step = _STEP.search(task.findtext("frame_filter") or "")
    start, stop, count = whole("start_frame") or 0, whole("stop_frame"), whole("size") or 0
    every = int(step[1]) if step else 1
    if stop and stop >= start:
        count = (stop - start) // every + 1
    if count > MAX_FRAMES:
        report.notes.append(f"{count} frames are no video: only frames with labels are read")
        count = 0
    return Clip(
        source=source,
        width=sides[0],
        height=sides[1],
        start=start,
        step=every,
        size=count,
    )
