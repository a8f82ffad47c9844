"""The settings of constrained instance and class reweighting."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from tilth.errors import SettingsError

__all__ = ["ClassDivergence", "Divergence", "ReweightingSettings"]

Divergence = Literal[
    "kl",
    "reverse_kl",
    "hellinger",
    "chi2",
    "neyman",
    "alpha",
    "tv",
    "cvar",
    "tsallis",
    "renyi",
    "beta",
    "gamma",
]
ClassDivergence = Literal["none", "tv", "kl", "l2", "anchored_kl"]

# Of order alpha or beta + 1 = gamma + 1 = alpha; they are divergences only above 0.
ALIASES = ("tsallis", "renyi", "beta", "gamma")
# A share of the batch is moved or dropped, so a radius is 1 at most.
SHARES = ("tv", "cvar")


@dataclass(frozen=True, kw_only=True)
class ReweightingSettings:
    """How far the weights of a batch may leave the uniform ones, and labels the given ones.

    Attributes:
        divergence: from the weights to the uniform ones; ``"alpha"`` has the order ``alpha``, and
            reverse KL, Hellinger, KL, chi-squared and Neyman's are its orders 0, 1/2, 1, 2 and -1.
            ``"tsallis"``, ``"renyi"``, ``"beta"`` and ``"gamma"`` give the weights of ``"alpha"``
            with a radius of their own; ``"tv"`` moves a share of the mass to the least loss, and
            ``"cvar"`` drops a share of the batch.
        alpha: order, where the divergence has one; beta and gamma are ``alpha - 1``.
        lam: penalised form: the temperature, in units of the loss; small trusts few examples, and
            infinity trusts all alike.
        delta: constraint form: the radius, in the divergence's own unit; where it is given, it
            decides and ``lam`` is not read.
        class_divergence: from a label to the class weights that stand in for it.
        gamma: its radius; 0 leaves labels as they are.
        anchor_smoothing: of the label that ``"anchored_kl"`` starts from, e: 1 - e + e / k.
        burn_in: share of the steps at the beginning with uniform weights and labels as given.
        ramp: share of the steps after it in which ``lam`` falls in a straight line from
            ``ramp_from * lam`` to ``lam``, or ``delta`` rises from ``delta / ramp_from``.
        ramp_from: factor at the beginning of the ramp.
        scope: ``"global"`` weighs the batches of all processes together; ``"local"`` each
            process' own.
        per_class: weigh inside each class, which keeps its share of the mass, so that a rare and
            therefore badly learnt class is not taken for a wrong one.
    """

    divergence: Divergence = "alpha"
    alpha: float = 0.1
    lam: float = 0.1
    delta: float | None = None
    class_divergence: ClassDivergence = "none"
    gamma: float = 0.1
    anchor_smoothing: float = 0.1
    burn_in: float = 0.08
    ramp: float = 0.06
    ramp_from: float = 10.0
    scope: Literal["global", "local"] = "global"
    per_class: bool = False

    def __post_init__(self) -> None:
        for name, kind in (("divergence", Divergence), ("class_divergence", ClassDivergence)):
            names = get_args(kind)
            self._require(name, getattr(self, name) in names, "one of " + ", ".join(names))
        self._require("scope", self.scope in ("global", "local"), "'global' or 'local'")
        self._require("alpha", math.isfinite(self.alpha), "a finite number")
        if self.divergence in ALIASES:
            self._require("alpha", self.alpha > 0, f"above 0 for divergence '{self.divergence}'")
        self._require("lam", self.lam >= 0, "0 or more")
        if self.delta is not None:
            largest = 1.0 if self.divergence in SHARES else math.inf
            self._require("delta", 0 <= self.delta <= largest, f"0 to {largest:g}, or left out")
        largest = 1.0 if self.class_divergence == "tv" else math.inf
        self._require("gamma", 0 <= self.gamma <= largest, f"0 to {largest:g}")
        for name in ("anchor_smoothing", "burn_in", "ramp"):
            self._require(name, 0 <= getattr(self, name) <= 1, "0 to 1")
        self._require("ramp", self.burn_in + self.ramp <= 1, "1 - burn_in at most")
        self._require("ramp_from", 1 <= self.ramp_from < math.inf, "1 or more")

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise SettingsError(
                f"setting '{name}' of the reweighting cannot be used",
                expected=expected,
                got=repr(getattr(self, name)),
            )
