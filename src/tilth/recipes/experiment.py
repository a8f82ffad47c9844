"""The result of an experiment as plain records, and its exact JSON form.

A recipe fills an `ExperimentResult`; `tilth.recipes.report` draws it. Everything that the report
shows is in these records and nothing else is, so the JSON file alone can rebuild the page.

Average precision, recall and precision are fractions in 0..1. A figure that could not be measured
(a class without a sample, a cluster without a held-out box) is ``None``, and ``null`` in JSON; a
NaN or an infinity given to a record becomes ``None`` at once, so that a round trip is exact.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from tilth.data.atomic import atomic_writer
from tilth.errors import DataError

__all__ = [
    "Arm",
    "ClusterView",
    "ExamplePicture",
    "ExperimentResult",
    "PlanRow",
    "PredictedBox",
    "SeedScore",
    "Spread",
    "TruthBox",
]

Protocol = Literal["held-out", "source"]
DetectionState = Literal["true positive", "false positive"]


@dataclass(frozen=True, kw_only=True)
class Spread:
    """What the seeds of one arm gave: mean, sample standard deviation, lowest and highest.

    ``std`` is None for fewer than two measured seeds, everything is None for none.
    """

    mean: float | None
    std: float | None
    low: float | None
    high: float | None
    runs: int

    @classmethod
    def of(cls, values: Sequence[float | None]) -> Spread:
        """Summarise the measured ones of ``values``.

        >>> Spread.of([0.5, None, 0.7]).mean
        0.6
        """
        measured = [value for value in map(_finite, values) if value is not None]
        if not measured:
            return cls(mean=None, std=None, low=None, high=None, runs=0)
        return cls(
            mean=statistics.fmean(measured),
            std=statistics.stdev(measured) if len(measured) > 1 else None,
            low=min(measured),
            high=max(measured),
            runs=len(measured),
        )

    def lies_above(self, other: Spread) -> bool:
        """Whether every measured value here is above every one of ``other``."""
        return self.low is not None and other.high is not None and self.low > other.high


@dataclass(frozen=True, kw_only=True)
class SeedScore:
    """One trained detector, scored on the pictures of its protocol.

    Attributes:
        seed: of the run; the same seed in two arms starts from the same weights.
        ap: mean over IoU thresholds 0.50 to 0.95, classes averaged.
        ap50: at IoU 0.50.
        ap75: at IoU 0.75.
        per_cluster_ap50: one a cluster, in the order of `ClusterView`.
        per_class_ap50: class name to AP at IoU 0.50.
        recall: of the curve at IoU 0.50, rising, usually 101 points from 0 to 1.
        precision: at each recall, the classes averaged; as long as ``recall``.
        seconds: training and evaluation, wall clock.
        steps: optimisation steps; 0 for a detector that was not trained further.
    """

    seed: int
    ap: float | None
    ap50: float | None
    ap75: float | None
    per_cluster_ap50: list[float | None] = field(default_factory=list)
    per_class_ap50: dict[str, float | None] = field(default_factory=dict)
    recall: list[float | None] = field(default_factory=list)
    precision: list[float | None] = field(default_factory=list)
    seconds: float | None = None
    steps: int = 0

    def __post_init__(self) -> None:
        if len(self.recall) != len(self.precision):
            raise DataError(
                "a precision-recall curve cannot be drawn",
                expected="as many precisions as recalls",
                got=f"{len(self.recall)} recalls and {len(self.precision)} precisions",
                where=f"seed {self.seed}",
            )
        for name in ("ap", "ap50", "ap75", "seconds"):
            object.__setattr__(self, name, _finite(getattr(self, name)))
        for name in ("per_cluster_ap50", "recall", "precision"):
            object.__setattr__(self, name, [_finite(value) for value in getattr(self, name)])
        per_class = {name: _finite(value) for name, value in self.per_class_ap50.items()}
        object.__setattr__(self, "per_class_ap50", per_class)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to train, over all seeds.

    Attributes:
        name: short and unique: "pretrained", "raw", "random", "rebalanced".
        label: as the tables call it.
        description: one sentence, what was done.
        protocol: "held-out" scores on untouched pictures; "source" holds back 30 % of the augmented
            set, as the source does, and is optimistic because derived pictures leak.
        num_train_images: pictures it was trained on, derived ones included.
        num_derived_images: how many of these were made by augmentation.
        steps: optimisation steps of each seed.
        scores: one a seed.
    """

    name: str
    label: str
    description: str = ""
    protocol: Protocol = "held-out"
    num_train_images: int = 0
    num_derived_images: int = 0
    steps: int = 0
    scores: list[SeedScore] = field(default_factory=list)

    @property
    def ap(self) -> Spread:
        """AP over IoU 0.50 to 0.95, across seeds."""
        return Spread.of([score.ap for score in self.scores])

    @property
    def ap50(self) -> Spread:
        """AP at IoU 0.50, across seeds."""
        return Spread.of([score.ap50 for score in self.scores])

    @property
    def ap75(self) -> Spread:
        """AP at IoU 0.75, across seeds."""
        return Spread.of([score.ap75 for score in self.scores])

    def cluster_ap50(self, cluster: int) -> Spread:
        """AP at IoU 0.50 on the boxes of one cluster, across seeds."""
        lists = [score.per_cluster_ap50 for score in self.scores]
        return Spread.of([values[cluster] if cluster < len(values) else None for values in lists])

    def class_ap50(self, class_name: str) -> Spread:
        """AP at IoU 0.50 of one class, across seeds."""
        return Spread.of([score.per_class_ap50.get(class_name) for score in self.scores])


@dataclass(frozen=True, kw_only=True)
class PlanRow:
    """What rebalancing did to one cluster, counted in pictures."""

    cluster: int
    have: int
    target: int
    to_make: int


@dataclass(frozen=True, kw_only=True)
class ClusterView:
    """The clusters of the training boxes, before and after rebalancing.

    Attributes:
        k: number of clusters; every list below that is "one a cluster" has this length.
        feature_names: what the boxes were measured by.
        method: how they were clustered.
        counts_before, counts_after: boxes, one a cluster.
        images_before, images_after: pictures, one a cluster; may be empty.
        descriptions: a few words a cluster, see `tilth.recipes.cluster_words.describe_clusters`.
        projection_name: what made the two axes, "PCA" or "UMAP".
        points_before: ``[x, y, cluster]`` a box.
        points_after: ``[x, y, cluster, derived]`` a box, derived 1 for a box that was made.
            In both, rows that are not finite are dropped: they cannot be drawn.
        plan: one row a cluster.
    """

    k: int
    counts_before: list[int]
    counts_after: list[int]
    feature_names: list[str] = field(default_factory=list)
    method: str = "k-means"
    images_before: list[int] = field(default_factory=list)
    images_after: list[int] = field(default_factory=list)
    descriptions: list[str] = field(default_factory=list)
    projection_name: str = "PCA"
    points_before: list[list[float]] = field(default_factory=list)
    points_after: list[list[float]] = field(default_factory=list)
    plan: list[PlanRow] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("counts_before", "counts_after"):
            _expect_length(name, getattr(self, name), self.k)
        for name in ("images_before", "images_after", "descriptions"):
            if getattr(self, name):
                _expect_length(name, getattr(self, name), self.k)
        for name, width in (("points_before", 3), ("points_after", 4)):
            object.__setattr__(self, name, _finite_points(name, getattr(self, name), width))


@dataclass(frozen=True, kw_only=True)
class TruthBox:
    """A labelled box: ``[x0, y0, x1, y1]`` in pixels of the stored picture."""

    box_xyxy: list[float]
    class_name: str


@dataclass(frozen=True, kw_only=True)
class PredictedBox:
    """A detection, and whether it matched a label at IoU 0.50."""

    box_xyxy: list[float]
    class_name: str
    score: float
    state: DetectionState


@dataclass(frozen=True, kw_only=True)
class ExamplePicture:
    """One held-out picture with what every arm found in it.

    Attributes:
        name: what the picture is called, usually its file name.
        jpeg: the picture, possibly smaller than ``width`` by ``height``.
        width, height: pixels of the stored picture; the space of all boxes.
        truth: labelled boxes.
        predictions: arm name to its detections.
        missed: arm name to the rows of ``truth`` that it did not find.
    """

    name: str
    jpeg: bytes
    width: int
    height: int
    truth: list[TruthBox] = field(default_factory=list)
    predictions: dict[str, list[PredictedBox]] = field(default_factory=dict)
    missed: dict[str, list[int]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ExperimentResult:
    """Everything that an experiment found, in the order in which the report tells it.

    Attributes:
        title: of the report.
        summary: what was asked and on which data, a sentence or two.
        created: ISO 8601 time at which the experiment ended.
        seconds: wall clock of the whole experiment.
        command: what to type to run it again.
        seeds: one run of every arm each.
        machine, versions, settings: name to value; nested settings are shown with dotted names.
        datasets: data set or split name to its digest.
        class_names: what is detected.
        arms: in the order of the table; the first is "before".
        clusters: None where nothing was clustered.
        examples: held-out pictures.
        notes: what a reader must know and no figure shows, such as skipped pictures.
    """

    title: str
    summary: str = ""
    created: str = ""
    seconds: float | None = None
    command: str = ""
    seeds: list[int] = field(default_factory=list)
    machine: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    datasets: dict[str, str] = field(default_factory=dict)
    class_names: list[str] = field(default_factory=list)
    arms: list[Arm] = field(default_factory=list)
    clusters: ClusterView | None = None
    examples: list[ExamplePicture] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    format: Literal["tilth.experiment/1"] = "tilth.experiment/1"

    def __post_init__(self) -> None:
        object.__setattr__(self, "seconds", _finite(self.seconds))
        names = [arm.name for arm in self.arms]
        if len(set(names)) != len(names):
            raise DataError("two arms share a name", expected="unique names", got=", ".join(names))

    def arm(self, name: str) -> Arm | None:
        """The arm of that name, or None where it was not run."""
        return next((arm for arm in self.arms if arm.name == name), None)

    @property
    def held_out_arms(self) -> list[Arm]:
        """Arms scored on untouched pictures, in order."""
        return [arm for arm in self.arms if arm.protocol == "held-out"]

    @property
    def source_arms(self) -> list[Arm]:
        """Arms scored by the source's own, optimistic protocol, in order."""
        return [arm for arm in self.arms if arm.protocol == "source"]

    def to_json(self, path: Path) -> None:
        """Write the result; an earlier file is replaced whole or not at all.

        Raises:
            DataError: a setting or machine entry that JSON cannot hold.
            StorageError: the disk refused.
        """
        try:
            encoded = msgspec.json.format(msgspec.json.encode(self, enc_hook=_plain))
        except (TypeError, ValueError) as error:
            raise DataError("the result cannot be written as JSON", got=str(error)) from error
        with atomic_writer(path) as stream:
            stream.write(encoded + b"\n")

    @classmethod
    def from_json(cls, path: Path) -> ExperimentResult:
        """Read what `to_json` wrote.

        Raises:
            DataError: the file is missing, is not JSON, or a field is absent or of the wrong type;
                ``where`` names the field.
        """
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except OSError as error:
            raise DataError(
                "the result file cannot be read", where=str(path), got=error.strerror
            ) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DataError(
                "the file is not an experiment result",
                where=str(path),
                got=str(error),
                fix="give the report.json that tilth wrote, or run the experiment again",
            ) from error


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _finite_points(name: str, points: Sequence[Sequence[float]], width: int) -> list[list[float]]:
    rows = [[float(value) for value in point] for point in points]
    if any(len(row) != width for row in rows):
        raise DataError(f"{name} cannot be drawn", expected=f"{width} numbers a point")
    return [row for row in rows if all(map(math.isfinite, row))]


def _plain(value: object) -> object:
    """NumPy scalars and arrays, and paths, which settings are full of."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not a plain value")


def _expect_length(name: str, values: Sequence[Any], length: int) -> None:
    if len(values) != length:
        raise DataError(
            "a cluster view does not fit together",
            expected=f"{length} {name}, one a cluster",
            got=f"{len(values)}",
        )
