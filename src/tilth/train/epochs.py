"""From epochs, which people count in, to steps, which the loop counts in."""

from __future__ import annotations

from dataclasses import replace

from tilth.train.loop_settings import LoopSettings

__all__ = ["for_epochs", "steps_an_epoch"]


def steps_an_epoch(num_samples: int, samples_a_step: int) -> int:
    """Steps after which every sample has been seen; the last one may begin the next epoch.

    >>> steps_an_epoch(100, 16)
    7
    """
    return -(-num_samples // samples_a_step)


def for_epochs(
    settings: LoopSettings, epochs: int, *, num_samples: int, batch_size: int, processes: int = 1
) -> LoopSettings:
    """``settings`` for a run of so many epochs; 0 leaves them as they are.

    An evaluation follows every epoch, unless ``evaluate_every`` says otherwise. Who counts in
    epochs does not know the steps: a warm-up longer than half of the run ends there.

    Args:
        batch_size: of one process.
        processes: that share a step.

    >>> for_epochs(LoopSettings(accumulate=2), 3, num_samples=100, batch_size=16).steps
    12
    """
    if epochs == 0:
        return settings
    each = steps_an_epoch(num_samples, batch_size * settings.accumulate * processes)
    every = settings.evaluate_every or each
    steps = epochs * each
    warmup = min(settings.warmup_steps, steps // 2)
    return replace(settings, steps=steps, evaluate_every=every, warmup_steps=warmup)
