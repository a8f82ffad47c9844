"""What a family of detectors has to say, so that one trainer serves all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from tilth.losses.detection_settings import DetectionLossSettings
from tilth.models.transfer import TransferReport
from tilth.recipes.model_settings import ModelSettings
from tilth.recipes.starting_weights import weights_file
from tilth.train.loop import Loss

__all__ = ["DetectorFamily"]


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
