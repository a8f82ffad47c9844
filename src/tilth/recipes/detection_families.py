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
from tilth.losses.detection import AnchorGrid, DetectionLoss
from tilth.losses.detection_settings import DetectionLossSettings
from tilth.models.darknet import Darknet, read_cfg
from tilth.models.darknet_cfg import DarknetCfg, with_anchors, with_classes
from tilth.models.darknet_specs import SPECS, built_in_cfg
from tilth.models.darknet_weights import load_weights
from tilth.models.detection_network import start_head
from tilth.models.huggingface_architecture import (
    MODEL_TYPES,
    HuggingFaceArchitecture,
    read_architecture,
    read_published,
    scaled_architecture,
    write_architecture,
)
from tilth.models.huggingface_detector import HuggingFaceDetector
from tilth.models.huggingface_targets import DetectionTargets
from tilth.models.huggingface_weights import (
    carry_over,
    num_classes_of,
    published_path,
    published_state,
    published_weights,
    refuse_other_network,
)
from tilth.models.transfer import TransferReport
from tilth.models.yolov4 import ANCHORS, YoloV4
from tilth.ops.anchor_grid import Anchors
from tilth.recipes.model_settings import ModelSettings
from tilth.recipes.starting_weights import (
    KnownWeights,
    class_rows,
    known_classes,
    read_run,
    start_from,
    weights_file,
)
from tilth.train.loop import Loss

__all__ = ["FAMILIES", "DetectorFamily", "family_of"]

# The published anchors are pixels at these network sizes (yolov4.cfg, yolov4-tiny.cfg).
ANCHOR_SIZE = {"yolov4": 608, "yolov4-tiny": 416}
NETWORK_FILE = "network.cfg"
ARCHITECTURE_FILE = "network.json"
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
        """Load the starting weights that the settings name; says what was taken.

        Raises:
            TrainingError, DataError: they cannot be read, or are of another network.
        """

    @abstractmethod
    def rebuild(self, settings: ModelSettings, num_classes: int, *, run_dir: Path) -> nn.Module:
        """The network of a run that `keep` has written to."""

    def starting_file(self, settings: ModelSettings, *, root: Path) -> Path | None:
        """The weights that `start` reads, None where the settings name none.

        Raises:
            TrainingError, DataError: there are none where the settings say.
        """
        return weights_file(root / settings.weights) if settings.weights else None

    def keep(self, model: nn.Module, run_dir: Path) -> None:  # noqa: B027 - most need nothing
        """Write what `rebuild` reads beside the settings."""

    @abstractmethod
    def loss(
        self,
        model: nn.Module,
        settings: DetectionLossSettings | None = None,
        *,
        class_counts: Sequence[int] | None = None,
    ) -> Loss:
        """Loss terms of a batch of `tilth.train.loading.DetectionBatches`.

        Args:
            settings: of losses that are ours.
            class_counts: boxes of each class, for class weights that are to balance them.
        """


class AnchorGridFamily(DetectorFamily):
    """What YOLOv4 and Darknet's networks share: maps of cells, and their loss."""

    def start(
        self, model: nn.Module, settings: ModelSettings, class_names: Sequence[str], *, root: Path
    ) -> TransferReport:
        """From a run's folder or a safetensors file."""
        classes = root / settings.weights_classes if settings.weights_classes else None
        known = read_run(root / settings.weights, classes)
        return start_from(model, known, class_names)  # type: ignore[arg-type]

    def loss(
        self,
        model: nn.Module,
        settings: DetectionLossSettings | None = None,
        *,
        class_counts: Sequence[int] | None = None,
    ) -> Loss:
        """The detection loss over the model's heads."""
        assert isinstance(model, AnchorGrid)
        loss = DetectionLoss.of_network(model, settings, class_counts=class_counts)

        def batch_loss(network: nn.Module, batch: Mapping[str, Any]) -> Mapping[str, Tensor]:
            return loss(
                network(batch["images"]),
                batch["boxes_xyxy"],
                batch["class_index"],
                batch["image_index"],
                box_weights=batch.get("box_weights"),
                ignore_boxes_xyxy=batch.get("ignore_boxes_xyxy"),
                ignore_image_index=batch.get("ignore_image_index"),
            )

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


class HuggingFaceNetworks(DetectorFamily):
    """Set-predicting detectors of transformers: from a folder, the hub, or of our own sizes."""

    def build(self, settings: ModelSettings, num_classes: int, *, root: Path) -> nn.Module:
        """As published, as a run describes it, or the default scaled by width and depth."""
        architecture = _architecture(settings, root=root)
        if architecture.config["model_type"] != MODEL_TYPES[settings.variant]:
            raise SettingsError(
                "setting 'model.variant' names another kind of network",
                where=architecture.source or settings.weights,
                expected=f"model_type {MODEL_TYPES[settings.variant]}",
                got=architecture.config["model_type"],
            )
        return HuggingFaceDetector(architecture, num_classes)

    def starting_file(self, settings: ModelSettings, *, root: Path) -> Path | None:
        """Also what was published beside the network, unless ``hub`` names a config.json."""
        if not settings.hub:
            return super().starting_file(settings, root=root)
        path = published_path(settings.hub, root=root)
        return published_weights(path) if path.is_dir() else None

    def start(
        self, model: nn.Module, settings: ModelSettings, class_names: Sequence[str], *, root: Path
    ) -> TransferReport:
        """From a published folder, a run's folder or a safetensors file."""
        assert isinstance(model, HuggingFaceDetector)
        classes = root / settings.weights_classes if settings.weights_classes else None
        if settings.hub:
            path = published_path(settings.hub, root=root)
            state, names = published_state(path), tuple(read_published(path)[1])
            names = known_classes(classes, num_classes_of(state)) if classes else names
        else:
            known = read_run(root / settings.weights, classes)
            path, state, names = known.path, dict(known.state), known.class_names
        rows = class_rows(names, class_names, num_classes_of(state))
        report = carry_over(model, state, rows, class_names=class_names)
        refuse_other_network(model, report, where=str(path))
        return report

    def keep(self, model: nn.Module, run_dir: Path) -> None:
        """What rebuilds the network where there is neither hub nor folder."""
        assert isinstance(model, HuggingFaceDetector)
        write_architecture(model.architecture, run_dir / ARCHITECTURE_FILE)

    def rebuild(self, settings: ModelSettings, num_classes: int, *, run_dir: Path) -> nn.Module:
        """From the description in the run's folder."""
        return HuggingFaceDetector(read_architecture(run_dir / ARCHITECTURE_FILE), num_classes)

    def loss(
        self,
        model: nn.Module,
        settings: DetectionLossSettings | None = None,
        *,
        class_counts: Sequence[int] | None = None,
    ) -> Loss:
        """The library's own, which matches the network's answers to the truths."""

        def batch_loss(network: nn.Module, batch: Mapping[str, Any]) -> Mapping[str, Tensor]:
            return network(batch["images"], targets=DetectionTargets.of_batch(batch))

        return batch_loss


FAMILIES: dict[str, DetectorFamily] = {
    "yolov4": Yolo(),
    "yolov4-tiny": Yolo(),
    "darknet": DarknetNetworks(),
    "d-fine": HuggingFaceNetworks(),
    "rt-detr": HuggingFaceNetworks(),
    "rt-detr-v2": HuggingFaceNetworks(),
    "deim-v2": HuggingFaceNetworks(),
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


def _architecture(settings: ModelSettings, *, root: Path) -> HuggingFaceArchitecture:
    if settings.hub:
        path = published_path(settings.hub, root=root)
        # A folder of the hub's cache is named after the commit.
        commit = f" at {path.name}" if path.parent.name == "snapshots" else ""
        return read_published(path, source=settings.hub + commit)[0]
    if settings.weights:
        path = root / settings.weights
        described = (path if path.is_dir() else path.parent) / ARCHITECTURE_FILE
        if described.is_file():
            return read_architecture(described)
    return scaled_architecture(settings.variant, width=settings.width, depth=settings.depth)


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
