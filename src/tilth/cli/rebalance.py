"""`tilth rebalance`: plan and make pictures for the clusters that lack them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tilth.cli.options import ProjectOption, QuietOption, TaskOption
from tilth.cli.outcome import Outcome, error_document, print_rich
from tilth.cli.progress import shows_progress
from tilth.cli.project import open_project
from tilth.errors import DataError, SettingsError

if TYPE_CHECKING:
    from tilth.curate.rebalance import RebalancePlan
    from tilth.data.project import Project


def command(
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            metavar="N|equal",
            help="Pictures a cluster is brought to.  [default: equal]",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--name", metavar="NAME", help="The folder in augmented/.  [default: rebalanced]"
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", help="Every random choice follows from it.  [default: 0]"),
    ] = None,
    plan_only: Annotated[
        bool, typer.Option("--plan-only", help="Print the plan and make nothing.")
    ] = False,
    plan_file: Annotated[
        Path | None,
        typer.Option(
            "--plan",
            metavar="FILE",
            help="With --plan-only the plan is written here; without, the plan in it is run.",
        ),
    ] = None,
    task: TaskOption = "detection",
    project: ProjectOption = None,
    quiet: QuietOption = False,
) -> Outcome:
    """Plan and make pictures for the clusters that lack them.

    A picture belongs to the cluster of most of its boxes. Only training originals are augmented,
    with boxes that follow. The plan says what every cluster has, should have and is to get; once
    written to a file it can be edited before it runs. Needs 'tilth split' and 'tilth clusters'.

    \b
    Example:
      tilth rebalance --plan-only --plan plan.toml
      tilth rebalance --plan plan.toml
      tilth rebalance --target 200 --name to-200 --seed 1
    """
    opened = open_project(project)
    from tilth.curate.rebalance import RebalancePlan, run

    if plan_file is not None and not plan_only:
        if not (target is name is seed is None):
            raise SettingsError(
                "the plan in the file says target, name and seed itself",
                where=str(plan_file),
                fix="edit the file, or leave out --plan",
            )
        plan = RebalancePlan.load(plan_file)
    else:
        plan = _plan(opened, task, _parse_target(target), name, seed)
    document = _plan_document(plan)
    if plan_only:
        if plan_file is not None:
            plan.save(plan_file)
        document["plan"] = plan_file
        return Outcome(document, lambda: _show_plan(plan, plan_file))
    report = run(opened, plan, task=task, progress=shows_progress(quiet))
    document |= dataclasses.asdict(dataclasses.replace(report, errors=()))
    document["errors"] = [error_document(error)["error"] for error in report.errors]
    return Outcome(document, lambda: _show_run(plan, document))


def _plan(
    project: Project,
    task: str,
    target: int | Literal["equal"],
    name: str | None,
    seed: int | None,
) -> RebalancePlan:
    from tilth.curate.box_clusters import cluster_labels
    from tilth.curate.clusters import media_clusters
    from tilth.curate.rebalance import plan
    from tilth.data.preannotation import trusted

    dataset = trusted(project.catalogue.read(task))
    labels = cluster_labels(project, dataset)
    if not (labels >= 0).any():
        raise DataError(
            "the boxes have no clusters yet", where=f"task '{task}'", fix="tilth clusters"
        )
    return plan(
        dataset,
        media_clusters(dataset, labels),
        target=target,
        name=name or "rebalanced",
        seed=seed or 0,
    )


def _parse_target(text: str | None) -> int | Literal["equal"]:
    if text is None or text == "equal":
        return "equal"
    if text.isdecimal():
        return int(text)
    raise SettingsError("--target cannot be read", expected="a number, or equal", got=text)


def _plan_document(plan: RebalancePlan) -> dict[str, Any]:
    clusters = [
        {"cluster": c.cluster, "have": c.have, "target": c.target, "to_make": c.to_make}
        for c in plan.clusters
    ]
    return {"name": plan.name, "seed": plan.seed, "to_make": plan.to_make, "clusters": clusters}


def _show_plan(plan: RebalancePlan, written_to: Path | None = None) -> None:
    print_rich(plan.table())
    if written_to is not None:
        typer.echo(f"plan: {written_to}")


def _show_run(plan: RebalancePlan, document: dict[str, Any]) -> None:
    _show_plan(plan)
    typer.echo(
        f"made {document['made']} pictures, {document['found']} were there, "
        f"{document['without_objects']} left out because every draw lost their objects"
    )
    for error in document["errors"]:
        typer.echo(f"not made: {error.get('where', '')}: {error['message']}")
