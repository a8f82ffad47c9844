"""Find objects in new pictures and videos, and write them down: drawn, as labels, line by line."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import orjson
from rich.console import Console
from rich.progress import Progress

from tilth.config import load_settings
from tilth.data.atomic import atomic_writer
from tilth.data.detections import Detections
from tilth.data.formats import load_format
from tilth.data.images import read_image, write_jpeg
from tilth.data.read_ahead import read_ahead
from tilth.data.storage import is_url
from tilth.errors import MediaError, SettingsError
from tilth.models.deployed import InferencePrecision
from tilth.ops.nms import Suppression
from tilth.recipes.detected_labels import detected_labels
from tilth.recipes.drawn_detections import draw_detections, drawing_targets
from tilth.recipes.picture_detection import LoadedPicture, detect_in, load_picture
from tilth.recipes.picture_sources import FrameReader, PictureSource, picture_sources
from tilth.recipes.tiled_detection import detect_tiled
from tilth.recipes.usable_detector import Detector, for_inference

__all__ = ["InferenceSettings", "infer"]


@dataclass(frozen=True, kw_only=True)
class InferenceSettings:
    """How pictures are looked at, and what becomes of the findings.

    Attributes:
        score_threshold: weaker detections are not reported.
        suppression: of several boxes for one object.
        batch_size: pictures at a time.
        precision: of the network; "auto" is the fastest of the machine, and its scores may differ
            from float32 in the second decimal.
        tile: side of the tiles that large pictures are cut into, pixels; 0 looks at the whole.
        overlap: of neighbouring tiles, as a share of their side.
        every: of a video every so many frames.
        draw: a folder for copies with the detections drawn in.
        labels: a file or folder of labels, in ``labels_format`` with ``labels_options``.
        lines: a file of JSON lines, one a picture.
        is_strict: end at the first picture that cannot be read; otherwise it is reported.
    """

    score_threshold: float = 0.25
    suppression: Suppression = field(default_factory=Suppression)
    batch_size: int = 8
    precision: InferencePrecision = "float32"
    tile: int = 0
    overlap: float = 0.2
    every: int = 1
    draw: Path | None = None
    labels: Path | None = None
    labels_format: str = "coco"
    labels_options: tuple[str, ...] = ()
    lines: Path | None = None
    is_strict: bool = False

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise SettingsError(
                "a batch holds a picture", expected="1 or more", got=str(self.batch_size)
            )


def infer(
    detector: Detector,
    sources: Sequence[str],
    settings: InferenceSettings | None = None,
    *,
    name: str = "",
    standard_input: Iterable[str] = (),
    progress: bool = False,
) -> dict[str, Any]:
    """Look at every picture of the sources once.

    A picture that cannot be read is listed under ``failed`` and left out, unless the settings are
    strict.

    Args:
        sources: see `picture_sources`.
        name: of the detector, for the result.

    Raises:
        MediaError: a source is missing; or, if strict, a picture is broken.
        EmptyDatasetError: no picture among the sources.
        SettingsError: a copy would replace one of the pictures, or no such format of labels.
    """
    settings = settings or InferenceSettings()
    if settings.labels is not None:
        load_format(settings.labels_format)  # a wrong name is said before the work, not after
    images = picture_sources(sources, every=settings.every, lines=standard_input)
    targets = drawing_targets(images, settings.draw) if settings.draw else []
    seen: list[_Seen] = []
    failed: list[dict[str, str]] = []
    with (
        _opened_lines(settings.lines) as stream,
        Progress(console=Console(stderr=True), disable=not progress, transient=True) as bar,
    ):
        line = bar.add_task("detecting", total=len(images))
        for each in _looked_at(detector, images, settings):
            bar.advance(line)
            if isinstance(each, _Failed):
                failed.append({"picture": each.source.name, **_words(each.error)})
                continue
            seen.append(each)
            if targets:
                drawn = draw_detections(each.picture(), each.found, detector.class_names)
                write_jpeg(targets[each.row], drawn)
            each.loaded = None  # the pixels are not needed any more
            if stream is not None:
                stream.write(orjson.dumps(_document(each, detector)) + b"\n")
    if settings.labels is not None:
        _write_labels(seen, detector, settings)
    return {
        "run": name,
        "objects": sum(len(each.found) for each in seen),
        "pictures": [_document(each, detector) for each in seen],
        "failed": failed,
        "drawn_in": settings.draw,
        "labels": settings.labels,
        "lines": settings.lines,
    }


@dataclass(kw_only=True, eq=False)
class _Seen:
    row: int
    source: PictureSource
    found: Detections
    loaded: LoadedPicture | None
    width: int
    height: int

    def picture(self) -> Any:
        """The pixels in full size, read again where they were made smaller."""
        assert self.loaded is not None
        image = self.loaded.image_rgb
        is_whole = image.shape[:2] == (self.height, self.width)
        return image if is_whole else read_image(self.source.path)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Failed:
    source: PictureSource
    error: MediaError


def _looked_at(
    detector: Detector, images: Sequence[PictureSource], settings: InferenceSettings
) -> Iterator[_Seen | _Failed]:
    detector = for_inference(detector, precision=settings.precision)
    for rows, pictures in read_ahead(_batches(detector, images, settings)):
        readable = [each for each in pictures if isinstance(each, LoadedPicture)]
        found = iter(_detections(detector, readable, settings))
        for row, picture in zip(rows, pictures, strict=True):
            if isinstance(picture, MediaError):
                yield _Failed(source=images[row], error=picture)
                continue
            yield _Seen(
                row=row,
                source=images[row],
                found=next(found),
                loaded=picture,
                width=picture.width,
                height=picture.height,
            )


def _batches(
    detector: Detector, images: Sequence[PictureSource], settings: InferenceSettings
) -> Iterator[tuple[range, list[LoadedPicture | MediaError]]]:
    # A picture that is cut into tiles fills batches by itself.
    size = 1 if settings.tile else settings.batch_size
    with contextlib.closing(FrameReader()) as frames:
        for start in range(0, len(images), size):
            rows = range(start, min(start + size, len(images)))
            pictures: list[LoadedPicture | MediaError] = []
            for row in rows:
                try:
                    pictures.append(_loaded(detector, images[row], frames, settings))
                except MediaError as error:
                    if settings.is_strict:
                        raise
                    pictures.append(error)
            yield rows, pictures


def _loaded(
    detector: Detector, source: PictureSource, frames: FrameReader, settings: InferenceSettings
) -> LoadedPicture:
    if source.frame is not None:
        return LoadedPicture.of(frames.read(source))
    if settings.tile:  # all of its pixels are wanted
        return LoadedPicture.of(read_image(source.path))
    return load_picture(detector, source.path)


def _detections(
    detector: Detector, pictures: Sequence[LoadedPicture], settings: InferenceSettings
) -> list[Detections]:
    """The detections of each picture, the surest first."""
    if settings.tile:
        found = [
            detect_tiled(
                detector,
                picture.image_rgb,
                tile=settings.tile,
                overlap=settings.overlap,
                score_threshold=settings.score_threshold,
                suppression=settings.suppression,
                batch_size=settings.batch_size,
            ).of_medium(0)
            for picture in pictures
        ]
        return found
    together = detect_in(
        detector,
        pictures,
        score_threshold=settings.score_threshold,
        suppression=settings.suppression,
    )
    return [together.of_medium(row) for row in range(len(pictures))]


def _write_labels(seen: Sequence[_Seen], detector: Detector, settings: InferenceSettings) -> None:
    writer = load_format(settings.labels_format)
    options = load_settings(
        writer.WriteOptions, overrides=settings.labels_options, where="--option"
    )
    dataset = detected_labels(
        [_uri(each.source) for each in seen],
        [(each.width, each.height) for each in seen],
        [each.found for each in seen],
        detector.class_names,
    )
    assert settings.labels is not None
    root = _common_folder([each.source for each in seen])
    writer.write(dataset, settings.labels, media_root=root, options=options)


def _uri(source: PictureSource) -> str:
    """A URL as it is, a path in full."""
    return source.name if is_url(source.name) else str(Path(source.name).absolute())


def _common_folder(sources: Sequence[PictureSource]) -> Path | None:
    """The folder that all pictures lie in, so that labels name them from there."""
    if not sources or any(is_url(source.name) for source in sources):
        return None
    return Path(os.path.commonpath([Path(source.name).absolute().parent for source in sources]))


def _document(each: _Seen, detector: Detector) -> dict[str, Any]:
    rows = zip(each.found.category_index, each.found.score, each.found.boxes_xyxy, strict=True)
    return {
        "picture": each.source.name,
        "width": each.width,
        "height": each.height,
        "objects": [
            {
                "class": detector.class_names[int(category)],
                "score": round(float(score), 4),
                "box_xyxy": [round(float(edge), 2) for edge in box],
            }
            for category, score, box in rows
        ],
    }


def _words(error: MediaError) -> dict[str, str]:
    return {"message": error.message, **error.details()}


@contextlib.contextmanager
def _opened_lines(path: Path | None) -> Iterator[BinaryIO | None]:
    if path is None:
        yield None
        return
    with atomic_writer(path) as stream:
        yield stream
