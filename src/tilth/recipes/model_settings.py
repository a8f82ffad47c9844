"""Which detector, and where it starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tilth.errors import SettingsError

__all__ = ["ModelSettings", "Variant"]

COARSEST_STRIDE = 32

Variant = Literal["yolov4", "yolov4-tiny", "darknet"]


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """Which network, and where it starts.

    Attributes:
        variant: a name in `tilth.recipes.detection_families.FAMILIES`.
        cfg: of the variant "darknet": a network file relative to the project, or the name of a
            built-in one (`tilth.models.darknet_specs.SPECS`); its heads are fitted to the classes.
        width, depth: multiples of the published channel and block counts, of the YOLOv4 variants.
        size: side of the square network input, pixels; a multiple of 32.
        anchors: (width, height) in pixels of the network's input, smallest first, for all heads
            together; none takes the published ones ('tilth detect anchors' fits them to the data).
        weights: a run's folder, a safetensors file or, of the variant "darknet", a Darknet file,
            relative to the project; "" starts from random weights.
        weights_classes: a file with the names of the classes that ``weights`` knows, one a line;
            "" takes what a run says of itself, and COCO's names for 80 classes.
    """

    variant: Variant = "yolov4-tiny"
    cfg: str = ""
    width: float = 0.5
    depth: float = 1.0
    size: int = 256
    anchors: tuple[tuple[float, float], ...] = ()
    weights: str = ""
    weights_classes: str = ""

    def __post_init__(self) -> None:
        if self.size < COARSEST_STRIDE or self.size % COARSEST_STRIDE:
            raise SettingsError(
                "setting 'model.size' cannot be used",
                expected=f"a multiple of {COARSEST_STRIDE}",
                got=str(self.size),
            )
        if (self.variant == "darknet") != bool(self.cfg):
            raise SettingsError(
                "setting 'model.cfg' goes with the variant 'darknet', and that with it",
                expected="both or neither",
                got=f"variant {self.variant!r}, cfg {self.cfg!r}",
            )
        if any(not (width > 0 and height > 0) for width, height in self.anchors):
            raise SettingsError(
                "setting 'model.anchors' cannot be used",
                expected="widths and heights above 0",
                got=str(self.anchors),
            )
