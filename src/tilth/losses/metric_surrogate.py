"""A metric that is slow and has no gradient, predicted by a model whose gradient teaches another.

    surrogate = MetricSurrogate(hausdorff, inputs="mask", goal="lower", limits=(0, 14))
    surrogate.fit(predictions, targets)            # calls the metric, fits, says how well
    loss = surrogate(probabilities, masks).mean()  # gradients flow to the probabilities
    loss.backward()

The model is Tilth's own, or any that predicts the metric already: a torch module, an estimator of
scikit-learn, a Keras model, an ONNX file (`as_differentiable`).

Source: Patel, Hodan, Matas, 2020, Learning Surrogates via Deep Embedding, arXiv 2004.00799; Fu,
    Liao, Tsao, Lin, 2019, MetricGAN, arXiv 1905.04874; Huang et al., 2022, Relational Surrogate
    Loss Learning, arXiv 2202.13197.
Follows: distance of codes of the first (form "distance"), the metric of current outputs learnt
    while the other network is trained of the second, order beside values of the third ->
    `MetricSurrogate`.
Symbols: sign = 1 or -1, so that lower is better; unit = standard deviation of the values that were
    learned from, in the metric's units; believed [members, n] = what each says of each example.
Differs: several networks of different layers, whose spread is told and may be added to the loss;
    predictions of a metric with bounds stay within them; examples with outlying gradients are cut.
Checked by: `test_gradient_reaches_predictions_and_no_member`,
    `test_gradient_points_where_the_metric_goes`, `test_direction_follows_the_goal`
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, cast

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from tilth.errors import SettingsError, TrainingError
from tilth.losses.metric_calls import MetricCalls
from tilth.losses.metric_replay import Examples, Replay
from tilth.losses.metric_values import Failure, Metric, MetricRules
from tilth.losses.surrogate_examples import Arrays, grouped, paired, size_of_sets, ungrouped
from tilth.losses.surrogate_fit import Quality, adams, fit_members, follow_parameters, quality_of
from tilth.losses.surrogate_gradient import with_bounded_gradient
from tilth.losses.surrogate_inputs import Channels, Inputs, SurrogateNetwork, inputs_of
from tilth.losses.surrogate_members import GivenMember, given_member, new_members
from tilth.losses.surrogate_settings import SurrogateSettings

__all__ = ["MetricSurrogate"]


class MetricSurrogate(nn.Module):
    """Predicts a metric of (prediction, target), as a loss: lower is better, whatever the goal.

    Args:
        metric: ``metric(prediction, target)`` of NumPy arrays of one example, one number; or its
            name, ``"package.module:function"``. None where it cannot be called any more: the model
            is then used as it is.
        model: what predicts the metric, if that is at hand: it is given what ``inputs`` makes of a
            batch. None for networks of Tilth's own, which `fit` makes.
        inputs: "table", "image", "mask", "sequence", "frames" or "boxes" (`INPUTS` says what each
            takes), or a function of (prediction, target) that gives features [n, d] by torch
            operations.
        goal: whether "lower" or "higher" values are better.
        limits: (low, high), None for no bound.
        per: the metric judges one "example" at a time, or a "set" of ``set_size`` (mean average
            precision, F1): predictions are then [n, ...] of n examples, n a multiple of that.
        set_size: examples in a set.
        on_failure: see `MetricRules`.
        workers: processes that call the metric.
        budget: calls of the metric that may be made.
        settings: of Tilth's networks and of their gradient.
        seed: of starting weights and draws.

    >>> def worst(prediction, target):
    ...     return float(abs(prediction - target).max())
    >>> surrogate = MetricSurrogate(worst, settings=SurrogateSettings(members=1, fit_steps=200))
    >>> p, t = torch.rand(400, 3), torch.rand(400, 3)
    >>> surrogate.fit(p, t, progress=False).rank_correlation > 0.8
    True
    >>> p.requires_grad_(True); surrogate(p, t).mean().backward(); p.grad.shape
    tensor(...
    torch.Size([400, 3])
    """

    def __init__(
        self,
        metric: Metric | str | None,
        model: Any = None,
        *,
        inputs: str | Channels | Inputs = "table",
        goal: Literal["lower", "higher"] = "lower",
        limits: tuple[float | None, float | None] = (None, None),
        per: Literal["example", "set"] = "example",
        set_size: int = 8,
        on_failure: Failure = "error",
        workers: int = 0,
        budget: int | None = None,
        settings: SurrogateSettings | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        low, high = limits
        self.rules = MetricRules(goal=goal, low=low, high=high, on_failure=on_failure)
        self.settings = SurrogateSettings() if settings is None else settings
        self.inputs = inputs_of(inputs)
        self.set_size = size_of_sets(per, set_size)
        self.seed = seed
        self.calls = None
        if metric is not None:
            self.calls = MetricCalls(metric, self.rules, workers=workers, budget=budget)
        self._check_form()
        self.members = nn.ModuleList()
        self.given: GivenMember | None = None
        if model is not None:
            self.given = given_member(model, self.inputs, seed=seed)
            self.members.append(self.given.module)
        # Outputs of the shapes that the members are made for, all zeros.
        self.example: tuple[Tensor, Tensor] | None = None
        # What `fit` learned from, for whoever goes on learning.
        self.bank: Replay | None = None
        self.quality: Quality | None = None
        self.fitted_steps = 0
        self._optimisers: list[torch.optim.Optimizer] = []
        self._learned_from = 0  # examples that the replay had seen when an estimator was fitted
        # What a difference of 1 in the loss is, in the metric's units.
        self.register_buffer("unit", torch.ones(()))
        self.unit: Tensor
        self.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> "MetricSurrogate":
        """It stays in evaluation, whatever it is told: one prediction has one loss."""
        return super().train(False)

    # What it says of a batch.

    def forward(self, prediction: Tensor, target: Tensor) -> Float[Tensor, "n"]:
        """The loss of each example (of each set): lower is better, in standard deviations of the
        values that were learned from.

        With ``uncertainty``, standard deviations of the members are added; with ``spread_limit``,
        examples of which the members say too different things give no gradient.

        Raises:
            TrainingError: nothing was fitted yet.
            DataError: shapes that do not fit, or features without a gradient.
        """
        prediction = with_bounded_gradient(prediction, self.settings.gradient_limit)
        believed = self._beliefs(*self._grouped(prediction, target))
        loss = self.rules.sign * believed.mean(dim=0)
        if self.settings.uncertainty:
            loss = loss + self.settings.uncertainty * _spread(believed)
        loss = loss / self.unit
        if self.settings.spread_limit and self.quality is not None:
            known = _spread(believed) <= self.settings.spread_limit * self.quality.mean_error
            loss = torch.where(known, loss, loss.detach())
        return loss

    @torch.no_grad()
    def predict(self, prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The metric in its own units, and how far the members differ (standard deviation).

        Raises:
            TrainingError: nothing was fitted yet.
        """
        believed = self._beliefs(*self._grouped(prediction, target))
        return believed.mean(dim=0), _spread(believed)

    def true_values(self, predictions: Arrays, targets: Arrays) -> Float[Tensor, "n"]:
        """The metric itself, of each example or set; NaN where it is to be left out.

        Raises:
            TrainingError: see `MetricCalls.values`; or there is no metric.
        """
        calls = self._calls()
        pairs = [
            self._asked(*pair) for pair in zip(*self.paired(predictions, targets), strict=True)
        ]
        values = calls.values([pair[0] for pair in pairs], [pair[1] for pair in pairs])
        return torch.from_numpy(values).float()

    # How it learns.

    def fit(
        self,
        predictions: Arrays,
        targets: Arrays,
        values: Arrays | None = None,
        *,
        progress: bool = True,
    ) -> Quality:
        """Learn the metric of outputs of models; how well it is predicted on a fifth held out.

        Outputs should be such as the surrogate will meet: of early and late checkpoints, and
        disturbed; a few thousand for a metric of pictures.

        Args:
            predictions, targets: of examples, along the first axis or in a list.
            values: of the metric, where they are known; it is called otherwise.

        Raises:
            TrainingError: the metric fails, or is the same for all outputs; fewer than 10 of them.
            DataError: the shapes do not fit.
        """
        predictions, targets = self.paired(predictions, targets)
        if values is None:
            values = self._called(predictions, targets, progress=progress)
        replay = Replay(capacity=max(len(predictions), 1), recent_share=0.0)
        for prediction, target, value in zip(
            predictions, targets, torch.as_tensor(values), strict=True
        ):
            if math.isfinite(float(value)):
                replay.add(prediction, target, float(value))
        self.begin(replay)
        self.learn(replay, range(self.settings.fit_steps), progress=progress)
        self.bank = replay
        self.quality = self.check(replay.all(held_out=True))
        return self.quality

    def begin(self, replay: Replay) -> None:
        """Make the members for outputs like these, and choose the unit of the loss.

        Raises:
            TrainingError: fewer than 10 outputs, or all of one value.
            DataError: the shapes do not fit.
        """
        known = replay.all()
        if len(known) < 10:
            raise TrainingError(
                "too few outputs to learn a metric from", expected="10 or more", got=str(len(known))
            )
        spread = known.values.std()
        if spread <= 1e-9 * known.values.abs().max().clamp_min(1e-9):
            raise TrainingError(
                f"the metric is {known.values[0]:g} for all {len(known)} outputs",
                expected="values that differ, or there is nothing to learn",
                fix="take outputs of earlier checkpoints too, or disturb them; look at whether the "
                "metric thresholds or rounds away what differs",
            )
        self.unit.copy_(spread)
        if self.given is not None:
            return
        device = self.unit.device
        few = Examples(
            predictions=known.predictions[:4].to(device),
            targets=known.targets[:4].to(device),
            values=known.values[:4],
        )
        self.make_members(few.predictions, few.targets)
        for member in self.members:
            cast(SurrogateNetwork, member).standardise(known.values.to(device))

    def learn(self, replay: Replay, steps: Sequence[int], *, progress: bool = False) -> None:
        """Take steps on what the replay holds; an estimator of another library is fitted anew.

        Args:
            steps: one entry a step; only how many there are counts.
            progress: show a bar.
        """
        if self.given is not None and self._is_refitted:
            self.fitted_steps += len(steps)
            self._learned_from = replay.count
            fitted = self.given.fitted_anew(replay.all(held_out=False))
            self.members[0] = fitted.to(self.unit.device)
            return
        if not any(member.numel() for member in self.members.parameters()):
            raise SettingsError(
                "the model that predicts the metric has no weights that it could learn by",
                fix="refresh = false uses it as it is",
            )

        def numbered() -> Any:
            for _ in _shown(steps, progress, "learning the metric"):
                yield self.fitted_steps
                self.fitted_steps += 1

        # Bounds of layers (spectral norms) follow the weights only while these are trained. A model
        # that was given keeps its dropout and batch statistics out of it.
        self.members.train(self.given is None)
        fit_members(
            list(self.members),
            self._adams(),
            replay,
            steps=numbered(),
            settings=self.settings,
            scale=float(self.unit),
            seed=self.seed,
            device=self.unit.device,
        )
        self.train()

    @torch.no_grad()
    def check(self, known: Examples) -> Quality:
        """How well the metric of these outputs is predicted."""
        if len(known) == 0:
            return quality_of(np.zeros(0), np.zeros(0))
        device = self.unit.device
        parts = [
            self._beliefs(known.predictions[part].to(device), known.targets[part].to(device)).mean(
                0
            )
            for part in torch.arange(len(known)).split(256)
        ]
        believed = torch.cat(parts).cpu().double().numpy()
        return quality_of(believed, known.values.double().numpy())

    # Checkpoints.

    def training_state(self) -> dict[str, Any]:
        """All that is needed to go on: weights, optimisers, counters; tensors and plain values."""
        return {
            "example": self.example,
            "weights": {} if self._is_refitted else self.state_dict(),
            "unit": self.unit,
            "optimisers": [each.state_dict() for each in self._optimisers],
            "fitted_steps": self.fitted_steps,
            "learned_from": self._learned_from,
            "quality": None if self.quality is None else self.quality.as_dict(),
        }

    def load_training_state(self, state: dict[str, Any], replay: Replay) -> None:
        """Take up what `training_state` gave.

        Args:
            replay: as it was then; an estimator of another library that was fitted to it is fitted
                once more, one that was not is left as it is.
        """
        if state["example"] is not None:
            self.make_members(*state["example"])
        self.unit.copy_(state["unit"])
        if state["weights"]:
            self.load_state_dict(state["weights"])
        elif self._is_refitted and state["learned_from"] == replay.count > 0:
            self.learn(replay, ())
        if state["optimisers"]:
            for optimiser, kept in zip(self._adams(), state["optimisers"], strict=True):
                optimiser.load_state_dict(kept)
        self.fitted_steps = state["fitted_steps"]
        self.quality = None if state["quality"] is None else Quality(**state["quality"])

    # Its parts.

    @property
    def _is_refitted(self) -> bool:
        return self.given is not None and self.given.estimator is not None

    def make_members(self, predictions: Tensor, targets: Tensor) -> None:
        """Networks with starting weights, for outputs of these shapes; those there were go.

        Raises:
            DataError: the shapes do not fit, or the features lose the gradient.
        """
        self.example = torch.zeros_like(predictions[:2]), torch.zeros_like(targets[:2])
        members = new_members(
            ungrouped(predictions, self.set_size),
            ungrouped(targets, self.set_size),
            inputs=self.inputs,
            settings=self.settings,
            rules=self.rules,
            is_set=self.set_size > 0,
            seed=self.seed,
        )
        self.members = members.to(self.unit.device).requires_grad_(False).eval()
        self._optimisers = []

    def _adams(self) -> list[torch.optim.Optimizer]:
        if not self._optimisers:
            self._optimisers = adams(self.members, self.settings.learning_rate)
        for optimiser in self._optimisers:
            follow_parameters(optimiser)
        return self._optimisers

    def _beliefs(self, prediction: Tensor, target: Tensor) -> Float[Tensor, "members n"]:
        if not len(self.members):
            raise TrainingError(
                "the surrogate has not learned its metric yet",
                expected="fit(predictions, targets) first, or a model that predicts the metric",
            )
        return torch.stack([member(prediction, target) for member in self.members])

    def _called(
        self, predictions: Sequence[Any], targets: Sequence[Any], *, progress: bool
    ) -> Tensor:
        calls = self._calls()
        pairs = list(zip(predictions, targets, strict=True))
        # With processes all is asked for at once; without them each call is waited for here.
        asked = [calls.submit(*self._asked(*pair)) for pair in pairs] if calls.workers else None
        waited = (
            asked[number] if asked else calls.submit(*self._asked(*pairs[number]))
            for number in _shown(range(len(pairs)), progress, "calling the metric")
        )
        return torch.tensor([calls.result(each) for each in waited], dtype=torch.float32)

    def _calls(self) -> MetricCalls:
        if self.calls is None:
            raise TrainingError(
                "there is no metric to call", expected="metric=, a function or name"
            )
        return self.calls

    def paired(self, predictions: Arrays, targets: Arrays) -> tuple[list[Tensor], list[Tensor]]:
        """Examples, or sets of them, one by one: tensors on the CPU.

        Raises:
            DataError: they differ in number, or make no whole sets.
        """
        return paired(predictions, targets, self.set_size)

    @staticmethod
    def _asked(prediction: Tensor, target: Tensor) -> tuple[NDArray[Any], NDArray[Any]]:
        return prediction.numpy(), target.numpy()

    def _grouped(self, prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        return grouped(prediction, self.set_size), grouped(target, self.set_size)

    def _check_form(self) -> None:
        if self.settings.form == "distance" and self.rules.best is None:
            bound = "low" if self.rules.goal == "lower" else "high"
            raise SettingsError(
                "form 'distance' needs the metric's best value, which equal pairs have",
                expected=f"limits with a {bound} bound",
                got="None",
            )


def _spread(believed: Float[Tensor, "members n"]) -> Float[Tensor, "n"]:
    return believed.var(dim=0, correction=0).add(1e-12).sqrt()


def _shown(items: Sequence[Any], progress: bool, what: str) -> Any:
    if not progress:
        return items
    return track(items, description=what, console=Console(stderr=True), transient=True)
