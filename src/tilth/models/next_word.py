"""The next-word model of a phone's keyboard: one embedding for both ends, one CIFG-LSTM between.

Source: Hard et al., 2018, Federated Learning for Mobile Keyboard Prediction, arXiv 1811.03604v2
    (section 3): a CIFG with projection whose input and output embeddings are tied.
Follows: "tied input embedding and output projection matrices" -> `NextWordModel`.
Symbols: num_words = vocabulary; num_embedded = d, the size of the embedding and of the projection;
    num_hidden = units of the one layer.
Differs: token 0 is padding, as everywhere in Tilth, and is never predicted.
Checked by: `test_keyboard_model_has_the_published_size`, `test_tied_embedding_is_one_tensor`
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import linear

from tilth.models.recurrent import Recurrent, State

__all__ = ["NextWordModel"]


class NextWordModel(nn.Module):
    """Scores of every word to come next, after each word of a sentence.

    The defaults are the published keyboard's: 1.4 million weights.

    >>> scores, state = NextWordModel(50)(torch.tensor([[3, 17, 8]]))
    >>> scores.shape
    torch.Size([1, 3, 50])
    """

    def __init__(
        self, num_words: int = 10_000, *, num_embedded: int = 96, num_hidden: int = 670
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_words, num_embedded)
        # Both ends share it: rows of length about 1 give scores of the size of a unit's output.
        nn.init.normal_(self.embedding.weight, std=num_embedded**-0.5)
        self.recurrent = Recurrent("cifg", num_embedded, num_hidden, num_projected=num_embedded)

    def forward(
        self,
        tokens: Int64[Tensor, "b t"],
        lengths: Int64[Tensor, "b"] | None = None,
        state: State | None = None,
    ) -> tuple[Float[Tensor, "b t words"], State]:
        """Logits after each token, that of padding at minus infinity, and the state to go on from.

        Args:
            lengths: tokens of each sentence; logits beyond say nothing.
        """
        outputs, state = self.recurrent(self.embedding(tokens), lengths, state)
        scores = linear(outputs, self.embedding.weight)
        is_padding = torch.arange(scores.shape[-1], device=scores.device) == 0
        return scores.masked_fill(is_padding, -torch.inf), state
