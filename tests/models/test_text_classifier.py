"""The text classifier reads words up to their length, in any pooling, beside other columns."""

import pytest
import torch

from tilth.models.text_classifier import TextClassifier

POOLINGS = ("max", "mean", "last")
TOKENS, LENGTHS = torch.tensor([[5, 9, 3, 0], [7, 2, 4, 6], [0, 0, 0, 0]]), torch.tensor([3, 4, 0])


def model(**options):
    torch.manual_seed(0)
    return TextClassifier(12, 3, num_embedded=4, num_hidden=5, **options).eval()


@pytest.mark.parametrize("pooling", POOLINGS)
def test_padding_does_not_change_a_score(pooling):
    classifier = model(pooling=pooling)
    together = classifier(TOKENS, LENGTHS)
    for row, length in enumerate(LENGTHS[:2].tolist()):
        alone = classifier(TOKENS[row : row + 1, :length], LENGTHS[row : row + 1])
        torch.testing.assert_close(together[row], alone[0])


@pytest.mark.parametrize("pooling", POOLINGS)
def test_empty_text_is_judged_by_the_bias(pooling):
    classifier = model(pooling=pooling)
    torch.testing.assert_close(classifier(TOKENS, LENGTHS)[2], classifier.head.bias)


def test_order_of_words_matters():
    classifier = model()
    assert not torch.allclose(
        classifier(TOKENS[1:2], LENGTHS[1:2]), classifier(TOKENS[1:2].flip(1), LENGTHS[1:2])
    )


def test_numbers_are_standardised_and_categories_have_vectors():
    classifier = model(num_numeric=2, category_sizes=(3, 4))
    numeric = torch.tensor([[1.0, 1e6], [3.0, 1e6], [2.0, 1e6]])
    classifier.set_standardisation(numeric)
    categorical = torch.tensor([[0, 1], [2, 3], [1, 0]])
    scores = classifier(TOKENS, LENGTHS, numeric, categorical)
    moved = classifier(TOKENS, LENGTHS, numeric + torch.tensor([1.0, 0.0]), categorical)
    slope = classifier.head.weight[:, 10] / numeric[:, 0].std(correction=0)
    torch.testing.assert_close(moved - scores, slope.expand(3, 3), atol=1e-5, rtol=1e-4)
    changed = classifier(TOKENS, LENGTHS, numeric, categorical.flip(1).clamp(max=2))
    assert not torch.allclose(scores, changed)
