"""What a published folder says about its network is read whole, and kept to build it again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import transformers
from small_huggingface import small_architecture, small_detector

from tilth.errors import DataError, SettingsError
from tilth.models.huggingface_architecture import (
    MODEL_TYPES,
    OVERRIDDEN,
    HuggingFaceArchitecture,
    read_architecture,
    read_published,
    scaled_architecture,
    write_architecture,
)
from tilth.models.huggingface_detector import HuggingFaceDetector

VARIANTS = sorted(MODEL_TYPES)
NAMES = {"1": "cat", "0": "person", "2": "dog"}
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def published(folder: Path, preprocessor: Any = None, **changes: Any) -> Path:
    """A folder with the description of a small network, and of its pictures."""
    config = small_architecture("d-fine").config | {"id2label": NAMES} | changes
    (folder / "config.json").write_text(json.dumps(config))
    if preprocessor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return folder


@pytest.mark.parametrize("variant", VARIANTS)
def test_width_1_and_depth_1_are_the_librarys_own_network(variant: str) -> None:
    scaled = scaled_architecture(variant, width=1.0, depth=1.0).config
    kind = scaled.pop("model_type")
    own = {"freeze_backbone_batch_norms", *OVERRIDDEN}
    ours = transformers.AutoConfig.for_model(kind, **scaled).to_dict()
    theirs = transformers.AutoConfig.for_model(kind).to_dict()
    backbone = {"depths", "hidden_sizes", "embedding_size"}  # of the two kinds only one has layers
    for values in (ours, theirs):
        for name in backbone if "hgnet" in values["backbone_config"]["model_type"] else ():
            values["backbone_config"].pop(name, None)
    differing = {name for name in theirs if ours[name] != theirs[name]}
    assert differing <= own


@pytest.mark.parametrize("variant", VARIANTS)
def test_width_and_depth_scale_the_network(variant: str) -> None:
    def parameters(width: float, depth: float) -> int:
        network = HuggingFaceDetector(scaled_architecture(variant, width=width, depth=depth), 2)
        return sum(parameter.numel() for parameter in network.parameters())

    assert parameters(0.1, 0.1) < parameters(0.25, 0.1) < parameters(0.25, 0.5)


def test_width_above_0() -> None:
    with pytest.raises(SettingsError, match="width and depth"):
        scaled_architecture("d-fine", width=0.0, depth=1.0)


def test_classes_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    architecture, names = read_published(published(tmp_path), source="owner/name at abc")
    assert names == ["person", "cat", "dog"]
    assert architecture.source == "owner/name at abc"
    assert not {"id2label", "label2id", "architectures"} & set(architecture.config)


@pytest.mark.parametrize(
    ("preprocessor", "mean", "std"),
    [
        (None, (0, 0, 0), (1, 1, 1)),
        ({"do_normalize": False, "image_mean": MEAN, "image_std": STD}, (0, 0, 0), (1, 1, 1)),
        ({"do_normalize": True, "image_mean": MEAN, "image_std": STD}, tuple(MEAN), tuple(STD)),
        ({"do_rescale": True, "rescale_factor": 0.00392156862745098}, (0, 0, 0), (1, 1, 1)),
    ],
    ids=["none", "switched off", "on", "rescaled"],
)
def test_the_normalisation_is_read(tmp_path: Path, preprocessor, mean, std) -> None:
    architecture, _ = read_published(published(tmp_path, preprocessor))
    assert (architecture.image_mean, architecture.image_std) == (mean, std)


@pytest.mark.parametrize(
    ("preprocessor", "match"),
    [
        ({"do_rescale": False}, "another range"),
        ({"rescale_factor": 1 / 127.5}, "another range"),
        ({"do_normalize": True}, "normalises its pictures"),
        ({"do_normalize": True, "image_mean": [0.5], "image_std": STD}, "normalises its pictures"),
        ([1], "not a JSON object"),
    ],
)
def test_pictures_that_would_be_misread(tmp_path: Path, preprocessor, match: str) -> None:
    with pytest.raises(DataError, match=match) as caught:
        read_published(published(tmp_path, preprocessor))
    assert caught.value.where == str(tmp_path / "preprocessor_config.json")


def test_a_deviation_of_0(tmp_path: Path) -> None:
    preprocessor = {"do_normalize": True, "image_mean": MEAN, "image_std": [1, 0, 1]}
    with pytest.raises(SettingsError, match="deviation"):
        read_published(published(tmp_path, preprocessor))


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"model_type": "detr"}, SettingsError, "not a kind of detector"),
        ({"use_timm_backbone": True}, DataError, "timm"),
        ({"backbone": "resnet50"}, DataError, "timm"),
        ({"id2label": {"0": "a", "2": "b"}}, DataError, "without gaps"),
        ({"id2label": {"first": "a"}}, DataError, "no numbers"),
        ({"id2label": ["a"]}, DataError, "no numbers"),
    ],
)
def test_descriptions_that_cannot_be_used(tmp_path: Path, changes, error, match: str) -> None:
    with pytest.raises(error, match=match) as caught:
        read_published(published(tmp_path, **changes))
    assert str(tmp_path) in str(caught.value.where)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff"])
def test_a_broken_config(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(DataError, match="not a JSON object"):
        read_published(tmp_path)


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no published detector here") as caught:
        read_published(tmp_path)
    assert caught.value.where == str(tmp_path / "config.json")


def test_statistics_are_learned_where_no_weights_bring_them(tmp_path: Path) -> None:
    published(tmp_path, freeze_backbone_batch_norms=True)
    with_weights, _ = read_published(tmp_path)
    alone, _ = read_published(tmp_path / "config.json")
    assert with_weights.config["freeze_backbone_batch_norms"]
    assert not alone.config["freeze_backbone_batch_norms"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_record_builds_the_same_network_again(tmp_path: Path, variant: str) -> None:
    model = small_detector(variant, image_mean=tuple(MEAN), image_std=tuple(STD))
    write_architecture(model.architecture, tmp_path / "network.json")
    again = read_architecture(tmp_path / "network.json")
    assert again == model.architecture
    other = HuggingFaceDetector(again, 3).state_dict()
    own = model.state_dict()
    assert {name: value.shape for name, value in own.items()} == {
        name: value.shape for name, value in other.items()
    }
    assert HuggingFaceDetector(again, 3).architecture == again


def test_the_record_says_what_the_library_left_to_its_defaults() -> None:
    assert "num_denoising" not in scaled_architecture("d-fine", width=0.1, depth=0.1).config
    alone = HuggingFaceArchitecture(config={"model_type": "rt_detr"})
    model = HuggingFaceDetector(replace(alone, config=alone.config), 1)
    assert model.architecture.config["num_denoising"] == 100


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"config": {"model_type": "detr"}}'])
def test_a_broken_record(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "network.json"
    with pytest.raises(DataError, match="missing"):
        read_architecture(path)
    path.write_bytes(content)
    with pytest.raises((DataError, SettingsError)):
        read_architecture(path)
