"""Any model in a small smooth network that learned to answer as it does.

The teacher is asked about the sample and about inputs near it; a fifth of the sample is
never shown, and says how good the pupil is.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from tilth.data.row_bar import row_bar
from tilth.errors import SettingsError
from tilth.losses.differentiable.model_outputs import Outputs, variance_explained, worst_difference

__all__ = ["DistilSettings", "Distilled", "distilled"]

FEWEST_ROWS = 20
HELD_OUT = 0.2


@dataclass(frozen=True, kw_only=True)
class DistilSettings:
    """How a model is distilled.

    Attributes:
        steps: of training.
        batch_size: inputs a step.
        width: of the two hidden layers.
        jitter: how far inputs are moved from the sample, in standard deviations of each feature.
        num_inputs: how many inputs the teacher answers for, the sample and its neighbours.
        learning_rate: at the start; it falls to zero along a cosine.
    """

    steps: int = 1500
    batch_size: int = 256
    width: int = 64
    jitter: float = 0.3
    num_inputs: int = 4000
    learning_rate: float = 4e-3

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "width", "num_inputs", "learning_rate"):
            if not getattr(self, name) > 0:
                raise SettingsError(
                    f"setting 'distil.{name}' cannot be used",
                    expected="above 0",
                    got=repr(getattr(self, name)),
                )
        if not self.jitter >= 0:
            raise SettingsError(
                "setting 'distil.jitter' cannot be used", expected="0 or more", got=f"{self.jitter}"
            )


@dataclass(frozen=True, kw_only=True)
class Distilled:
    """A pupil, and what it is worth.

    Attributes:
        network: [n, d] -> [n, k].
        r2: share of the variance of the teacher's answers that it meets on held-out inputs.
        max_error: largest difference from the teacher on the whole sample.
        num_held_out: inputs that were kept from it.
        num_asked: inputs that the teacher answered for.
    """

    network: nn.Module
    r2: float
    max_error: float
    num_held_out: int
    num_asked: int


class _Pupil(nn.Module):
    """Standard inputs, two layers of SiLU, outputs in the teacher's units."""

    input_mean: Tensor
    input_scale: Tensor
    output_mean: Tensor
    output_scale: Tensor

    def __init__(self, x: np.ndarray, y: np.ndarray, width: int) -> None:
        super().__init__()
        for name, values in (("input", x), ("output", y)):
            scale = values.std(axis=0)
            scale = np.where(scale > 0, scale, 1.0)
            for part, number in (("mean", values.mean(axis=0)), ("scale", scale)):
                self.register_buffer(f"{name}_{part}", torch.as_tensor(number).float())
        self.layers = nn.Sequential(
            nn.Linear(x.shape[1], width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, y.shape[1]),
        )

    def forward(self, x: Float[Tensor, "n ..."]) -> Float[Tensor, "n k"]:
        inputs = (x.flatten(1) - self.input_mean) / self.input_scale
        return self.layers(inputs) * self.output_scale + self.output_mean


def distilled(
    outputs: Outputs,
    sample: np.ndarray,
    *,
    settings: DistilSettings | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Distilled:
    """A small network that answers as ``outputs`` does around the sample.

    Raises:
        SettingsError: the sample has fewer than 20 inputs.
    """
    settings = settings or DistilSettings()
    if len(sample) < FEWEST_ROWS:
        raise SettingsError(
            "the sample is too small to distil a model on",
            expected=f"{FEWEST_ROWS} inputs or more",
            got=f"{len(sample)}",
        )
    random = np.random.default_rng(seed)
    order = random.permutation(len(sample))
    num_held_out = max(int(HELD_OUT * len(sample)), 1)
    held_out, shown = np.sort(order[:num_held_out]), np.sort(order[num_held_out:])
    x = _with_neighbours(sample[shown], settings, random)
    y, expected = outputs(x), outputs(sample)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pupil = _Pupil(x.reshape(len(x), -1), y, settings.width)
        _train(pupil, x, y, settings, progress=progress)
    with torch.no_grad():
        found = pupil(torch.as_tensor(sample).float()).double().numpy()
    return Distilled(
        network=pupil.requires_grad_(False).eval(),
        r2=variance_explained(found[held_out], expected[held_out]),
        max_error=worst_difference(found, expected),
        num_held_out=num_held_out,
        num_asked=len(x) + len(sample),
    )


def _with_neighbours(
    sample: np.ndarray, settings: DistilSettings, random: np.random.Generator
) -> np.ndarray:
    num = max(settings.num_inputs - len(sample), 0)
    near = sample[random.integers(len(sample), size=num)]
    spread = settings.jitter * sample.std(axis=0)
    return np.concatenate([sample, near + spread * random.standard_normal(near.shape)])


def _train(
    pupil: _Pupil, x: np.ndarray, y: np.ndarray, settings: DistilSettings, *, progress: bool
) -> None:
    inputs, targets = torch.as_tensor(x).float().flatten(1), torch.as_tensor(y).float()
    optimizer = torch.optim.AdamW(pupil.parameters(), lr=settings.learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    with row_bar("distilling", settings.steps, visible=progress) as advance, torch.enable_grad():
        for _ in range(settings.steps):
            rows = torch.randint(len(inputs), (min(settings.batch_size, len(inputs)),))
            error = (pupil(inputs[rows]) - targets[rows]) / pupil.output_scale
            optimizer.zero_grad(set_to_none=True)
            (error**2).mean().backward()
            optimizer.step()
            schedule.step()
            advance(1)
