"""The pictures on which an exported detector is compared, calibrated and scored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import Tensor

from tilth.data.dataset import Dataset
from tilth.data.project import Project
from tilth.data.records import Split
from tilth.errors import SettingsError
from tilth.recipes.detector import Detector
from tilth.recipes.picture_detection import load_picture, placed
from tilth.recipes.training_pictures import originals

__all__ = ["BATCHES", "ExportPictures"]

BATCHES = (1, 2, 3)  # one alone, and every picture of a batch a different one


class ExportPictures:
    """Pictures of a project as a detector's network sees them; noise where there are none.

    Attributes:
        kind: which of the two the comparison is made on, in words.
    """

    def __init__(self, project: Project, detector: Detector) -> None:
        self._project, self._detector = project, detector
        self._dataset = originals(project.catalogue.read())
        split = self._dataset.media.split
        # Held-out ones first: what was learned by heart makes easy pictures.
        order = [np.flatnonzero(split == each) for each in (Split.VAL, Split.TEST, Split.TRAIN)]
        rows = np.concatenate(order)
        self._parity = [self._path(row) for row in rows[: sum(BATCHES)].tolist()]
        self.kind = "of the project" if self._parity else "noise"

    def batch(self, count: int) -> Tensor:
        """[count, 3, s, s], other pictures for every count; 0..1."""
        first = sum(each for each in BATCHES if each < count)
        if self._parity:
            paths = [self._parity[i % len(self._parity)] for i in range(first, first + count)]
            return torch.from_numpy(np.stack([self._square(path) for path in paths]))
        side = self._detector.settings.size
        generator = torch.Generator().manual_seed(count)
        return torch.rand(count, 3, side, side, generator=generator)

    def calibration(self, count: int, *, progress: bool) -> Iterator[NDArray[np.float32]]:
        """Batches of one, evenly from the training pictures, or from all where there are none.

        Raises:
            SettingsError: the project has no picture.
        """
        media = self._dataset.media
        rows = np.flatnonzero(media.split == Split.TRAIN)
        rows = rows if len(rows) else np.arange(len(media))
        if not len(rows):
            raise SettingsError(
                "integers need pictures to find their ranges on",
                expected="a picture in the project",
                fix="tilth import, or leave --int8 out",
            )
        chosen = rows[np.unique(np.linspace(0, len(rows) - 1, count).round().astype(int))]
        bar = Console(stderr=True)
        for row in track(
            chosen.tolist(), "calibrating", console=bar, transient=True, disable=not progress
        ):
            yield self._square(self._path(row))[None]

    def validation(self) -> tuple[Dataset, list[Path]] | None:
        """The labelled pictures of the split "val", where they are of the detector's classes."""
        held_back = self._dataset.of_split(Split.VAL)
        names = tuple(category.name for category in held_back.categories)
        if not len(held_back.annotations) or names != self._detector.class_names:
            return None
        return held_back, [self._project.media_path(uri) for uri in held_back.media.uri]

    def _path(self, row: int) -> Path:
        return self._project.media_path(self._dataset.media.uri[row])

    def _square(self, path: Path) -> NDArray[np.float32]:
        square, _ = placed(self._detector, load_picture(self._detector, path).image_rgb)
        return square.float().div_(255).numpy()
