"""Detectors of transformers as a family: from a folder, the hub, or of our own sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from tilth.errors import SettingsError
from tilth.losses.detection_settings import DetectionLossSettings
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
from tilth.recipes.detector_family import DetectorFamily
from tilth.recipes.model_settings import ModelSettings
from tilth.recipes.starting_weights import class_rows, known_classes, read_run
from tilth.train.loop import Loss

__all__ = ["HuggingFaceNetworks"]

ARCHITECTURE_FILE = "network.json"


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
