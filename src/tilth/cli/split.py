"""`tilth split`: divide the pictures into train, val and test."""

from __future__ import annotations

from typing import Annotated

import typer

from tilth.cli.options import ProjectOption, SeedOption, TaskOption
from tilth.cli.outcome import Outcome, table
from tilth.cli.project import open_project
from tilth.errors import SettingsError

SPLITS = ("train", "val", "test")


def command(
    fractions: Annotated[
        str,
        typer.Option("--fractions", metavar="TRAIN,VAL,TEST", help="Shares that add up to 1."),
    ] = "0.7,0.1,0.2",
    seed: SeedOption = 0,
    task: TaskOption = "detection",
    project: ProjectOption = None,
) -> Outcome:
    """Divide the pictures into train, val and test.

    Originals are divided; a derived picture always follows its parent, so that nothing made from
    a test picture is ever trained on. The same seed gives the same division.

    \b
    Example:
      tilth split --fractions 0.7,0.1,0.2 --seed 0
    """
    shares = _parse_fractions(fractions)
    opened = open_project(project)
    catalogue = opened.catalogue
    import numpy as np

    from tilth.data.splits import split_by_parent

    dataset = catalogue.read(task)
    splits = split_by_parent(dataset, shares, seed, root=opened.root)
    catalogue.set_splits(dataset.media.id, splits)
    counts = dict(zip(SPLITS, np.bincount(splits, minlength=3).tolist(), strict=True))
    document = {"splits": counts, "fractions": shares, "seed": seed}
    return Outcome(document, lambda: table(("split", "pictures"), list(counts.items())))


def _parse_fractions(text: str) -> tuple[float, ...]:
    try:
        shares = tuple(float(part) for part in text.split(","))
    except ValueError:
        shares = ()
    if len(shares) != 3:
        raise SettingsError(
            "fractions cannot be read", expected="three numbers, as in 0.7,0.1,0.2", got=text
        )
    return shares
