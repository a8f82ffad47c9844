"""Which detector, and where it starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tilth.errors import SettingsError

__all__ = ["COARSEST_STRIDE", "SET_PREDICTION", "ModelSettings", "Variant"]

COARSEST_STRIDE = 32

Variant = Literal["yolov4", "yolov4-tiny", "darknet", "d-fine", "rt-detr", "rt-detr-v2", "deim-v2"]
SET_PREDICTION = ("d-fine", "rt-detr", "rt-detr-v2", "deim-v2")


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """Which network, and where it starts.

    Attributes:
        variant: a name in `tilth.recipes.detection_families.FAMILIES`.
        cfg: of the variant "darknet": a network file relative to the project, or the name of a
            built-in one (`tilth.models.darknet_specs.SPECS`); its heads are fitted to the classes.
        hub: of the variants of transformers (extra ``hf``): a folder relative to the project, or
            ``owner/name`` on Hugging Face's hub (``owner/name@revision``), that the network and its
            weights are taken from; a config.json gives the network alone.
        width, depth: multiples of the published channel and block counts, of every variant that is
            not taken from a file.
        size: side of the square network input, pixels; a multiple of 32.
        resize: how a picture comes into the square: "letterbox" keeps its shape and pads; "stretch"
            fills the square, as Darknet does.
        anchors: (width, height) in pixels of the network's input, smallest first, for all heads
            together; none takes the published ones ('tilth detect anchors' fits them to the data).
        weights: a run's folder, a safetensors file or, of YOLOv4 and "darknet", a Darknet file,
            relative to the project; "" starts from random weights.
        weights_classes: a file with the names of the classes that ``weights`` knows, one a line;
            "" takes what a run says of itself, and COCO's names for 80 classes.
    """

    variant: Variant = "yolov4-tiny"
    cfg: str = ""
    hub: str = ""
    width: float = 0.5
    depth: float = 1.0
    size: int = 256
    resize: Literal["letterbox", "stretch"] = "letterbox"
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
        if self.variant not in SET_PREDICTION and self.hub:
            raise SettingsError(
                "setting 'model.hub' goes with a network of transformers",
                expected=f"model.variant {', '.join(SET_PREDICTION)}",
                got=f"variant {self.variant!r}",
            )
        if self.hub and self.weights:
            raise SettingsError(
                "settings 'model.hub' and 'model.weights' both say where the network starts",
                expected="one of them",
                got=f"hub {self.hub!r}, weights {self.weights!r}",
            )
        if self.variant in SET_PREDICTION and self.anchors:
            raise SettingsError(
                "setting 'model.anchors' goes with a network that has anchors",
                expected="none",
                got=f"variant {self.variant!r}, {len(self.anchors)} anchors",
            )
        if any(not (width > 0 and height > 0) for width, height in self.anchors):
            raise SettingsError(
                "setting 'model.anchors' cannot be used",
                expected="widths and heights above 0",
                got=str(self.anchors),
            )
