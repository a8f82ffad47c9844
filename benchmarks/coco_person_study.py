"""Why rebalancing does not beat random augmentation on COCO's people, and whether anything does.

Goes on from `coco_person.py`, in the same project: the same weights, the same 70 % of the pictures
to train on, the same held-out ones, equal steps. First the sizes of the boxes: of each cluster, and
of the pictures that augmentation made, as the network sees them. Then arms that change one thing
each, by what those sizes say:

    random-near, rebalanced-near   new pictures at 0.8 to 1.6 of their size, not 0.5 to 0.8
    sampled                        no new pictures: those of small clusters come more often
    raw-deep                       raw pictures, with 30 layers frozen where the others have 60

    python benchmarks/coco_person.py --data ../shared/data --work /tmp/people
    python benchmarks/coco_person_study.py --data ../shared/data --work /tmp/people

A run that was finished is not done again.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from coco_person import settings_of
from evidence import claim, write_result
from numpy.typing import NDArray

from tilth.curate import rebalance
from tilth.curate.augment import Augmentation
from tilth.curate.box_clusters import cluster_boxes, cluster_labels
from tilth.curate.clusters import media_clusters
from tilth.curate.measure import measure
from tilth.curate.rebalance import pictures_of
from tilth.data.dataset import Dataset
from tilth.data.preannotation import trusted
from tilth.data.project import Project
from tilth.data.records import Split
from tilth.metrics.average_precision import average_precision
from tilth.recipes.arms import ArmJob, ArmOutcome, run_arms
from tilth.recipes.detect_settings import DetectSettings
from tilth.train.freeze_settings import FreezeSettings
from tilth.train.sampling import SamplingSettings

VERSION = "people-study"
NEAR = Augmentation(scale=(0.8, 1.6))
SMALL = 32.0**2  # square pixels, COCO's limit
WAYS = {
    "random-near": "as many new pictures of parents drawn at random, at 0.8 to 1.6 of their size",
    "rebalanced-near": "new pictures until all clusters are equal, at 0.8 to 1.6 of their size",
    "sampled": "raw pictures, those of small clusters more often",
    "raw-deep": "raw pictures, 30 layers frozen instead of 60",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Study:
    """One version of the data, and the media rows that each arm trains on."""

    project: Project
    data: Dataset
    digest: str
    clusters: NDArray[np.int64]
    rows: dict[str, NDArray[np.int64]]
    test_rows: NDArray[np.int64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, default=Path("/tmp/coco-person"))
    parser.add_argument("--steps", type=int, default=400, help="of each arm")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arms", nargs="+", choices=list(WAYS), default=list(WAYS))
    arguments = parser.parse_args()
    arguments.full, arguments.set = False, []
    chosen = settings_of(arguments.data.resolve() / "weights" / "yolo-fastest", arguments)
    study = prepared(Project.open(arguments.work), chosen)
    sizes = box_sizes(study)
    for arm in arguments.arms:
        jobs = [job(study, arm, seed, chosen) for seed in range(arguments.seeds)]
        todo = [one for one in jobs if not score_file(one).is_file()]
        for outcome in run_arms(todo, workers=0, progress=True) if todo else []:
            keep(study, outcome)
        record(study, chosen, sizes, arguments)


def prepared(project: Project, chosen: DetectSettings) -> Study:
    """The near pictures are made, measured and clustered beside those that are there."""
    seed = chosen.train.seed
    originals = trusted(project.catalogue.read())
    originals = originals.take(np.flatnonzero(originals.media.parent_id < 0))
    training = originals.of_split(Split.TRAIN)
    cluster_boxes(project, k=chosen.clusters.k, seed=seed)
    clusters = media_clusters(training, cluster_labels(project, training))
    balanced = rebalance.plan(
        training,
        clusters,
        target=chosen.rebalance.target,
        name="rebalanced-near",
        seed=seed,
        augmentation=NEAR,
    )
    random = rebalance.random_plan(
        training, balanced.to_make, name="random-near", seed=seed, augmentation=NEAR
    )
    for plan in (balanced, random):
        rebalance.run(project, plan)
    measure(project)
    cluster_boxes(project, k=chosen.clusters.k, seed=seed)
    version = project.catalogue.create_version(VERSION)
    data = trusted(project.catalogue.read(version=VERSION))
    original = data.media.parent_id < 0
    raw = original & (data.media.split == Split.TRAIN)
    rows = {name: np.flatnonzero(raw) for name in ("sampled", "raw-deep")}
    for plan in (random, balanced):
        rows[plan.name] = in_order(data, raw | pictures_of(data, plan.name))
    return Study(
        project=project,
        data=data,
        digest=version.digest,
        clusters=cluster_labels(project, data),
        rows=rows,
        test_rows=np.flatnonzero(original & (data.media.split == Split.TEST)),
    )


def in_order(data: Dataset, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Rows by name, so that the order in which pictures were made decides nothing."""
    rows = np.flatnonzero(chosen)
    return rows[np.argsort(np.array([data.media.uri[row] for row in rows]), kind="stable")]


def box_sizes(study: Study) -> dict[str, dict[str, float]]:
    """Boxes, the median of the root of their area at 320 px, and the share COCO calls small."""
    data, labels = study.data, study.clusters
    owner = np.repeat(np.arange(len(data.media)), np.diff(data.offsets))
    raw = np.isin(owner, study.rows["sampled"])
    boxes = {"raw": raw}
    for cluster in range(int(labels.max()) + 1):
        boxes[f"raw, cluster {cluster}"] = raw & (labels == cluster)
    for name in ("people-random", "people-rebalanced", "random-near", "rebalanced-near"):
        boxes[name] = pictures_of(data, name)[owner]
    sides = np.maximum(data.media.width, data.media.height)
    corners = data.annotations.boxes_xyxy
    area = np.prod(corners[:, 2:] - corners[:, :2], axis=1)
    seen = area * (320.0 / sides[owner]) ** 2
    return {
        name: {
            "boxes": int(chosen.sum()),
            "median_root_area_px": round(float(np.median(np.sqrt(seen[chosen]))), 1),
            "share_small": round(float((area[chosen] < SMALL).mean()), 3),
        }
        for name, chosen in boxes.items()
    }


def job(study: Study, arm: str, seed: int, chosen: DetectSettings) -> ArmJob:
    """One run of an arm."""
    settings = chosen
    if arm == "sampled":
        settings = replace(chosen, sampling=SamplingSettings(kind="cluster"))
    if arm == "raw-deep":
        settings = replace(chosen, train=replace(chosen.train, freeze=FreezeSettings(layers=30)))
    return ArmJob(
        root=study.project.root,
        folder=study.project.runs / VERSION,
        version=VERSION,
        digest=study.digest,
        arm=arm,
        seed=seed,
        train_rows=study.rows[arm],
        test_rows=study.test_rows,
        clusters=study.clusters,
        num_clusters=int(chosen.clusters.k),
        settings=settings,
    )


def score_file(one: ArmJob) -> Path:
    return one.run_dir / "score.json"


def keep(study: Study, outcome: ArmOutcome) -> None:
    """The numbers of a finished run, in its folder."""
    measured = average_precision(study.data.take(study.test_rows), outcome.detections)
    score = {
        "arm": outcome.job.arm,
        "seed": outcome.job.seed,
        "ap50": measured.ap50,
        "ap": measured.ap,
        "ap_small": measured.ap_small,
        "ap_medium": measured.ap_medium,
        "ap_large": measured.ap_large,
        "cluster_ap50": outcome.score.per_cluster_ap50,
        "seconds": outcome.score.seconds,
    }
    score_file(outcome.job).write_bytes(msgspec.json.encode(score))


def record(
    study: Study,
    chosen: DetectSettings,
    sizes: dict[str, dict[str, float]],
    arguments: argparse.Namespace,
) -> None:
    """Write the claims of the arms that all seeds have finished."""
    claims, scores = [], []
    for arm, words in WAYS.items():
        files = [score_file(job(study, arm, seed, chosen)) for seed in range(arguments.seeds)]
        if not all(file.is_file() for file in files):
            continue
        own: list[dict[str, Any]] = [msgspec.json.decode(file.read_bytes()) for file in files]
        values = [one["ap50"] for one in own]
        scores += own
        claims.append(
            claim(
                f"coco_person_study_map50_{arm.replace('-', '_')}",
                float(np.mean(values)),
                unit="mAP50",
                better="higher",
                spread=(min(values), max(values)),
                runs=len(values),
                note=f"{words}; {arguments.steps} steps; held-out originals",
            )
        )
    write_result(
        "coco_person_study",
        claims,
        data={"name": "coco-person", "digest": study.digest},
        detail={"box_sizes": sizes, "scores": scores, "steps": arguments.steps},
    )


if __name__ == "__main__":
    main()
