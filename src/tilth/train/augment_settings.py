"""How far the pictures of a training run are changed, and which boxes survive it.

The defaults are for learning a detector of one's own: half of the samples are mosaics, all are
mirrored, zoomed and recoloured. `LIGHT` is a small change of single pictures, for runs that compare
data sets and want the change itself to stay out of the way; `NO_AUGMENT` shows pictures as they
are. Darknet's own numbers (yolov4.cfg) are `DARKNET`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tilth.errors import SettingsError

__all__ = ["DARKNET", "LIGHT", "NO_AUGMENT", "AugmentSettings"]

_SHARES = (
    "flip_probability",
    "vertical_flip_probability",
    "translate",
    "brightness",
    "saturation",
    "contrast",
    "mosaic",
    "mixup",
    "cutout",
    "copy_paste",
    "blur",
    "noise",
    "jpeg",
    "close_mosaic",
    "min_visible",
)


@dataclass(frozen=True, kw_only=True)
class AugmentSettings:
    """Every entry is switched off by 0 (a factor by 1); names of kinds are probabilities.

    Attributes:
        fill: what comes in from outside: "grey" (127), or "mean", the picture's own colour.
        flip_probability, vertical_flip_probability: of a mirror image, left to right or upside
            down.
        scale: the size factor is uniform in 1 - scale to 1 + scale, about the centre.
        translate: shift along each axis, uniform within this fraction of the side.
        jitter: each side of the picture moves by up to this fraction of its length, in or out, and
            what lies between is resized to the network (Darknet's jitter; 0.3 there).
        rotation_degrees, shear_degrees: about the centre, either way, uniform up to this.
        perspective: how much nearer one side may come than the other, as a share of its distance.
        brightness: the factor is uniform in 1 - brightness to 1 + brightness.
        saturation, contrast: likewise; contrast is about middle grey.
        hue: shift, uniform within this fraction of the colour circle.
        saturation_factor, exposure_factor: a factor uniform in 1 to this, or one over it
            (Darknet's saturation and exposure; 1.5 there).
        mosaic: of four pictures in one; they meet in a point that lies uniform within
            ``mosaic_cut`` of the sides.
        mosaic_bound: a box ends where its own tile ends. False lets it reach under the other tiles,
            to the border of the sample, as Darknet does.
        mixup: of a second sample shining through. The share of the first is Beta distributed with
            both parameters ``mixup_alpha``; the weights of the boxes are the shares.
        cutout: of ``cutout_count`` grey rectangles, with sides up to ``cutout_size`` of the sample.
        copy_paste: of up to ``copy_paste_count`` objects out of other pictures, along their
            outlines where the labels have some.
        blur: of a Gaussian with a sigma up to ``blur_sigma`` pixels.
        noise: of Gaussian noise with a deviation up to ``noise_levels`` grey levels.
        jpeg: of compression with a quality down to ``jpeg_quality``.
        multi_scale: the network's size changes between size / multi_scale and size * multi_scale,
            in multiples of 32 (Darknet's random shapes; 1.4 there).
        multi_scale_every: steps from one size to the next.
        close_mosaic: the last fraction of the run, in which there is no mosaic and no mixup.
        min_visible: a box is dropped when less than this fraction of its area is seen.
        min_side: and when a side of it is shorter than this, in network pixels.
        on_device: pixels are changed where the network runs, by the same parameters; worth it where
            that is a GPU.
    """

    fill: Literal["grey", "mean"] = "grey"
    flip_probability: float = 0.5
    vertical_flip_probability: float = 0.0
    scale: float = 0.3
    translate: float = 0.1
    jitter: float = 0.0
    rotation_degrees: float = 0.0
    shear_degrees: float = 0.0
    perspective: float = 0.0
    brightness: float = 0.0
    saturation: float = 0.0
    contrast: float = 0.0
    hue: float = 0.02
    saturation_factor: float = 1.5
    exposure_factor: float = 1.5
    mosaic: float = 0.5
    mosaic_cut: tuple[float, float] = (0.2, 0.8)
    mosaic_bound: bool = True
    mixup: float = 0.0
    mixup_alpha: float = 8.0
    cutout: float = 0.0
    cutout_count: int = 3
    cutout_size: float = 0.25
    copy_paste: float = 0.0
    copy_paste_count: int = 3
    blur: float = 0.0
    blur_sigma: float = 1.5
    noise: float = 0.0
    noise_levels: float = 12.0
    jpeg: float = 0.0
    jpeg_quality: int = 40
    multi_scale: float = 1.0
    multi_scale_every: int = 10
    close_mosaic: float = 0.1
    min_visible: float = 0.2
    min_side: float = 1.0
    on_device: bool = False

    def __post_init__(self) -> None:
        for name in _SHARES:
            self._require(name, 0 <= getattr(self, name) <= 1, "0 to 1")
        self._require("scale", 0 <= self.scale < 1, "0 or more, below 1")
        self._require("jitter", 0 <= self.jitter < 0.5, "0 or more, below 0.5")
        self._require("hue", 0 <= self.hue <= 0.5, "0 to 0.5")
        self._require("rotation_degrees", 0 <= self.rotation_degrees <= 180, "0 to 180")
        self._require("shear_degrees", 0 <= self.shear_degrees <= 60, "0 to 60")
        self._require("perspective", 0 <= self.perspective <= 0.3, "0 to 0.3")
        for name in ("saturation_factor", "exposure_factor"):
            self._require(name, 1 <= getattr(self, name) <= 10, "1 to 10")
        low, high = self.mosaic_cut
        self._require("mosaic_cut", 0 < low <= high < 1, "[low, high] between 0 and 1")
        self._require("mixup_alpha", 0 < self.mixup_alpha <= 1000, "above 0, to 1000")
        for name in ("cutout_count", "copy_paste_count"):
            self._require(name, 1 <= getattr(self, name) <= 16, "1 to 16")
        self._require("cutout_size", 0 < self.cutout_size <= 1, "above 0, to 1")
        self._require("blur_sigma", 0 < self.blur_sigma <= 20, "above 0, to 20")
        self._require("noise_levels", 0 < self.noise_levels <= 127, "above 0, to 127")
        self._require("jpeg_quality", 1 <= self.jpeg_quality <= 100, "1 to 100")
        self._require("multi_scale", 1 <= self.multi_scale <= 4, "1 to 4")
        self._require("multi_scale_every", self.multi_scale_every >= 1, "1 or more")
        self._require("min_side", 0 < self.min_side < 1000, "above 0, below 1000")
        if self.on_device:
            self._refuse_on_device()

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise SettingsError(
                f"setting '{name}' of the augmentation cannot be used",
                expected=expected,
                got=str(getattr(self, name)),
            )

    def _refuse_on_device(self) -> None:
        """JPEG needs a codec and noise the same generator; outlines are filled by OpenCV."""
        for name in ("copy_paste", "noise", "jpeg"):
            if getattr(self, name):
                raise SettingsError(
                    f"setting '{name}' of the augmentation works on the CPU only",
                    expected=f"{name} = 0 with on_device = true",
                    got=str(getattr(self, name)),
                )


NO_AUGMENT = AugmentSettings(
    flip_probability=0.0,
    scale=0.0,
    translate=0.0,
    hue=0.0,
    saturation_factor=1.0,
    exposure_factor=1.0,
    mosaic=0.0,
    close_mosaic=0.0,
)
"""Pictures as they are, resized."""

LIGHT = AugmentSettings(
    scale=0.2,
    brightness=0.2,
    saturation=0.2,
    saturation_factor=1.0,
    exposure_factor=1.0,
    mosaic=0.0,
    close_mosaic=0.0,
)
"""A small change of single pictures."""

DARKNET = AugmentSettings(
    fill="mean",
    scale=0.0,
    translate=0.0,
    jitter=0.3,
    hue=0.1,
    mosaic_bound=False,
    multi_scale=1.4,
    close_mosaic=0.0,
    min_visible=0.0,
)
"""The numbers of yolov4.cfg, which also stretches its pictures (``model.resize``)."""
