"""Two moons with 30 % wrong labels: plain training learns them, reweighting looks past them.

The figure of the work that constrained instance reweighting (CIW) comes from, drawn anew: 300
points, a network of two hidden layers that is large enough to learn every label by heart, and the
same network, batches and steps with weights for the examples of each batch. A dot of the last
panel is as large as the weight of its example after training.

    python examples/two_moons.py two-moons.svg       some ten seconds on one core
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from markupsafe import Markup
from numpy.typing import NDArray
from sklearn.datasets import make_moons
from torch import nn
from torch.nn.functional import cross_entropy

from tilth.data.batch_order import epoch_rows
from tilth.data.label_noise import inject_label_noise
from tilth.losses.reweighting import Reweighting
from tilth.losses.reweighting_settings import ReweightingSettings
from tilth.recipes.report.figure_file import write_figure
from tilth.recipes.report.svg import Frame, marker, tag
from tilth.seeding import derive_seed, seed_everything

EPOCHS, BATCH, WRONG = 600, 64, 0.3
KL = ReweightingSettings(divergence="kl", lam=0.2)
PLAIN = ReweightingSettings(divergence="kl", lam=float("inf"))  # all weights alike
X_RANGE, Y_RANGE = (-1.5, 2.5), (-1.0, 1.5)
COLOURS = ("arm-1", "arm-2")  # blue and orange, which stay apart for colour-blind readers
INK = "#1d2126"


@dataclass(frozen=True, kw_only=True, eq=False)
class Moons:
    """Points [n, 2], their true and their given classes [n]."""

    points: torch.Tensor
    true: NDArray[np.int64]
    given: NDArray[np.int64]

    @classmethod
    def draw(cls, count: int, *, seed: int, wrong: float = 0.0) -> Moons:
        """``count`` points around two half circles, a share of whose labels is wrong."""
        state = derive_seed(seed, "moons", count) % 2**32
        points, true = make_moons(count, noise=0.12, random_state=state)
        given, _ = inject_label_noise(
            true, 2, kind="symmetric_flip", rate=wrong, seed=seed, exact=True
        )
        return cls(points=torch.tensor(points, dtype=torch.float32), true=true, given=given)


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """A network, its accuracy on clean new points, and what it made of the training points.

    Attributes:
        memorised: share of the wrong labels that the network gives back.
        weights: [n], of the training points after training; 1 is the mean.
    """

    network: nn.Module
    accuracy: float
    memorised: float
    weights: NDArray[np.float32]


def train(moons: Moons, settings: ReweightingSettings, *, seed: int, epochs: int) -> Trained:
    """Train on the given labels; the order of the batches is the same whatever the settings."""
    seed_everything(seed)
    network = nn.Sequential(
        nn.Linear(2, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 2)
    )
    optimiser = torch.optim.Adam(network.parameters(), lr=5e-3)
    given, count = torch.from_numpy(moons.given), len(moons.given)
    reweighting = Reweighting(settings, steps=epochs * -(-count // BATCH))
    step = 0
    for epoch in range(epochs):
        order = torch.from_numpy(epoch_rows(count, BATCH, seed=seed, epoch=epoch))
        for rows in order.split(BATCH):
            loss, _ = reweighting.loss(network(moons.points[rows]), given[rows], step)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            step += 1
    with torch.no_grad():
        logits = network(moons.points)
        weights = reweighting.weights(cross_entropy(logits, given, reduction="none"), step)
    flipped = moons.given != moons.true
    return Trained(
        network=network,
        accuracy=right(network, Moons.draw(4000, seed=seed + 1_000)),
        memorised=float((logits.argmax(1).numpy() == moons.given)[flipped].mean()),
        weights=(weights * count).numpy(),
    )


@torch.no_grad()
def right(network: nn.Module, moons: Moons) -> float:
    """The share of the points whose true class the network gives."""
    return float((network(moons.points).argmax(1).numpy() == moons.true).mean())


def figure(moons: Moons, plain: Trained, ciw: Trained) -> Markup:
    """The three panels and what their marks mean."""
    even = np.ones(len(moons.given))
    titles = (
        ("The labels given", f"{WRONG:.0%} of {len(even)} are wrong", None, even),
        ("Plain training", f"{plain.accuracy:.1%} of new points right", plain, even),
        ("CIW", f"{ciw.accuracy:.1%} right; size is weight", ciw, ciw.weights),
    )
    panels = [
        tag("g", panel(moons, *how), transform=f"translate({312 * place} 0)")
        for place, how in enumerate(titles)
    ]
    label = (
        "Two moons of 300 points with 30 % wrong labels. Plain training bends its boundary around "
        "the wrong ones; CIW gives them no weight and follows the moons."
    )
    return tag(
        "svg", *panels, legend(), class_="plot", viewBox="0 0 930 358", role="img", aria_label=label
    )


def panel(
    moons: Moons, title: str, says: str, trained: Trained | None, sizes: NDArray[np.float32]
) -> Markup:
    """Points by their given class, wrong ones ringed, over what the network says everywhere."""
    frame = Frame(
        width=306, height=320, left=34, right=8, top=66, bottom=42,
        x_range=X_RANGE, y_range=Y_RANGE,
    )  # fmt: skip
    parts = [
        tag("text", title, class_="label", x=2.0, y=16.0, style="font-weight:600"),
        tag("text", says, class_="tick", x=2.0, y=33.0),
        frame.x_axis([-1, 0, 1, 2], "{:g}".format, "first coordinate"),
        frame.y_axis([-1, 0, 1], "{:g}".format, "second coordinate"),
    ]
    if trained is not None:
        parts += [region(frame, trained.network, number) for number in (0, 1)]
    points = moons.points.numpy()
    order = np.argsort(-sizes, kind="stable")  # small dots over large ones
    for is_wrong in (False, True):
        for row in order[(moons.given != moons.true)[order] == is_wrong].tolist():
            parts.append(dot(frame, points[row], int(moons.given[row]), is_wrong, sizes[row]))
    return Markup("").join(parts)


def dot(
    frame: Frame, point: NDArray[np.float32], given: int, is_wrong: bool, size: float
) -> Markup:
    """A circle or a square of an area in proportion to ``size``."""
    radius = max(3.1 * min(float(size), 4.0) ** 0.5, 0.9)
    shape = marker(given, frame.x(float(point[0])), frame.y(float(point[1])), radius)
    ring = {"stroke": INK, "stroke_width": min(1.3, 0.5 * radius)} if is_wrong else {"opacity": 0.8}
    return tag("path", class_=f"mean {COLOURS[given]}", d=shape, **ring)


@torch.no_grad()
def region(frame: Frame, network: nn.Module, number: int) -> Markup:
    """Where the network says class ``number``, in a light shade of its colour."""
    across, down = 528, 424  # two places a drawing unit
    x = np.linspace(*X_RANGE, across, dtype=np.float32)
    y = np.linspace(*Y_RANGE[::-1], down, dtype=np.float32)
    grid = torch.from_numpy(np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2))
    says = (network(grid).argmax(1) == number).numpy().reshape(down, across).astype(np.uint8)
    outlines, _ = cv2.findContours(says, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    path = ""
    for outline in outlines:
        corners = cv2.approxPolyDP(outline, 0.8, True)[:, 0, :]
        places = [f"{frame.x(float(x[c])):.1f} {frame.y(float(y[r])):.1f}" for c, r in corners]
        path += "M" + "L".join(places) + "Z"
    return tag("path", class_=f"mean {COLOURS[number]}", d=path, fill_rule="evenodd", opacity=0.17)


def legend() -> Markup:
    """One line below the panels."""
    entries: Sequence[tuple[str, Callable[[float], Markup]]] = (
        ("label 0", lambda x: key(0, x)),
        ("label 1", lambda x: key(1, x)),
        ("wrong label", lambda x: key(0, x, ring=True) + key(1, x + 14, ring=True)),
        ("shaded: what the network says", lambda x: shade(x)),
    )
    parts, x = [], 8.0
    for name, draw in entries:
        wide = 14.0 if name.startswith(("wrong", "shaded")) else 0.0
        parts.append(draw(x))
        parts.append(tag("text", name, class_="tick", x=x + wide + 12, y=347.0))
        x += wide + 44 + 6.2 * len(name)
    return Markup("").join(parts)


def key(series: int, x: float, *, ring: bool = False) -> Markup:
    """A mark of the legend."""
    stroke = {"stroke": INK, "stroke_width": 1.3} if ring else {}
    return tag("path", class_=f"mean {COLOURS[series]}", d=marker(series, x, 343.0, 4.2), **stroke)


def shade(x: float) -> Markup:
    """The two light shades of the legend."""
    return Markup("").join(
        tag("rect", class_=f"mean {colour}", x=x - 5 + 13 * k, y=337.0, width=13.0, height=12.0,
            opacity=0.3)
        for k, colour in enumerate(COLOURS)
    )  # fmt: skip


def main(target: Path, *, seed: int = 0, epochs: int = EPOCHS) -> tuple[Trained, Trained]:
    """Train both ways, say how they did, and write the figure."""
    moons = Moons.draw(300, seed=seed, wrong=WRONG)
    plain = train(moons, PLAIN, seed=seed, epochs=epochs)
    ciw = train(moons, KL, seed=seed, epochs=epochs)
    for name, trained in (("plain", plain), ("CIW", ciw)):
        print(
            f"{name}: {trained.accuracy:.1%} of new points right, "
            f"{trained.memorised:.0%} of the wrong labels learned"
        )
    write_figure(target, figure(moons, plain, ciw))
    print(f"figure: {target}")
    return plain, ciw


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "two-moons.svg"))
