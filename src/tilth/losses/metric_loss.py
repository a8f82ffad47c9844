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

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed

from tilth.errors import TrainingError
from tilth.losses.gathered_rows import together
from tilth.losses.metric_answers import Answers
from tilth.losses.metric_balance import GradientBalance
from tilth.losses.metric_calls import MetricCalls
from tilth.losses.metric_replay import Replay
from tilth.losses.metric_scoring import Scoring
from tilth.losses.metric_settings import MetricSettings
from tilth.losses.metric_surrogate import MetricSurrogate
from tilth.losses.metric_watch import Reading, Watch

__all__ = ["MetricLoss", "Outputs"]

Ordinary = Callable[[Any, Mapping[str, Any]], Mapping[str, Tensor]]
Outputs = Callable[[Any, Mapping[str, Any]], tuple[Tensor, Tensor]]


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
        self.notices: list[str] = []
        self.balance = GradientBalance(self._say_once)
        self.scoring = Scoring(_calls_of(surrogate), seed=seed)
        self._learns = settings.refresh
        # A model that was given and never compared with its metric is compared first, where there
        # is time before it joins in.
        is_known = surrogate.quality is not None or settings.begin == 0
        self._is_ready = len(surrogate.members) > 0 and is_known
        if surrogate.quality is not None:
            self.watch.held_out_error = surrogate.quality.mean_error

    def __call__(self, model: Any, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """The terms of the ordinary loss, and ``metric_loss``, ``metric_true``,
        ``metric_believed``, ``metric_correlation``, ``metric_alarm`` (0 or 1) and ``metric_calls``.

        Without a gradient (an evaluation) nothing is looked at, and no step is counted.

        Raises:
            TrainingError: the metric fails; an alarm, where settings say stop; or outputs that lost
                their gradient.
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
            if self.settings.balance == "gradient":
                outputs = answers.tensors()
                loss = self.balance.scaled(loss, prediction, terms["total"], outputs)
            total = total + metric * loss
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
        scored = self.scoring.results()
        if not scored:
            return
        for each in scored:
            self.replay.add(each.prediction, each.target, each.value)
        if not self._is_ready:
            return
        reading = self.watch.note(
            self.scoring.step,
            np.array([each.believed for each in scored]),
            np.array([each.value for each in scored]),
            calls=self.scoring.num_calls,
        )
        self._heed(reading)
        if self._learns:
            self.surrogate.learn(self.replay, range(self.settings.refresh_steps))
            self._agree()

    def _ask(self, prediction: Tensor, target: Tensor, step: int) -> None:
        wanted = self.settings.calls_per_look
        if not self.scoring.can_ask(wanted):
            self._say_once(
                f"the budget of {self.settings.calls} metric calls is spent; from here the "
                "surrogate is neither refreshed nor watched"
            )
            return
        pairs = self.surrogate.paired(prediction, target)
        believed = [0.0] * len(pairs[0])
        if self._is_ready:
            believed = self.surrogate.predict(prediction, target)[0].tolist()
        self.scoring.ask(*pairs, believed, wanted, step=step, draw=self.count)

    def _begin(self) -> None:
        """The first fit: the surrogate learns what was scored so far, or is compared with it."""
        if len(self.replay) < 10:
            raise TrainingError(
                "too few outputs were scored before the metric joins in",
                expected="10 or more",
                got=f"{len(self.replay)}, from looks before step {self.settings.begin:g} * "
                f"{self.steps} steps",
                fix="a larger loss.begin or loss.calls_per_look, or a smaller loss.look_every",
            )
        self.surrogate.begin(self.replay)
        learns = self._learns or self.surrogate.given is None
        if learns:
            count = len(self.replay)
            self.notice(f"learning the metric from {count} outputs; the step waits for it")
            self.surrogate.learn(self.replay, range(self.surrogate.settings.fit_steps))
            self._agree()
        quality = self.surrogate.check(self.replay.all(held_out=True if learns else None))
        self.surrogate.quality = quality
        self.watch.held_out_error = quality.mean_error
        self._is_ready = True
        self._say(
            f"the metric is {'learned' if learns else 'predicted'}, of {len(self.replay)} outputs; "
            f"on {quality.count} that nothing was learned from: "
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

    def _told(self, value: Tensor) -> dict[str, Tensor]:
        readings = self.watch.readings
        last = readings[-1] if readings else None
        known = {
            "metric_true": last.true if last else 0.0,
            "metric_believed": last.believed if last else 0.0,
            "metric_correlation": _or_zero(last.rank_correlation) if last else 0.0,
            "metric_alarm": float(self.watch.is_alarm),
            "metric_calls": float(self.scoring.num_calls),
        }
        # Not in the value's own type: float16 ends at 65504 calls.
        told = {name: torch.tensor(number, device=value.device) for name, number in known.items()}
        return {"metric_loss": value, **told}

    # Checkpoints.

    def state_dict(self) -> dict[str, Any]:
        """What a run needs to go on as if it had not been stopped."""
        return {
            "count": self.count,
            "factor": self.balance.factor,
            "notices": list(self.notices),
            "is_ready": self._is_ready,
            "scoring": self.scoring.state_dict(),
            "replay": self.replay.state_dict(),
            "watch": self.watch.state_dict(),
            "surrogate": self.surrogate.training_state() if self._is_ready else None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self.count, self.balance.factor = state["count"], state["factor"]
        self.notices = list(state["notices"])
        self.replay.load_state_dict(state["replay"])
        self.watch.load_state_dict(state["watch"])
        self._is_ready = state["is_ready"]
        if self._is_ready:
            self.surrogate.load_training_state(state["surrogate"], self.replay)
        self.scoring.load_state_dict(state["scoring"])

    def finish(self) -> None:
        """Compare the last outputs that were asked for too; nothing is learned any more."""
        refresh, self._learns = self._learns, False
        self._take_up()
        self._learns = refresh

    def close(self) -> None:
        """Let the metric's processes go."""
        self.scoring.calls.close()


def _calls_of(surrogate: MetricSurrogate) -> MetricCalls:
    if surrogate.calls is None:
        raise TrainingError(
            "a surrogate without its metric cannot be watched",
            expected="MetricSurrogate(metric, ...)",
            got="metric None",
        )
    return surrogate.calls


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


def _or_zero(value: float) -> float:
    return value if math.isfinite(value) else 0.0
