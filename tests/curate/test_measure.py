"""Measuring: once a picture, in one decode, whoever does it, and as far as a kill let it come."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from curate_sets import HEIGHT, WIDTH, dataset_of, photograph, project_of, propose

from tilth.curate import measure as measure_module
from tilth.curate.box_features import BOX_FEATURE_NAMES, box_features
from tilth.curate.executors import InlineExecutor, dask_executor, process_executor
from tilth.curate.image_metrics import IMAGE_METRIC_NAMES, image_metrics
from tilth.curate.measure import BOX_FEATURE_SET, IMAGE_FEATURE_SET, measure
from tilth.data.images import content_hash, read_image, write_jpeg
from tilth.data.project import Project
from tilth.data.records import Geometry, ReviewState
from tilth.errors import DataError, MediaError, StorageError


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were decoded, in order, counted in this process."""
    seen: list[str] = []
    original = measure_module.decode_image

    def counting(data: bytes, *, where: str) -> np.ndarray:
        seen.append(Path(where).name)
        return original(data, where=where)

    monkeypatch.setattr(measure_module, "decode_image", counting)
    return seen


def stored(project: Project) -> tuple[np.ndarray, np.ndarray]:
    catalogue = project.catalogue
    return (
        catalogue.read_features(IMAGE_FEATURE_SET).values,
        catalogue.read_features(BOX_FEATURE_SET).values,
    )


def test_stores_what_the_functions_give_for_the_files(tmp_path: Path) -> None:
    project = project_of(tmp_path / "p", [2, 0, 3])
    report = measure(project, progress=False)
    assert (report.pictures, report.boxes, report.already, report.errors) == (3, 5, 0, ())
    dataset = project.catalogue.read()
    features = project.catalogue.read_features(IMAGE_FEATURE_SET)
    boxes = project.catalogue.read_features(BOX_FEATURE_SET)
    assert features.columns == IMAGE_METRIC_NAMES
    assert boxes.columns == BOX_FEATURE_NAMES
    assert boxes.ids.tolist() == sorted(dataset.annotations.id.tolist())
    for row in range(3):
        image = read_image(project.media_path(dataset.media.uri[row]))
        np.testing.assert_array_equal(features.values[row], image_metrics(image))
        own = dataset.rows_of(row)
        at = np.searchsorted(boxes.ids, dataset.annotations.id[own])
        expected = box_features(image, dataset.annotations.boxes_xyxy[own])
        np.testing.assert_array_equal(boxes.values[at], expected)


def test_content_hashes_come_out_of_the_same_pass(tmp_path: Path, decodes: list[str]) -> None:
    project = project_of(tmp_path / "p", [1, 1])
    measure(project, progress=False)
    media = project.catalogue.read().media
    expected = [content_hash(project.media_path(uri).read_bytes()) for uri in media.uri]
    assert project.catalogue.content_hashes(media.id) == expected
    assert decodes == ["000.jpg", "001.jpg"]


def test_a_second_run_decodes_nothing(tmp_path: Path, decodes: list[str]) -> None:
    project = project_of(tmp_path / "p", [1, 2])
    measure(project, progress=False)
    decodes.clear()
    report = measure(project, progress=False)
    assert decodes == []
    assert (report.pictures, report.boxes, report.already) == (0, 0, 2)


def test_a_moved_box_is_measured_again_with_its_neighbours(
    tmp_path: Path, decodes: list[str]
) -> None:
    project = project_of(tmp_path / "p", [1, 2, 1])
    measure(project, progress=False)
    decodes.clear()
    annotations = project.catalogue.read().annotations
    moved = annotations.boxes_xyxy[2:3].copy()
    moved[:] = annotations.boxes_xyxy[1]  # now two equal boxes in the second picture
    project.catalogue.update_boxes(annotations.id[2:3], moved)
    report = measure(project, progress=False)
    assert decodes == ["001.jpg"]
    assert (report.pictures, report.boxes, report.already) == (0, 2, 2)
    overlap = stored(project)[1][:, BOX_FEATURE_NAMES.index("max_overlap")]
    assert overlap.tolist()[1:3] == [1, 1]


@pytest.mark.parametrize("make", [ThreadPoolExecutor, lambda: process_executor(2)])
def test_any_number_of_workers_gives_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: type[Executor]
) -> None:
    monkeypatch.setattr(measure_module, "BATCH_PICTURES", 2)
    counts = [1, 2, 0, 3, 1, 1, 2]
    alone, together = project_of(tmp_path / "a", counts), project_of(tmp_path / "b", counts)
    measure(alone, executor=InlineExecutor(), progress=False)
    with make() as executor:
        measure(together, executor=executor, progress=False)
    for one, other in zip(stored(alone), stored(together), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.cluster
@pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="extra 'cluster'")
def test_a_dask_cluster_of_two_gives_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distributed import LocalCluster

    monkeypatch.setattr(measure_module, "BATCH_PICTURES", 2)
    counts = [1, 2, 0, 3, 1, 1, 2]
    alone, together = project_of(tmp_path / "a", counts), project_of(tmp_path / "b", counts)
    measure(alone, progress=False)
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        dask_executor(cluster.scheduler_address) as executor,
    ):
        report = measure(together, executor=executor, progress=False)
    assert report.pictures == 7
    for one, other in zip(stored(alone), stored(together), strict=True):
        np.testing.assert_array_equal(one, other)


def test_broken_pictures_are_reported_and_the_rest_is_measured(tmp_path: Path) -> None:
    project = project_of(tmp_path / "p", [1, 1, 1, 1])
    uris = project.catalogue.read().media.uri
    truncated, missing = project.media_path(uris[1]), project.media_path(uris[2])
    truncated.write_bytes(truncated.read_bytes()[:200])
    missing.unlink()
    report = measure(project, progress=False)
    assert (report.pictures, report.boxes, report.already) == (2, 2, 0)
    assert [type(error) for error in report.errors] == [MediaError, MediaError]
    assert [Path(error.where or "").name for error in report.errors] == ["001.jpg", "002.jpg"]
    again = measure(project, progress=False)
    assert (again.pictures, again.already, len(again.errors)) == (0, 2, 2)


def test_a_box_that_cannot_be_measured_names_its_picture(tmp_path: Path) -> None:
    dataset = dataset_of([1, 2, 1])
    dataset.annotations.boxes_xyxy[2] = [40, 30, 20, 10]
    project = Project.init(tmp_path / "p")
    project.catalogue.import_dataset(dataset)
    for row, uri in enumerate(dataset.media.uri):
        write_jpeg(project.root / uri, photograph(row))
    report = measure(project, progress=False)
    (error,) = report.errors
    assert type(error) is DataError
    assert error.where == f"{project.root}/pictures/001.jpg: box 1 of its picture"
    assert report.boxes == 2
    annotation_ids = project.catalogue.read().annotations.id
    boxes = project.catalogue.read_features(BOX_FEATURE_SET)
    assert boxes.ids.tolist() == annotation_ids[[0, 3]].tolist()


def test_a_repaired_picture_is_measured_next_time(tmp_path: Path) -> None:
    project = project_of(tmp_path / "p", [1, 1])
    path = project.media_path(project.catalogue.read().media.uri[0])
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert len(measure(project, progress=False).errors) == 1
    path.write_bytes(whole)
    report = measure(project, progress=False)
    assert (report.pictures, report.boxes, report.errors) == (1, 1, ())


def test_an_empty_project_is_nothing_to_do(tmp_path: Path) -> None:
    report = measure(project_of(tmp_path / "p", []), progress=False)
    assert (report.pictures, report.boxes, report.already, report.errors) == (0, 0, 0, ())


def test_a_full_disk_keeps_the_batches_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decodes: list[str]
) -> None:
    project = project_of(tmp_path / "p", [1] * 6)
    monkeypatch.setattr(measure_module, "BATCH_PICTURES", 2)
    write = project.catalogue.write_features
    calls = 0

    def full_after_two_batches(*args: object) -> None:
        nonlocal calls
        calls += 1
        if calls > 4:
            raise StorageError("the disk is full")
        write(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(project.catalogue, "write_features", full_after_two_batches)
    with pytest.raises(StorageError):
        measure(project, progress=False)
    monkeypatch.undo()
    assert measure(project, progress=False).pictures == 2


SLOW_RUN = """
import sys, time
from pathlib import Path
from tilth.curate import measure as module
from tilth.curate.executors import InlineExecutor
from tilth.data.project import Project
from tilth.data.records import Geometry

module.BATCH_PICTURES = 2
original = module.decode_image

def slowly(data, *, where):
    time.sleep(0.05)
    return original(data, where=where)

module.decode_image = slowly
if __name__ == "__main__":
    print("started", flush=True)
    module.measure(Project.open(Path(sys.argv[1])), executor=InlineExecutor(), progress=False)
"""


def test_a_killed_run_goes_on_where_it_stopped(tmp_path: Path, decodes: list[str]) -> None:
    project = project_of(tmp_path / "p", [1] * 40)
    running = subprocess.Popen(
        [sys.executable, "-c", SLOW_RUN, str(project.root)], stdout=subprocess.PIPE
    )
    media_ids = project.catalogue.read().media.id
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        left = len(project.catalogue.missing_features(IMAGE_FEATURE_SET, media_ids))
        if left <= 34:
            break
        time.sleep(0.01)
    os.kill(running.pid, signal.SIGKILL)
    running.communicate()
    left = len(project.catalogue.missing_features(IMAGE_FEATURE_SET, media_ids))
    assert 0 < left <= 34
    report = measure(project, progress=False)
    # A kill between the tables of one batch leaves at most that batch to decode again.
    assert left <= len(decodes) <= left + 2
    assert report.pictures == left
    assert not len(project.catalogue.missing_features(IMAGE_FEATURE_SET, media_ids))
    expected = image_metrics(read_image(project.root / "pictures/007.jpg"))
    np.testing.assert_array_equal(stored(project)[0][7], expected)


def test_the_bar_can_be_switched_off(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    measure(project_of(tmp_path / "p", [1]), progress=False)
    assert capfd.readouterr() == ("", "")
    measure(project_of(tmp_path / "q", [1]), progress=True)
    shown = capfd.readouterr()
    assert shown.out == ""


def test_a_picture_of_another_size_than_its_labels_is_named_and_left_out(tmp_path: Path) -> None:
    project = project_of(tmp_path / "p", [1, 1])
    uri = project.catalogue.read().media.uri[0]
    write_jpeg(project.media_path(uri), photograph(0, height=HEIGHT // 2, width=WIDTH // 2))
    report = measure(project, progress=False)
    assert [error.message for error in report.errors] == [
        "the picture has another size than its labels were made for"
    ]
    assert report.errors[0].where == str(project.media_path(uri))
    assert (report.pictures, report.boxes) == (1, 1)


def test_labels_of_whole_pictures_have_no_box_to_measure(tmp_path: Path) -> None:
    plain = project_of(tmp_path / "plain", [2, 1])
    measure(plain, progress=False)
    mixed = project_of(tmp_path / "mixed", [2, 1])
    dataset = mixed.catalogue.read()
    rows = dataset.take(np.array([0, 1])).annotations
    whole = replace(
        rows,
        id=rows.id + 100,
        geometry=np.full(3, Geometry.LABEL, np.uint8),
        boxes_xyxy=np.tile([0.0, 0.0, WIDTH, HEIGHT], (3, 1)),
    )
    labelled = replace(dataset, annotations=whole)
    assert mixed.catalogue.import_dataset(labelled, origin="tags").annotations_added == 3
    report = measure(mixed, progress=False)
    assert report.boxes == 3
    np.testing.assert_array_equal(stored(mixed)[1], stored(plain)[1])
    assert measure(mixed, progress=False).pictures == 0, "nothing is left to measure"


def test_proposals_are_no_boxes_before_they_are_reviewed(tmp_path: Path) -> None:
    alone, project = (project_of(tmp_path / name, [2, 0, 3]) for name in ("a", "b"))
    first, second, _ = propose(project, [1, 1, 1])
    measure(alone, progress=False)
    report = measure(project, progress=False)
    assert (report.pictures, report.boxes) == (3, 5)
    for own, other in zip(stored(project), stored(alone), strict=True):
        np.testing.assert_array_equal(own, other)  # nor are they neighbours of the others
    project.catalogue.review(np.array([first]), ReviewState.ACCEPTED)
    project.catalogue.review(np.array([second]), ReviewState.REJECTED)
    assert measure(project, progress=False).boxes == 3
    ids = project.catalogue.read_features(BOX_FEATURE_SET).ids
    assert np.isin([first, second], ids).tolist() == [True, False]
