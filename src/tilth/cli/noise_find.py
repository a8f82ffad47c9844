"""`tilth noise find`: list the labels that are likely to be wrong, the worst first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from tilth import lazy
from tilth.cli import agreement
from tilth.cli.options import (
    LabelColumnOption,
    OverridesOption,
    ProjectOption,
    QuietOption,
    TextColumnOption,
)
from tilth.cli.outcome import Outcome, table
from tilth.cli.progress import shows_progress
from tilth.cli.project import find_project
from tilth.config import read_toml
from tilth.errors import SettingsError

LISTS = (".csv", ".tsv", ".jsonl", ".parquet")
# What else is read beside the option that names a run.
READ_BESIDE = {
    "boxes": {"boxes", "split", "task", "top", "output", "project", "quiet", "as_json"},
    "weights": {"weights", "top", "output", "project", "quiet", "as_json"},
}


def command(
    context: typer.Context,
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DATA]",
            help="A table or a folder, as 'tilth train classify' takes them; without it the labels "
            "of whole pictures in the project.",
        ),
    ] = None,
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="The folder in runs/.")
    ] = "label-errors",
    text: TextColumnOption = None,
    label: LabelColumnOption = None,
    only: Annotated[
        str,
        typer.Option("--only", metavar="COLUMN=VALUE", help="Search these rows, such as split=1."),
    ] = "",
    group: Annotated[
        str,
        typer.Option("--group", metavar="COLUMN", help="Rows of one value are held out together."),
    ] = "",
    probabilities: Annotated[
        Path | None,
        typer.Option(
            "--probabilities",
            metavar="FILE",
            help="Of models that have not seen the labels: .parquet, .csv, .npz; trains nothing.",
        ),
    ] = None,
    folds: Annotated[int, typer.Option("--folds", min=2, help="Parts to hold out.")] = 4,
    repeats: Annotated[
        int, typer.Option("--repeats", min=1, help="How often all are held out.")
    ] = 1,
    filter: Annotated[
        str, typer.Option("--filter", metavar="NAME", help="What is taken for wrong.")
    ] = "posterior",
    score: Annotated[
        str, typer.Option("--score", metavar="NAME", help="What is ranked by.")
    ] = "posterior",
    adjusted: Annotated[
        bool, typer.Option("--adjusted", help="Score by what is usual for the class.")
    ] = False,
    top: Annotated[int, typer.Option("--top", min=1, help="Show so many.")] = 20,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output", metavar="FILE", help="Also write the list: .csv, .parquet; repeatable."
        ),
    ] = None,
    boxes: Annotated[
        str | None,
        typer.Option(
            "--boxes", metavar="RUN", help="Labels that are boxes, against a detector's run."
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights", metavar="RUN", help="Rank by the weights that a robust loss gave in a run."
        ),
    ] = None,
    split: Annotated[
        str,
        typer.Option("--split", metavar="NAME", help="Of a project.  [default: train; boxes: all]"),
    ] = "",
    task: Annotated[
        str | None, typer.Option("--task", metavar="NAME", help="The labelling task.")
    ] = None,
    settings_file: Annotated[
        Path | None, typer.Option("--settings", metavar="FILE", help="Of the classifier, in TOML.")
    ] = None,
    overrides: OverridesOption = None,
    project: ProjectOption = None,
    quiet: QuietOption = False,
) -> Outcome:
    """List the labels that are likely to be wrong, the worst first.

    Every label is judged by a classifier that has not seen it: the rows are divided into folds,
    near-duplicates in the same one, and a classifier is trained for each. What is found goes to
    the run's folder: all rows with their scores, the list, a page with the noise matrix, and the
    probabilities. No label is changed and no row removed. The same command after an interruption
    goes on where it was. A project's own labels are those of its training pictures, and their
    scores are kept in the catalogue. Filters: posterior, prune_by_noise_rate, prune_by_class, both,
    confident_learning, predicted_neq_given, low_normalised_margin, low_self_confidence. Scores:
    posterior, self_confidence, normalised_margin, confidence_weighted_entropy.

    \b
    Example:
      tilth noise find reviews.csv --text body --label stars --top 50
      tilth noise find photos/ --set train.steps=1000 --folds 5 --output wrong.csv
      tilth noise find reviews.csv --probabilities held-out.parquet --filter both
      tilth noise find --boxes first --split val
      tilth noise find --weights robust-reviews
    """
    outputs = output or []
    if boxes is not None:
        _refuse_unread(context, "boxes")
        return agreement.command(
            run=boxes,
            split=split,
            limit=top,
            output=outputs,
            task=task or "detection",
            project=project,
            quiet=quiet,
        )
    _check(outputs, split)
    root = find_project(project)
    if weights is not None:
        _refuse_unread(context, "weights")
        rank = lazy.attribute("tilth.recipes.weight_ranking:rank_by_weights")
        ranked = rank(root, weights, outputs=outputs)
        return Outcome(ranked, lambda: _show_ranking(ranked, top))
    from tilth.curate.label_errors import LabelErrorSettings

    errors = LabelErrorSettings(filter=filter, score=score, adjusted=adjusted)
    values = read_toml(settings_file) if settings_file is not None else {}
    named = {key: value for key, value in (("text", text), ("label", label)) if value}
    values = {**values, "data": {**values.get("data", {}), **named}}
    recipe = "tilth.recipes.label_errors"
    search = lazy.attribute(f"{recipe}:LabelSearchSettings")(
        folds=folds, repeats=repeats, group=group, only=only, errors=errors
    )
    settings = lazy.attribute("tilth.recipes.classify_settings:settings")(values, overrides or [])
    found: dict[str, Any] = lazy.attribute(f"{recipe}:search_label_errors")(
        root,
        data=data,
        settings=settings,
        search=search,
        name=name,
        probabilities=probabilities,
        task=task or "classification",
        split=split or "train",
        progress=shows_progress(quiet),
    )
    for path in outputs:
        lazy.attribute(f"{recipe}:write_list")(found["errors"], path)
    found["written"] = [str(path) for path in outputs]
    return Outcome(found, lambda: _show(found, top))


def _check(outputs: Sequence[Path], split: str) -> None:
    """What would fail only after an hour of training."""
    from tilth.data.records import Split

    if split and split.upper() not in Split.__members__:
        raise SettingsError("no such split", expected="train, val, test", got=split)
    for path in outputs:
        if path.suffix not in LISTS:
            raise SettingsError(
                "a list of this kind cannot be written",
                where=str(path),
                expected=", ".join(LISTS),
                got=path.suffix or "no suffix",
            )


def _refuse_unread(context: typer.Context, name: str) -> None:
    """Refuse what was given beside an option that names a run, and would change nothing."""
    unread = [
        parameter.opts[0] if parameter.opts[0].startswith("-") else "DATA"
        for parameter in context.command.params
        if parameter.name not in READ_BESIDE[name] and _is_given(context, parameter.name)
    ]
    if unread:
        raise SettingsError(
            f"--{name} RUN has its labels already and does not read {', '.join(unread)}",
            fix=f"leave out {', '.join(unread)}, or leave out --{name}",
        )


def _is_given(context: typer.Context, name: str | None) -> bool:
    source = context.get_parameter_source(name or "")
    return source is not None and source.name not in ("DEFAULT", "DEFAULT_MAP")


def _show_ranking(ranked: dict[str, Any], top: int) -> None:
    names = ("rank", "row", "label", "quality", "weight", "seen")
    typer.echo(f"{ranked['rows']} rows, the least believed of each class first")
    table(("", *names[1:]), [[row[name] for name in names] for row in ranked["errors"][:top]])
    for path in ranked["written"]:
        typer.echo(f"written: {path}")


def _show(found: dict[str, Any], top: int) -> None:
    noise = found["noise"]
    low, high = noise["share_wrong_interval"]
    typer.echo(
        f"{found['found']} of {found['rows']} labels are taken for wrong ({found['filter']}); "
        f"estimated share {noise['share_wrong']:.1%} ({low:.1%} to {high:.1%})"
    )
    names = ("rank", "row", "given_label", "suggested_label", "quality", "margin", "name")
    rows = [[row[name] for name in names] for row in found["errors"][:top]]
    if rows:
        columns = ("", "row", "given", "suggested", "quality", "margin", "what")
        table(columns, rows)
    if (left := found["found"] - top) > 0:
        typer.echo(f"and {left} more: --top, or the list")
    for notice in found["notices"]:
        typer.echo(f"note: {notice}")
    for key in ("list", "labels", "report"):
        typer.echo(f"{key}: {found[key]}")
    for path in found["written"]:
        typer.echo(f"written: {path}")
