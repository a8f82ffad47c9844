"""`tilth clusters`: group the boxes by how they look."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import typer

from tilth.cli.options import ProjectOption, QuietOption, SeedOption, TaskOption
from tilth.cli.outcome import Outcome, table
from tilth.cli.progress import spinner
from tilth.cli.project import open_project
from tilth.errors import SettingsError


def command(
    k: Annotated[
        str, typer.Option("--k", metavar="N|auto", help="How many; auto: the best silhouette.")
    ] = "4",
    projection: Annotated[
        Literal["pca", "umap"], typer.Option("--projection", help="The map in two dimensions.")
    ] = "pca",
    seed: SeedOption = 0,
    task: TaskOption = "detection",
    project: ProjectOption = None,
    quiet: QuietOption = False,
) -> Outcome:
    """Group the boxes by how they look.

    K-means on the six standardised features of each box (colour means, grey deviation and entropy,
    relative area). The clusters are found on the original training pictures, or on all originals
    before the first split; every other box goes to the nearest. Cluster 0 is the largest. Proposals
    of a model have none before they are reviewed. Needs 'tilth metrics' first.

    \b
    Example:
      tilth clusters
      tilth clusters --k auto --projection umap
    """
    number = _parse_k(k)
    opened = open_project(project)
    import numpy as np

    from tilth.curate.box_clusters import cluster_boxes

    with spinner("clustering", quiet=quiet):
        boxes = cluster_boxes(opened, task=task, k=number, projection=projection, seed=seed)
    found = boxes.clusters
    counts = np.bincount(boxes.labels, minlength=found.k).tolist()
    document = {
        "k": found.k,
        "silhouette": found.silhouette,
        "silhouette_by_k": found.silhouette_by_k,
        "boxes": counts,
        "not_measured": boxes.not_measured,
        "projection": projection,
        "seed": seed,
    }
    return Outcome(document, lambda: _show(document))


def _parse_k(text: str) -> int | Literal["auto"]:
    if text == "auto":
        return "auto"
    if text.isdecimal():
        return int(text)
    raise SettingsError("--k cannot be read", expected="a number, or auto", got=text)


def _show(document: dict[str, Any]) -> None:
    silhouette = document["silhouette"]  # NaN for one cluster, which has no neighbour
    shown = "-" if math.isnan(silhouette) else f"{silhouette:.2f}"
    title = f"k = {document['k']}, silhouette {shown}"
    table(("cluster", "boxes"), list(enumerate(document["boxes"])), title=title)
    if document["not_measured"]:
        typer.echo(f"{document['not_measured']} boxes have no cluster: measure them, tilth metrics")
