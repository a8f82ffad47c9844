"""Weights of one network in another: all that fits is taken, all else is named."""

import torch

from tilth.models.transfer import load_matching
from tilth.models.yolov4 import YoloV4


def tiny(num_classes, seed, **settings):
    torch.manual_seed(seed)
    return YoloV4(num_classes, variant="yolov4-tiny", width=0.125, **settings)


def test_another_number_of_classes_keeps_all_but_the_last_convolutions():
    source, target = tiny(20, 0), tiny(2, 1)
    before = {name: value.clone() for name, value in target.state_dict().items()}
    report = load_matching(target, source.state_dict())
    names = [skipped.name for skipped in report.skipped]
    assert names == [f"heads.{head}.1.{part}" for head in (0, 1) for part in ("weight", "bias")]
    assert report.skipped[1].shape == (75,)
    assert report.skipped[1].wanted_shape == (21,)
    for name, value in target.state_dict().items():
        expected = before[name] if name in names else source.state_dict()[name]
        assert torch.equal(value, expected), name
    assert set(report.loaded) | set(names) == set(before)


def test_the_same_network_is_taken_whole():
    source, target = tiny(3, 0), tiny(3, 1)
    report = load_matching(target, source.state_dict())
    assert report.skipped == ()
    images = torch.rand(1, 3, 64, 64)
    for one, other in zip(source.eval()(images), target.eval()(images), strict=True):
        assert torch.equal(one, other)


def test_a_tensor_that_the_model_lacks_is_named():
    report = load_matching(tiny(1, 0), {"backbone.more": torch.zeros(3)})
    assert report.loaded == ()
    assert report.skipped == (("backbone.more", (3,), None),)
