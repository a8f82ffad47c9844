"""Options that several verbs share, spelled once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["ProjectOption", "QuietOption", "SeedOption", "TaskOption"]

ProjectOption = Annotated[
    Path | None,
    typer.Option(
        "--project",
        metavar="FOLDER",
        help="The project; otherwise the nearest parent folder with a tilth.toml.",
    ),
]
QuietOption = Annotated[bool, typer.Option("--quiet", help="Show no progress bar.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Every random choice follows from it.")]
TaskOption = Annotated[str, typer.Option("--task", metavar="NAME", help="The labelling task.")]
