"""The small network is ResNet at its full size, and takes pictures of any size."""

import pytest
import torch
from torch import nn

from tilth.models.small_cnn import ResidualBlock, SmallCnn


def test_full_size_is_resnet_18():
    with torch.device("meta"):
        model = SmallCnn(1000, width=64, blocks=(2, 2, 2, 2), stem="large")
    assert sum(p.numel() for p in model.parameters()) == 11_689_512  # the published network's
    assert sum(isinstance(m, nn.Conv2d) for m in model.modules()) == 20
    features = model.stages(model.stem(torch.zeros(1, 3, 224, 224, device="meta")))
    assert features.shape == (1, 512, 7, 7)


def test_a_new_block_is_its_shortcut():
    block = ResidualBlock(4, 4, 1).eval()
    features = torch.rand(2, 4, 6, 6)
    assert torch.equal(block(features), features)


@pytest.mark.parametrize(("side", "stem"), [(32, "small"), (64, "small"), (224, "large")])
def test_any_size_of_picture(side, stem):
    model = SmallCnn(5, width=4, stem=stem)
    scores = model(torch.rand(2, 3, side, side))
    assert scores.shape == (2, 5)
    scores.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_the_shortcut_is_a_strided_pointwise_convolution():
    """At few channels, channels last and an odd batch: there torch's own kernel is not safe."""
    block = ResidualBlock(4, 8, 2).to(memory_format=torch.channels_last)
    images = torch.randn(7, 4, 16, 16).to(memory_format=torch.channels_last).requires_grad_()
    for _ in range(20):
        block(images).sum().backward()
    convolution = block.shortcut[0]
    with torch.no_grad():
        seen = convolution(images[:, :, ::2, ::2])
        strided = torch.nn.functional.conv2d(
            images.detach().contiguous(), convolution.weight.contiguous(), stride=2
        )
    torch.testing.assert_close(seen, strided)
    assert torch.isfinite(convolution.weight.grad).all()
