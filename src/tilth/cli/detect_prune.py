"""`tilth detect prune`: a smaller detector, of the filters that matter most."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from tilth import lazy
from tilth.cli.options import ProjectOption, QuietOption
from tilth.cli.outcome import Outcome, table
from tilth.cli.progress import spinner
from tilth.cli.project import find_project


def command(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A folder of the project's runs/.")],
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="The new run's folder.")
    ] = "pruned",
    threshold: Annotated[
        float,
        typer.Option("--threshold", help="Filters weaker than this share of the strongest go."),
    ] = 0.1,
    keep_flops: Annotated[
        float,
        typer.Option("--keep-flops", help="Instead: the share of the operations to keep, as 0.5."),
    ] = 0.0,
    strength: Annotated[
        Literal["kernel", "normed"],
        typer.Option("--strength", help="Norm of the kernels, or that after normalisation."),
    ] = "kernel",
    granularity: Annotated[
        int, typer.Option("--granularity", help="Filters are removed so many at a time.")
    ] = 8,
    min_filters: Annotated[
        int, typer.Option("--min-filters", help="A layer keeps at least so many.")
    ] = 16,
    equalisation: Annotated[
        Literal["union", "intersection", "arithmetic_mean", "geometric_mean"],
        typer.Option("--equalisation", help="Which strength counts of filters that go together."),
    ] = "union",
    exclude: Annotated[
        list[int] | None,
        typer.Option("--exclude", metavar="LAYER", help="Leave this layer alone; repeatable."),
    ] = None,
    project: ProjectOption = None,
    quiet: QuietOption = False,
) -> Outcome:
    """Make a smaller detector of the filters that matter most.

    Of every layer the filters of small norm go, with what reads them; filters that shortcuts,
    concatenations, grouped routes and depthwise convolutions tie together go or stay together.
    Heads stay. The new run's folder holds the network as Darknet's .cfg and .weights too, and
    retrain.toml: accuracy is won back by training on with these settings.

    \b
    Example:
      tilth detect prune first --name pruned --keep-flops 0.5
      tilth detect train --name second --settings runs/pruned/retrain.toml
    """
    root = find_project(project)
    settings = lazy.attribute("tilth.models.pruning:PruningSettings")(
        threshold=threshold,
        keep_flops=keep_flops,
        strength=strength,
        granularity=granularity,
        min_filters=min_filters,
        equalisation=equalisation,
        excluded=tuple(exclude or ()),
    )
    with spinner("weighing filters", quiet=quiet):
        report: dict[str, Any] = lazy.attribute("tilth.recipes.detector_pruning:prune_run")(
            root, run=run, name=name, settings=settings
        )
    return Outcome(report, lambda: _show(report))


def _show(report: dict[str, Any]) -> None:
    names = {"filters": "filters", "parameters": "parameters", "flops": "operations a picture"}
    names["file_bytes"] = "bytes of the Darknet file"
    rows = [
        (shown, report[f"{key}_before"], report[f"{key}_after"], _share(report, key))
        for key, shown in names.items()
    ]
    title = f"run '{report['run']}', pruned from '{report['pruned_from']}'"
    table(("", "before", "after", "kept"), rows, title=title)
    columns = ("layer", "filters before", "after", "parameters before", "after")
    changed = [row for row in report["layers"] if row["filters_before"] != row["filters_after"]]
    keys = ("layer", "filters_before", "filters_after", "parameters_before", "parameters_after")
    table(columns, [[row[key] for key in keys] for row in changed])
    typer.echo(f"threshold {report['threshold']:.4g}; written to {report['folder']}")


def _share(row: dict[str, Any], key: str) -> str:
    return f"{row[f'{key}_after'] / max(1, row[f'{key}_before']):.1%}"
