"""The ``[loss]`` table of a detection run: the detector's own loss, and a metric beside it."""

from __future__ import annotations

from dataclasses import dataclass, fields

from tilth.errors import SettingsError
from tilth.losses.detection_settings import DetectionLossSettings
from tilth.losses.metric_settings import MetricSettings

__all__ = ["DetectorLossSettings", "metric_of_loss", "ordinary_loss"]


@dataclass(frozen=True, kw_only=True)
class DetectorLossSettings(DetectionLossSettings, MetricSettings):
    """What a detector is punished for, and the metric that it is to better.

    Attributes:
        gradient, box_loss, box_gain, objectness_gain, class_gain, anchor_threshold,
            ignore_threshold, objectness_target, background_weight, focal_gamma, focal_alpha,
            focal_terms, label_smoothing, class_weights, max_delta: see `DetectionLossSettings`.
        metric and all others: see `MetricSettings`; "" as the metric leaves them unread.
    """

    def __post_init__(self) -> None:
        DetectionLossSettings.__post_init__(self)
        MetricSettings.__post_init__(self)

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise SettingsError(
                f"setting 'loss.{name}' cannot be used",
                expected=expected,
                got=repr(getattr(self, name)),
            )


def ordinary_loss(settings: DetectionLossSettings) -> DetectionLossSettings:
    """The detector's own part of the table.

    >>> ordinary_loss(DetectorLossSettings(metric="m:f", box_gain=1.0))
    DetectionLossSettings(gradient='true', box_loss='ciou', box_gain=1.0, ...
    """
    own = {field.name: getattr(settings, field.name) for field in fields(DetectionLossSettings)}
    return DetectionLossSettings(**own)


def metric_of_loss(settings: DetectionLossSettings) -> MetricSettings:
    """The metric's part of the table; without one it is off.

    >>> metric_of_loss(DetectorLossSettings(metric="m:f")).metric
    'm:f'
    >>> metric_of_loss(DetectionLossSettings()).is_on
    False
    """
    if not isinstance(settings, MetricSettings):
        return MetricSettings()
    return MetricSettings(
        **{field.name: getattr(settings, field.name) for field in fields(MetricSettings)}
    )
