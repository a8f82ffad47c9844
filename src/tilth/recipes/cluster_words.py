"""A few words for each cluster, from its centre: "dark, small, high contrast".

Centres are in standard units (0 is the average box, 1 is one standard deviation above it), so the
words compare the boxes of one data set with each other; they say nothing about another set.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tilth.errors import DataError

__all__ = ["describe_clusters"]

NOTABLE = 0.4  # standard units from the average box before a feature is worth a word
MAX_WORDS = 3
COLOURS = {"red_mean": "reddish", "green_mean": "greenish", "blue_mean": "bluish"}
WORDS = {  # feature: (well below the average box, well above it)
    "brightness": ("dark", "bright"),
    "grey_std": ("low contrast", "high contrast"),
    "grey_entropy": ("plain", "richly textured"),
    "relative_area": ("small", "large"),
    "aspect_ratio": ("tall", "wide"),
    "centre_x": ("left", "right"),
    "centre_y": ("high in the picture", "low in the picture"),
    "border_sides": ("clear of the border", "at the border"),
    "outside_share": ("inside the picture", "cut by the border"),
    "max_overlap": ("alone", "overlapping"),
}


def describe_clusters(centres: ArrayLike, feature_names: Sequence[str]) -> list[str]:
    """Describe each centre by what sets it apart most, the strongest first.

    Args:
        centres: float [k, f] in standard units, as `tilth.curate.clusters.Clusters.centres`.
        feature_names: one a column; a name without words of its own becomes "low x" or "high x".

    Raises:
        DataError: names and columns do not belong together.

    >>> describe_clusters([[-1.2, -1.1, -1.3, 0.2], [0.1, 0.2, 0.1, 2.0]],
    ...                   ["red_mean", "green_mean", "blue_mean", "relative_area"])
    ['dark', 'large']
    """
    table: NDArray[Any] = np.asarray(centres, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] != len(feature_names):
        raise DataError(
            "these centres and feature names do not belong together",
            expected=f"[k, {len(feature_names)}] centres",
            got=str(list(table.shape)),
        )
    return [_describe(dict(zip(feature_names, row, strict=True))) for row in table.tolist()]


def _describe(centre: dict[str, float]) -> str:
    features = _merge_colour(centre)
    strongest = sorted(features, key=lambda name: -abs(features[name]))
    notable = [name for name in strongest if abs(features[name]) >= NOTABLE][:MAX_WORDS]
    return ", ".join(_word(name, features[name]) for name in notable) or "average"


def _word(name: str, value: float) -> str:
    if name in COLOURS.values():
        return name
    plain = name.replace("_", " ")
    low, high = WORDS.get(name, (f"low {plain}", f"high {plain}"))
    return high if value > 0 else low


def _merge_colour(centre: dict[str, float]) -> dict[str, float]:
    """Three channel means rise and fall together: one word for light, one for a tint, if any."""
    channels = {name: centre[name] for name in COLOURS if name in centre}
    features = {name: value for name, value in centre.items() if name not in channels}
    if len(channels) < len(COLOURS):
        return features | channels
    brightness = sum(channels.values()) / len(channels)
    strongest = max(channels, key=lambda name: channels[name])
    features["brightness"] = brightness
    features[COLOURS[strongest]] = channels[strongest] - brightness
    return features
