"""The settings of training on labels of which some are wrong: one switch, and its numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal, get_args

from tilth.errors import SettingsError
from tilth.losses.reweighting_settings import ReweightingSettings

__all__ = ["REWEIGHTED_KINDS", "RobustKind", "RobustSettings"]

RobustKind = Literal[
    "none",
    "label_smoothing",
    "bootstrap_soft",
    "bootstrap_hard",
    "gce",
    "sce",
    "elr",
    "co_teaching",
    "mixup",
    "ciw",
    "cicw",
    "cicw_m",
]

REWEIGHTED_KINDS = ("ciw", "cicw", "cicw_m")
MIXED_KINDS = ("mixup", "cicw_m")
# Kinds that give every example a weight of its own, which can be kept.
WEIGHED_KINDS = ("co_teaching", *REWEIGHTED_KINDS)

# What each paper takes where one number is to do (for the symmetric loss and early learning:
# CIFAR-10).
BETAS = {"bootstrap_soft": 0.95, "bootstrap_hard": 0.8, "sce": 1.0, "elr": 0.7}

# Which kinds read a number; the others would take it for a wish that they do not hear.
READERS: dict[str, tuple[str, ...]] = {
    "smoothing": ("label_smoothing",),
    "q": ("gce",),
    "truncation": ("gce",),
    "alpha": ("sce",),
    "beta": tuple(BETAS),
    "log_zero": ("sce",),
    "lam": ("elr",),
    "forget_rate": ("co_teaching",),
    "forget_ramp": ("co_teaching",),
    "reweighting": REWEIGHTED_KINDS,
    "mixup_alpha": MIXED_KINDS,
    "mixup_kind": ("cicw_m",),
    "mixup_power": ("cicw_m",),
    "reweight_mixed": ("cicw_m",),
    "keep_weights": WEIGHED_KINDS,
}

# With mixup the weights are to be mild, without it they are to cut.
REWEIGHTINGS = {
    "ciw": ReweightingSettings(alpha=0.1, lam=0.1),
    "cicw": ReweightingSettings(alpha=0.1, lam=0.1, class_divergence="kl", gamma=0.3),
    "cicw_m": ReweightingSettings(alpha=0.1, lam=2.5, class_divergence="kl", gamma=0.01),
}


@dataclass(frozen=True, kw_only=True)
class RobustSettings:
    """How wrong labels are kept from being learned.

    Attributes:
        kind: ``"none"`` is cross-entropy. ``"label_smoothing"``, ``"bootstrap_soft"``,
            ``"bootstrap_hard"``, ``"gce"`` and ``"sce"`` are other losses of each example
            (`tilth.losses.robust_losses`), ``"elr"`` holds on to what was learned early
            (`tilth.losses.robust_early_learning`), ``"co_teaching"`` trains two networks
            (`tilth.losses.robust_co_teaching`), ``"mixup"`` learns from blends of two examples.
            ``"ciw"`` weighs the examples of a batch, ``"cicw"`` its classes too, and ``"cicw_m"``
            also blends examples by their weights (`tilth.losses.reweighting`).
        smoothing: of label smoothing, the share of the target spread over all classes.
        q: of the generalised cross-entropy, above 0 and at most 1.
        truncation: of the same, the chance of its label below which an example teaches nothing.
        alpha: of the symmetric cross-entropy, the weight of its ordinary part.
        beta: of bootstrapping the share of the given label (0.95 soft, 0.8 hard), of the symmetric
            cross-entropy the weight of its reverse part (1), of early learning how much of the old
            target stays (0.7). None takes the number in brackets.
        log_zero: of the symmetric cross-entropy, what the logarithm of 0 counts as.
        lam: of early learning, the weight of its term.
        forget_rate: of co-teaching, the share of a batch that is left out in the end: how many
            labels are thought to be wrong.
        forget_ramp: of co-teaching, the share of the run over which that is reached.
        reweighting: of the last three kinds. None takes what goes with the kind: the
            alpha-divergence of 0.1 with lam = 0.1 for ``"ciw"``, beside it class weights under
            Kullback and Leibler's with gamma = 0.3 for ``"cicw"``, and lam = 2.5, gamma = 0.01 for
            ``"cicw_m"``. Where it is given, all of it counts.
        mixup_alpha: shares of blends are drawn from Beta(alpha, alpha); 0 blends nothing.
        mixup_kind: of ``"cicw_m"``: the weights draw the partners (``"sample"``), make the shares
            (``"weight"``), or both (``"sample_weight"``).
        mixup_power: of ``"cicw_m"``: weights are taken to this power before that.
        reweight_mixed: of ``"cicw_m"``: weigh the blends again; otherwise all count the same.
        keep_weights: write the mean weight of every training row beside the run. It takes two
            numbers a row, and needs a kind that weighs examples.
        weigh_boxes: in detection, weigh where a box is too, not only its class and that something
            is there.
    """

    kind: RobustKind = "none"
    smoothing: float = 0.1
    q: float = 0.7
    truncation: float = 0.0
    alpha: float = 0.1
    beta: float | None = None
    log_zero: float = -4.0
    lam: float = 3.0
    forget_rate: float = 0.2
    forget_ramp: float = 0.05
    reweighting: ReweightingSettings | None = None
    mixup_alpha: float = 2.0
    mixup_kind: Literal["sample_weight", "sample", "weight"] = "sample_weight"
    mixup_power: float = 1.0
    reweight_mixed: bool = True
    keep_weights: bool = False
    weigh_boxes: bool = False

    def __post_init__(self) -> None:
        kinds, blends = get_args(RobustKind), ("sample_weight", "sample", "weight")
        self._require("kind", self.kind in kinds, "one of " + ", ".join(kinds))
        self._require("mixup_kind", self.mixup_kind in blends, "one of " + ", ".join(blends))
        for name in ("smoothing", "truncation", "forget_rate"):
            self._require(name, 0 <= getattr(self, name) < 1, "0 or more, below 1")
        self._require("q", 0 < self.q <= 1, "above 0, at most 1: cross-entropy is kind = 'none'")
        self._require("forget_ramp", 0 <= self.forget_ramp <= 1, "0 to 1")
        for name in ("alpha", "lam", "mixup_alpha", "mixup_power"):
            self._require(name, 0 <= getattr(self, name) < math.inf, "0 or more")
        self._require("log_zero", -math.inf < self.log_zero <= 0, "a number up to 0")
        self._check_beta()
        self._check_read()
        self._check_reweighting()

    @property
    def is_on(self) -> bool:
        """Whether anything but cross-entropy is asked for."""
        return self.kind != "none"

    @property
    def applied_beta(self) -> float:
        """The given beta, or that of the kind; 0 for kinds without one."""
        return BETAS.get(self.kind, 0.0) if self.beta is None else self.beta

    @property
    def applied_reweighting(self) -> ReweightingSettings:
        """The given settings, or those that go with the kind.

        Raises:
            KeyError: a kind that weighs nothing anew.
        """
        return REWEIGHTINGS[self.kind] if self.reweighting is None else self.reweighting

    def _check_beta(self) -> None:
        beta = self.beta
        if self.kind == "sce":
            self._require("beta", beta is None or 0 <= beta < math.inf, "0 or more")
        elif self.kind == "elr":
            self._require("beta", beta is None or 0 <= beta < 1, "0 or more, below 1")
        else:
            self._require("beta", beta is None or 0 <= beta <= 1, "0 to 1")

    def _check_read(self) -> None:
        """Refuse a number that the kind does not read: the run would be another than was meant."""
        for entry in fields(self):
            readers, value = READERS.get(entry.name, ()), getattr(self, entry.name)
            if not readers or self.kind in readers or value == entry.default:
                continue
            by_weights = self.kind in REWEIGHTED_KINDS and entry.name in ("alpha", "lam")
            raise SettingsError(
                f"setting 'robust.{entry.name}' is not read by kind {self.kind!r}",
                expected=f"{entry.default!r}, or kind one of {', '.join(readers)}",
                got=repr(value),
                fix=f"--set robust.reweighting.{entry.name}={value}" if by_weights else None,
            )

    def _check_reweighting(self) -> None:
        given = self.reweighting
        if given is None:
            return
        if self.kind == "ciw" and given.class_divergence != "none":
            raise SettingsError(
                "setting 'robust.reweighting.class_divergence' weighs classes, which 'ciw' cannot",
                expected="'none', or kind = 'cicw'",
                got=given.class_divergence,
            )
        if self.kind != "ciw" and given.class_divergence == "none":
            gamma = REWEIGHTINGS[self.kind].gamma
            raise SettingsError(
                f"'{self.kind}' needs a divergence of class weights: a given robust.reweighting "
                "takes the place of the kind's own, all of it",
                expected="reweighting.class_divergence and gamma (0 leaves labels as they are)"
                + (", or kind = 'ciw'" if self.kind == "cicw" else ""),
                got="class_divergence = 'none'",
                fix="--set robust.reweighting.class_divergence=kl "
                f"--set robust.reweighting.gamma={gamma:g}",
            )

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise SettingsError(
                f"setting 'robust.{name}' cannot be used",
                expected=expected,
                got=repr(getattr(self, name)),
            )
