"""`tilth clusters`: group the boxes by how they look."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tilth.cli.options import ProjectOption, QuietOption, SeedOption, TaskOption
from tilth.cli.outcome import Outcome, table
from tilth.cli.progress import spinner
from tilth.cli.project import open_project
from tilth.errors import EmptyDatasetError, SettingsError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tilth.data.catalogue import Catalogue
    from tilth.data.dataset import Dataset

CLUSTER_SET, PROJECTION_SET = "clusters", "projection"


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
    before the first split; every other box goes to the nearest. Cluster 0 is the largest. Needs
    'tilth metrics' first.

    \b
    Example:
      tilth clusters
      tilth clusters --k auto --projection umap
    """
    number = _parse_k(k)
    catalogue = open_project(project).catalogue
    import numpy as np

    from tilth.curate.clusters import cluster, project_2d

    dataset = catalogue.read(task)
    ids, features = _measured_boxes(catalogue, dataset)
    to_fit = np.isin(ids, dataset.annotations.id[_annotations_to_fit(dataset)])
    if not to_fit.any():
        raise EmptyDatasetError("no box is measured", where=f"task '{task}'", fix="tilth metrics")
    with spinner("clustering", quiet=quiet):
        found = cluster(features[to_fit], number, seed=seed)
        labels = found.assign(features)
        coordinates = project_2d(found.standardise(features), projection, seed=seed)
    catalogue.write_features(
        CLUSTER_SET, ["cluster"], "annotation", ids, labels[:, None].astype(np.float64)
    )
    catalogue.write_features(PROJECTION_SET, ["x", "y"], "annotation", ids, coordinates)

    counts = np.bincount(labels, minlength=found.k).tolist()
    document = {
        "k": found.k,
        "silhouette": found.silhouette,
        "silhouette_by_k": found.silhouette_by_k,
        "boxes": counts,
        "not_measured": len(dataset.annotations) - len(ids),
        "projection": projection,
        "seed": seed,
    }
    title = f"k = {found.k}, silhouette {found.silhouette:.2f}"
    return Outcome(
        document, lambda: table(("cluster", "boxes"), list(enumerate(counts)), title=title)
    )


def _parse_k(text: str) -> int | Literal["auto"]:
    if text == "auto":
        return "auto"
    if text.isdecimal():
        return int(text)
    raise SettingsError("--k cannot be read", expected="a number, or auto", got=text)


def _measured_boxes(
    catalogue: Catalogue, dataset: Dataset
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Annotation ids [m] of the task, and the features [m, 6] that are clustered."""
    import numpy as np

    from tilth.curate.box_features import CLUSTER_FEATURE_NAMES
    from tilth.curate.measure import BOX_FEATURE_SET

    measured = catalogue.read_features(BOX_FEATURE_SET)
    if not len(measured.ids):
        return np.empty(0, np.int64), np.empty((0, len(CLUSTER_FEATURE_NAMES)))
    wanted = [list(measured.columns).index(name) for name in CLUSTER_FEATURE_NAMES]
    of_task = np.isin(measured.ids, dataset.annotations.id)
    return measured.ids[of_task], measured.values[of_task][:, wanted]


def _annotations_to_fit(dataset: Dataset) -> NDArray[np.bool_]:
    """Training originals: held-out boxes must not decide, and copies must not move the centres."""
    from tilth.data.records import Split

    originals = dataset.media.parent_id < 0
    training = originals & (dataset.media.split == Split.TRAIN)
    return (training if training.any() else originals)[dataset.annotations.media_index]
