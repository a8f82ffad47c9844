"""PreAct ResNet-18 has the literature's weights, and its units only ever add."""

import pytest
import torch
from torch import nn

from tilth.models.preact_resnet import PreactBlock, PreactResNet
from tilth.seeding import seed_everything


def unit_weights(before: int, channels: int) -> int:
    """Two 3x3 convolutions, their normalisations, and a shortcut where the number changes."""
    convolutions = 9 * before * channels + 9 * channels * channels
    norms = 2 * before + 2 * channels
    return convolutions + norms + (before * channels if before != channels else 0)


def test_eighteen_layers_by_hand():
    """3*64*9 in the stem, eight units, 512*10 + 10 in the head: 11,171,146; then the last norm."""
    units = [(64, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512)]
    units.append((512, 512))
    counted = 3 * 64 * 9 + sum(unit_weights(*unit) for unit in units) + 512 * 10 + 10
    assert counted == 11_171_146  # as commonly quoted, of a network without the last normalisation
    with torch.device("meta"):
        model = PreactResNet(10)
    assert sum(p.numel() for p in model.parameters()) == counted + 2 * 512
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert len(layers) + 1 == 18


def test_a_unit_adds_to_its_input():
    block = PreactBlock(4, 4, 1).eval()
    features = torch.randn(2, 4, 6, 6)
    assert not torch.equal(block(features), features)
    nn.init.zeros_(block.second.weight)
    assert torch.equal(block(features), features)  # also where the input is negative


def test_a_unit_that_changes_size_looks_at_every_second_cell():
    block = PreactBlock(4, 8, 2).eval()
    nn.init.zeros_(block.second.weight)
    features = torch.randn(2, 4, 6, 6)
    # No statistics yet: the normalisation is the identity but for its epsilon.
    shortcut = nn.functional.conv2d(features.relu(), block.shortcut.weight, stride=2)
    torch.testing.assert_close(block(features), shortcut, rtol=1e-4, atol=1e-5)


def test_stages_halve_and_double():
    model = PreactResNet(10, width=4)
    features, seen = model.stem(torch.rand(1, 3, 32, 32)), []
    for stage in model.stages:
        features = stage(features)
        seen.append(tuple(features.shape[1:]))
    assert seen == [(4, 32, 32), (8, 16, 16), (16, 8, 8), (32, 4, 4)]


@pytest.mark.parametrize("side", [24, 32, 33, 64])
def test_any_size_of_picture_and_every_weight_learns(side):
    model = PreactResNet(5, width=4)
    scores = model(torch.rand(3, 3, side, side))
    assert scores.shape == (3, 5)
    scores.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert all(p.grad.abs().sum() > 0 for name, p in model.named_parameters() if "head" in name)


def test_a_shift_by_eight_pixels_is_a_shift_of_the_last_features():
    """Three halvings: away from the border, features move by one cell and scores hardly move."""
    seed_everything(0)
    model = PreactResNet(10, width=4, blocks=(1, 1, 1, 1)).eval()
    images = torch.rand(1, 3, 192, 192)

    def features(pictures: torch.Tensor) -> torch.Tensor:
        return model.stages(model.stem(2 * pictures - 1))

    moved = features(images.roll((8, 8), dims=(2, 3)))
    torch.testing.assert_close(
        moved[:, :, 9:-9, 9:-9], features(images)[:, :, 8:-10, 8:-10], rtol=1e-4, atol=1e-4
    )


def test_the_signal_keeps_its_size_through_the_depth():
    """Fresh weights: scores of unit order, neither vanishing nor exploding."""
    seed_everything(1)
    scores = PreactResNet(10, width=16)(torch.rand(16, 3, 32, 32))
    assert 0.05 < float(scores.detach().std()) < 5.0


def test_deeper_and_wider_by_settings():
    with torch.device("meta"):
        deeper = PreactResNet(10, blocks=(3, 4, 6, 3))
    layers = [m for m in deeper.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert len(layers) + 1 == 34
    assert deeper.head.in_features == 512
    assert PreactResNet(7, width=2).head.in_features == 16
