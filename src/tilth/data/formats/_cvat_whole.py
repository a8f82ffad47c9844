"""A whole CVAT file as records: its head, then images a stretch at a time, or tracks by lxml."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from lxml import etree

from tilth.data.formats._cvat_images import line_in_stretch, read_stretches
from tilth.data.formats._cvat_meta import Clip, clips, label_names
from tilth.data.formats._cvat_records import CvatRecords, read_image
from tilth.data.formats._cvat_tracks import MAX_LABELS, FrameLabel, track_labels
from tilth.data.formats._xml_files import parse_xml
from tilth.data.problems import LabelReport
from tilth.errors import LabelError

__all__ = ["CvatFile", "read_file"]

_HEAD_BYTES = 2**24
_FIRST_BYTES = 2**16
_BODY = re.compile(rb"<(image|track)[\s>]")
_OPENS = re.compile(rb"<annotations[\s>]")


@dataclass(frozen=True)
class CvatFile:
    """What a file says.

    Attributes:
        classes: those listed in its head, in order.
    """

    path: Path
    classes: list[str]
    records: CvatRecords

    def place(self, row: int) -> str:
        """File and line of a label."""
        line = self.records.line[row]
        if not line:
            starts = [first for first, _ in self.records.stretch]
            at = int(np.searchsorted(starts, row, side="right")) - 1
            first, start = self.records.stretch[at]
            line = line_in_stretch(self.path, start, row - first)
        return f"{self.path.name}:{line}"


def read_file(path: Path, frames: str, report: LabelReport) -> CvatFile:
    """Read a file of either kind.

    Args:
        frames: "all" or "labelled": of a video, which frames are there.

    Raises:
        LabelError: not XML, not CVAT's, with a document type, or beyond all sizes.
    """
    try:
        with path.open("rb") as stream:
            return _read(stream, path, frames, report)
    except OSError as error:
        got = error.strerror
        raise LabelError("the label file cannot be read", where=str(path), got=got) from error


def _read(stream: BinaryIO, path: Path, frames: str, report: LabelReport) -> CvatFile:
    head = stream.read(_FIRST_BYTES)
    if b"<!DOCTYPE" in head:
        raise LabelError("an XML file with a document type (DOCTYPE) is not read", where=str(path))
    head += b"" if _BODY.search(head) else stream.read(_HEAD_BYTES)
    body = _BODY.search(head)
    if body is not None and body[1] == b"image" and b"<!" not in head[: body.start()]:
        records = CvatRecords()
        meta = _meta(head[: body.start()], path)
        # Only what was found is reported, if lxml has to begin again.
        draft = LabelReport(where=report.where, max_examples=report.max_examples)
        found = read_stretches(stream, body.start(), draft)
        if meta is not None and all(_extended(records, each) for each in found):
            for problem in draft.problems:
                examples = list(problem.examples)
                report.add(problem.kind, problem.action, examples, count=problem.count)
            return CvatFile(path, label_names(meta), records)
    stream.seek(0)
    return _read_by_lxml(stream, path, frames, report)


def _extended(records: CvatRecords, more: CvatRecords | None) -> bool:
    if more is not None:
        records.extend(more)
    return more is not None


def _meta(head: bytes, path: Path) -> Any:
    """The element before the first image; None where it is not closed there."""
    try:
        root = parse_xml(head + b"</annotations>", str(path))
    except LabelError:
        return None
    return root if root.tag == "annotations" else None


def _read_by_lxml(stream: BinaryIO, path: Path, frames: str, report: LabelReport) -> CvatFile:
    records, classes = CvatRecords(), list[str]()
    known: dict[str, Clip] = {}
    of_clips: dict[str, list[FrameLabel]] = {}
    total = 0
    for element in _elements(stream, path):
        if element.tag == "meta":
            classes, known = label_names(element), clips(element, report)
        elif element.tag == "image":
            read_image(element, 0, records, report)
        else:
            key = _clip_of(element, known)
            labels = track_labels(element, known.get(key, Clip()), report)
            of_clips.setdefault(key, []).extend(labels)
            total += len(labels)
            if total > MAX_LABELS:
                raise LabelError("more labels than a video has", where=str(path), got=str(total))
    if not records.name:
        for key in known if frames == "all" else of_clips:
            _add_frames(records, known.get(key, Clip()), of_clips.get(key, []), frames, path)
    elif of_clips:
        report.add("track in a file of images", "left out", [path.name])
    return CvatFile(path, classes, records)


def _clip_of(track: Any, known: dict[str, Clip]) -> str:
    key = (track.get("task_id") or "").strip()
    return key if key in known else next(iter(known), "")


def _elements(stream: BinaryIO, path: Path) -> Iterator[Any]:
    """The elements below the root, each let go when the next one is asked for."""
    events = etree.iterparse(
        stream,
        events=("start", "end"),
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    root, depth = None, 0
    try:
        for event, element in events:
            if root is None:
                root = element
                _check_root(root, path)
            depth += 1 if event == "start" else -1
            if event == "end" and depth == 1:
                if element.tag in ("meta", "image", "track"):
                    yield element
                root.remove(element)
    except (etree.XMLSyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        where = f"{path}:{line}"
        raise LabelError("not well-formed XML", where=where, got=str(error)) from error


def _check_root(root: Any, path: Path) -> None:
    if root.getroottree().docinfo.internalDTD is not None:
        raise LabelError("an XML file with a document type (DOCTYPE) is not read", where=str(path))
    if root.tag != "annotations":
        raise LabelError(
            "not a CVAT file",
            where=f"{path}:{root.sourceline}",
            expected="<annotations>",
            got=f"<{root.tag}>"[:80],
        )


def _add_frames(
    records: CvatRecords, clip: Clip, labels: list[FrameLabel], frames: str, path: Path
) -> None:
    """Each frame of a video as an image, with its labels."""
    of_frame: dict[int, list[FrameLabel]] = {}
    if frames == "all":
        of_frame = {clip.start + at * clip.step: [] for at in range(clip.size)}
    for label in labels:
        of_frame.setdefault(label.frame, []).append(label)
    source = clip.source or f"{path.stem}.mp4"
    for frame in sorted(of_frame):
        records.add_image(f"{source}#frame={frame}", clip.width, clip.height)
        for each in of_frame[frame]:
            records.add_label(each.label, each.shape, each.line)
