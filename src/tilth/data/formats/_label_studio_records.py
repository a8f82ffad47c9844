"""The records of a Label Studio export, decoded typed, some thousand tasks at a time.

Both exports are read: JSON (tasks with annotations and predictions) and JSON_MIN (a record an
annotation, with the values of each control under its name), which becomes the same records.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
from msgspec import Raw

from tilth.data.problems import LabelReport
from tilth.errors import LabelError

__all__ = ["Annotation", "Keyframe", "Prediction", "Result", "Task", "Value", "read_tasks"]

_BLOCK = 1000  # tasks
_MIN_OWN = frozenset(
    {"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement"}
)
_CHOICE_KEYS = re.compile("choice|class", re.IGNORECASE)

Pixels = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Labels = list[str] | None


class Keyframe(msgspec.Struct, gc=False):
    """A box at one frame of a video (counted from 1), in percent."""

    frame: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
    x: float
    y: float
    width: float
    height: float
    enabled: bool = True
    rotation: float = 0.0


class Value(msgspec.Struct, gc=False):
    """What a control says; lengths in percent of the picture."""

    x: float | None = None
    y: float | None = None
    width: float | None = None
    height: float | None = None
    rotation: float = 0.0
    rectanglelabels: Labels = None
    polygonlabels: Labels = None
    brushlabels: Labels = None
    ellipselabels: Labels = None
    labels: Labels = None
    choices: Labels = None
    points: list[tuple[float, float]] | None = None
    radiusX: float | None = None
    radiusY: float | None = None
    rle: list[int] | None = None
    sequence: list[Keyframe] | None = None
    framesCount: int | None = None
    text: Any = None
    rating: Any = None
    number: Any = None


class Result(msgspec.Struct, gc=False):
    """One region, or one answer."""

    value: Value = msgspec.field(default_factory=Value)
    id: str | int | None = None
    type: str = ""
    from_name: str = ""
    original_width: Pixels | None = None
    original_height: Pixels | None = None
    image_rotation: float | None = None
    score: float | None = None
    meta: dict[str, Any] | None = None


class Annotation(msgspec.Struct, gc=False):
    """What one person said of a task."""

    result: list[Result] = []
    id: Any = None
    completed_by: Any = None
    was_cancelled: bool | None = False
    ground_truth: bool | None = False


class Prediction(msgspec.Struct, gc=False):
    """What a model said of a task."""

    result: list[Result] = []
    score: float | None = None
    model_version: Any = None


class Task(msgspec.Struct, gc=False):
    """One picture or video."""

    data: dict[str, Any]
    id: Any = None
    annotations: list[Annotation] | None = None
    completions: list[Annotation] | None = None  # the name before version 1
    predictions: list[Prediction] | None = None
    meta: dict[str, Raw] | None = None


class _Look(msgspec.Struct):
    data: dict[str, Raw] | None = None


def read_tasks(data: bytes, report: LabelReport) -> Iterator[list[tuple[str, Task]]]:
    """The tasks and the place of each, in blocks; those that cannot be read are reported.

    Raises:
        LabelError: not JSON, or no list of tasks.
    """
    try:
        texts = msgspec.json.decode(data, type=list[Raw])
        is_min = bool(texts) and msgspec.json.decode(texts[0], type=_Look).data is None
    except (ValueError, RecursionError) as error:
        raise LabelError(
            "not a Label Studio export",
            where=report.where,
            expected="a list of tasks",
            got=str(error)[:200],
        ) from error
    if is_min:
        report.notes.append("JSON_MIN: a record an annotation; no predictions, nobody's regions")
    decode = _from_min if is_min else msgspec.json.Decoder(Task).decode
    for start in range(0, len(texts), _BLOCK):
        yield list(_decoded(texts[start : start + _BLOCK], start, decode, report))


def _decoded(
    texts: list[Raw], start: int, decode: Any, report: LabelReport
) -> Iterator[tuple[str, Task]]:
    for at, text in enumerate(texts, start=start):
        try:
            yield f"[{at}]", decode(text)
        except (ValueError, RecursionError, TypeError) as error:
            place = f"[{at}]: {' '.join(str(error).split())[:200]}"
            report.add("task that cannot be read", "left out", [place])


def _from_min(text: Raw) -> Task:
    record: dict[str, Any] = msgspec.json.decode(text, type=dict[str, Any])
    own = {name: record.pop(name) for name in list(record) if name in _MIN_OWN}
    results: list[Result] = []
    for name in list(record):
        found = list(_min_results(name, record[name]))
        if found:
            del record[name]
            results += found
    annotation = Annotation(
        result=results, id=own.get("annotation_id"), completed_by=own.get("annotator")
    )
    return Task(data=record, id=own.get("id"), annotations=[annotation])


def _min_results(name: str, value: Any) -> Iterator[Result]:
    """The regions of one control, or its answer."""
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        for item in value:
            if kind := next((kind for kind in _KINDS if kind in item), None):
                kind = "videorectangle" if "sequence" in item else kind
                fields = {
                    key: item.get(key) for key in ("original_width", "original_height", "meta")
                }
                known = msgspec.convert({"value": item, "type": kind, "from_name": name}, Result)
                yield msgspec.structs.replace(known, **fields)
    elif isinstance(value, dict) and isinstance(value.get("choices"), list):
        yield msgspec.convert({"value": value, "type": "choices", "from_name": name}, Result)
    elif isinstance(value, str) and _CHOICE_KEYS.search(name):
        yield Result(value=Value(choices=[value]), type="choices", from_name=name)


_KINDS = ("rectanglelabels", "polygonlabels", "brushlabels", "ellipselabels", "labels")
