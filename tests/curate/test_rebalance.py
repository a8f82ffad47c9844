"""Rebalancing: what is made follows from the plan alone, and never from a picture that measures."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from curate_sets import HEIGHT, WIDTH, project_of

from tilth.curate import rebalance
from tilth.curate.augment import Augmentation, AugmentParameters, warp_boxes, warp_image
from tilth.curate.executors import InlineExecutor, process_executor
from tilth.curate.rebalance_draws import draw_copies
from tilth.curate.rebalance_plan import ClusterPlan, RebalancePlan
from tilth.data.images import read_image, write_jpeg
from tilth.data.project import Project
from tilth.data.records import Geometry, Source, Split
from tilth.errors import DataError, MediaError, StorageError

CLUSTERS = np.array([0, 0, 0, 0, 1, 1, 2])


def training_project(root: Path) -> Project:
    return project_of(root, [1, 2, 1, 1, 1, 2, 1], split=Split.TRAIN)


def equal_plan(project: Project, **changes: object) -> RebalancePlan:
    dataset = project.catalogue.read()
    clusters = np.full(len(dataset.media), -1)
    clusters[: len(CLUSTERS)] = CLUSTERS
    made = rebalance.plan(dataset, clusters, target=5, seed=3)
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def files(project: Project) -> dict[str, str]:
    """Every new picture with a digest of its bytes."""
    return {
        str(path.relative_to(project.root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((project.root / "augmented").rglob("*"))
        if path.is_file()
    }


def test_every_cluster_reaches_its_target(tmp_path: Path) -> None:
    project = training_project(tmp_path / "p")
    plan = equal_plan(project)
    report = rebalance.run(project, plan, progress=False)
    assert (report.made, report.found, report.without_objects, report.errors) == (8, 0, 0, ())
    media = project.catalogue.read().media
    assert len(media) == 15
    cluster_of = dict(zip(media.id.tolist(), CLUSTERS.tolist(), strict=False))
    parents = media.parent_id[media.parent_id >= 0].tolist()
    assert Counter(cluster_of[parent] for parent in parents) == {0: 1, 1: 3, 2: 4}
    assert set(files(project)) == set(media.uri[7:])


def test_parents_take_turns(tmp_path: Path) -> None:
    project = training_project(tmp_path / "p")
    rebalance.run(project, equal_plan(project), progress=False)
    media = project.catalogue.read().media
    per_parent = Counter(media.parent_id[media.parent_id >= 0].tolist())
    assert sorted(per_parent[i] for i in (5, 6)) == [1, 2]
    assert per_parent[7] == 4


def test_a_derived_picture_can_be_made_again_from_its_record(tmp_path: Path) -> None:
    project = training_project(tmp_path / "p")
    plan = equal_plan(project)
    before = project.catalogue.read()
    rebalance.run(project, plan, progress=False)
    after = project.catalogue.read()
    rows = {uri: row for row, uri in enumerate(after.media.uri)}
    for copy in draw_copies(before, plan, lambda _: (WIDTH, HEIGHT)):
        assert copy is not None
        row = rows[copy.uri]
        parent = after.media.id.tolist().index(after.media.parent_id[row])
        image = read_image(project.media_path(after.media.uri[parent]))
        parameters = AugmentParameters(**copy.parameters.to_dict())
        write_jpeg(tmp_path / "again.jpg", warp_image(image, parameters))
        assert (tmp_path / "again.jpg").read_bytes() == (project.root / copy.uri).read_bytes()
        boxes, _ = warp_boxes(
            before.annotations.boxes_xyxy[before.rows_of(parent)],
            WIDTH,
            HEIGHT,
            parameters,
            plan.augmentation,
        )
        np.testing.assert_array_equal(after.annotations.boxes_xyxy[after.rows_of(row)], boxes)


def test_derived_labels_are_synthetic_boxes_in_the_training_split(tmp_path: Path) -> None:
    project = training_project(tmp_path / "p")
    plan = equal_plan(project)
    rebalance.run(project, plan, progress=False)
    dataset = project.catalogue.read()
    made = rebalance.pictures_of(dataset, plan.name)
    assert made.sum() == 8
    assert (dataset.media.split[made] == Split.TRAIN).all()
    assert (dataset.media.parent_id[made] >= 0).all()
    assert (dataset.media.parent_id[~made] == -1).all()
    derived = made[dataset.annotations.media_index]
    assert derived.sum() >= 8
    assert (dataset.annotations.source[derived] == Source.SYNTHETIC).all()
    assert (dataset.annotations.geometry[derived] == Geometry.BOX).all()
    sides = dataset.annotations.boxes_xyxy[derived][:, 2:]
    assert (sides <= [WIDTH, HEIGHT]).all()


@pytest.mark.parametrize("workers", [2, 3])
def test_the_number_of_workers_changes_nothing(tmp_path: Path, workers: int) -> None:
    alone, together = training_project(tmp_path / "a"), training_project(tmp_path / "b")
    rebalance.run(alone, equal_plan(alone), executor=InlineExecutor(), progress=False)
    with process_executor(workers) as executor:
        rebalance.run(together, equal_plan(together), executor=executor, progress=False)
    assert files(alone) == files(together)
    one, other = alone.catalogue.read(), together.catalogue.read()
    order = [np.argsort(dataset.media.uri) for dataset in (one, other)]
    boxes = [
        dataset.take(rows).annotations.boxes_xyxy
        for dataset, rows in zip((one, other), order, strict=True)
    ]
    np.testing.assert_array_equal(*boxes)


def test_a_second_run_makes_nothing(tmp_path: Path) -> None:
    project = training_project(tmp_path / "p")
    plan = equal_plan(project)
    rebalance.run(project, plan, progress=False)
    before, media = files(project), len(project.catalogue.read().media)
    report = rebalance.run(project, plan, progress=False)
    assert (report.made, report.found) == (0, 8)
    assert files(project) == before
    assert len(project.catalogue.read().media) == media


def test_a_larger_target_adds_and_keeps_what_is_there(tmp_path: Path) -> None:
    project = training_project(tmp_path / "p")
    plan = equal_plan(project)
    rebalance.run(project, plan, progress=False)
    before = files(project)
    larger = dataclasses.replace(
        plan, clusters=tuple(dataclasses.replace(c, target=7) for c in plan.clusters)
    )
    report = rebalance.run(project, larger, progress=False)
    assert (report.made, report.found) == (6, 8)
    assert before.items() <= files(project).items()


@pytest.mark.parametrize(
    "change", [{"seed": 4}, {"augmentation": Augmentation(brightness=(0.5, 0.9))}]
)
def test_refuses_another_plan_under_the_same_name(
    tmp_path: Path, change: dict[str, object]
) -> None:
    project = training_project(tmp_path / "p")
    rebalance.run(project, equal_plan(project), progress=False)
    with pytest.raises(DataError, match="belongs to another plan"):
        rebalance.run(project, equal_plan(project, **change), progress=False)
    report = rebalance.run(project, equal_plan(project, name="second", **change), progress=False)
    assert report.made == 8


def test_files_without_registration_are_registered_not_made(tmp_path: Path) -> None:
    first, second = training_project(tmp_path / "a"), training_project(tmp_path / "b")
    rebalance.run(first, equal_plan(first), progress=False)
    (first.root / "augmented").rename(second.root / "augmented")
    report = rebalance.run(second, equal_plan(second), progress=False)
    assert (report.made, report.found) == (0, 8)
    assert len(second.catalogue.read().media) == 15


def test_refuses_parents_that_measure_or_are_derived(tmp_path: Path) -> None:
    project = training_project(tmp_path / "p")
    plan = equal_plan(project)
    project.catalogue.set_splits(np.array([7]), np.array([Split.TEST], dtype=np.int8))
    with pytest.raises(DataError, match="picture 7 cannot be a parent: it is in the split TEST"):
        rebalance.run(project, plan, progress=False)
    assert not (project.root / "augmented").exists()
    project.catalogue.set_splits(np.array([7]), np.array([Split.TRAIN], dtype=np.int8))
    rebalance.run(project, plan, progress=False)
    derived = int(project.catalogue.read().media.id[-1])
    chained = RebalancePlan(
        name="chained",
        seed=0,
        clusters=(ClusterPlan(cluster=0, target=2, media_ids=(derived,)),),
    )
    with pytest.raises(DataError, match="itself derived"):
        rebalance.run(project, chained, progress=False)
    unknown = dataclasses.replace(
        chained, clusters=(ClusterPlan(cluster=0, target=2, media_ids=(10**6,)),)
    )
    with pytest.raises(DataError, match="not in the catalogue"):
        rebalance.run(project, unknown, progress=False)


def test_no_picture_descends_from_outside_the_training_split(tmp_path: Path) -> None:
    project = training_project(tmp_path / "p")
    splits = np.array([0, 1, 2, 0, 0, 2, 0], dtype=np.int8)
    project.catalogue.set_splits(np.arange(1, 8), splits)
    dataset = project.catalogue.read()
    rebalance.run(project, rebalance.plan(dataset, CLUSTERS, target=4), progress=False)
    rebalance.run(project, rebalance.random_plan(dataset, 20), progress=False)
    media = project.catalogue.read().media
    parents = set(media.parent_id[media.parent_id >= 0].tolist())
    assert parents <= {1, 4, 5, 7}
    assert len(media) == 7 + (2 + 3 + 3) + 20


def test_the_control_draws_parents_uniformly(tmp_path: Path) -> None:
    project = training_project(tmp_path / "p")
    control = rebalance.random_plan(project.catalogue.read(), 700, seed=1)
    copies = draw_copies(project.catalogue.read(), control, lambda _: (WIDTH, HEIGHT))
    counts = Counter(copy.parent_row for copy in copies if copy is not None)
    assert len(counts) == 7
    # 100 expected each, standard deviation 9.3
    assert all(60 < count < 140 for count in counts.values())


def test_the_control_can_stand_beside_the_plan(tmp_path: Path) -> None:
    project = training_project(tmp_path / "p")
    dataset = project.catalogue.read()
    rebalance.run(project, equal_plan(project), progress=False)
    rebalance.run(project, rebalance.random_plan(dataset, 8, seed=3), progress=False)
    after = project.catalogue.read()
    assert rebalance.pictures_of(after, "rebalanced").sum() == 8
    assert rebalance.pictures_of(after, "random").sum() == 8


def test_copies_that_lose_every_object_are_drawn_again_or_left_out(tmp_path: Path) -> None:
    project = training_project(tmp_path / "p")
    far = Augmentation(scale=(1, 1), translate=(0.0, 0.9), min_visible=0.5, flip_probability=0)
    report = rebalance.run(project, equal_plan(project, augmentation=far), progress=False)
    dataset = project.catalogue.read()
    assert report.made + report.without_objects == 8
    assert report.made > 4
    made = np.flatnonzero(rebalance.pictures_of(dataset, "rebalanced"))
    assert all(dataset.rows_of(row).stop > dataset.rows_of(row).start for row in made)
    gone = Augmentation(scale=(1, 1), translate=(1.0, 1.0))
    nothing = equal_plan(project, name="nothing", augmentation=gone)
    assert rebalance.run(project, nothing, progress=False).without_objects == 8


def test_an_unreadable_parent_is_reported_and_the_rest_is_made(tmp_path: Path) -> None:
    project = training_project(tmp_path / "p")
    parent = project.media_path(project.catalogue.read().media.uri[6])
    whole = parent.read_bytes()
    parent.write_bytes(whole[: len(whole) // 2])
    report = rebalance.run(project, equal_plan(project), progress=False)
    assert (report.made, len(report.errors)) == (4, 1)
    assert isinstance(report.errors[0], MediaError)
    assert report.errors[0].where == str(parent)
    parent.write_bytes(whole)
    report = rebalance.run(project, equal_plan(project), progress=False)
    assert (report.made, report.found, report.errors) == (4, 4, ())


def test_a_parent_of_another_size_is_not_warped(tmp_path: Path) -> None:
    project = training_project(tmp_path / "p")
    parent = project.media_path(project.catalogue.read().media.uri[6])
    write_jpeg(parent, np.zeros((10, 10, 3), dtype=np.uint8))
    report = rebalance.run(project, equal_plan(project), progress=False)
    assert report.made == 4
    assert "another size" in str(report.errors[0])


def test_a_full_disk_leaves_whole_pictures_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = training_project(tmp_path / "p")
    original, written = rebalance.write_jpeg, 0

    def full_after_three(path: Path, image: np.ndarray, quality: int) -> None:
        nonlocal written
        written += 1
        if written > 3:
            raise StorageError("the file could not be written", where=str(path))
        original(path, image, quality)

    monkeypatch.setattr(rebalance, "write_jpeg", full_after_three)
    with pytest.raises(StorageError):
        rebalance.run(project, equal_plan(project), progress=False)
    monkeypatch.undo()
    report = rebalance.run(project, equal_plan(project), progress=False)
    assert report.made + report.found == 8
    assert report.found >= 3


SLOW_RUN = """
import sys, time
from pathlib import Path
from tilth.curate import rebalance
from tilth.curate.executors import InlineExecutor
from tilth.data.project import Project

rebalance.BATCH_PARENTS = 2
original = rebalance.write_jpeg

def slowly(path, image, quality):
    time.sleep(0.05)
    original(path, image, quality)

rebalance.write_jpeg = slowly
plan = rebalance.RebalancePlan.load(Path(sys.argv[2]))
rebalance.run(Project.open(Path(sys.argv[1])), plan, executor=InlineExecutor(), progress=False)
"""


def test_a_killed_run_goes_on_and_ends_where_an_unbroken_one_does(tmp_path: Path) -> None:
    broken, unbroken = training_project(tmp_path / "a"), training_project(tmp_path / "b")
    plan = rebalance.plan(broken.catalogue.read(), CLUSTERS, target=14)
    plan.save(tmp_path / "plan.toml")
    running = subprocess.Popen(
        [sys.executable, "-c", SLOW_RUN, str(broken.root), str(tmp_path / "plan.toml")]
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and len(list(broken.root.glob("augmented/*/*.jpg"))) < 6:
        time.sleep(0.01)
    os.kill(running.pid, signal.SIGKILL)
    running.communicate()
    there = len(list(broken.root.glob("augmented/*/*.jpg")))
    assert 6 <= there < plan.to_make
    with ThreadPoolExecutor(2) as executor:
        report = rebalance.run(broken, plan, executor=executor, progress=False)
    assert (report.made, report.found) == (plan.to_make - there, there)
    rebalance.run(unbroken, plan, progress=False)
    # What a kill leaves of a picture that was being written is hidden and ends in .part.
    whole = {name: digest for name, digest in files(broken).items() if name.endswith(".jpg")}
    assert whole == files(unbroken)
    assert sorted(broken.catalogue.read().media.uri) == sorted(unbroken.catalogue.read().media.uri)
