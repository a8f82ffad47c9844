"""`tilth predict`: find objects in pictures with a trained detector."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from tilth import lazy
from tilth.cli.options import ProjectOption
from tilth.cli.outcome import Outcome
from tilth.cli.project import find_project


def command(
    sources: Annotated[list[Path], typer.Argument(help="Pictures, or folders of them.")],
    run: Annotated[
        str,
        typer.Option("--run", metavar="NAME", help="A folder of the project's runs/, or a path."),
    ] = "detector",
    score_threshold: Annotated[
        float, typer.Option("--score", min=0.0, max=1.0, help="Keep detections from here up.")
    ] = 0.25,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="FOLDER", help="Also draw the detections, into here."),
    ] = None,
    project: ProjectOption = None,
) -> Outcome:
    """Find objects in pictures with a trained detector.

    A run that is named by its path needs no project.

    \b
    Example:
      tilth predict --run first photo.jpg
      tilth predict --run field/runs/first photos/ --score 0.5 --output drawn --json
    """
    # A path to a run stands alone; a bare name is looked up in the project.
    alone = project is None and Path(run).is_dir()
    root = None if alone else find_project(project)
    found: dict[str, Any] = lazy.attribute("tilth.recipes.detector_runs:predict")(
        root,
        run=Path(run) if alone else run,
        sources=sources,
        score_threshold=score_threshold,
        output=output,
    )
    document = {**found, "drawn_in": output}
    return Outcome(document, lambda: _show(document))


def _show(document: dict[str, Any]) -> None:
    for picture in document["pictures"]:
        counts = Counter(found["class"] for found in picture["objects"])
        by_class = "".join(f", {name} {count}" for name, count in sorted(counts.items()))
        typer.echo(f"{picture['picture']}: {_objects(counts.total())}{by_class}")
    typer.echo(f"{_objects(document['objects'])} in {len(document['pictures'])} pictures")
    if document["drawn_in"]:
        typer.echo(f"drawn in {document['drawn_in']}")


def _objects(count: int) -> str:
    return "1 object" if count == 1 else f"{count} objects"
