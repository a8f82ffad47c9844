"""How many new pictures each cluster gets: a plan to print, edit and keep before anything is made.

A plan is a small TOML file. What may be edited is the ``target`` of each cluster, the seed, the
name and the ranges of the augmentation; the pictures of each cluster stand at the end.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from tilth.config import load_settings, read_toml, settings_to_dict
from tilth.curate.augment import Augmentation
from tilth.data.atomic import atomic_writer
from tilth.data.dataset import Dataset
from tilth.data.records import Split
from tilth.errors import DataError, SettingsError

__all__ = ["ClusterPlan", "RebalancePlan", "plan", "random_plan"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class ClusterPlan:
    """One cluster's share: from ``have`` pictures to ``target``, out of ``media_ids``."""

    cluster: int
    target: int
    media_ids: tuple[int, ...]

    @property
    def have(self) -> int:
        """Training pictures in the cluster now."""
        return len(self.media_ids)

    @property
    def to_make(self) -> int:
        """Pictures that are missing to the target."""
        return self.target - self.have


@dataclass(frozen=True, kw_only=True)
class RebalancePlan:
    """What `tilth.curate.rebalance.run` will do.

    Attributes:
        name: of the folder of the new pictures; letters, digits, ``-`` and ``_``.
        draw: "round_robin" takes the pictures of a cluster in turn, "uniform" at random.
    """

    name: str
    seed: int
    clusters: tuple[ClusterPlan, ...]
    draw: Literal["round_robin", "uniform"] = "round_robin"
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise SettingsError(
                "this plan name cannot be the name of a folder",
                expected="up to 64 letters, digits, - and _",
                got=repr(self.name),
            )
        if self.draw not in ("round_robin", "uniform"):
            raise SettingsError(
                "unknown draw", expected="round_robin or uniform", got=repr(self.draw)
            )
        for cluster in self.clusters:
            _check_cluster(cluster)
        numbers = [cluster.cluster for cluster in self.clusters]
        media_ids = [media_id for cluster in self.clusters for media_id in cluster.media_ids]
        if len(set(numbers)) < len(numbers) or len(set(media_ids)) < len(media_ids):
            raise DataError("a cluster or a picture stands in the plan twice", where=self.name)

    @property
    def to_make(self) -> int:
        """New pictures in all."""
        return sum(cluster.to_make for cluster in self.clusters)

    def table(self) -> Table:
        """The plan for people, as a rich table."""
        table = Table(title=f"plan '{self.name}', seed {self.seed}")
        for column in ("cluster", "have", "target", "to make"):
            table.add_column(column, justify="right")
        for one in self.clusters:
            table.add_row(str(one.cluster), str(one.have), str(one.target), str(one.to_make))
        have = sum(cluster.have for cluster in self.clusters)
        table.add_section()
        table.add_row("all", str(have), str(have + self.to_make), str(self.to_make))
        return table

    def save(self, path: Path) -> None:
        """Write the plan as TOML, to be edited by hand.

        Raises:
            StorageError: the write failed; a plan that was there before is unchanged.
        """
        with atomic_writer(path) as stream:
            stream.write(_to_toml(self).encode())

    @classmethod
    def load(cls, path: Path) -> RebalancePlan:
        """Read a plan back, edited or not.

        Raises:
            SettingsError: not a plan, an unknown key, or a target that cannot be reached.
            DataError: pictures stand twice, or in no cluster.
        """
        return _from_values(read_toml(path), where=str(path))


def plan(
    dataset: Dataset,
    clusters: NDArray[np.int64],
    *,
    target: int | Literal["equal"] = "equal",
    name: str = "rebalanced",
    seed: int = 0,
    augmentation: Augmentation | None = None,
) -> RebalancePlan:
    """Plan equal clusters of training pictures.

    Args:
        clusters: int64 [n], the cluster of each picture (`media_clusters`); -1 is left as it is.
        target: pictures a cluster; "equal" raises all to the largest. A cluster that has more
            already keeps what it has.

    Raises:
        DataError: no splits, or no training picture in a cluster.
    """
    clusters = np.asarray(clusters, dtype=np.int64)
    if clusters.shape != (len(dataset.media),):
        raise DataError(
            "clusters and pictures do not belong together",
            expected=f"[{len(dataset.media)}] clusters, one a picture",
            got=str(list(clusters.shape)),
        )
    parents = _training_originals(dataset)
    counts = np.bincount(clusters[parents & (clusters >= 0)])
    if not len(counts):
        raise DataError("no training picture is in a cluster", fix="cluster the boxes first")
    goal = int(counts.max()) if target == "equal" else target
    return RebalancePlan(
        name=name,
        seed=seed,
        augmentation=augmentation or Augmentation(),
        clusters=tuple(
            ClusterPlan(
                cluster=cluster,
                target=max(goal, int(have)),
                media_ids=tuple(dataset.media.id[parents & (clusters == cluster)].tolist()),
            )
            for cluster, have in enumerate(counts)
            if have
        ),
    )


def random_plan(
    dataset: Dataset,
    to_make: int,
    *,
    name: str = "random",
    seed: int = 0,
    augmentation: Augmentation | None = None,
) -> RebalancePlan:
    """The control: as many new pictures, of parents drawn uniformly over all training pictures.

    Raises:
        DataError: no splits, or no training picture.
    """
    media_ids = tuple(dataset.media.id[_training_originals(dataset)].tolist())
    everything = ClusterPlan(cluster=0, target=len(media_ids) + to_make, media_ids=media_ids)
    return RebalancePlan(
        name=name,
        seed=seed,
        draw="uniform",
        augmentation=augmentation or Augmentation(),
        clusters=(everything,),
    )


def _training_originals(dataset: Dataset) -> NDArray[np.bool_]:
    split = dataset.media.split
    if not len(split) or (split == Split.NONE).all():
        raise DataError(
            "the pictures have no splits yet",
            expected="training pictures set apart from those that measure",
            fix="tilth split; else a picture made of a test picture would leak into training",
        )
    parents = (split == Split.TRAIN) & (dataset.media.parent_id < 0)
    if not parents.any():
        raise DataError("no picture is in the training split", fix="tilth split")
    return parents


def _check_cluster(cluster: ClusterPlan) -> None:
    if cluster.target < cluster.have:
        raise SettingsError(
            f"cluster {cluster.cluster} cannot shrink",
            expected=f"a target of {cluster.have} or more: rebalancing adds, it never removes",
            got=str(cluster.target),
        )
    if cluster.to_make and not cluster.media_ids:
        raise DataError(f"cluster {cluster.cluster} has no picture to make new ones from")


def _to_toml(plan: RebalancePlan) -> str:
    lines = [
        "# A rebalancing plan. Edit target, seed, name and the augmentation, then run it.",
        f"format = {_FORMAT}",
        f"name = {json.dumps(plan.name)}",
        f"seed = {plan.seed}",
        f"draw = {json.dumps(plan.draw)}",
        "",
        "[augmentation]",
    ]
    values = settings_to_dict(plan.augmentation)
    lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    for cluster in plan.clusters:
        lines += [
            "",
            "[[clusters]]",
            f"cluster = {cluster.cluster}  # has {cluster.have} training pictures",
            f"target = {cluster.target}",
        ]
    lines += ["", "[pictures]  # media ids of each cluster"]
    for cluster in plan.clusters:
        lines.append(f"{cluster.cluster} = {json.dumps(list(cluster.media_ids))}")
    return "\n".join(lines) + "\n"


@dataclass(frozen=True, kw_only=True)
class _ClusterEntry:
    cluster: int
    target: int


@dataclass(frozen=True, kw_only=True)
class _PlanFile:
    format: int
    name: str
    seed: int
    clusters: tuple[_ClusterEntry, ...]
    draw: Literal["round_robin", "uniform"] = "round_robin"
    augmentation: Augmentation = field(default_factory=Augmentation)


def _from_values(values: Mapping[str, Any], *, where: str) -> RebalancePlan:
    values = dict(values)
    pictures = values.pop("pictures", {})
    entries = load_settings(_PlanFile, values=values, where=where)
    if entries.format != _FORMAT:
        raise SettingsError(
            "a plan of another age", where=where, expected=str(_FORMAT), got=str(entries.format)
        )
    numbers = {str(entry.cluster) for entry in entries.clusters}
    if set(pictures) != numbers:
        raise DataError(
            "clusters and pictures of the plan do not match",
            where=where,
            expected=f"pictures of clusters {', '.join(sorted(numbers))}",
            got=", ".join(sorted(pictures)) or "none",
        )
    for number, media_ids in pictures.items():
        if not isinstance(media_ids, list) or not all(type(one) is int for one in media_ids):
            raise SettingsError(
                "pictures are lists of media ids", where=f"{where}: pictures.{number}"
            )
    kept = {one.name: getattr(entries, one.name) for one in fields(RebalancePlan)}
    kept["clusters"] = tuple(
        ClusterPlan(
            cluster=entry.cluster,
            target=entry.target,
            media_ids=tuple(pictures[str(entry.cluster)]),
        )
        for entry in entries.clusters
    )
    return RebalancePlan(**kept)
