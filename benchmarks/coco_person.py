"""The source's experiment on its own data: pretrained, retrained, rebalanced, on COCO's people.

NVIDIA's post takes COCO val2017 pictures that show a person, clusters the boxes, augments until the
clusters are equal, retrains YOLOv4 and reports 69.86 -> 84.79 % mAP50. Here the same pictures, a
real pretrained detector small enough for two cores (Yolo-Fastest-1.1-xl, public domain), and five
arms from the same weights with equal steps: as it came, raw pictures, random augmentation, cluster
rebalancing (k = 4, 2,000 pictures a cluster), and the source's protocol, which holds back 30 % of
the augmented set, so that copies of one picture lie on both sides.

Pictures that look alike are grouped, and the groups divided into 70 % to train on and 30 % held
out, before anything else is done.

    python benchmarks/coco_person.py --data ../shared/data
    python benchmarks/coco_person.py --data ../shared/data --full      the same for a GPU

A second call goes on where the first was stopped: every run keeps a checkpoint an epoch.
"""

from __future__ import annotations

import argparse
import resource
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from evidence import claim, write_result
from experiment_arms import arm_claim, coco_project, seed_scores
from numpy.typing import NDArray

from tilth.data.dataset import Dataset
from tilth.data.images import read_image
from tilth.data.project import Project
from tilth.data.splits import split_by_parent
from tilth.metrics.average_precision import average_precision
from tilth.recipes.detect import experiment
from tilth.recipes.detect_settings import DetectSettings, settings
from tilth.recipes.detector import find_objects, new_detector
from tilth.recipes.experiment import Arm, ExperimentResult
from tilth.recipes.report import write_report
from tilth.recipes.report.plots import arm_dots
from tilth.train.augment_settings import LIGHT

PAGE = Path(__file__).resolve().parents[1] / "docs" / "images" / "coco-person.svg"
SOURCE_BEFORE, SOURCE_AFTER = 0.6986, 0.8479  # mAP50 of the source, its own data and protocol
ARMS = {
    "pretrained": "coco_person_map50_pretrained",
    "raw": "coco_person_map50_raw",
    "random": "coco_person_map50_random",
    "rebalanced": "coco_person_map50_rebalanced",
    "source-retrained": "coco_person_map50_leaky",
}
ALIKE_BITS = 6  # of 64 that may differ between two pictures of one scene

RETRAIN = [
    "model.variant=darknet",
    "model.size=320",
    "train.optimiser=adamw",
    "train.learning_rate=0.0005",
    "train.weight_decay=0.01",
    "train.warmup_steps=30",
    "train.ema_decay=0.98",
    "train.precision=bf16",
    "train.checkpoint_every=100",  # an epoch of the originals
    "train.freeze.layers=60",
    "batch_size=16",
    "clusters.k=4",
    "rebalance.target=2000",
]
FULL = [
    "model.size=416",
    "train.freeze.layers=0",
    "train.precision=bf16",
    "train.warmup_steps=500",
    "train.ema_decay=0.9998",
    "batch_size=64",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, default=Path("/tmp/coco-person"))
    parser.add_argument("--steps", type=int, default=400, help="of each retrained arm")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--full", action="store_true", help="all layers, 416 px, for a GPU")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=1")
    arguments = parser.parse_args()
    data = arguments.data.resolve()
    chosen = settings_of(data / "weights" / "yolo-fastest", arguments)
    project = people_project(data / "coco-person", arguments.work)
    result = experiment(project.root, settings=chosen, name="people")
    write_report(result, project.runs / "people")
    draw(result, PAGE)
    record(result, project, chosen, everything=score_as_published(project, chosen))


def settings_of(weights: Path, arguments: argparse.Namespace) -> DetectSettings:
    """The settings of all arms."""
    network = weights / "yolo-fastest-1.1-xl"
    steps = max(arguments.steps, 20_000) if arguments.full else arguments.steps
    chosen = settings(
        overrides=[
            *RETRAIN,
            f"model.cfg={network}.cfg",
            f"model.weights={network}.weights",
            f"model.weights_classes={weights / 'coco.names'}",
            f"train.steps={steps}",
            f"experiment.seeds={list(range(arguments.seeds))}",
            *(FULL if arguments.full else []),
            *arguments.set,
        ]
    )
    return replace(chosen, augment=LIGHT)


def people_project(source: Path, root: Path) -> Project:
    """The pictures, grouped and divided."""
    project = coco_project(root, source / "instances.json", source / "images")
    everything = project.catalogue.read()
    originals = everything.take(np.flatnonzero(everything.media.parent_id < 0))
    groups = groups_of_alike(project, originals)
    splits = split_by_parent(originals, (0.7, 0.0, 0.3), 0, groups=groups)
    project.catalogue.set_splits(originals.media.id, splits)
    return project


def groups_of_alike(project: Project, dataset: Dataset) -> list[str]:
    """For each picture the name of the first that looks like it: equal difference hashes, nearly.

    The hash is the sign of the difference between neighbours in a 9 x 8 grey thumbnail.
    """
    hashes = np.stack([difference_hash(project.media_path(uri)) for uri in dataset.media.uri])
    first = np.arange(len(hashes))
    for row in range(len(hashes)):
        alike = np.flatnonzero((hashes[:row] != hashes[row]).sum(axis=1) <= ALIKE_BITS)
        if len(alike):
            first[first == first[row]] = first[alike[0]]
    return [Path(dataset.media.uri[row]).stem for row in first]


def difference_hash(path: Path) -> NDArray[np.bool_]:
    grey = cv2.cvtColor(read_image(path), cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA).astype(np.int16)
    return (small[:, 1:] > small[:, :-1]).ravel()


def score_as_published(project: Project, chosen: DetectSettings) -> float:
    """AP50 of the weights as they came, on all pictures, at 320."""
    dataset = project.catalogue.read()
    dataset = dataset.take(np.flatnonzero(dataset.media.parent_id < 0))
    model = replace(chosen.model, size=320)
    names = [category.name for category in dataset.categories]
    detector, _ = new_detector(model, names, root=project.root, seed=0)
    detector.model.eval()
    paths = [project.media_path(uri) for uri in dataset.media.uri]
    found = find_objects(detector, paths, labelled=dataset, progress=True)
    ap50 = average_precision(dataset, found).ap50
    assert ap50 is not None
    return ap50


def record(
    result: ExperimentResult, project: Project, chosen: DetectSettings, *, everything: float
) -> None:
    """Write the claims; every number is mAP at IoU 0.5 (one class: AP50), as a fraction."""
    arms = {arm.name: arm for arm in result.arms}
    claims = [_claim(arms, name) for name in ARMS]
    claims.append(
        claim(
            "yolo_fastest_person_ap50",
            everything,
            unit="AP50",
            goal=0.50,
            better="higher",
            note="Yolo-Fastest-1.1-xl as published, 320 px, all pictures, score > 0.001, "
            "suppression at IoU 0.5; the reference says 0.532 on all 2,693",
        )
    )
    counted = sum(
        resource.getrusage(who).ru_utime for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    write_result(
        "coco_person",
        claims,
        data={"name": "coco-person", "digest": result.datasets["people"]},
        detail={
            "summary": result.summary,
            "seconds": result.seconds,
            "cpu_seconds_of_the_last_call": round(counted),
            "settings": result.settings,
            "clusters": [
                {"ap50": {arm.name: arm.cluster_ap50(row).mean for arm in result.arms}}
                for row in range(int(chosen.clusters.k))
            ],
            "scores": seed_scores(result),
        },
    )


def _claim(arms: dict[str, Arm], name: str) -> dict[str, Any]:
    source = {"pretrained": SOURCE_BEFORE, "source-retrained": SOURCE_AFTER}.get(name)
    honest = arms["rebalanced"] if arms[name].protocol == "source" else None
    made = arm_claim(ARMS[name], arms[name], source_value=source, honest=honest)
    if name == "rebalanced":
        gain = made["value"] - (arms["random"].ap50.mean or 0.0)
        made["note"] += f"; {100 * gain:+.1f} points against random augmentation"
    return made


def draw(result: ExperimentResult, path: Path) -> None:
    """The figure of the README: one dot a seed, on held-out pictures."""
    figure = str(arm_dots([arm for arm in result.arms if arm.protocol == "held-out"]))
    style = (
        "<style>svg{background:#fff;font:13px system-ui,sans-serif}.grid{stroke:#e3e6e8;fill:none}"
        ".tick,.axis{fill:#5c646d;font-size:12px}.middle{text-anchor:middle}.label{fill:#1d2126}"
        ".arm-0{--c:#7c848d}.arm-1{--c:#0072b2}.arm-2{--c:#d97a00}.arm-3{--c:#009e73}"
        "[class*=arm-]{stroke:var(--c);fill:var(--c)}text{stroke:none!important}</style>"
    )
    head, rest = figure.split(">", 1)
    head = head.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{head}>{style}{rest}", encoding="utf-8")


if __name__ == "__main__":
    main()
