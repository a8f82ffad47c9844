"""`tilth info`: show what the project holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from tilth.cli.options import ProjectOption, TaskOption
from tilth.cli.outcome import Outcome, table
from tilth.cli.project import open_project

if TYPE_CHECKING:
    from tilth.data.dataset import Dataset
    from tilth.data.project import Project


def command(task: TaskOption = "detection", project: ProjectOption = None) -> Outcome:
    """Show what the project holds.

    Counts by split, class, cluster, source and review state, the versions, how far the measuring
    has come, and the runs.

    \b
    Example:
      tilth info
      tilth info --json
    """
    opened = open_project(project)
    dataset = opened.catalogue.read(task)
    document = {
        "project": opened.root,
        "task": task,
        **_counts(dataset),
        "measured": _measured(opened, dataset),
        "annotations_by_cluster": _by_cluster(opened, dataset),
        "versions": [version.name for version in opened.catalogue.versions()],
        "runs": sorted(folder.name for folder in opened.runs.iterdir() if folder.is_dir()),
    }
    return Outcome(document, lambda: _show(document))


def _counts(dataset: Dataset) -> dict[str, Any]:
    """Pictures and annotations by everything that has a name."""
    import numpy as np

    from tilth.data.records import ReviewState, Source, Split

    media, annotations = dataset.media, dataset.annotations
    by_class = np.bincount(annotations.category_index, minlength=len(dataset.categories))
    names = [category.name for category in dataset.categories]
    return {
        "num_media": len(media),
        "num_derived": int((media.parent_id >= 0).sum()),
        "num_annotations": len(annotations),
        "media_by_split": {s.name.lower(): int((media.split == s).sum()) for s in Split},
        "annotations_by_class": dict(zip(names, by_class.tolist(), strict=True)),
        "annotations_by_source": {
            s.name.lower(): int((annotations.source == s).sum()) for s in Source
        },
        "annotations_by_review_state": {
            s.name.lower(): int((annotations.review_state == s).sum()) for s in ReviewState
        },
    }


def _measured(project: Project, dataset: Dataset) -> dict[str, int]:
    from tilth.curate.measure import BOX_FEATURE_SET, IMAGE_FEATURE_SET

    media, boxes, catalogue = dataset.media.id, dataset.annotations.id, project.catalogue
    return {
        "pictures": len(media) - len(catalogue.missing_features(IMAGE_FEATURE_SET, media)),
        "boxes": len(boxes) - len(catalogue.missing_features(BOX_FEATURE_SET, boxes)),
    }


def _by_cluster(project: Project, dataset: Dataset) -> dict[str, int]:
    """Boxes of each cluster; those without one are not counted."""
    import numpy as np

    from tilth.curate.box_clusters import cluster_labels

    labels = cluster_labels(project, dataset)
    counts = np.bincount(labels[labels >= 0]).tolist()
    return {str(cluster): count for cluster, count in enumerate(counts)}


def _show(document: dict[str, Any]) -> None:
    typer.echo(f"project {document['project']}")
    rows = [
        ("pictures", "", document["num_media"]),
        ("", "derived", document["num_derived"]),
        ("", "measured", document["measured"]["pictures"]),
        *(("", f"split {name}", n) for name, n in document["media_by_split"].items() if n),
        ("annotations", "", document["num_annotations"]),
        ("", "measured", document["measured"]["boxes"]),
        *(("", f"class {name}", n) for name, n in document["annotations_by_class"].items()),
        *(("", f"cluster {name}", n) for name, n in document["annotations_by_cluster"].items()),
        *(("", f"source {name}", n) for name, n in document["annotations_by_source"].items() if n),
        *(
            ("", f"review {name}", n)
            for name, n in document["annotations_by_review_state"].items()
            if n
        ),
    ]
    table(("", "", "count"), rows)
    for name in ("versions", "runs"):
        typer.echo(f"{name}: {', '.join(document[name]) or '-'}")
