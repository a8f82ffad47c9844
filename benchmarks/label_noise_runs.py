"""What the benchmarks of wrong labels share: the methods, one training run, and a file of results.

Every method sees the same pictures, wrong labels, starting weights, batches and steps; all of them
follow from the seed, the batch from its number. The loss is `tilth.losses.robust.RobustLoss`, the
one that `tilth train classify` takes; the loop around it is a plain one, because a step of the
small networks is shorter than the bookkeeping of `tilth.train.loop.fit`.

The numbers of a method are those of its paper, of the authors' program, or of the reference page's
table. None was chosen by its score here.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from tilth.data.atomic import atomic_writer
from tilth.losses.reweighting_settings import ReweightingSettings
from tilth.losses.robust import RobustLoss
from tilth.losses.robust_settings import RobustSettings
from tilth.seeding import derive_seed, generator, seed_everything

__all__ = [
    "METHODS",
    "Finished",
    "Method",
    "ResultFile",
    "Schedule",
    "Split",
    "sources_digest",
    "split_of",
    "trained",
]

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way to train on wrong labels.

    Attributes:
        label: for readers.
        robust: its settings.
        knows_rate: its `forget_rate` is the realised rate of wrong labels, which nobody has who
            does not know which labels are wrong.
    """

    label: str
    robust: RobustSettings
    knows_rate: bool = False

    def settings(self, wrong_share: float) -> RobustSettings:
        """Those of a data set with this share of wrong labels."""
        if not self.knows_rate:
            return self.robust
        return replace(self.robust, forget_rate=wrong_share)


def _reweighted(kind: Any, *, lam: float, gamma: float | None, **more: Any) -> RobustSettings:
    """Order 0.1; a tenth of the run uniform (the authors: 8 %), then 6 % down from 10 lam."""
    classes: dict[str, Any] = {} if gamma is None else {"class_divergence": "kl", "gamma": gamma}
    weights = ReweightingSettings(alpha=0.1, lam=lam, burn_in=0.1, ramp=0.06, **classes)
    return RobustSettings(kind=kind, reweighting=weights, **more)


METHODS: dict[str, Method] = {
    "ce": Method(label="cross-entropy", robust=RobustSettings()),
    "label_smoothing": Method(
        label="label smoothing", robust=RobustSettings(kind="label_smoothing", smoothing=0.1)
    ),
    "bootstrap_soft": Method(
        label="bootstrapping, soft", robust=RobustSettings(kind="bootstrap_soft", beta=0.95)
    ),
    "bootstrap_hard": Method(
        label="bootstrapping, hard", robust=RobustSettings(kind="bootstrap_hard", beta=0.8)
    ),
    "gce": Method(label="GCE", robust=RobustSettings(kind="gce", q=0.7)),
    "sce": Method(label="symmetric CE", robust=RobustSettings(kind="sce", alpha=0.1, beta=1.0)),
    "elr": Method(label="ELR", robust=RobustSettings(kind="elr", lam=3.0, beta=0.7)),
    "co_teaching": Method(
        label="co-teaching, told the rate",
        # Ten of the paper's 200 epochs.
        robust=RobustSettings(kind="co_teaching", forget_ramp=0.05),
        knows_rate=True,
    ),
    "mixup": Method(label="mixup", robust=RobustSettings(kind="mixup", mixup_alpha=2.0)),
    "ciw": Method(label="CIW", robust=_reweighted("ciw", lam=0.1, gamma=None)),
    "cicw": Method(label="CICW", robust=_reweighted("cicw", lam=0.1, gamma=0.3)),
    "cicw_m": Method(
        label="CICW-M", robust=_reweighted("cicw_m", lam=2.5, gamma=0.01, mixup_alpha=2.0)
    ),
}
"""Name in claims -> the method."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast to learn; equal for all methods.

    Attributes:
        epochs: passes over the training rows; ``steps`` overrides them where it is above 0.
        learning_rate: the peak.
        drops_at: steps after which the rate falls to a tenth. Without any it rises for 30 % of the
            run and falls by a cosine (torch's OneCycleLR).
        flip, crop: pictures mirrored by chance; moved by up to so many pixels each way.
        bf16: convolutions in bfloat16.
    """

    epochs: int = 20
    steps: int = 0
    batch_size: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0
    drops_at: tuple[int, ...] = ()
    flip: bool = False
    crop: int = 0
    bf16: bool = False
    evaluate_every: int = 1
    device: str = "cpu"

    def num_steps(self, num_rows: int) -> int:
        """Of the whole run; a batch that is not full is left out."""
        return self.steps or self.epochs * (num_rows // self.batch_size)


@dataclass(frozen=True, kw_only=True)
class Finished:
    """What a run gave.

    Attributes:
        last, best: accuracy on the clean test pictures after the last epoch, and the highest of
            all epochs, which nobody can choose who has no clean test pictures.
        memorised: share of the wrong labels that the network repeats in the end.
        chosen: accuracy at the epoch whose accuracy on held-back noisy rows was highest; None
            without such rows.
        seconds: of CPU time on a CPU, else of the clock.
        epochs: test accuracy after each.
    """

    last: float
    best: float
    memorised: float
    wrong_share: float
    seconds: float
    steps: int
    chosen: float | None = None
    peak_bytes: int = 0
    epochs: list[float] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Split:
    """Tensors on the device: pictures uint8, labels int64."""

    images: Tensor
    labels: Tensor


def trained(
    network: Callable[[], nn.Module],
    method: Method,
    schedule: Schedule,
    *,
    train: Split,
    clean_labels: Tensor,
    test: Split,
    check: Split | None = None,
    num_classes: int,
    seed: int,
    stepped: Callable[[int], None] = lambda step: None,
) -> Finished:
    """One run.

    Args:
        network: builds a fresh one that takes pictures in 0..1, channels first.
        check: rows with noisy labels that are held back, to choose an epoch by.
        stepped: is told of every finished step.
    """
    wrong = clean_labels != train.labels
    steps = schedule.num_steps(len(train.labels))
    loss = RobustLoss(
        method.settings(float(wrong.float().mean())),
        num_classes=num_classes,
        steps=steps,
        seed=seed,
        num_examples=len(train.labels),
    )
    seed_everything(derive_seed(seed, "weights"))
    model = loss.network(network).to(schedule.device)
    optimiser, rates = _optimiser(model, schedule, steps)
    per_epoch = len(train.labels) // schedule.batch_size
    scores: list[float] = []
    noisy_scores: list[float] = []
    seconds = 0.0
    for step in range(steps):
        start = _clock(schedule.device)
        model.train()
        batch = _batch(train, step, per_epoch, schedule, seed)
        with torch.autocast(schedule.device, torch.bfloat16, enabled=schedule.bf16):
            terms = loss(model, batch)
        optimiser.zero_grad()
        terms["total"].backward()
        optimiser.step()
        rates.step()
        seconds += _clock(schedule.device) - start
        stepped(step + 1)
        epoch, is_last = (step + 1) // per_epoch, step + 1 == steps
        is_due = (step + 1) % per_epoch == 0 and epoch % schedule.evaluate_every == 0
        if is_due or is_last:
            scores.append(_accuracy(loss.bare(model), test, schedule))
            if check is not None:
                noisy_scores.append(_accuracy(loss.bare(model), check, schedule))
    answers = _predicted(loss.bare(model), train.images, schedule)
    return Finished(
        last=scores[-1],
        best=max(scores),
        memorised=float((answers == train.labels)[wrong].float().mean()) if wrong.any() else 0.0,
        wrong_share=float(wrong.float().mean()),
        seconds=seconds,
        steps=steps,
        chosen=scores[int(np.argmax(noisy_scores))] if noisy_scores else None,
        peak_bytes=torch.cuda.max_memory_allocated() if schedule.device == "cuda" else 0,
        epochs=scores,
    )


def _predicted(model: nn.Module, images: Tensor, schedule: Schedule) -> Tensor:
    """int64 [n]: the likeliest class of each picture."""
    was_training = model.training
    model.eval()
    with (
        torch.no_grad(),
        torch.autocast(schedule.device, torch.bfloat16, enabled=schedule.bf16),
    ):
        answers = [model(_pixels(part)).argmax(dim=1) for part in images.split(1000)]
    model.train(was_training)
    return torch.cat(answers)


def _accuracy(model: nn.Module, split: Split, schedule: Schedule) -> float:
    return float((_predicted(model, split.images, schedule) == split.labels).float().mean())


def _optimiser(
    model: nn.Module, schedule: Schedule, steps: int
) -> tuple[torch.optim.SGD, torch.optim.lr_scheduler.LRScheduler]:
    optimiser = torch.optim.SGD(
        model.parameters(),
        lr=schedule.learning_rate,
        momentum=schedule.momentum,
        nesterov=True,
        weight_decay=schedule.weight_decay,
    )
    if not schedule.drops_at:
        return optimiser, OneCycleLR(optimiser, schedule.learning_rate, total_steps=steps)
    return optimiser, torch.optim.lr_scheduler.MultiStepLR(optimiser, schedule.drops_at, gamma=0.1)


def _batch(
    train: Split, step: int, per_epoch: int, schedule: Schedule, seed: int
) -> dict[str, Any]:
    """Batch ``step``: a function of its number and the seed, for every method the same."""
    epoch, number = divmod(step, per_epoch)
    order = _order(len(train.labels), seed, epoch)
    size = schedule.batch_size
    rows = torch.from_numpy(order[number * size : (number + 1) * size]).to(train.labels.device)
    images = _pixels(train.images[rows])
    if schedule.flip or schedule.crop:
        images = _moved(images, schedule, generator(seed, "augment", step))
    return {"images": images, "label": train.labels[rows], "row": rows, "batch_number": step}


_ORDERS: dict[tuple[int, int, int], NDArray[np.int64]] = {}


def _order(num_rows: int, seed: int, epoch: int) -> NDArray[np.int64]:
    key = (num_rows, seed, epoch)
    if key not in _ORDERS:
        _ORDERS.clear()
        _ORDERS[key] = generator(seed, "order", epoch).permutation(num_rows)
    return _ORDERS[key]


def _pixels(images: Tensor) -> Tensor:
    """uint8 to 0..1, channels first; grey pictures have one channel."""
    if images.ndim == 3:
        return images[:, None].float() / 255
    return images.permute(0, 3, 1, 2).float() / 255


def _moved(images: Tensor, schedule: Schedule, draws: np.random.Generator) -> Tensor:
    """Each picture mirrored or not, and moved over a border of zeros; on the pictures' device."""
    count, _, height, width = images.shape
    device = images.device
    if schedule.flip:
        is_flipped = torch.from_numpy(draws.random(count) < 0.5).to(device)
        images = torch.where(is_flipped[:, None, None, None], images.flip(3), images)
    if not schedule.crop:
        return images
    border = schedule.crop
    offsets = torch.from_numpy(draws.integers(0, 2 * border + 1, (2, count))).to(device)
    padded = nn.functional.pad(images, (border,) * 4)
    down = (offsets[0][:, None] + torch.arange(height, device=device))[:, None, :, None]
    along = (offsets[1][:, None] + torch.arange(width, device=device))[:, None, None, :]
    picture = torch.arange(count, device=device)[:, None, None, None]
    channel = torch.arange(images.shape[1], device=device)[None, :, None, None]
    return padded[picture, channel, down, along]


def _clock(device: str) -> float:
    return time.process_time() if device == "cpu" else time.perf_counter()


def sources_digest() -> str:
    """Of the files that a result depends on: one of other code is not taken up again."""
    files = [Path(__file__), *sorted((ROOT / "src/tilth/losses").glob("*.py"))]
    files += sorted((ROOT / "src/tilth/data").glob("*noise*.py"))
    files += [ROOT / "src/tilth/models/preact_resnet.py", ROOT / "src/tilth/seeding.py"]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


class ResultFile:
    """One JSON line a finished run, under a key."""

    def __init__(self, path: Path, *, digest: str) -> None:
        self.path = path
        self.digest = digest

    def read(self) -> dict[tuple[str, ...], Finished]:
        """Key -> result, of the lines of this digest."""
        found: dict[tuple[str, ...], Finished] = {}
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []
        for line in lines:
            entry = json.loads(line)
            if entry["digest"] == self.digest:
                found[tuple(entry["key"])] = Finished(**entry["result"])
        return found

    def add(self, key: tuple[str, ...], result: Finished) -> None:
        """Write the file anew with this line behind the others."""
        entry = {"key": key, "digest": self.digest, "result": asdict(result)}
        before = self.path.read_bytes() if self.path.is_file() else b""
        with atomic_writer(self.path) as stream:
            stream.write(before + json.dumps(entry).encode() + b"\n")


def split_of(images: NDArray[np.uint8], labels: NDArray[np.int64], device: str = "cpu") -> Split:
    """Arrays as tensors on the device."""
    return Split(
        images=torch.from_numpy(images).to(device), labels=torch.from_numpy(labels).to(device)
    )
