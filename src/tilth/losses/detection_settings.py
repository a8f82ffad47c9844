"""The settings of the detection loss."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from tilth.errors import SettingsError

__all__ = ["DetectionLossSettings"]

# Box, objectness, class. A true gradient and Darknet's differ in scale by orders of magnitude:
# Darknet's iou_normalizer of 0.07 would all but switch the box term of the true one off.
GAINS = {"true": (2.0, 1.0, 0.5), "darknet": (0.07, 1.0, 1.0)}
GAIN_NAMES = ("box_gain", "objectness_gain", "class_gain")
DARKNET_FOCAL_ALPHA = 0.5


@dataclass(frozen=True, kw_only=True)
class DetectionLossSettings:
    """What a detector is punished for, and how much.

    Attributes:
        gradient: ``"true"``, the derivative of the loss that is reported; or ``"darknet"``, what
            Darknet writes in its place (`tilth.losses.darknet_gradient`), for its own recipes:
            SGD, its learning rate, sums over slots.
        box_loss: what a box is short of: one minus this overlap.
        box_gain, objectness_gain, class_gain: factors of the three terms in the total. None takes
            those that go with ``gradient``: 2, 1 and 0.5, or Darknet's 0.07, 1 and 1.
        anchor_threshold: every anchor whose shape has at least this IoU with a truth's learns it,
            beside the best one; 1 leaves the best alone, as YOLOv4-tiny's file does.
        ignore_threshold: a prediction that covers a truth better than this is no background.
        objectness_target: of a slot that learns a truth: ``"iou"``, the overlap that its box has
            reached, so that scores rank boxes by fit; or ``"one"``. None takes ``"iou"`` for the
            true gradient and ``"one"`` for Darknet's, where ``"iou"`` is its objectness_smooth.
        background_weight: of the objectness of slots without an object.
        focal_gamma: of the focal loss, which counts what is nearly right less; 0 is none.
        focal_alpha: weight of "yes" in the focal loss, 1 - alpha being that of "no"; None weighs
            both alike. Darknet's is a factor of all, 0.5 by default.
        focal_terms: what is focal; None takes both, and with Darknet's gradient the class, which is
            all that Darknet has.
        label_smoothing: a class's y becomes y (1 - e) + e / 2.
        class_weights: of each class's truths in all three terms; ``"balanced"`` makes them inverse
            to how often the training set has the class, their mean over boxes being 1.
        max_delta: Darknet's gradient of a box parameter is cut at this, either side of 0.
    """

    gradient: Literal["true", "darknet"] = "true"
    box_loss: Literal["ciou", "diou", "giou", "iou"] = "ciou"
    box_gain: float | None = None
    objectness_gain: float | None = None
    class_gain: float | None = None
    anchor_threshold: float = 0.213
    ignore_threshold: float = 0.7
    objectness_target: Literal["iou", "one"] | None = None
    background_weight: float = 1.0
    focal_gamma: float = 0.0
    focal_alpha: float | None = None
    focal_terms: Literal["class", "objectness", "both"] | None = None
    label_smoothing: float = 0.0
    class_weights: Literal["none", "balanced"] | tuple[float, ...] = "none"
    max_delta: float = 5.0

    def __post_init__(self) -> None:
        for name in (*GAIN_NAMES, "background_weight", "focal_gamma"):
            value = getattr(self, name)
            self._require(name, value is None or 0 <= value < math.inf, "0 or more")
        for name in ("anchor_threshold", "ignore_threshold", "label_smoothing", "focal_alpha"):
            value = getattr(self, name)
            self._require(name, value is None or 0 <= value <= 1, "0 to 1")
        self._require("max_delta", self.max_delta > 0, "above 0")
        weights = self.class_weights
        is_usable = weights in ("none", "balanced") or (
            not isinstance(weights, str) and all(0 <= weight < math.inf for weight in weights)
        )
        self._require("class_weights", is_usable, "'none', 'balanced', or a number for each class")
        if self.gradient == "darknet":
            fits = self.focal_terms in (None, "class")
            self._require("focal_terms", fits, "'class': Darknet's gradient has no other")

    @property
    def gains(self) -> tuple[float, float, float]:
        """Box, objectness and class gain, with those that go with the gradient filled in."""
        given = (self.box_gain, self.objectness_gain, self.class_gain)
        box, objectness, class_ = (
            usual if gain is None else gain
            for gain, usual in zip(given, GAINS[self.gradient], strict=True)
        )
        return box, objectness, class_

    @property
    def rewards_overlap(self) -> bool:
        """Whether objectness learns the overlap of the slot's box, not 1."""
        usual = "iou" if self.gradient == "true" else "one"
        return (self.objectness_target or usual) == "iou"

    def focal(self, term: Literal["class", "objectness"]) -> tuple[float, float | None]:
        """Gamma and alpha of a term; (0, None) where it is not focal."""
        usual = "both" if self.gradient == "true" else "class"
        if not self.focal_gamma or (self.focal_terms or usual) not in (term, "both"):
            return 0.0, None
        alpha = self.focal_alpha
        if alpha is None and self.gradient == "darknet":
            alpha = DARKNET_FOCAL_ALPHA
        return self.focal_gamma, alpha

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise SettingsError(
                f"setting '{name}' of the detection loss cannot be used",
                expected=expected,
                got=repr(getattr(self, name)),
            )
