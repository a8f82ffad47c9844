"""Options that several verbs share, spelled once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "ImagesOption",
    "LabelColumnOption",
    "OverridesOption",
    "ProjectOption",
    "QuietOption",
    "ReadOptionsOption",
    "SeedOption",
    "TaskOption",
    "TextColumnOption",
    "WriteOptionsOption",
]

ImagesOption = Annotated[
    Path | None, typer.Option("--images", metavar="FOLDER", help="Where the pictures are.")
]
LabelColumnOption = Annotated[
    str | None,
    typer.Option("--label", metavar="COLUMN", help="The classes.  [default: label]"),
]
OverridesOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=1", help="One setting, over the file; repeatable."),
]

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
ReadOptionsOption = Annotated[
    list[str] | None,
    typer.Option("--read-option", metavar="NAME=VALUE", help="A choice of the source format."),
]
TextColumnOption = Annotated[
    str | None,
    typer.Option("--text", metavar="COLUMN", help="The texts.  [default: unstructured_text]"),
]
WriteOptionsOption = Annotated[
    list[str] | None,
    typer.Option("--write-option", metavar="NAME=VALUE", help="A choice of the target format."),
]
