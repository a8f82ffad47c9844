"""Fitted anchors go where they are read: into settings that train, or into a network file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from drawn_sets import drawn_project

from tilth.config import read_toml
from tilth.curate.anchors import box_sizes, measure_anchors
from tilth.data.project import Project
from tilth.data.records import Split
from tilth.errors import EmptyDatasetError, SettingsError
from tilth.models.darknet import read_cfg
from tilth.models.darknet_specs import built_in_cfg
from tilth.recipes.detect_settings import settings as read_settings
from tilth.recipes.detection_families import family_of
from tilth.recipes.detector_anchors import current_anchors, fit
from tilth.recipes.model_settings import ModelSettings

MODEL = ModelSettings(width=0.125, size=128)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return drawn_project(tmp_path_factory.mktemp("anchors") / "project", train=12, test=4)


def test_anchors_are_fitted_to_the_training_originals(project: Project) -> None:
    found = fit(project.root, MODEL, seed=1)
    training = project.catalogue.read().of_split(Split.TRAIN)
    sizes = box_sizes(training, size=128)
    assert (found["boxes"], found["pictures"]) == (len(sizes), 12)
    fitted, now = found["fitted"], found["now"]
    assert len(fitted["anchors"]) == len(now["anchors"]) == 6
    again = measure_anchors(sizes, np.array(fitted["anchors"]))
    assert fitted["mean_best_iou"] == pytest.approx(again.mean_best_iou)
    assert fitted["mean_best_iou"] > now["mean_best_iou"]
    assert sum(fitted["counts"]) == len(sizes)


def test_written_settings_build_a_network_with_these_anchors(
    project: Project, tmp_path: Path
) -> None:
    output = tmp_path / "anchors.toml"
    found = fit(project.root, MODEL, resize="stretch", output=output)
    model = read_settings(read_toml(output), ["model.width=0.125"]).model
    assert (model.size, model.resize) == (128, "stretch")
    network = family_of(model).build(model, 2, root=tmp_path)
    pairs = sorted(pair for head in network.anchors for pair in map(tuple, head))
    assert pairs == sorted(map(tuple, found["fitted"]["anchors"]))
    np.testing.assert_allclose(
        np.sort(current_anchors(model, root=tmp_path), axis=0),
        np.sort(found["fitted"]["anchors"], axis=0),
    )


def test_a_network_file_gets_them_and_nothing_else_changes(
    project: Project, tmp_path: Path
) -> None:
    before = built_in_cfg("yolov4-tiny", 2, size=160).text
    (tmp_path / "tiny.cfg").write_text(before)
    found = fit(
        project.root, MODEL, cfg=tmp_path / "tiny.cfg", output=tmp_path / "own.cfg", restarts=2
    )
    assert found["size"] == 160
    cfg = read_cfg(tmp_path / "own.cfg")
    for index in cfg.heads:
        pairs = np.array(cfg.layers[index].numbers("anchors")).reshape(-1, 2)
        np.testing.assert_allclose(pairs, found["fitted"]["anchors"])
    changed = [
        (old, new)
        for old, new in zip(before.splitlines(), cfg.text.splitlines(), strict=True)
        if old != new
    ]
    assert {old.split("=")[0].strip() for old, _ in changed} == {"anchors"}
    assert (tmp_path / "tiny.cfg").read_text() == before


def test_what_cannot_be_fitted_is_refused(project: Project, tmp_path: Path) -> None:
    with pytest.raises(EmptyDatasetError, match="val split"):
        fit(project.root, MODEL, split="val")
    (tmp_path / "plain.cfg").write_text("[net]\nwidth=64\nheight=64\n[convolutional]\nfilters=8\n")
    with pytest.raises(SettingsError, match="without a head"):
        fit(project.root, MODEL, cfg=tmp_path / "plain.cfg")
    (tmp_path / "oblong.cfg").write_text(
        built_in_cfg("yolov4-tiny", 2, size=160).text.replace("height=160", "height=96")
    )
    with pytest.raises(SettingsError, match="no square") as caught:
        fit(project.root, MODEL, cfg=tmp_path / "oblong.cfg")
    assert caught.value.got == "160 x 96"
    (tmp_path / "tiny.cfg").write_text(built_in_cfg("yolov4-tiny", 2, size=160).text)
    with pytest.raises(SettingsError, match="anchors"):
        fit(
            project.root,
            MODEL,
            cfg=tmp_path / "tiny.cfg",
            k=4,
            output=tmp_path / "own.cfg",
            restarts=1,
        )
    assert not (tmp_path / "own.cfg").exists()
