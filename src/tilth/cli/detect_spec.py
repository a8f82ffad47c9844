"""`tilth detect spec`: turn a specification of NVIDIA TAO's YOLOv4 into settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tilth import lazy
from tilth.cli.outcome import Outcome, table


def command(
    spec: Annotated[Path, typer.Argument(help="TAO's specification, a text file.")],
    output: Annotated[
        Path, typer.Option("--output", metavar="FILE", help="The settings, in TOML.")
    ] = Path("detect.toml"),
    pictures: Annotated[
        int | None,
        typer.Option("--pictures", min=1, metavar="N", help="For training; otherwise counted."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that are there already.")
    ] = False,
) -> Outcome:
    """Turn a specification of NVIDIA TAO's YOLOv4 into settings.

    Every field is read and accounted for: kept, changed (units and names differ), or without a
    counterpart, with the reason. Data and evaluation are commands here, which are printed. Where
    TAO asks for grid scales that no published network has, a network file is written beside.

    \b
    Example:
      tilth detect spec yolo_v4_train.txt --output detect.toml
      tilth detect train --settings detect.toml
    """
    document: dict[str, Any] = lazy.attribute("tilth.recipes.tao_spec:import_spec")(
        spec, output=output, num_pictures=pictures, overwrite=overwrite
    )
    return Outcome(document, lambda: _show(document))


def _show(document: dict[str, Any]) -> None:
    for outcome in ("kept", "changed", "dropped"):
        notes = [note for note in document["notes"] if note["outcome"] == outcome]
        if notes:
            title = "no counterpart" if outcome == "dropped" else outcome
            rows = [(note["line"], note["field"], note["text"]) for note in notes]
            table(("line", "field", "here"), rows, title=title)
    typer.echo(f"settings: {document['output']}")
    if document["network"]:
        typer.echo(f"network: {document['network']}")
    typer.echo("next:")
    for command_line in document["commands"]:
        typer.echo(f"  {command_line}")
