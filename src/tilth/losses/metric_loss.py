"""Training by a metric that has no gradient: an ordinary loss, and beside it a learned metric that
is kept honest.

    loss = MetricLoss(ordinary, surrogate, outputs=outputs, steps=1000, settings=settings)
    fit(model, loss, batches, ...)

At every look some of the current outputs are given to the true metric, in other processes while
training goes on. When their values have come, at the next look, they are compared with what was
believed of them (`Watch`), then learned from (`Replay`). What a run does therefore depends on no
process's speed: it is the same, bit for bit, with and without workers, and after a kill.

Source: Fu, Yu, Hsieh, Plantinga, Ravanelli, Lu, Tsao, 2021, MetricGAN+, arXiv 2104.03538; Patel,
    Hodan, Matas, 2020, arXiv 2004.00799.
Follows: outputs of the current network, and older ones, scored and learned in turn with it, of
    the first, and an ordinary loss first, the learned one after, of the second -> `MetricLoss`.
Symbols: ordinary, metric = weights of the two parts; factor = length of the ordinary gradient at
    the network's outputs over that of the metric's.
Differs: the ordinary loss stays, as an anchor; both pull equally hard at the network's outputs,
    whatever units they have; an alarm gives the network back to the ordinary loss.
Checked by: `test_resumed_run_is_the_same_bit_for_bit`, `test_workers_change_nothing`,
    `test_balanced_parts_pull_equally_hard`, `test_alarm_leaves_the_ordinary_loss_alone`
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn

from tilth.errors import SettingsError, TrainingError
from tilth.losses.gathered_rows import summed, together
from tilth.losses.metric_replay import Replay
from tilth.losses.metric_settings import MetricSettings
from tilth.losses.metric_surrogate import MetricSurrogate
from tilth.losses.metric_watch import Reading, Watch
from tilth.seeding import generator

__all__ = ["Answers", "MetricLoss", "Outputs", "surrogate_of"]

Ordinary = Callable[[Any, Mapping[str, Any]], Mapping[str, Tensor]]
Outputs = Callable[[Any, Mapping[str, Any]], tuple[Tensor, Tensor]]


class Answers(nn.Module):
    """Stands in for a module within one step, and answers the same question only once.

    So the ordinary loss and the metric look at one pass of the network. A look without a gradient,
    or in evaluation, is another question.
    """

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = module
        self.training = getattr(module, "training", True)
        self.given: list[tuple[tuple[bool, bool], tuple[Any, ...], dict[str, Any], Any]] = []

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """What the module answers, or has answered."""
        mode = torch.is_grad_enabled(), getattr(self.module, "training", True)
        for when, known, also, answer in self.given:
            same = when == mode and len(known) == len(inputs) and also.keys() == options.keys()
            same = same and all(one is other for one, other in zip(known, inputs, strict=True))
            if same and all(also[name] is options[name] for name in also):
                return answer
        answer = self.module(*inputs, **options)
        self.given.append((mode, inputs, options, answer))
        return answer

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "module":
                raise
            return getattr(self.module, name)

    def tensors(self) -> list[Tensor]:
        """All tensors that were answered with, as far as a gradient can reach them."""
        return [each for *_, answer in self.given for each in _tensors(answer)]


@dataclass(kw_only=True)
class Asked:
    """One output that was given to the metric, and is waited for."""

    prediction: Tensor
    target: Tensor
    believed: float
    value: Future[tuple[float, float]]


class MetricLoss:
    """Loss terms of a batch, as `tilth.train.loop.fit` asks for them.

    Args:
        ordinary: loss terms of a model and a batch, ``total`` among them.
        surrogate: of the metric; one that has learned nothing yet learns from the first outputs.
        outputs: (prediction, target) of a model and a batch, examples along the first axis, the
            prediction differentiable; must get what it needs by calling the model.
        steps: of the whole run.
        settings: see `MetricSettings`.
        seed: of what is looked at.
        batches_per_step: accumulated batches, for schedules.
        notice: is told in words of what a person should hear.
    """

    def __init__(
        self,
        ordinary: Ordinary,
        surrogate: MetricSurrogate,
        *,
        outputs: Outputs,
        steps: int,
        settings: MetricSettings,
        seed: int = 0,
        batches_per_step: int = 1,
        notice: Callable[[str], None] | None = None,
    ) -> None:
        self.ordinary = ordinary
        self.surrogate = surrogate
        self.outputs = outputs
        self.steps = steps
        self.settings = settings
        self.seed = seed
        self.batches_per_step = batches_per_step
        self.notice = notice if notice is not None else lambda text: None
        self.replay = Replay(settings.capacity, recent_share=settings.recent_share)
        self.watch = Watch(
            sign=surrogate.rules.sign,
            window=settings.window,
            least=settings.least_correlation,
            most=settings.most_optimism,
        )
        if surrogate.bank is not None:  # or it would forget what it began with
            self.replay.add_all(surrogate.bank)
        self.count = 0  # batches seen
        self.factor = 0.0  # that balances the gradients; 0 before the first
        self.notices: list[str] = []
        self._asked: list[Asked] = []
        self._asked_at = 0
        self._learns = settings.refresh
        self._is_ready = len(surrogate.members) > 0
        if self._is_ready and surrogate.quality is not None:
            self.watch.held_out_error = surrogate.quality.mean_error

    def __call__(self, model: Any, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """The terms of the ordinary loss, and ``metric_loss``, ``metric_true``,
        ``metric_believed``, ``metric_correlation``, ``metric_alarm`` (0 or 1) and ``metric_calls``.

        Raises:
            TrainingError: the metric fails; an alarm, where settings say stop; or outputs that lost
                their gradient.

        Without a gradient (an evaluation) nothing is looked at, and no step is counted.
        """
        answers = Answers(model)
        terms = dict(self.ordinary(answers, batch))
        prediction, target = self.outputs(answers, batch)
        _check_outputs(prediction, target)
        if self.surrogate.unit.device != prediction.device:
            self.surrogate.to(prediction.device)
        step = self.count // self.batches_per_step
        is_training = torch.is_grad_enabled()
        if is_training and self.count % (self.settings.look_every * self.batches_per_step) == 0:
            self._look(prediction, target, step)
        ordinary, metric = self.shares(step)
        total = ordinary * terms["total"]
        value = total.new_zeros(())
        if metric and self._is_ready:
            loss = self.surrogate(prediction, target).mean()
            value = loss.detach()
            total = total + metric * self._balanced(loss, prediction, terms["total"], answers)
        self.count += is_training
        return {**terms, **self._told(value), "total": total}

    def shares(self, step: int) -> tuple[float, float]:
        """The weights of the ordinary loss and of the metric's part at a step."""
        settings = self.settings
        if not self._is_ready:
            return 1.0, 0.0
        if self.watch.is_alarm and settings.on_alarm == "ordinary":
            return max(settings.ordinary, 1.0), 0.0
        begin, ramp = settings.begin * self.steps, settings.ramp * self.steps
        if step < begin:
            return 1.0, 0.0
        reached = min((step - begin + 1) / (ramp + 1), 1.0)
        return 1.0 + reached * (settings.ordinary - 1.0), reached * settings.weight

    # Looks.

    def _look(self, prediction: Tensor, target: Tensor, step: int) -> None:
        """Take up the values of the last look, learn from them, and ask for those of this one."""
        self._take_up()
        if not self._is_ready and step >= self.settings.begin * self.steps:
            self._begin()
        self._ask(prediction.detach(), target.detach(), step)

    def _take_up(self) -> None:
        """Wait for what was asked for; compare, keep, learn."""
        calls = self._calls()
        scored = [
            (each.prediction, each.target, each.believed, calls.result(each.value))
            for each in self._asked
        ]
        self._asked = []
        scored = [each for each in _of_all_processes(scored) if math.isfinite(each[3])]
        if not scored:
            return
        for prediction, target, _, value in scored:
            self.replay.add(prediction, target, value)
        if not self._is_ready:
            return
        reading = self.watch.note(
            self._asked_at,
            np.array([each[2] for each in scored]),
            np.array([each[3] for each in scored]),
            calls=int(calls.spent.calls) * _processes(),
        )
        self._heed(reading)
        if self._learns:
            self.surrogate.learn(self.replay, range(self.settings.refresh_steps))
            self._agree()

    def _ask(self, prediction: Tensor, target: Tensor, step: int) -> None:
        calls = self._calls()
        num = self._looked_at(len(prediction) // max(self.surrogate.set_size, 1))
        if not num:
            return
        believed = torch.zeros(len(prediction))
        if self._is_ready:
            believed = self.surrogate.predict(prediction, target)[0].cpu()
        draws = generator(self.seed, "looked at", self.count, _rank())
        pairs = self.surrogate.paired(prediction.cpu(), target.cpu())
        for place in np.sort(draws.choice(len(pairs[0]), num, replace=False)).tolist():
            # Copies: a view would keep all of the batch, and change with it.
            one, other = pairs[0][place].clone(), pairs[1][place].clone()
            asked = calls.submit(one.numpy(), other.numpy())
            kept = Asked(prediction=one, target=other, believed=float(believed[place]), value=asked)
            self._asked.append(kept)
        self._asked_at = step

    def _looked_at(self, available: int) -> int:
        """Outputs of this look: what settings say, as far as batch and budget go."""
        wanted = max(self.settings.calls_per_look // _processes(), 1)
        left = self._calls().spent.left
        if left < wanted:
            self._say_once(
                f"the budget of {self.settings.calls} metric calls is spent; from here the "
                "surrogate is neither refreshed nor watched"
            )
        return 0 if left < wanted else min(wanted, available)

    def _begin(self) -> None:
        """The first fit: the surrogate learns what was scored so far."""
        if len(self.replay) < 10:
            raise TrainingError(
                "too few outputs were scored before the metric joins in",
                expected="10 or more",
                got=f"{len(self.replay)}, from looks before step {self.settings.begin:g} * "
                f"{self.steps} steps",
                fix="a larger loss.begin or loss.calls_per_look, or a smaller loss.look_every",
            )
        self.surrogate.begin(self.replay)
        self.notice(f"learning the metric from {len(self.replay)} outputs; the step waits for it")
        self.surrogate.learn(self.replay, range(self.surrogate.settings.fit_steps))
        self._agree()
        quality = self.surrogate.check(self.replay.all(held_out=True))
        self.surrogate.quality = quality
        self.watch.held_out_error = quality.mean_error
        self._is_ready = True
        self._say(
            f"the metric is learned from {len(self.replay)} outputs; on {quality.count} held out: "
            f"rank correlation {quality.rank_correlation:.2f}, mean error {quality.mean_error:.3g}"
        )

    def _heed(self, reading: Reading) -> None:
        before = self.watch.readings[-2] if len(self.watch.readings) > 1 else None
        was_alarm = before is not None and before.is_alarm
        if reading.is_alarm and self.settings.on_alarm == "stop":
            raise TrainingError(
                "the surrogate and its metric have parted company",
                where=f"step {reading.step}",
                got="; ".join(reading.reasons),
                fix="loss.refresh = true, a larger loss.ordinary, more loss.calls_per_look, or "
                "loss.on_alarm = 'ordinary'. The last checkpoint holds the weights from before",
            )
        if reading.is_alarm and not was_alarm:
            self._say(f"step {reading.step}: alarm: {'; '.join(reading.reasons)}")
        if was_alarm and not reading.is_alarm:
            self._say(f"step {reading.step}: surrogate and metric agree again")

    def _say(self, text: str) -> None:
        self.notices.append(text)
        self.notice(text)

    def _say_once(self, text: str) -> None:
        if not any(said.endswith(text) for said in self.notices):
            self._say(f"step {self.count // self.batches_per_step}: {text}")

    def _agree(self) -> None:
        """Let all processes have the members of the first: sums may differ in their last bits."""
        group = together()
        if group is not None:
            for value in self.surrogate.state_dict().values():
                distributed.broadcast(value, src=0, group=group)

    # The gradient.

    def _balanced(
        self, loss: Tensor, prediction: Tensor, ordinary: Tensor, answers: Answers
    ) -> Tensor:
        """The metric's part, whose gradient at the network's outputs is as long as the other's."""
        if self.settings.balance == "value":
            return loss
        if not torch.is_grad_enabled():
            return self.factor * loss
        outputs = answers.tensors()
        if not outputs:
            raise TrainingError("the loss has not called the model that it was given")
        (pull,) = torch.autograd.grad(loss, prediction)
        size = _length(_gradients(prediction, outputs, pull))
        other_size = _length(_gradients(ordinary, outputs)) if ordinary.requires_grad else 0.0
        if not other_size and not self.factor:
            self._say_once(
                "the ordinary loss has no gradient at the network's outputs, so the metric, "
                "balanced by it, has none either: loss.balance = 'value' needs no other loss"
            )
        if size > 0:
            factor = other_size / size
            # Smoothed, in the logarithm: single batches differ by their hardest example.
            rate = 0.9 if self.factor else 0.0
            known = math.log(self.factor) if self.factor else 0.0
            if 0 < factor < math.inf:
                self.factor = math.exp(rate * known + (1 - rate) * math.log(factor))
        # The gradient is at hand: what it says at the prediction goes on from there. Not at the
        # outputs, of which one may follow from another: that would count twice.
        line = (prediction * (self.factor * pull)).sum()
        return line - line.detach() + self.factor * loss.detach()

    def _told(self, value: Tensor) -> dict[str, Tensor]:
        readings = self.watch.readings
        last = readings[-1] if readings else None
        known = {
            "metric_true": last.true if last else 0.0,
            "metric_believed": last.believed if last else 0.0,
            "metric_correlation": _or_zero(last.rank_correlation) if last else 0.0,
            "metric_alarm": float(self.watch.is_alarm),
            "metric_calls": float(self._calls().spent.calls * _processes()),
        }
        # Not in the value's own type: float16 ends at 65504 calls.
        told = {name: torch.tensor(number, device=value.device) for name, number in known.items()}
        return {"metric_loss": value, **told}

    def _calls(self) -> Any:
        if self.surrogate.calls is None:
            raise TrainingError(
                "a surrogate without its metric cannot be watched",
                expected="MetricSurrogate(metric, ...)",
                got="metric None",
            )
        return self.surrogate.calls

    # Checkpoints.

    def state_dict(self) -> dict[str, Any]:
        """What a run needs to go on as if it had not been stopped."""
        spent = self._calls().spent
        return {
            "count": self.count,
            "factor": self.factor,
            "notices": list(self.notices),
            "is_ready": self._is_ready,
            "asked_at": self._asked_at,
            "asked": [(each.prediction, each.target, each.believed) for each in self._asked],
            "spent": {"calls": spent.calls, "seconds": spent.seconds},
            "replay": self.replay.state_dict(),
            "watch": self.watch.state_dict(),
            "surrogate": self.surrogate.training_state() if self._is_ready else None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` gave; what was waited for is asked for again.

        A checkpoint is the first process's: what the others waited for is not asked for again.
        """
        self.count, self.factor = state["count"], state["factor"]
        self.notices = list(state["notices"])
        self._asked_at = state["asked_at"]
        self.replay.load_state_dict(state["replay"])
        self.watch.load_state_dict(state["watch"])
        self._is_ready = state["is_ready"]
        if self._is_ready:
            self.surrogate.load_training_state(state["surrogate"], self.replay)
        calls = self._calls()
        waited_for = state["asked"] if _rank() == 0 else []
        # Those that are asked for again were counted before.
        calls.spent.calls = state["spent"]["calls"] - len(waited_for)
        calls.spent.seconds = state["spent"]["seconds"]
        self._asked = [
            Asked(
                prediction=prediction,
                target=target,
                believed=believed,
                value=calls.submit(prediction.numpy(), target.numpy()),
            )
            for prediction, target, believed in waited_for
        ]

    def finish(self) -> None:
        """Compare the last outputs that were asked for too; nothing is learned any more."""
        refresh, self._learns = self._learns, False
        self._take_up()
        self._learns = refresh

    def close(self) -> None:
        """Let the metric's processes go."""
        self._calls().close()


def surrogate_of(settings: MetricSettings, inputs: str, *, seed: int = 0) -> MetricSurrogate:
    """The surrogate that settings name: read from its folder, or new.

    Args:
        inputs: what the recipe's predictions are, where settings do not say.

    Raises:
        SettingsError: the metric's name is wrong, or the goal is not that of the folder.
        DataError: the folder cannot be read.
    """
    from tilth.losses.metric_files import read_surrogate
    from tilth.losses.metric_values import metric_of

    budget = settings.calls // _processes() if settings.calls else None
    named: Any = settings.inputs or inputs
    if ":" in named:
        named = metric_of(named)
    if settings.surrogate:
        surrogate = read_surrogate(
            settings.surrogate,
            settings.metric,
            inputs=named if callable(named) else None,
            on_failure=None if settings.on_failure == "error" else settings.on_failure,
            workers=settings.workers,
            budget=budget,
        )
        if surrogate.rules.goal != settings.goal:
            raise SettingsError(
                "setting 'loss.goal' is not that of the surrogate",
                where=settings.surrogate,
                expected=repr(surrogate.rules.goal),
                got=repr(settings.goal),
            )
        # Its networks are made already; a resumed run makes them again by these settings.
        made = surrogate.settings
        surrogate.settings = replace(
            settings.network,
            members=made.members,
            width=made.width,
            form=made.form,
            smoothness=made.smoothness,
        )
        return surrogate
    return MetricSurrogate(
        settings.metric,
        inputs=named,
        goal=settings.goal,
        limits=(settings.low, settings.high),
        per=settings.per,
        set_size=settings.set_size,
        on_failure=settings.on_failure,
        workers=settings.workers,
        budget=budget,
        settings=settings.network,
        seed=seed,
    )


def _check_outputs(prediction: Tensor, target: Tensor) -> None:
    if len(prediction) != len(target):
        raise TrainingError(
            "outputs and targets differ in number",
            expected=f"{len(prediction)} targets",
            got=str(len(target)),
        )
    if torch.is_grad_enabled() and not prediction.requires_grad:
        raise TrainingError(
            "the outputs that the metric is to judge carry no gradient to the network",
            expected="probabilities or other values computed by torch from the model's answer",
            fix="leave out .detach(), .numpy(), argmax and no_grad between model and metric: the "
            "metric itself may do all of that",
        )


def _tensors(answer: Any) -> list[Tensor]:
    if isinstance(answer, Tensor):
        return [answer] if answer.requires_grad else []
    if isinstance(answer, Mapping):
        return [each for value in answer.values() for each in _tensors(value)]
    if isinstance(answer, list | tuple):
        return [each for value in answer for each in _tensors(value)]
    return []


def _gradients(
    value: Tensor, outputs: list[Tensor], pull: Tensor | None = None
) -> tuple[Tensor | None, ...]:
    return torch.autograd.grad(value, outputs, pull, retain_graph=True, allow_unused=True)


def _length(gradients: tuple[Tensor | None, ...]) -> float:
    """Over all processes, so that all of them balance alike."""
    squares = [each.float().square().sum() for each in gradients if each is not None]
    return float(summed(torch.stack(squares).sum()).sqrt()) if squares else 0.0


def _processes() -> int:
    return 1 if together() is None else distributed.get_world_size()


def _rank() -> int:
    return 0 if together() is None else distributed.get_rank()


def _or_zero(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def _of_all_processes(scored: list[Any]) -> list[Any]:
    """What every process has scored, by rank; each of them must call this."""
    group = together()
    if group is None:
        return scored
    parts: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(parts, scored, group=group)
    return [each for part in parts for each in part]
