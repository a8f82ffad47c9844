"""One detector: make it, find it again by its run's folder, and use it.

A run's folder holds, beside what the loop writes (`tilth.train.run_folder`), ``detector.json``: the
network, the names of its classes, and the digest of the data that it saw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec
import torch
from rich.console import Console
from rich.progress import track

from tilth.data.atomic import atomic_writer
from tilth.data.dataset import Dataset
from tilth.data.detections import Detections
from tilth.data.images import expect_size
from tilth.data.read_ahead import read_ahead
from tilth.errors import DataError
from tilth.models.transfer import TransferReport
from tilth.ops.nms import Suppression
from tilth.recipes.detection_families import family_of
from tilth.recipes.model_settings import ModelSettings
from tilth.recipes.picture_detection import LoadedPicture, detect_in, load_picture
from tilth.recipes.starting_weights import RECORD, weights_file
from tilth.recipes.usable_detector import Detector, for_inference
from tilth.seeding import seed_everything
from tilth.train.checkpoint import load_weights, versions

__all__ = [
    "Detector",
    "device_for",
    "find_objects",
    "keep_detector",
    "load_detector",
    "new_detector",
]


DETECTED_TOGETHER = 16  # pictures


def new_detector(
    settings: ModelSettings, class_names: Sequence[str], *, root: Path, seed: int
) -> tuple[Detector, TransferReport | None]:
    """A network with its starting weights, and what became of them (None where there are none).

    Args:
        root: folder that ``settings.weights`` is relative to.
        seed: of the random weights.

    Raises:
        TrainingError, LabelError: the network or its starting weights cannot be read, or they are
            of another network. Weights of one for other classes will do: they give everything but
            the scores of the classes that it does not know.
    """
    seed_everything(seed)
    family = family_of(settings)
    model = family.build(settings, len(class_names), root=root)
    transfer = None
    if family.starting_file(settings, root=root) is not None:
        transfer = family.start(model, settings, class_names, root=root)
    detector = Detector(model=model, settings=settings, class_names=tuple(class_names))
    return detector, transfer


def keep_detector(detector: Detector, run_dir: Path, *, seed: int) -> None:
    """Write what `load_detector` reads beside the weights; the record comes last.

    Raises:
        StorageError: the disk is full or not writable.
    """
    record = _Record(
        model=detector.settings,
        class_names=detector.class_names,
        data_digest=detector.digest,
        seed=seed,
        versions={name: str(version) for name, version in versions().items()},
    )
    family_of(detector.settings).keep(detector.model, run_dir)
    with atomic_writer(run_dir / RECORD) as stream:
        stream.write(msgspec.json.format(msgspec.json.encode(record)))


def device_for(name: Literal["auto", "cpu", "cuda"] = "auto") -> torch.device:
    """The device that a setting names; "auto" is a GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def load_detector(run_dir: Path, *, device: Literal["auto", "cpu", "cuda"] = "auto") -> Detector:
    """The detector that a run left behind, ready to use, on the device.

    Raises:
        DataError: the folder holds no detector, or its record is broken.
        TrainingError: the weights are missing or broken.
    """
    path = run_dir / RECORD
    try:
        record = msgspec.json.decode(path.read_bytes(), type=_Record)
    except OSError as error:
        raise DataError(
            "no trained detector here", where=str(run_dir), fix="tilth train --name NAME"
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(
            "the detector's record is broken", where=str(path), got=str(error)
        ) from error
    family = family_of(record.model)
    model = family.rebuild(record.model, len(record.class_names), run_dir=run_dir)
    load_weights(weights_file(run_dir), model)
    return Detector(
        model=model.to(device_for(device)).eval(),
        settings=record.model,
        class_names=record.class_names,
        digest=record.data_digest,
    )


def find_objects(
    detector: Detector,
    images: Sequence[Path],
    *,
    labelled: Dataset | None = None,
    score_threshold: float = 0.001,
    iou_threshold: float = 0.5,
    suppression: Suppression | None = None,
    batch_size: int = DETECTED_TOGETHER,
    progress: bool = False,
) -> Detections:
    """Detect in every picture; ``media_index`` counts ``images``.

    Boxes are in the pixels of the stored picture and inside it; those that lie wholly in the
    padding around it are left out. The pictures of the next batch are read while one is looked at.

    Args:
        labelled: what the detections will be scored against, in the order of ``images``.
        iou_threshold: of two boxes of a class that overlap more, the weaker one is dropped.
        suppression: says so in full, in the place of ``iou_threshold``.

    Raises:
        MediaError: a picture is missing or broken, or of another size than its labels say.
    """
    suppression = suppression or Suppression(iou_threshold=iou_threshold)
    detector = for_inference(detector)  # in float32: numbers do not hang on the machine

    def loaded(start: int) -> tuple[int, list[LoadedPicture]]:
        rows = range(start, min(start + batch_size, len(images)))
        pictures = [load_picture(detector, images[row]) for row in rows]
        if labelled is not None:
            for row, picture in zip(rows, pictures, strict=True):
                size = (int(labelled.media.width[row]), int(labelled.media.height[row]))
                expect_size((picture.width, picture.height), size, where=str(images[row]))
        return start, pictures

    parts = []
    starts = track(
        range(0, len(images), batch_size),
        "detecting",
        console=Console(stderr=True),
        transient=True,
        disable=not progress,
    )
    for start, pictures in read_ahead(loaded(start) for start in starts):
        found = detect_in(
            detector, pictures, score_threshold=score_threshold, suppression=suppression
        )
        parts.append(replace(found, media_index=found.media_index + start))
    return Detections.joined(parts)


@dataclass(frozen=True, kw_only=True)
class _Record:
    """What ``detector.json`` says."""

    model: ModelSettings
    class_names: tuple[str, ...]
    data_digest: str
    seed: int
    versions: dict[str, str]
    format: Literal["tilth.detector/1"] = "tilth.detector/1"
