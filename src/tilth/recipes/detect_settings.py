"""The settings of detection runs and of the rebalancing experiment, with defaults that work.

A TOML file and ``--set`` fill them by dotted name, for instance::

    [model]
    variant = "yolov4-tiny"
    weights = "runs/pretrained"

    [train]
    steps = 500
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tilth.config import load_settings
from tilth.curate.augment import Augmentation
from tilth.errors import SettingsError
from tilth.losses.robust_settings import RobustSettings
from tilth.recipes.detector_loss_settings import DetectorLossSettings, metric_of_loss
from tilth.recipes.model_settings import SET_PREDICTION, ModelSettings
from tilth.train.adversarial_settings import AdversarialSettings
from tilth.train.augment_settings import AugmentSettings
from tilth.train.loop_settings import LoopSettings
from tilth.train.picture_cache import CacheSettings
from tilth.train.sampling import SamplingSettings

__all__ = [
    "ClusterSettings",
    "DetectSettings",
    "ExperimentSettings",
    "ModelSettings",
    "RebalanceSettings",
    "settings",
]

ROBUST_KINDS = ("none", "ciw", "cicw")


@dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """How boxes are grouped: ``k`` clusters, or "auto" for the best silhouette."""

    k: int | Literal["auto"] = 4
    projection: Literal["pca", "umap"] = "pca"


@dataclass(frozen=True, kw_only=True)
class RebalanceSettings:
    """How clusters are made equal.

    Attributes:
        target: pictures a cluster; "equal" raises all to the largest.
        augmentation: ranges of the new pictures, also of the random control.
    """

    target: int | Literal["equal"] = "equal"
    augmentation: Augmentation = field(default_factory=Augmentation)


@dataclass(frozen=True, kw_only=True)
class ExperimentSettings:
    """What the comparison is made of.

    Attributes:
        seeds: one run of every trained arm each.
        holdout: share of the augmented set that the source's own protocol holds back.
        workers: arms trained at the same time; 0 is one a core, or one on a GPU. They share the
            cores evenly, and with another number of threads an arm adds its sums in another
            order: the last digits of a score depend on cores / workers, never on what ran when.
        examples: pictures shown in the report.
        score_threshold: detections shown and counted in the example pictures.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    holdout: float = 0.3
    workers: int = 0
    examples: int = 8
    score_threshold: float = 0.3

    def __post_init__(self) -> None:
        for name in ("workers", "examples"):
            if getattr(self, name) < 0:
                raise SettingsError(
                    f"setting 'experiment.{name}' cannot be used",
                    expected="0 or more",
                    got=str(getattr(self, name)),
                )
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise SettingsError(
                "setting 'experiment.seeds' cannot be used",
                expected="one number or more, all different",
                got=str(list(self.seeds)),
            )
        if not 0 <= self.score_threshold <= 1:
            raise SettingsError(
                "setting 'experiment.score_threshold' cannot be used",
                expected="0 to 1",
                got=str(self.score_threshold),
            )
        if not 0 < self.holdout < 1:
            raise SettingsError(
                "setting 'experiment.holdout' cannot be used",
                expected="above 0, below 1",
                got=str(self.holdout),
            )


@dataclass(frozen=True, kw_only=True)
class DetectSettings:
    """Everything that a detection run can be told.

    Attributes:
        loss: of the detector, and a metric of its boxes which the run is to better beside it.
        robust: weights of boxes by how well they are learnt, against labels that are wrong.
        include_difficult: learn from objects that are marked as difficult; otherwise they are
            regions where nothing is punished, as crowds are.
        epochs: how often every picture is seen, instead of ``train.steps``; 0 goes by those. An
            evaluation follows each epoch, unless ``train.evaluate_every`` says otherwise.
        batch_size: pictures a batch, of each process; all of them where there are fewer. "auto"
            measures what fits into memory, once a run.
    """

    model: ModelSettings = field(default_factory=ModelSettings)
    loss: DetectorLossSettings = field(default_factory=DetectorLossSettings)
    train: LoopSettings = field(
        default_factory=lambda: LoopSettings(
            steps=600, optimiser="adamw", learning_rate=0.001, weight_decay=0.01, warmup_steps=50
        )
    )
    robust: RobustSettings = field(default_factory=RobustSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    adversarial: AdversarialSettings = field(default_factory=AdversarialSettings)
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    cache: CacheSettings = field(default_factory=CacheSettings)
    include_difficult: bool = False
    epochs: int = 0
    batch_size: int | Literal["auto"] = 16
    clusters: ClusterSettings = field(default_factory=ClusterSettings)
    rebalance: RebalanceSettings = field(default_factory=RebalanceSettings)
    experiment: ExperimentSettings = field(default_factory=ExperimentSettings)

    def __post_init__(self) -> None:
        for name, least in (("batch_size", 1), ("epochs", 0)):
            value = getattr(self, name)
            if value != "auto" and value < least:
                raise SettingsError(
                    f"setting '{name}' cannot be used", expected=f"{least} or more", got=str(value)
                )
        if self.model.variant in SET_PREDICTION and self.adversarial.learning_rate > 0:
            raise SettingsError(
                "setting 'adversarial.learning_rate' needs maps of objectness",
                expected=f"0 with the variant {self.model.variant!r}",
                got=str(self.adversarial.learning_rate),
            )
        if self.model.variant in SET_PREDICTION and self.augment.mixup > 0:
            raise SettingsError(
                "setting 'augment.mixup' weighs boxes, which this network's loss cannot",
                expected=f"mixup = 0 with the variant {self.model.variant!r}",
                got=str(self.augment.mixup),
            )
        if metric_of_loss(self.loss).is_on:
            self._check_metric()
        if self.robust != RobustSettings():
            self._check_robust()

    def _check_metric(self) -> None:
        if self.model.variant in SET_PREDICTION:
            raise SettingsError(
                "setting 'loss.metric' needs maps of cells, which this network does not have",
                expected=f"loss.metric = '' with the variant {self.model.variant!r}",
                got=repr(self.loss.metric),
            )
        if self.adversarial.learning_rate > 0:
            raise SettingsError(
                "setting 'loss.metric' judges pictures as they are, and self-adversarial training "
                "changes them",
                expected="adversarial.learning_rate = 0, or loss.metric = ''",
                got=f"learning_rate = {self.adversarial.learning_rate}",
            )

    def _check_robust(self) -> None:
        robust = self.robust
        if robust.kind not in ROBUST_KINDS or robust.keep_weights:
            raise SettingsError(
                "setting 'robust' asks for what detection does not have",
                expected=f"kind one of {', '.join(ROBUST_KINDS)}, keep_weights = false",
                got=f"kind = {robust.kind!r}, keep_weights = {robust.keep_weights}",
                fix="blended pictures are augment.mixup, smoothed classes loss.label_smoothing",
            )
        if robust.is_on and self.model.variant in SET_PREDICTION:
            raise SettingsError(
                "setting 'robust' weighs boxes, which this network's loss cannot",
                expected=f"kind = 'none' with the variant {self.model.variant!r}",
                got=f"kind = {robust.kind!r}",
            )
        if robust.kind == "cicw" and robust.applied_reweighting.class_divergence not in (
            "tv",
            "kl",
        ):
            raise SettingsError(
                "setting 'robust.reweighting.class_divergence' cannot be used in detection",
                expected="'tv' or 'kl', which move a share to the likeliest class",
                got=repr(robust.applied_reweighting.class_divergence),
            )


def settings(
    values: Mapping[str, Any] | None = None, overrides: Sequence[str] = ()
) -> DetectSettings:
    """Read `DetectSettings` from nested values and ``a.b=1`` overrides.

    Raises:
        SettingsError: an unknown key, with the nearest known one, or a value that cannot be used.

    >>> settings(overrides=["train.steps=70"]).train.steps
    70
    """
    return load_settings(DetectSettings, values=values, overrides=overrides)
