"""A detector to be used as it is: a finished run, or weights from elsewhere with their classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tilth.errors import SettingsError, TrainingError
from tilth.models.coco_classes import COCO_CLASSES
from tilth.models.darknet import read_cfg
from tilth.models.darknet_specs import SPECS
from tilth.models.huggingface_architecture import read_published
from tilth.models.huggingface_weights import published_path
from tilth.recipes.detect_settings import settings
from tilth.recipes.detection_families import family_of
from tilth.recipes.detector import Detector, device_for, load_detector, new_detector
from tilth.recipes.model_settings import ModelSettings
from tilth.recipes.starting_weights import file_digest, known_classes, read_run, weights_file

__all__ = ["OpenedDetector", "open_detector", "open_run", "open_weights"]

DARKNETS_FILES = ("darknet", "yolov4", "yolov4-tiny")  # variants that read .weights


@dataclass(frozen=True, kw_only=True)
class OpenedDetector:
    """A detector that is ready, and where it came from.

    Attributes:
        name: of the run, or of the file or folder of weights.
        weights: path of the weights.
        weights_digest: SHA-256 of that file, hexadecimal.
    """

    detector: Detector
    name: str
    weights: Path
    weights_digest: str


def open_detector(
    root: Path, *, run: Path | None, model: dict[str, Any] | None, overrides: tuple[str, ...] = ()
) -> OpenedDetector:
    """A run by its folder, or a network by settings of the model; for the command line.

    Raises:
        DataError, TrainingError, SettingsError: see `open_run`, `open_weights`.
    """
    if run is not None:
        return open_run(run)
    built = settings(model, overrides).model
    return open_weights(_as_published(built, model, overrides, root), root=root)


def open_run(run_dir: Path) -> OpenedDetector:
    """What a run left behind.

    Raises:
        DataError, TrainingError: see `load_detector`.
    """
    detector = load_detector(run_dir)
    path = weights_file(run_dir)
    return OpenedDetector(
        detector=detector, name=run_dir.name, weights=path, weights_digest=file_digest(path)
    )


def open_weights(settings: ModelSettings, *, root: Path) -> OpenedDetector:
    """A network with the weights that the settings name, and with all of their classes.

    Args:
        root: folder that the paths in the settings are relative to.

    Raises:
        SettingsError: the settings name no weights.
        TrainingError: the weights cannot be read, are of another network or only a part of it, or
            nobody says what their classes are called.
    """
    path = family_of(settings).starting_file(settings, root=root)
    if path is None:
        raise SettingsError(
            "a detector without weights finds nothing",
            expected="model.weights, or model.hub",
            fix="name a run, or say where the weights are",
        )
    class_names = _class_names(settings, path, root=root)
    detector, report = new_detector(settings, class_names, root=root, seed=0)
    missing = sorted(set(class_names) - set(report.classes if report is not None else ()))
    if missing:
        raise TrainingError(
            "the weights are not those of a whole detector",
            where=str(path),
            expected=f"a head for {len(class_names)} classes",
            got=f"nothing for {len(missing)} of them, {missing[0]} first",
            fix="a partial file is for training: tilth detect train",
        )
    return OpenedDetector(
        detector=replace(detector, model=detector.model.to(device_for()).eval()),
        name=Path(settings.hub).name or path.stem,
        weights=path,
        weights_digest=file_digest(path),
    )


def _class_names(settings: ModelSettings, path: Path, *, root: Path) -> Sequence[str]:
    """What the weights' scores stand for: a file says it, the run, the hub, or it is COCO's 80."""
    names: Sequence[str] = ()
    if settings.weights_classes:
        names = known_classes(root / settings.weights_classes, 0)
    elif settings.hub:
        names = tuple(read_published(published_path(settings.hub, root=root))[1])
    elif path.suffix == ".safetensors":
        names = read_run(path, None).class_names
    elif settings.variant in DARKNETS_FILES:
        names = known_classes(None, _cfg_classes(settings, root=root))
    if not names:
        raise TrainingError(
            "nobody says what the classes of the weights are called",
            where=str(path),
            expected="a file with one name a line",
            fix="--set model.weights_classes=FILE",
        )
    return names


def _cfg_classes(settings: ModelSettings, *, root: Path) -> int:
    if settings.variant != "darknet" or settings.cfg in SPECS:
        return len(COCO_CLASSES)
    cfg = read_cfg(root / settings.cfg)
    return cfg.layers[cfg.heads[0]].integer("classes", 0) if cfg.heads else 0


def _as_published(
    built: ModelSettings, model: dict[str, Any] | None, overrides: tuple[str, ...], root: Path
) -> ModelSettings:
    """What nobody has said is as the weights were made: defaults are those of small experiments."""
    said = {*(model or {}).get("model", {})}
    said |= {override.partition("=")[0].strip().removeprefix("model.") for override in overrides}
    if "width" not in said:
        built = replace(built, width=1.0)
    if built.variant != "darknet" or built.cfg in SPECS:
        return built
    net = read_cfg(root / built.cfg).net
    if "size" not in said:
        built = replace(built, size=max(net.integer("width", 416), net.integer("height", 416)))
    if "resize" not in said:
        built = replace(built, resize="letterbox" if net.integer("letter_box", 0) else "stretch")
    return built
