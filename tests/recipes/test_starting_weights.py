"""A detector starts from another's weights: what fits is taken, classes go by their names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tilth.errors import DataError, LabelError, TrainingError
from tilth.models.coco_classes import COCO_CLASSES, same_class
from tilth.models.darknet import Darknet
from tilth.models.darknet_conversion import as_darknet
from tilth.models.darknet_specs import built_in_cfg
from tilth.models.darknet_weights import save_weights
from tilth.models.detection_network import carry_over_head
from tilth.recipes.detection_families import FAMILIES
from tilth.recipes.detector import new_detector
from tilth.recipes.model_settings import ModelSettings, Variant
from tilth.recipes.starting_weights import (
    KnownWeights,
    known_classes,
    read_transfer,
    start_from,
    write_transfer,
)
from tilth.train.checkpoint import save_weights as save_safetensors

FASTEST = Path(__file__).resolve().parents[3] / "shared" / "data" / "weights" / "yolo-fastest"
XL = FASTEST / "yolo-fastest-1.1-xl.weights"


def fresh(names: tuple[str, ...], seed: int = 0, **settings: object) -> nn.Module:
    chosen = ModelSettings(width=0.125, size=64, **settings)
    return new_detector(chosen, names, root=Path("/"), seed=seed)[0].model


def known(model: nn.Module, names: tuple[str, ...]) -> KnownWeights:
    return KnownWeights(path=Path("weights"), state=model.state_dict(), class_names=names)


def scores(model: nn.Module) -> torch.Tensor:
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    return model.eval().decode(model(images))[1]


def boxes(model: nn.Module) -> torch.Tensor:
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    return model.eval().decode(model(images))[0]


def test_every_variant_of_the_settings_has_a_family():
    assert set(FAMILIES) == set(Variant.__args__)


def test_classes_keep_their_scores_by_name_in_any_order():
    old, new = fresh(("cat", "dog", "cow"), seed=1), fresh(("cow", "horse", "cat"), seed=2)
    for convolution in old.head_convolutions():  # so that classes differ in more than rounding
        nn.init.normal_(convolution.bias)
    report = start_from(new, known(old, ("cat", "dog", "cow")), ("cow", "horse", "cat"))
    assert report.classes == ("cow", "cat")
    assert not report.skipped
    torch.testing.assert_close(boxes(new), boxes(old))
    torch.testing.assert_close(scores(new)[..., 0], scores(old)[..., 2])
    torch.testing.assert_close(scores(new)[..., 2], scores(old)[..., 0])
    assert not torch.allclose(scores(new)[..., 1], scores(old)[..., 1], atol=1e-3)


def test_a_class_nobody_knows_keeps_its_prior():
    old, new = fresh(("cat",), seed=1), fresh(("horse", "cow"), seed=2)
    before = [conv.bias.detach().clone() for conv in new.head_convolutions()]
    report = start_from(new, known(old, ("cat",)), ("horse", "cow"))
    assert report.classes == ()
    for conv, bias in zip(new.head_convolutions(), before, strict=True):
        assert torch.equal(conv.bias.view(3, 7)[:, 5:], bias.view(3, 7)[:, 5:])


def test_without_names_as_many_classes_are_taken_as_they_are():
    old, new = fresh(("a", "b"), seed=1), fresh(("c", "d"), seed=2)
    report = start_from(new, known(old, ()), ("c", "d"))
    assert report.classes == ("c", "d")
    torch.testing.assert_close(scores(new), scores(old))


def test_names_without_classes_of_that_number_are_not_guessed():
    old, new = fresh(("a", "b"), seed=1), fresh(("c",), seed=2)
    assert start_from(new, known(old, ()), ("c",)).classes == ()


def test_a_head_of_another_width_is_refused():
    with pytest.raises(DataError, match="another network"):
        carry_over_head(
            nn.Conv2d(8, 18, 1), torch.zeros(18, 4, 1, 1), torch.zeros(18), num_anchors=3,
            class_rows=[0],
        )  # fmt: skip


def test_darknets_names_are_the_same_classes():
    names = (FASTEST / "coco.names").read_text().split("\n") if FASTEST.is_dir() else COCO_CLASSES
    assert tuple(same_class(name) for name in names if name) == COCO_CLASSES


def test_names_of_another_number_are_refused(tmp_path: Path):
    file = tmp_path / "names"
    file.write_text("one\ntwo\n\n")
    assert known_classes(file, 2) == ("one", "two")
    with pytest.raises(LabelError, match="do not belong") as caught:
        known_classes(file, 80)
    assert (caught.value.where, caught.value.expected) == (str(file), "80 names, one a line")


def test_darknets_file_fills_the_readable_network(tmp_path: Path):
    old = fresh(tuple(COCO_CLASSES), seed=1)
    nn.init.normal_(old.head_convolutions()[0].bias)
    save_weights(as_darknet(old, size=64), tmp_path / "whole.weights")
    save_weights(as_darknet(old, size=64), tmp_path / "partial.conv.29", cutoff=29)
    settings = ModelSettings(width=0.125, size=64, weights="whole.weights")
    detector, report = new_detector(settings, ("zebra",), root=tmp_path, seed=2)
    assert report is not None
    assert report.classes == ("zebra",)
    torch.testing.assert_close(scores(detector.model)[..., 0], scores(old)[..., 22])
    settings = ModelSettings(width=0.125, size=64, weights="partial.conv.29")
    partial, report = new_detector(settings, ("zebra",), root=tmp_path, seed=2)
    assert report is not None
    assert report.classes == ()
    state, whole = partial.model.state_dict(), old.state_dict()
    backbone = [name for name in state if name.startswith("backbone.")]
    assert all(torch.equal(state[name], whole[name]) for name in backbone)
    assert not torch.equal(state["neck.lateral.0.weight"], whole["neck.lateral.0.weight"])


class TestDarknet:
    def settings(self, **changes: object) -> ModelSettings:
        chosen = {"variant": "darknet", "cfg": "yolov4-tiny", "size": 64, **changes}
        return ModelSettings(**chosen)

    def test_a_file_for_80_classes_starts_one_for_two(self, tmp_path: Path):
        torch.manual_seed(3)
        source = Darknet(built_in_cfg("yolov4-tiny", 80)).eval()
        save_weights(source, tmp_path / "tiny.weights")
        settings = self.settings(weights="tiny.weights")
        detector, report = new_detector(settings, ("zebra", "barn"), root=tmp_path, seed=0)
        assert report is not None
        assert report.classes == ("zebra",)
        torch.testing.assert_close(boxes(detector.model), boxes(source))
        torch.testing.assert_close(scores(detector.model)[..., 0], scores(source)[..., 22])

    def test_a_partial_file_leaves_the_rest_random(self, tmp_path: Path):
        torch.manual_seed(3)
        source = Darknet(built_in_cfg("yolov4-tiny", 80))
        save_weights(source, tmp_path / "yolov4-tiny.conv.29", cutoff=29)
        settings = self.settings(weights="yolov4-tiny.conv.29")
        detector, report = new_detector(settings, ("zebra",), root=tmp_path, seed=0)
        assert report is not None
        assert report.classes == ()
        state, old = detector.model.state_dict(), source.state_dict()
        assert torch.equal(state["layers.27.conv.weight"], old["layers.27.conv.weight"])
        assert not torch.equal(state["layers.32.conv.weight"], old["layers.32.conv.weight"])

    def test_weights_of_another_network_are_refused(self, tmp_path: Path):
        save_weights(Darknet(built_in_cfg("yolov4-tiny-3l", 80)), tmp_path / "other.weights")
        with pytest.raises(LabelError, match="do not fit") as caught:
            new_detector(self.settings(weights="other.weights"), ("a",), root=tmp_path, seed=0)
        assert "floats" in caught.value.expected
        save_safetensors(tmp_path / "readable.safetensors", fresh(("a",)))
        with pytest.raises(TrainingError, match="another network"):
            new_detector(
                self.settings(weights="readable.safetensors"), ("a",), root=tmp_path, seed=0
            )

    def test_a_missing_network_names_the_built_in_ones(self, tmp_path: Path):
        with pytest.raises(TrainingError, match="no such network") as caught:
            new_detector(self.settings(cfg="mine.cfg"), ("a",), root=tmp_path, seed=0)
        assert "yolov4-csp" in caught.value.expected

    def test_own_anchors_stand_in_the_network_file(self):
        anchors = tuple((4.0 * n, 5.0 * n) for n in range(1, 7))
        detector, _ = new_detector(self.settings(anchors=anchors), ("a",), root=Path("/"), seed=0)
        assert detector.model.anchors == (anchors[3:6], anchors[1:4])  # masks 3,4,5 and 1,2,3

    @pytest.mark.skipif(not XL.is_file(), reason=f"{XL} is not there")
    def test_real_weights_keep_their_person(self):
        settings = self.settings(cfg=str(XL.with_suffix(".cfg")), weights=str(XL))
        _, report = new_detector(settings, ("person", "dog"), root=Path("/"), seed=0)
        assert report is not None
        assert report.classes == ("person", "dog")
        assert not report.skipped


def test_what_was_taken_is_kept_beside_the_run(tmp_path: Path):
    old, new = fresh(("cat",), seed=1), fresh(("cat", "cow"), seed=2)
    state = {**old.state_dict(), "stray": torch.zeros(3)}
    report = start_from(
        new, KnownWeights(path=Path("w"), state=state, class_names=("cat",)), ("cat", "cow")
    )
    assert read_transfer(tmp_path) is None
    write_transfer(tmp_path, report, ("cat", "cow"))
    assert read_transfer(tmp_path) == {
        "loaded_tensors": len(report.loaded),
        "skipped": ["stray [3]"],
        "known_classes": ["cat"],
        "new_classes": ["cow"],
    }
