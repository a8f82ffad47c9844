"""The families of detectors that a recipe can choose by one line, each behind the same four verbs.

A family builds a network, starts it from weights, keeps what is needed to build it again, and says
how it is punished. Everything else - data, loop, evaluation, inference - is the same for all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from tilth.data.atomic import atomic_writer
from tilth.errors import SettingsError, TrainingError
from tilth.losses.detection import DetectionLoss
from tilth.models.darknet import Darknet, read_cfg
from tilth.models.darknet_cfg import DarknetCfg, with_anchors, with_classes
from tilth.models.darknet_specs import SPECS, built_in_cfg
from tilth.models.darknet_weights import load_weights
from tilth.models.detection_network import start_head
from tilth.models.transfer import TransferReport
from tilth.models.yolov4 import ANCHORS, YoloV4
from tilth.ops.anchor_grid import Anchors
from tilth.recipes.model_settings import ModelSettings
from tilth.recipes.starting_weights import KnownWeights, known_classes, read_run, start_from
from tilth.train.loop import Loss

__all__ = ["FAMILIES", "DetectorFamily", "family_of"]

# The published anchors are pixels at these network sizes (yolov4.cfg, yolov4-tiny.cfg).
ANCHOR_SIZE = {"yolov4": 608, "yolov4-tiny": 416}
NETWORK_FILE = "network.cfg"
PUBLISHED_CLASSES = 80


class DetectorFamily(ABC):
    """How one kind of detector is made, started, kept and trained."""

    @abstractmethod
    def build(self, settings: ModelSettings, num_classes: int, *, root: Path) -> nn.Module:
        """A `DetectionNetwork` with random weights; paths in the settings are relative to root."""

    @abstractmethod
    def start(
        self, model: nn.Module, settings: ModelSettings, class_names: Sequence[str], *, root: Path
    ) -> TransferReport:
        """Load ``settings.weights``; says what was taken.

        Raises:
            TrainingError, LabelError: they cannot be read, or are of another network.
        """

    @abstractmethod
    def rebuild(self, settings: ModelSettings, num_classes: int, *, run_dir: Path) -> nn.Module:
        """The network of a run that `keep` has written to."""

    def keep(self, model: nn.Module, run_dir: Path) -> None:  # noqa: B027 - most need nothing
        """Write what `rebuild` reads beside the settings."""

    @abstractmethod
    def loss(self, model: nn.Module) -> Loss:
        """Loss terms of a batch of `tilth.train.loading.DetectionBatches`."""


class AnchorGridFamily(DetectorFamily):
    """What YOLOv4 and Darknet's networks share: maps of cells, and their loss."""

    def start(
        self, model: nn.Module, settings: ModelSettings, class_names: Sequence[str], *, root: Path
    ) -> TransferReport:
        """From a run's folder or a safetensors file."""
        classes = root / settings.weights_classes if settings.weights_classes else None
        known = read_run(root / settings.weights, classes)
        return start_from(model, known, class_names)  # type: ignore[arg-type]

    def loss(self, model: nn.Module) -> Loss:
        """The detection loss over the model's heads."""
        loss = DetectionLoss(
            model.anchors,  # type: ignore[arg-type]
            model.strides,  # type: ignore[arg-type]
            model.num_classes,  # type: ignore[arg-type]
            grid_scales=model.grid_scales,  # type: ignore[arg-type]
        )

        def batch_loss(network: nn.Module, batch: Mapping[str, Any]) -> Mapping[str, Tensor]:
            targets = (batch["boxes_xyxy"], batch["class_index"], batch["image_index"])
            return loss(network(batch["images"]), *targets)

        return batch_loss


class Yolo(AnchorGridFamily):
    """YOLOv4 and YOLOv4-tiny as `tilth.models.yolov4` has them."""

    def build(self, settings: ModelSettings, num_classes: int, *, root: Path) -> nn.Module:
        """With the published anchors at the network size of the settings, or the given ones."""
        return YoloV4(
            num_classes,
            variant=settings.variant,
            width=settings.width,
            depth=settings.depth,
            anchors=_yolo_anchors(settings),
        )

    def rebuild(self, settings: ModelSettings, num_classes: int, *, run_dir: Path) -> nn.Module:
        """The settings are all there is to know."""
        return self.build(settings, num_classes, root=run_dir)


class DarknetNetworks(AnchorGridFamily):
    """Whatever a network file of Darknet describes."""

    def build(self, settings: ModelSettings, num_classes: int, *, root: Path) -> nn.Module:
        """The network of the file, with heads for these classes."""
        cfg = with_classes(_cfg(settings, num_classes, root=root), num_classes)
        if settings.anchors:
            cfg = with_anchors(cfg, settings.anchors)
        model = Darknet(cfg)
        for convolution, anchors in zip(model.head_convolutions(), model.anchors, strict=True):
            start_head(convolution, num_anchors=len(anchors), num_classes=num_classes)
        return model

    def start(
        self, model: nn.Module, settings: ModelSettings, class_names: Sequence[str], *, root: Path
    ) -> TransferReport:
        """Also from Darknet's own files, whole or partial, which know no names of tensors."""
        path = root / settings.weights
        if path.is_dir() or path.suffix == ".safetensors":
            return super().start(model, settings, class_names, root=root)
        classes = root / settings.weights_classes if settings.weights_classes else None
        count = len(known_classes(classes, 0)) or PUBLISHED_CLASSES
        source = Darknet(_cfg(settings, count, root=root))
        filled = load_weights(source, path)
        state = source.state_dict()
        for index in filled.missing:
            state = {k: v for k, v in state.items() if not k.startswith(f"layers.{index}.")}
        known = KnownWeights(
            path=path,
            state=state,
            class_names=known_classes(classes, source.num_classes),
            is_whole=not filled.missing,
        )
        return start_from(model, known, class_names)  # type: ignore[arg-type]

    def keep(self, model: nn.Module, run_dir: Path) -> None:
        """The network file as it was built, with its classes."""
        assert isinstance(model, Darknet)
        with atomic_writer(run_dir / NETWORK_FILE) as stream:
            stream.write(model.cfg.text.encode())

    def rebuild(self, settings: ModelSettings, num_classes: int, *, run_dir: Path) -> nn.Module:
        """From the network file in the run's folder."""
        return Darknet(read_cfg(run_dir / NETWORK_FILE))


FAMILIES: dict[str, DetectorFamily] = {
    "yolov4": Yolo(),
    "yolov4-tiny": Yolo(),
    "darknet": DarknetNetworks(),
}
"""Variant in the settings -> its family; a test holds both lists together."""


def family_of(settings: ModelSettings) -> DetectorFamily:
    """The family of a variant."""
    return FAMILIES[settings.variant]


def _yolo_anchors(settings: ModelSettings) -> list[Anchors]:
    """The given anchors in the order of the heads, or the published ones at the network size."""
    published = ANCHORS[settings.variant]
    if not settings.anchors:
        ratio = settings.size / ANCHOR_SIZE[settings.variant]
        return [[(w * ratio, h * ratio) for w, h in head] for head in published]
    each, over = divmod(len(settings.anchors), len(published))
    if over or not each:
        raise SettingsError(
            "setting 'model.anchors' cannot be used",
            expected=f"as many for each of the {len(published)} heads",
            got=f"{len(settings.anchors)} anchors",
        )
    groups = [settings.anchors[i : i + each] for i in range(0, len(settings.anchors), each)]
    # The heads of YOLOv4 go from fine to coarse, those of the tiny network the other way.
    return list(groups if settings.variant == "yolov4" else reversed(groups))


def _cfg(settings: ModelSettings, num_classes: int, *, root: Path) -> DarknetCfg:
    if settings.cfg in SPECS:
        return built_in_cfg(settings.cfg, num_classes, size=settings.size)
    path = root / settings.cfg
    if not path.is_file():
        raise TrainingError(
            "no such network",
            where=str(path),
            expected=f"a .cfg file, or one of {', '.join(SPECS)}",
            got=f"model.cfg = {settings.cfg!r}",
        )
    return read_cfg(path)
