"""Each kind of predictions becomes what a metric can be told from, with a gradient."""

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from tilth.errors import DataError, SettingsError
from tilth.losses.surrogate_images import mask_channels, signed_distance
from tilth.losses.surrogate_inputs import INPUTS, SurrogateNetwork, inputs_of
from tilth.losses.surrogate_layers import Build
from tilth.losses.surrogate_sequences import match_channels, read_channels, soft_string

BOXES = torch.tensor([[[0.0, 0, 9, 9, 0.9, 0.2, 0.8], [4, 4, 8, 9, 0.5, 0.7, 0.3]]] * 4)
TRUE = torch.tensor([[[0.0, 0, 8, 9, 1], [1, 1, 3, 4, 0], [0, 0, 0, 0, 0]]] * 4)


def _examples(kind):
    draws = torch.Generator().manual_seed(0)
    classes = torch.randint(0, 3, (4,), generator=draws)
    return {
        "table": (torch.rand(4, 3, generator=draws), classes),
        "image": (torch.rand(4, 2, 16, 20, generator=draws), torch.rand(4, 2, 16, 20)),
        "mask": (torch.rand(4, 1, 16, 16, generator=draws), (torch.rand(4, 1, 16, 16) > 0.5)),
        "sequence": (torch.rand(4, 9, 3, generator=draws).softmax(2), classes[:, None] - 1),
        "frames": (torch.rand(4, 9, 3, generator=draws).softmax(2), classes[:, None].clamp(max=1)),
        "boxes": (BOXES + 0.1 * torch.rand(BOXES.shape, generator=draws), TRUE),
    }[kind]


def _network(kind, prediction, target, variant=0, **options):
    inputs = INPUTS[kind]
    channels = inputs.channels(prediction, target)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        build = Build(width=8, variant=variant)
        given = {"low": 0.0, "high": 1.0, **options}
        return SurrogateNetwork(inputs, channels, build, **given)


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("variant", [0, 1, 2])
def test_every_kind_gives_one_number_with_a_gradient(kind, variant):
    prediction, target = _examples(kind)
    prediction.requires_grad_(True)
    values = _network(kind, prediction, target, variant)(prediction, target)
    assert values.shape == (4,)
    assert bool(((values > 0) & (values < 1)).all())
    values.sum().backward()
    assert bool(prediction.grad.isfinite().all())
    assert bool((prediction.grad != 0).flatten(1).any(dim=1).all())


@pytest.mark.parametrize("kind", INPUTS)
def test_examples_do_not_see_each_other(kind):
    prediction, target = _examples(kind)
    network = _network(kind, prediction, target)
    together = network(prediction, target)
    alone = torch.cat([network(prediction[k : k + 1], target[k : k + 1]) for k in range(4)])
    torch.testing.assert_close(together, alone)


def test_volumes_are_pictures_with_one_axis_more():
    prediction, target = torch.rand(2, 1, 6, 8, 8), torch.rand(2, 1, 6, 8, 8) > 0.5
    for kind in ("image", "mask"):
        assert _network(kind, prediction, target)(prediction, target).shape == (2,)


@pytest.mark.parametrize("shape", [(9, 14), (6, 7, 8)])
def test_signed_distance_is_that_of_scipy(shape):
    mask = np.random.default_rng(0).random((3, 2, *shape)) > 0.9
    ours = signed_distance(torch.from_numpy(mask).float()).numpy()
    for row, col in np.ndindex(3, 2):
        one = mask[row, col]
        exact = distance_transform_edt(~one) - distance_transform_edt(one)
        np.testing.assert_allclose(ours[row, col], exact.clip(-12, 12), atol=1e-5)


def test_distance_of_an_empty_mask_is_the_largest():
    assert signed_distance(torch.zeros(1, 1, 4, 4)).unique().tolist() == [12.0]


def test_class_maps_and_single_masks_are_the_same_as_one_hot_ones():
    classes = torch.randint(0, 3, (2, 8, 8))
    chances = torch.rand(2, 3, 8, 8)
    hot = torch.stack([classes == k for k in range(3)], dim=1)
    assert torch.equal(mask_channels(chances, classes), mask_channels(chances, hot))
    one = torch.rand(2, 8, 8)
    assert torch.equal(mask_channels(one, classes), mask_channels(one[:, None], classes[:, None]))


def test_boxes_count_in_any_order_and_padding_does_not():
    network = _network("boxes", BOXES, TRUE)
    turned = network(BOXES.flip(1), TRUE[:, [1, 0, 2]])
    torch.testing.assert_close(network(BOXES, TRUE), turned)
    more = torch.cat([BOXES, torch.zeros(4, 3, 7)], dim=1)
    torch.testing.assert_close(network(BOXES, TRUE), network(more, TRUE))
    assert network(torch.zeros(4, 0, 7), TRUE).shape == (4,)
    assert network(BOXES, torch.zeros(4, 0, 5)).shape == (4,)


def test_the_match_of_a_sequence_is_the_chance_of_its_class():
    prediction, target = torch.rand(2, 5, 4), torch.tensor([[3, 0, -1], [2, 2, 1]])
    match = match_channels(prediction, target)[:, 0]
    assert torch.equal(match[0, :, 0], prediction[0, :, 3])
    assert torch.equal(match[1, :, 2], prediction[1, :, 1])
    assert not match[0, :, 2].any()


def _greedy(classes):
    """As a decoder reads frames: runs as one, and 3 is none."""
    kept = [k for place, k in enumerate(classes) if place == 0 or k != classes[place - 1]]
    return [k for k in kept if k != 3]


def test_a_soft_string_of_sure_frames_is_the_decoded_one():
    draws = np.random.default_rng(0)
    for _ in range(50):
        classes = draws.integers(0, 4, 12).tolist()
        found = soft_string(torch.eye(4)[classes][None], slots=12)[0]
        true = _greedy(classes)
        assert found.argmax(dim=1)[: len(true)].tolist() == true
        assert found.sum().item() == len(true)


def test_frames_beyond_the_end_spell_nothing():
    frames, target = torch.rand(2, 5, 3).softmax(2), torch.tensor([[0, 1], [1, 1]])
    longer = torch.cat([frames, torch.zeros(2, 4, 3)], dim=1)
    torch.testing.assert_close(read_channels(longer, target), read_channels(frames, target))


@pytest.mark.parametrize(
    ("kind", "prediction", "target", "says"),
    [
        ("table", torch.rand(3, 2), torch.tensor([0, 1, 2]), "class that the predictions"),
        ("table", torch.rand(3, 2), torch.rand(4, 2), "differ in number"),
        ("image", torch.rand(1, 1, 8, 8), torch.rand(1, 1, 8, 9), "differ in shape"),
        ("mask", torch.rand(1, 2, 8, 8), torch.rand(1, 3, 8, 8), "differ in shape"),
        ("sequence", torch.rand(1, 5, 3), torch.tensor([[3]]), "class that the predictions"),
        ("frames", torch.rand(1, 5, 3), torch.tensor([[2]]), "class that the predictions"),
        ("sequence", torch.rand(1, 5), torch.tensor([[3]]), "shapes that do not fit"),
        ("boxes", torch.rand(1, 2, 4), torch.rand(1, 2, 5), "shapes that do not fit"),
    ],
)
def test_what_does_not_fit_is_refused(kind, prediction, target, says):
    with pytest.raises(DataError, match=says):
        INPUTS[kind].channels(prediction, target)


def test_a_distance_of_different_shapes_is_refused():
    prediction, target = _examples("table")
    network = _network("table", prediction, target, is_distance=True, best=0.0)
    with pytest.raises(DataError, match="of one shape"):
        network(prediction, target)


def test_a_set_is_judged_by_all_its_examples():
    prediction, target = torch.rand(2, 5, 3), torch.rand(2, 5, 3)
    flat = INPUTS["table"].channels(prediction.flatten(0, 1), target.flatten(0, 1))
    network = SurrogateNetwork(INPUTS["table"], flat, Build(), low=None, high=None, is_set=True)
    turned = network(prediction[:, [4, 2, 0, 1, 3]], target[:, [4, 2, 0, 1, 3]])
    torch.testing.assert_close(network(prediction, target), turned)
    alike = prediction[:, :1].expand(-1, 5, -1).clone().requires_grad_(True)
    network(alike, alike.detach()).sum().backward()
    assert bool(alike.grad.isfinite().all())


def test_names_that_are_no_kind_are_refused():
    with pytest.raises(SettingsError, match="inputs of a metric"):
        inputs_of("pictures")
