"""Label Studio's tasks as columns: whose labels count, of which picture, from what place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from tilth.data.dataset import MediaColumns
from tilth.data.formats._columns import media_columns
from tilth.data.formats._header_sizes import picture_sizes
from tilth.data.formats._label_studio_media import picture_key, task_uri
from tilth.data.formats._label_studio_records import Annotation, Result, Task
from tilth.data.formats._label_studio_regions import OURS, Region, Shape, regions_of, shape_of
from tilth.data.formats._label_studio_video import track_of
from tilth.data.problems import LabelReport
from tilth.data.ragged import RaggedBytes
from tilth.data.records import Geometry, ReviewState, Source
from tilth.data.video import VIDEO_SUFFIXES, Video, frame_uri
from tilth.errors import DataError, TilthError

__all__ = ["Choice", "Gathered"]

_DECIMALS = 9  # of a pixel: percents carry no more
_DTYPES: dict[str, Any] = {
    "media": np.int64,
    "code": np.int64,
    "geometry": np.uint8,
    "box": np.float64,
    "area": np.float64,
    "score": np.float64,
    "source": np.uint8,
    "review_state": np.uint8,
    "is_crowd": np.bool_,
    "saying": np.int64,
    "number": np.int64,
}
_SOURCES = {source.name.lower(): source for source in Source}
_STATES = {state.name.lower(): state for state in ReviewState}


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Whose labels are read; see the format's options."""

    annotators: Literal["all", "first", "last", "ground_truth"]
    predictions: Literal["all", "unlabelled", "none"]
    data_key: str
    frames: Literal["all", "keyframes"]


@dataclass
class _Labels:
    """The labels of some tasks, one after the other."""

    media: list[int] = field(default_factory=list)
    code: list[int] = field(default_factory=list)
    geometry: list[int] = field(default_factory=list)
    box: list[tuple[float, float, float, float]] = field(default_factory=list)
    area: list[float] = field(default_factory=list)
    segmentation: list[bytes | None] = field(default_factory=list)
    score: list[float] = field(default_factory=list)
    source: list[int] = field(default_factory=list)
    review_state: list[int] = field(default_factory=list)
    is_crowd: list[bool] = field(default_factory=list)
    attributes: list[bytes | None] = field(default_factory=list)
    part_of: list[Any] = field(default_factory=list)
    saying: list[int] = field(default_factory=list)
    number: list[int] = field(default_factory=list)

    def columns(self) -> dict[str, Any]:
        """The same as arrays, the parts of one polygon joined."""
        self._join_parts()
        packed: dict[str, Any] = {
            name: np.array(getattr(self, name), dtype) for name, dtype in _DTYPES.items()
        }
        packed["box"] = np.round(packed["box"].reshape(-1, 4), _DECIMALS)
        for name in ("segmentation", "attributes"):
            packed[name] = RaggedBytes.of(getattr(self, name))
        return packed

    def _join_parts(self) -> None:
        first_of: dict[Any, int] = {}
        gone: set[int] = set()
        for row, part in enumerate(self.part_of):
            if part is None or self.geometry[row] != Geometry.POLYGON:
                continue
            key = (self.saying[row], self.code[row], part)
            first = first_of.setdefault(key, row)
            if first != row:
                gone.add(row)
                both = [self.segmentation[first] or b"", self.segmentation[row] or b""]
                self.segmentation[first] = both[0][:-1] + b"," + both[1][1:]
                boxes = np.array([self.box[first], self.box[row]])
                low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
                self.box[first] = (*low.tolist(), *high.tolist())
                self.area[first] += self.area[row]
        if gone:
            for name in (*_DTYPES, "segmentation", "attributes"):
                kept = [v for row, v in enumerate(getattr(self, name)) if row not in gone]
                setattr(self, name, kept)


@dataclass(frozen=True, slots=True)
class _Saying:
    """Who says the results of one annotation or prediction."""

    results: Sequence[Result]
    source: Source
    score: float | None
    annotator: Any
    place: str
    number: int


class Gathered:
    """What the tasks say, task by task.

    Args:
        root: the folder of pictures, resolved.
    """

    def __init__(self, root: Path, choice: Choice, report: LabelReport) -> None:
        self.codes: dict[str, int] = {}
        self.places: list[str] = []
        self.num_annotations = self.num_predictions = self.num_several = 0
        self._labels = _Labels()
        self._blocks: list[dict[str, Any]] = []
        self._root, self._choice, self._report = root, choice, report
        self._row_of: dict[str, int] = {}
        self._sizes: list[tuple[int, int]] = []
        self._attributes: list[bytes | None] = []

    def add_block(self, tasks: Iterable[tuple[str, Task]]) -> None:
        """Some tasks, each with its place in the file."""
        self._labels = _Labels()
        for at, task in tasks:
            self._add(at, task)
        self._blocks.append(self._labels.columns())

    def columns(self) -> dict[str, Any]:
        """All labels as columns; ``code`` is a row of ``codes``, ``saying`` one of ``places``."""
        return {
            name: RaggedBytes.concatenate([block[name] for block in self._blocks])
            if isinstance(first, RaggedBytes)
            else np.concatenate([block[name] for block in self._blocks])
            for name, first in (self._blocks or [_Labels().columns()])[0].items()
        }

    def media(self) -> MediaColumns:
        sizes = np.array(self._sizes, np.int32).reshape(-1, 2)
        return media_columns(
            list(self._row_of),
            width=sizes[:, 0].copy(),
            height=sizes[:, 1].copy(),
            attributes=self._attributes if any(self._attributes) else (),
        )

    def _add(self, at: str, task: Task) -> None:
        place = at if task.id is None else f"task {task.id}"
        key = picture_key(task.data, self._choice.data_key)
        if key is None:
            kind = "task that names no picture"
            self._report.add(kind, "left out (--option data_key=NAME says which field)", [place])
            return
        uri = task_uri(task.data[key], self._root, place)
        sayings = list(self._sayings(task, place))
        if Path(uri.partition("#")[0]).suffix.lower() in VIDEO_SUFFIXES and "#" not in uri:
            self._add_video(uri, sayings, place)
            return
        size = _size_of(sayings, task) or self._header_size(uri, sayings)
        row = self._row(uri, size, task)
        for saying in sayings:
            self._add_regions(row, saying, self._sizes[row])

    def _row(self, uri: str, size: tuple[int, int], task: Task | None = None) -> int:
        row = self._row_of.setdefault(uri, len(self._sizes))
        if row == len(self._sizes):
            self._sizes.append(size)
            meta = task.meta if task is not None and task.meta else None
            self._attributes.append(msgspec.json.encode(meta) if meta else None)
        elif not all(self._sizes[row]):
            self._sizes[row] = size
        return row

    def _header_size(self, uri: str, sayings: list[_Saying]) -> tuple[int, int]:
        """Of a picture that no result gives the size of, where labels need it."""
        if not any(saying.results for saying in sayings):
            return 0, 0
        width, height = picture_sizes([uri], LabelReport(where=""))
        return int(width[0]), int(height[0])

    def _sayings(self, task: Task, place: str) -> Iterator[_Saying]:
        said = [*(task.annotations or []), *(task.completions or [])]
        cancelled = [entry for entry in said if entry.was_cancelled]
        kind = "annotation that was cancelled (the task was skipped)"
        self._report.add(kind, "left out", [f"{place}: annotation {e.id}" for e in cancelled])
        said = _chosen([entry for entry in said if not entry.was_cancelled], self._choice)
        for entry in said:
            annotator = _annotator(entry.completed_by) if len(said) > 1 else None
            where = f"{place}: annotation {entry.id}"
            yield self._saying(entry.result, Source.HUMAN, None, annotator, where)
        self.num_annotations += len(said)
        self.num_several += len(said) > 1
        wanted = self._choice.predictions
        if wanted == "none" or (wanted == "unlabelled" and said):
            return
        for at, guess in enumerate(task.predictions or []):
            self.num_predictions += 1
            where = f"{place}: predictions[{at}]"
            yield self._saying(guess.result, Source.MODEL, guess.score, None, where)

    def _saying(
        self,
        results: Sequence[Result],
        source: Source,
        score: float | None,
        annotator: Any,
        place: str,
    ) -> _Saying:
        self.places.append(place)
        return _Saying(results, source, score, annotator, place, len(self.places) - 1)

    def _add_regions(self, row: int, saying: _Saying, picture: tuple[int, int]) -> None:
        for region in regions_of(saying.results):
            result = region.result
            if result.image_rotation:
                kind = "picture that was turned in the tool"
                self._report.add(kind, "labels kept as they are", [saying.place])
            size = (result.original_width or picture[0], result.original_height or picture[1])
            try:
                shape = _WHOLE if result.type == "choices" else shape_of(result, size)
            except DataError as error:
                place = f"{saying.place}, result[{region.number}]"
                self._report.add(error.message, "left out", [place])
                continue
            self._append(row, region, shape, saying)

    def _append(self, row: int, region: Region, shape: Shape, saying: _Saying) -> None:
        if len(region.labels) != 1:
            self._report_labels(region, saying)
        labels, score = self._labels, region.result.score
        ours = _ours(region.result)
        attributes = region.attributes
        if saying.annotator is not None:
            attributes = {"annotator": saying.annotator} | attributes
        score = saying.score if score is None else score
        for name in region.labels:
            labels.media.append(row)
            labels.code.append(self.codes.setdefault(name, len(self.codes)))
            labels.geometry.append(shape.geometry)
            labels.box.append(shape.box)
            labels.area.append(shape.area)
            labels.segmentation.append(shape.segmentation)
            labels.score.append(np.nan if score is None else score)
            labels.source.append(_SOURCES.get(ours.get("source", ""), saying.source))
            labels.review_state.append(_STATES.get(ours.get("review_state", ""), 0))
            labels.is_crowd.append(ours.get("crowd") is True)
            labels.attributes.append(msgspec.json.encode(attributes) if attributes else None)
            labels.part_of.append(ours.get("part_of"))
            labels.saying.append(saying.number)
            labels.number.append(region.number)

    def _report_labels(self, region: Region, saying: _Saying) -> None:
        place = f"{saying.place}, result[{region.number}]"
        if not region.labels:
            self._report.add("region without a class", "left out", [place])
        elif region.result.type != "choices":
            self._report.add("region of several classes", "a label for each", [place])

    def _add_video(self, uri: str, sayings: list[_Saying], place: str) -> None:
        size, num_frames = _video_size(uri)
        for saying in sayings:
            for region in regions_of(saying.results):
                result = region.result
                own = (result.original_width or size[0], result.original_height or size[1])
                try:
                    if result.type != "videorectangle":
                        raise DataError(f"result of type '{result.type[:40]}' in a video")
                    self._add_track(uri, region, saying, own, num_frames)
                except DataError as error:
                    where = f"{saying.place}, result[{region.number}]"
                    self._report.add(error.message, "left out", [where])

    def _add_track(
        self, uri: str, region: Region, saying: _Saying, size: tuple[int, int], num_frames: int
    ) -> None:
        track = track_of(region.result.value, size, num_frames)
        track_id = region.result.id if region.result.id is not None else region.number
        for frame, box, is_key in zip(
            track.frames.tolist(), track.shapes.tolist(), track.keyframe.tolist(), strict=True
        ):
            if is_key or self._choice.frames == "all":
                own = {"track_id": track_id, "keyframe": is_key}
                seen = Region(region.result, region.number, region.labels, region.attributes | own)
                row = self._row(frame_uri(uri, frame), size)
                self._append(row, seen, Shape(Geometry.BOX, tuple(box)), saying)


_WHOLE = Shape(Geometry.LABEL, (0.0, 0.0, 0.0, 0.0))


def _chosen(said: list[Annotation], choice: Choice) -> list[Annotation]:
    match choice.annotators:
        case "first":
            return said[:1]
        case "last":
            return said[-1:]
        case "ground_truth":
            return [entry for entry in said if entry.ground_truth]
        case _:
            return said


def _annotator(completed_by: Any) -> Any:
    """Whom Label Studio names by number, or by a record that has an address."""
    if isinstance(completed_by, dict):
        return completed_by.get("email") or completed_by.get("id")
    return completed_by


def _ours(result: Result) -> dict[str, Any]:
    ours = result.meta.get(OURS) if result.meta else None
    return ours if isinstance(ours, dict) else {}


def _size_of(sayings: list[_Saying], task: Task) -> tuple[int, int] | None:
    """What the results say, or else the task's data."""
    for saying in sayings:
        for result in saying.results:
            if result.original_width and result.original_height:
                return result.original_width, result.original_height
    width, height = task.data.get("width"), task.data.get("height")
    if all(isinstance(side, int) and 0 < side < 2**31 for side in (width, height)):
        return width, height  # type: ignore[return-value]
    return None


def _video_size(uri: str) -> tuple[tuple[int, int], int]:
    """Width and height, and the number of frames, of a video that is on this machine."""
    if not Path(uri).is_file():
        return (0, 0), 0
    try:
        with Video(Path(uri)) as video:
            return (video.width, video.height), video.num_frames
    except TilthError:
        return (0, 0), 0
