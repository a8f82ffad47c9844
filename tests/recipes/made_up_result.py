"""A made-up experiment with the shape of a real one: four arms, three seeds, real photographs."""

from __future__ import annotations

from typing import Any

import numpy as np
from drawn_sets import detected, labelled

from tilth.data.detections import Detections
from tilth.recipes.cluster_words import describe_clusters
from tilth.recipes.example_pictures import example_picture
from tilth.recipes.experiment import (
    Arm,
    ClusterView,
    ExamplePicture,
    ExperimentResult,
    PlanRow,
    SeedScore,
)

ARMS = {  # name: label, description, mean AP50, pictures, of them derived, steps
    "pretrained": ("Pretrained, as it is", "The detector before retraining.", 0.592, 0, 0, 0),
    "raw": ("Retrained, raw pictures", "The labelled pictures alone.", 0.684, 400, 0, 600),
    "random": ("Retrained, random", "As many derived pictures, at random.", 0.719, 960, 560, 600),
    "rebalanced": ("Retrained, rebalanced", "Derived by cluster.", 0.774, 960, 560, 600),
}
CENTRES = [
    [-1.1, -1.0, -1.0, -0.6, -0.8, -0.2],
    [0.9, 0.8, 0.9, 0.1, 0.3, -0.5],
    [0.2, 0.1, 0.3, 1.4, 1.0, 0.2],
    [-0.1, 0.1, 0.0, 0.2, 0.1, 2.1],
]
FEATURES = ["red_mean", "green_mean", "blue_mean", "grey_std", "grey_entropy", "relative_area"]
CLASSES = ["face", "coin"]


def made_up_arm(name: str, ap50s: list[float | None]) -> Arm:
    """An arm of `ARMS` with one score a value."""
    label, description, _, pictures, derived, steps = ARMS[name]
    return Arm(
        name=name,
        label=label,
        description=description,
        num_train_images=pictures,
        num_derived_images=derived,
        steps=steps,
        scores=[_score(seed, ap50, steps) for seed, ap50 in enumerate(ap50s)],
    )


def made_up_result(*, num_examples: int = 6, **changes: Any) -> ExperimentResult:
    """A whole result; ``changes`` replace fields of it."""
    offsets = (-0.019, 0.004, 0.016)
    arms = [made_up_arm(name, [ARMS[name][2] + o for o in offsets]) for name in ARMS]
    source = Arm(
        name="rebalanced-source",
        label="Retrained, rebalanced",
        description="30 % of the augmented set held out.",
        protocol="source",
        num_train_images=672,
        num_derived_images=392,
        steps=600,
        scores=[_score(seed, 0.86 + o, 600) for seed, o in enumerate(offsets)],
    )
    fields: dict[str, Any] = {
        "title": "Rebalancing faces and coins",
        "summary": "Does a detector gain more from balanced than from random augmentation?",
        "created": "2026-09-21T14:03:11+00:00",
        "seconds": 317.4,
        "command": "tilth demo --seeds 3",
        "seeds": [0, 1, 2],
        "machine": {"processor": "x86_64", "cores": 2, "memory_gb": 7.8, "device": "cpu"},
        "versions": {"tilth": "0.1.0", "python": "3.11.2", "torch": "2.13.0", "numpy": "2.4.6"},
        "settings": {
            "variant": "yolov4-tiny",
            "image_size": 160,
            "loop": {"steps": 600, "learning_rate": 0.002, "warmup_steps": 50},
            "augmentation": {"scale": [0.5, 0.8], "brightness": [1.1, 1.5], "flip": True},
        },
        "datasets": {"train": "sha256:" + "3f9a" * 16, "held-out": "sha256:" + "b07c" * 16},
        "class_names": CLASSES,
        "arms": [*arms, source],
        "clusters": made_up_clusters(),
        "examples": made_up_examples(num_examples),
        "notes": ["2 pictures of 502 could not be decoded and were left out."],
    }
    return ExperimentResult(**(fields | changes))


def made_up_clusters() -> ClusterView:
    """Four unequal clusters that become nearly equal."""
    random = np.random.default_rng(7)
    before, after = [620, 410, 190, 74], [640, 628, 611, 596]
    middles = np.array([[-2.0, -0.8], [1.2, -1.4], [0.9, 1.5], [-0.8, 1.9]])
    original = [
        [*random.normal(middles[c], 0.62).tolist(), c] for c in range(4) for _ in range(before[c])
    ]
    derived = [
        [*random.normal(middles[c], 0.7).tolist(), c, 1]
        for c in range(4)
        for _ in range(after[c] - before[c])
    ]
    have, target = [190, 121, 63, 26], [240, 240, 240, 240]
    return ClusterView(
        k=4,
        feature_names=FEATURES,
        counts_before=before,
        counts_after=after,
        images_before=have,
        images_after=target,
        descriptions=describe_clusters(CENTRES, FEATURES),
        points_before=original,
        points_after=[[*point, 0] for point in original] + derived,
        plan=[
            PlanRow(cluster=c, have=have[c], target=target[c], to_make=target[c] - have[c])
            for c in range(4)
        ],
    )


def made_up_examples(count: int) -> list[ExamplePicture]:
    """Photographs that scikit-image carries, with boxes that later arms find more of."""
    from skimage import data

    photographs = [data.astronaut(), data.coins(), data.cat(), data.rocket(), data.coffee()]
    random = np.random.default_rng(3)
    pictures = []
    for index in range(count):
        photograph = photographs[index % len(photographs)]
        if photograph.ndim == 2:
            photograph = np.repeat(photograph[..., None], 3, axis=2)
        height, width = photograph.shape[:2]
        number = int(random.integers(1, 6))
        size = random.uniform(0.12, 0.3, (number, 2)) * [width, height]
        corner = random.uniform(0, 1, (number, 2)) * ([width, height] - size)
        truth = np.concatenate([corner, corner + size], axis=1)
        classes = random.integers(0, 2, number)
        predictions = {
            name: _detections(random, truth, classes, skill)
            for name, skill in zip(ARMS, (0.35, 0.6, 0.7, 0.92), strict=True)
        }
        name = f"{index:04d}.jpg"
        own = labelled([truth], [classes.tolist()], class_names=CLASSES)
        pictures.append(example_picture(name, photograph, own, predictions))
    return pictures


def _detections(random: np.random.Generator, truth: Any, classes: Any, skill: float) -> Detections:
    found = random.random(len(truth)) < skill
    guesses = truth[random.random(len(truth)) > skill + 0.2] + 25.0
    boxes = np.concatenate([truth[found] + random.normal(0, 3, (found.sum(), 4)), guesses])
    scores = np.concatenate([random.uniform(0.5, 0.99, found.sum()), np.full(len(guesses), 0.33)])
    kinds = np.concatenate([classes[found], np.zeros(len(guesses), dtype=int)])
    return detected(boxes, scores, kinds)


def _score(seed: int, ap50: float | None, steps: int) -> SeedScore:
    level = 0.0 if ap50 is None or np.isnan(ap50) else ap50
    recall = np.linspace(0, 1, 101)
    reach = 0.45 + 0.6 * level  # the curve falls like a square and ends before full recall
    precision = np.where(recall < reach, 0.99 - 0.55 * (recall / reach) ** (1 + 3 * level), 0.0)
    return SeedScore(
        seed=seed,
        ap50=ap50,
        ap=level * 0.58,
        ap75=level * 0.63,
        per_cluster_ap50=[min(level + d, 1) for d in (0.12, 0.06, -0.09 * (1 - level), -0.2)],
        per_class_ap50={"face": min(level + 0.07, 1), "coin": max(level - 0.07, 0)},
        recall=recall.tolist(),
        precision=precision.tolist(),
        seconds=24.0 * (steps > 0),
        steps=steps,
    )
