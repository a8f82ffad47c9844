"""The classifier's loss is torch's cross-entropy, example by example, under any weights."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from tilth.data.frame_labels import balanced_weights
from tilth.losses.classification import example_losses, weighted_mean


@given(seed=st.integers(0, 99), smoothing=st.sampled_from([0.0, 0.1, 1.0]))
def test_mean_equals_cross_entropy(seed, smoothing):
    torch.manual_seed(seed)
    logits, labels = torch.randn(7, 4), torch.randint(4, (7,))
    losses = example_losses(logits, labels, label_smoothing=smoothing)
    expected = cross_entropy(logits, labels, label_smoothing=smoothing)
    torch.testing.assert_close(weighted_mean(losses, torch.ones(7)), expected)


def test_class_weights_as_example_weights_equal_cross_entropy():
    torch.manual_seed(1)
    logits, labels = torch.randn(50, 3), torch.randint(3, (50,))
    weights = torch.from_numpy(balanced_weights(labels.bincount(minlength=3).numpy())).float()
    ours = weighted_mean(example_losses(logits, labels), weights[labels])
    torch.testing.assert_close(ours, cross_entropy(logits, labels, weight=weights))


def test_weight_two_is_an_example_twice():
    logits, labels = torch.randn(3, 4), torch.tensor([0, 3, 1])
    losses = example_losses(logits, labels)
    twice = weighted_mean(losses[[0, 1, 1, 2]], torch.ones(4))
    torch.testing.assert_close(weighted_mean(losses, torch.tensor([1.0, 2.0, 1.0])), twice)


def test_weights_of_zero_give_zero_and_no_gradient():
    logits = torch.randn(2, 3, requires_grad=True)
    mean = weighted_mean(example_losses(logits, torch.tensor([0, 1])), torch.zeros(2))
    mean.backward()
    assert mean == 0
    assert logits.grad is not None
    assert not logits.grad.any()
