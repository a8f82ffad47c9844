"""What a sample goes through, drawn before any pixel is touched.

Everything is a function of the seed and of the sample's place in the stream. Numbers are drawn
always, in one order and whether they are used or not: a setting that is switched off leaves the
others as they were. The record that comes out is all that is needed to make the sample again, in
OpenCV or on a GPU, and can be written to a log (`SampleParameters.to_dict`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from tilth.seeding import generator
from tilth.train.augment_settings import AugmentSettings

__all__ = ["Paste", "PictureParameters", "SampleParameters", "draw_sample"]

Pick = Callable[[float], int]
"""The picture for a number in 0 to 1: how the other pictures of a sample are chosen."""

_FIRST = 7  # draws of `LIGHT`, which come first and stay in their order
_MORE = 14
_SAMPLE = 16
_TILES = 4
_MOST_RECTANGLES = 16
_MOST_PASTES = 16
_NUM_DRAWS = _TILES * (_FIRST + _MORE) + _SAMPLE + 4 * _MOST_RECTANGLES + 6 * _MOST_PASTES
_PASTE_SIZES = (0.75, 1.25)


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureParameters:
    """What one picture of a sample goes through.

    Attributes:
        row: of the picture, in ``dataset.media``.
        flip, vertical_flip: mirrored left to right, upside down.
        scale: size factor about the centre.
        shift_x, shift_y: shares of the side.
        rotation_degrees, shear_x_degrees, shear_y_degrees: about the centre, clockwise.
        perspective_x, perspective_y: how much nearer the right and the lower side come.
        sides: how far the left, upper, right and lower side move inwards, as shares of width and
            height; negative ones move out.
        is_pushed: in a mosaic, moved into its outer corner.
        hue: shift as a share of the colour circle.
        saturation, brightness, contrast: factors.
    """

    row: int
    flip: bool = False
    vertical_flip: bool = False
    scale: float = 1.0
    shift_x: float = 0.0
    shift_y: float = 0.0
    rotation_degrees: float = 0.0
    shear_x_degrees: float = 0.0
    shear_y_degrees: float = 0.0
    perspective_x: float = 0.0
    perspective_y: float = 0.0
    sides: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    is_pushed: bool = False
    hue: float = 0.0
    saturation: float = 1.0
    brightness: float = 1.0
    contrast: float = 1.0

    @property
    def colours(self) -> bool:
        """Whether any level changes."""
        return self.hue != 0 or (self.saturation, self.brightness, self.contrast) != (1, 1, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Paste:
    """An object out of another picture.

    Attributes:
        row: of that picture.
        choice: which of its objects, 0 to 1 along their order.
        scale: factor on its size at network size.
        flip: mirrored.
        x, y: where it goes, 0 to 1 over the places where it fits.
    """

    row: int
    choice: float
    scale: float
    flip: bool
    x: float
    y: float


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleParameters:
    """What a whole sample goes through.

    Attributes:
        size: side of the square, pixels.
        pictures: one, or the four of a mosaic: top left, top right, bottom left, bottom right.
        cut: the point in which the four meet, as shares of the side; None for a single picture.
        pastes: objects of other pictures, in the order in which they are laid down.
        cutouts: x0, y0, x1, y1 of the rectangles that are blotted out, as shares of the side.
        blur_sigma: pixels; 0 for none.
        noise_levels: deviation in grey levels; 0 for none.
        noise_seed: of the noise.
        jpeg_quality: 0 for no compression.
        other: the sample that shines through, None without mixup.
        share: of this one in the sum with ``other``.
    """

    size: int
    pictures: tuple[PictureParameters, ...]
    cut: tuple[float, float] | None = None
    pastes: tuple[Paste, ...] = ()
    cutouts: tuple[tuple[float, float, float, float], ...] = ()
    blur_sigma: float = 0.0
    noise_levels: float = 0.0
    noise_seed: int = 0
    jpeg_quality: int = 0
    other: SampleParameters | None = None
    share: float = 1.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a log."""
        return dataclasses.asdict(self)


def draw_sample(
    row: int,
    *,
    seed: int,
    position: int,
    size: int,
    settings: AugmentSettings,
    pick: Pick,
    is_closing: bool = False,
) -> SampleParameters:
    """The parameters of the sample at ``position``, whose (first) picture is ``row``.

    Args:
        size: side of the square, pixels; it has no influence on the draws.
        pick: chooses the other pictures.
        is_closing: no mosaic and no mixup (see `AugmentSettings.close_mosaic`).

    >>> from tilth.train.augment_settings import LIGHT
    >>> draw_sample(5, seed=0, position=3, size=64, settings=LIGHT, pick=int).pictures[0].row
    5
    """
    random = generator(seed, "jitter", position)
    own = _drawn(random, row, size, settings, pick, is_closing=is_closing)
    is_mixed = random.random() < settings.mixup and not is_closing
    other_row, share = (
        pick(random.random()),
        random.beta(settings.mixup_alpha, settings.mixup_alpha),
    )
    if not is_mixed:
        return own
    second = generator(seed, "mixup", position)
    other = _drawn(second, other_row, size, settings, pick, is_closing=False)
    return dataclasses.replace(own, other=other, share=float(share))


def _drawn(
    random: np.random.Generator,
    row: int,
    size: int,
    settings: AugmentSettings,
    pick: Pick,
    *,
    is_closing: bool,
) -> SampleParameters:
    stream = iter(random.random(_NUM_DRAWS).tolist())
    first = list(islice(stream, _FIRST + _MORE))
    mosaic, cut_x, cut_y, *places = islice(stream, 6)
    cutout, copy_paste, copies, blur, sigma, noise, levels, key, jpeg, quality = islice(stream, 10)
    tiles = [list(islice(stream, _FIRST + _MORE)) for _ in range(_TILES - 1)]
    rectangles = [tuple(islice(stream, 4)) for _ in range(_MOST_RECTANGLES)]
    pasted = [tuple(islice(stream, 6)) for _ in range(_MOST_PASTES)]
    pictures, cut = [_picture(row, first, settings)], None
    if mosaic < settings.mosaic and not is_closing:
        others = zip(places, tiles, strict=True)
        pictures += [_picture(pick(place), tile, settings) for place, tile in others]
        low, high = settings.mosaic_cut
        cut = (low + (high - low) * cut_x, low + (high - low) * cut_y)
    num_pastes = 1 + int(copies * settings.copy_paste_count)
    num_cutouts = settings.cutout_count if cutout < settings.cutout else 0
    return SampleParameters(
        size=size,
        pictures=tuple(pictures),
        cut=cut,
        pastes=tuple(
            _paste(drawn, pick)
            for drawn in pasted[: num_pastes if copy_paste < settings.copy_paste else 0]
        ),
        cutouts=tuple(_rectangle(drawn, settings) for drawn in rectangles[:num_cutouts]),
        blur_sigma=settings.blur_sigma * sigma if blur < settings.blur else 0.0,
        noise_levels=settings.noise_levels * levels if noise < settings.noise else 0.0,
        noise_seed=int(key * 2**32),
        jpeg_quality=_quality(quality, settings) if jpeg < settings.jpeg else 0,
    )


def _picture(row: int, drawn: list[float], settings: AugmentSettings) -> PictureParameters:
    flip, *spread = drawn[:_FIRST]
    size, right, down, brightness, saturation, hue = (2 * value - 1 for value in spread)
    vertical, is_pushed, *more = drawn[_FIRST:]
    either_way = [2 * value - 1 for value in more]
    rotation, shear_x, shear_y, perspective_x, perspective_y, contrast, colourful, exposed = (
        either_way[:8]
    )
    left, top, right_side, bottom = (settings.jitter * value for value in either_way[8:])
    return PictureParameters(
        row=row,
        flip=flip < settings.flip_probability,
        vertical_flip=vertical < settings.vertical_flip_probability,
        scale=1 + size * settings.scale,
        shift_x=right * settings.translate,
        shift_y=down * settings.translate,
        rotation_degrees=rotation * settings.rotation_degrees,
        shear_x_degrees=shear_x * settings.shear_degrees,
        shear_y_degrees=shear_y * settings.shear_degrees,
        perspective_x=perspective_x * settings.perspective,
        perspective_y=perspective_y * settings.perspective,
        sides=(left, top, right_side, bottom),
        is_pushed=is_pushed < 0.5,
        hue=hue * settings.hue,
        saturation=(1 + saturation * settings.saturation)
        * _factor(colourful, settings.saturation_factor),
        brightness=(1 + brightness * settings.brightness)
        * _factor(exposed, settings.exposure_factor),
        contrast=1 + contrast * settings.contrast,
    )


def _factor(either_way: float, most: float) -> float:
    """Uniform in 1 to ``most``, or one over such a number, as often."""
    factor = 1 + abs(either_way) * (most - 1)
    return factor if either_way >= 0 else 1 / factor


def _quality(drawn: float, settings: AugmentSettings) -> int:
    return settings.jpeg_quality + int(drawn * (101 - settings.jpeg_quality))


def _rectangle(
    drawn: tuple[float, ...], settings: AugmentSettings
) -> tuple[float, float, float, float]:
    width, height = (settings.cutout_size * side for side in drawn[:2])
    left, top = drawn[2] * (1 - width), drawn[3] * (1 - height)
    return left, top, left + width, top + height


def _paste(drawn: tuple[float, ...], pick: Pick) -> Paste:
    low, high = _PASTE_SIZES
    place, choice, size, flip, x, y = drawn
    return Paste(
        row=pick(place),
        choice=choice,
        scale=low + (high - low) * size,
        flip=flip < 0.5,
        x=x,
        y=y,
    )
