"""YOLOv4 and Darknet's networks as families: maps of cells with anchors, and their loss."""

from __future__ import annotations

from abc import abstractmethod
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
from tilth.models.darknet_conversion import load_darknet_weights
from tilth.models.darknet_specs import SPECS, built_in_cfg
from tilth.models.darknet_weights import load_weights
from tilth.models.detection_network import start_head
from tilth.models.transfer import TransferReport
from tilth.models.yolov4 import ANCHORS, YoloV4
from tilth.ops.anchor_grid import Anchors
from tilth.recipes.detector_family import DetectorFamily
from tilth.recipes.model_settings import ModelSettings
from tilth.recipes.starting_weights import KnownWeights, known_classes, read_run, start_from
from tilth.train.loop import Loss

__all__ = ["NETWORK_FILE", "DarknetNetworks", "Yolo"]

# The published anchors are pixels at these network sizes (yolov4.cfg, yolov4-tiny.cfg).
ANCHOR_SIZE = {"yolov4": 608, "yolov4-tiny": 416}
NETWORK_FILE = "network.cfg"
PUBLISHED_CLASSES = 80


class AnchorGridFamily(DetectorFamily):
    """What YOLOv4 and Darknet's networks share: maps of cells, and their loss."""

    def start(
        self, model: nn.Module, settings: ModelSettings, class_names: Sequence[str], *, root: Path
    ) -> TransferReport:
        """From a run's folder, a safetensors file or a file of Darknet, whole or partial."""
        path = root / settings.weights
        classes = root / settings.weights_classes if settings.weights_classes else None
        if path.is_file() and path.suffix != ".safetensors":
            known = self.read_darknet(path, settings, classes, root=root)
        else:
            known = read_run(path, classes)
        return start_from(model, known, class_names)  # type: ignore[arg-type]

    @abstractmethod
    def read_darknet(
        self, path: Path, settings: ModelSettings, classes: Path | None, *, root: Path
    ) -> KnownWeights:
        """The weights of a Darknet file, which knows neither names nor shapes of tensors."""

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

    def read_darknet(
        self, path: Path, settings: ModelSettings, classes: Path | None, *, root: Path
    ) -> KnownWeights:
        """Through the same network with as many classes as the file was made for."""
        count = len(known_classes(classes, 0)) or PUBLISHED_CLASSES
        source = self.build(settings, count, root=root)
        assert isinstance(source, YoloV4)
        missing = load_darknet_weights(source, path)
        return _known(path, source, known_classes(classes, count), missing)


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

    def read_darknet(
        self, path: Path, settings: ModelSettings, classes: Path | None, *, root: Path
    ) -> KnownWeights:
        """Through the network of the settings, with as many classes as the file was made for."""
        count = len(known_classes(classes, 0)) or PUBLISHED_CLASSES
        source = Darknet(_cfg(settings, count, root=root))
        missing = [f"layers.{index}" for index in load_weights(source, path).missing]
        return _known(path, source, known_classes(classes, source.num_classes), missing)

    def keep(self, model: nn.Module, run_dir: Path) -> None:
        """The network file as it was built, with its classes."""
        assert isinstance(model, Darknet)
        with atomic_writer(run_dir / NETWORK_FILE) as stream:
            stream.write(model.cfg.text.encode())

    def rebuild(self, settings: ModelSettings, num_classes: int, *, run_dir: Path) -> nn.Module:
        """From the network file in the run's folder."""
        return Darknet(read_cfg(run_dir / NETWORK_FILE))


def _known(
    path: Path, source: nn.Module, class_names: tuple[str, ...], missing: Sequence[str]
) -> KnownWeights:
    """What a network was filled with, without the modules that the file does not reach."""
    left_out = tuple(f"{name}." for name in missing)
    state = {k: v for k, v in source.state_dict().items() if not k.startswith(left_out)}
    return KnownWeights(path=path, state=state, class_names=class_names, is_whole=not missing)


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
