"""Jobs in processes of their own: how far they are, and what becomes of one that fails."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawn_sets import drawn_project

from tilth.data.records import Split
from tilth.errors import MediaError, TrainingError
from tilth.recipes import arms
from tilth.recipes.arms import ArmJob, run_arms, steps_done
from tilth.recipes.detect_settings import DetectSettings


def job(root: Path, arm: str = "raw", seed: int = 0) -> ArmJob:
    return ArmJob(
        root=root,
        folder=root / "runs" / "test",
        version="test",
        digest="",
        arm=arm,
        seed=seed,
        train_rows=np.arange(3),
        test_rows=np.arange(3, 5),
        clusters=np.zeros(9, np.int64),
        num_clusters=1,
        settings=DetectSettings(),
    )


# Stand-ins for the work of a job; a worker process finds them by this module's name.
def end_like_a_killed_process(job: ArmJob) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fail_or_go_on_for_long(job: ArmJob) -> None:
    if job.arm == "fails":
        while not (job.root / "the other one works").exists():
            time.sleep(0.02)
        raise MediaError("the picture is broken", where="a.jpg", fix="restore it")
    (job.root / "the other one works").touch()
    time.sleep(600)


@pytest.mark.parametrize(
    ("log", "steps"),
    [
        (b"", 0),
        (b'{"step": 10, "loss": 1}\n{"step": 20, "loss": 1}\n', 20),
        (b'{"step": 10, "loss": 1}\n{"step": 2', 10),
        (b'{"ste', 0),
        (b'7\n{"other": 1}\n', 0),
    ],
    ids=["empty", "whole", "half a line", "nothing but half a line", "other lines"],
)
def test_steps_done_is_the_last_whole_line(tmp_path: Path, log: bytes, steps: int) -> None:
    run_dir = job(tmp_path).run_dir
    run_dir.mkdir(parents=True)
    (run_dir / "metrics.jsonl").write_bytes(log)
    assert steps_done(job(tmp_path)) == steps


def test_no_step_is_done_before_the_run_begins(tmp_path: Path) -> None:
    assert steps_done(job(tmp_path)) == 0


@pytest.mark.cluster
def test_the_first_error_ends_the_others_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arms, "_run", fail_or_go_on_for_long)
    jobs = [job(tmp_path, "works"), job(tmp_path, "fails"), job(tmp_path, "never begun")]
    started = time.monotonic()
    with pytest.raises(MediaError, match="the picture is broken") as caught:
        run_arms(jobs, workers=2, progress=False)
    assert (caught.value.where, caught.value.fix) == ("a.jpg", "restore it")
    assert time.monotonic() - started < 120


@pytest.mark.cluster
def test_a_worker_that_is_killed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arms, "_run", end_like_a_killed_process)
    with pytest.raises(TrainingError, match="ended from outside") as caught:
        run_arms([job(tmp_path)], workers=1, progress=False)
    assert "experiment.workers=1" in str(caught.value)


@pytest.mark.cluster
def test_a_picture_that_breaks_later_ends_the_arm_with_its_name(tmp_path: Path) -> None:
    project = drawn_project(tmp_path / "project", train=4, test=2)
    project.catalogue.create_version("test")
    data = project.catalogue.read(version="test")
    rows = np.flatnonzero(data.media.split == Split.TRAIN)
    broken = project.media_path(data.media.uri[rows[1]])
    broken.write_bytes(broken.read_bytes()[:300])
    made = replace(
        job(project.root), train_rows=rows, clusters=np.zeros(len(data.annotations), np.int64)
    )
    with pytest.raises(MediaError) as caught:
        run_arms([made], workers=1, progress=False)
    assert str(broken) in str(caught.value)
