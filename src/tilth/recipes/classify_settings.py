"""The settings of classification runs, with defaults that work for a few thousand rows.

A TOML file and ``--set`` fill them by dotted name, for instance::

    [data]
    text = "unstructured_text"
    label = "label"

    [text]
    cell = "lstm"

    [train]
    steps = 500
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tilth.config import load_settings
from tilth.errors import SettingsError
from tilth.losses.metric_settings import MetricSettings
from tilth.losses.robust_settings import RobustSettings
from tilth.train.loop_settings import LoopSettings

__all__ = ["ClassifySettings", "DataSettings", "PictureSettings", "TextSettings", "settings"]


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Which columns mean what, and which rows are held back.

    Attributes:
        text, label, numeric, categorical, weight, on_missing, on_empty: see
            `tilth.data.frame_columns.ColumnSettings`; a weight of "" is none.
        max_tokens, min_count: how many words are known, and how often each was seen at least.
        max_length: words of a text beyond it are not read.
        holdout: share of the rows that nothing is learned from; the scores are theirs.
        validation: share of the others that chooses the weights and the temperature.
    """

    text: str = "unstructured_text"
    label: str = "label"
    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    weight: str = ""
    on_missing: Literal["error", "drop"] = "error"
    on_empty: Literal["error", "drop", "keep"] = "error"
    max_tokens: int = 20_000
    min_count: int = 1
    max_length: int = 256
    holdout: float = 0.2
    validation: float = 0.1

    def __post_init__(self) -> None:
        for name in ("holdout", "validation"):
            _require(f"data.{name}", 0 < getattr(self, name) < 1, "above 0, below 1", self, name)


@dataclass(frozen=True, kw_only=True)
class TextSettings:
    """The recurrent network; see `tilth.models.text_classifier.TextClassifier`."""

    cell: Literal["elman", "elman-relu", "gru", "lstm", "cifg"] = "gru"
    num_embedded: int = 64
    num_hidden: int = 64
    num_layers: int = 1
    bidirectional: bool = True
    pooling: Literal["max", "mean", "last"] = "max"
    dropout: float = 0.3


@dataclass(frozen=True, kw_only=True)
class PictureSettings:
    """The convolutional network, and what it sees.

    Attributes:
        size: pixels of the square that every picture is brought to.
        width, blocks, stem: see `tilth.models.small_cnn.SmallCnn`.
        flip: mirror half of the training pictures, left for right.
        shift: move training pictures by up to this share of their side.
    """

    size: int = 64
    width: int = 16
    blocks: tuple[int, ...] = (1, 1, 1, 1)
    stem: Literal["small", "large"] = "small"
    flip: bool = True
    shift: float = 0.1

    def __post_init__(self) -> None:
        _require("picture.size", 16 <= self.size <= 1024, "16 to 1024", self, "size")
        _require("picture.shift", 0 <= self.shift < 0.5, "0 or more, below 0.5", self, "shift")


@dataclass(frozen=True, kw_only=True)
class ClassifySettings:
    """Everything that a classification run can be told.

    Attributes:
        batch_size: rows a step; all of them where there are fewer.
        class_weights: "balanced" lets every class weigh the same in the loss.
        label_smoothing: share of the target that is spread over all classes.
        robust: how wrong labels are kept from being learned; they are as wrong among the rows that
            choose the weights.
        loss: a metric of class probabilities [k] and the class (of a set: [n, k] and [n]), which
            the run is to better beside its own loss. It then chooses the weights.
        temperature: scale the logits so that probabilities fit the validation rows.
    """

    data: DataSettings = field(default_factory=DataSettings)
    text: TextSettings = field(default_factory=TextSettings)
    picture: PictureSettings = field(default_factory=PictureSettings)
    train: LoopSettings = field(
        default_factory=lambda: LoopSettings(
            steps=400,
            optimiser="adamw",
            learning_rate=0.003,
            weight_decay=0.01,
            warmup_steps=20,
            ema_decay=0.0,
            clip_norm=1.0,
            evaluate_every=50,
        )
    )
    batch_size: int = 32
    class_weights: Literal["none", "balanced"] = "none"
    label_smoothing: float = 0.0
    robust: RobustSettings = field(default_factory=RobustSettings)
    loss: MetricSettings = field(default_factory=MetricSettings)
    temperature: bool = False

    def __post_init__(self) -> None:
        _require("batch_size", self.batch_size >= 1, "1 or more", self, "batch_size")
        smoothing = 0 <= self.label_smoothing < 1
        _require("label_smoothing", smoothing, "0 or more, below 1", self, "label_smoothing")
        alone = not (self.label_smoothing and self.robust.is_on)
        expected = f"0 beside robust.kind = {self.robust.kind!r}, which has targets of its own"
        _require("label_smoothing", alone, expected, self, "label_smoothing")
        if self.robust.weigh_boxes:
            raise SettingsError(
                "setting 'robust.weigh_boxes' cannot be used", expected="false: there are no boxes"
            )
        if self.robust.kind == "co_teaching" and self.loss.is_on:
            raise SettingsError(
                "setting 'loss.metric' judges one answer, and 'co_teaching' trains two networks",
                expected="another robust.kind, or loss.metric = ''",
                got=f"robust.kind = 'co_teaching', loss.metric = {self.loss.metric!r}",
            )
        if self.robust.kind == "co_teaching" and self.train.freeze.layers:
            raise SettingsError(
                "setting 'train.freeze.layers' counts the layers of one network",
                expected="freeze.names with robust.kind = 'co_teaching'",
                got=f"layers = {self.train.freeze.layers}",
            )


def settings(
    values: Mapping[str, Any] | None = None, overrides: Sequence[str] = ()
) -> ClassifySettings:
    """Read `ClassifySettings` from nested values and ``a.b=1`` overrides.

    Raises:
        SettingsError: an unknown key, with the nearest known one, or a value that cannot be used.

    >>> settings(overrides=["text.cell=lstm"]).text.cell
    'lstm'
    """
    return load_settings(ClassifySettings, values=values, overrides=overrides)


def _require(dotted: str, holds: bool, expected: str, owner: Any, name: str) -> None:
    if not holds:
        raise SettingsError(
            f"setting '{dotted}' cannot be used", expected=expected, got=str(getattr(owner, name))
        )
