"""A text classifier: words as vectors, a recurrent layer over them, a linear layer to the classes.

Number and category columns of the same row can stand beside the text: numbers are standardised,
categories have vectors of their own, and the linear layer reads all of it.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from tilth.models.recurrent import Recurrent, State

__all__ = ["Pooling", "TextClassifier"]

Pooling = Literal["max", "mean", "last"]
CATEGORY_CHANNELS = 8


class TextClassifier(nn.Module):
    """Scores of classes from tokens.

    Args:
        num_tokens: size of the vocabulary; token 0 is padding.
        cell, num_hidden, num_layers, bidirectional: of `Recurrent`.
        num_embedded: channels of a token's vector.
        pooling: how the outputs of all steps become one: the largest value of each channel over the
            steps, their mean, or the last state.
        dropout: share of the token vectors' channels, of what goes from layer to layer, and of the
            pooled channels that training sets to zero.
        num_numeric: number columns; `set_standardisation` tells their scale.
        category_sizes: values of each category column, unknown included.

    >>> model = TextClassifier(100, 2)
    >>> model(torch.tensor([[5, 9, 0], [7, 2, 4]]), torch.tensor([2, 3])).shape
    torch.Size([2, 2])
    """

    def __init__(
        self,
        num_tokens: int,
        num_classes: int,
        *,
        cell: str = "gru",
        num_embedded: int = 64,
        num_hidden: int = 64,
        num_layers: int = 1,
        bidirectional: bool = True,
        pooling: Pooling = "max",
        dropout: float = 0.2,
        num_numeric: int = 0,
        category_sizes: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.pooling = pooling
        self.embedding = nn.Embedding(num_tokens, num_embedded, padding_idx=0)
        self.recurrent = Recurrent(
            cell,
            num_embedded,
            num_hidden,
            num_layers=num_layers,
            bidirectional=bidirectional,
            dropout=dropout,
        )
        self.dropout = nn.Dropout(dropout)
        self.categories = nn.ModuleList(
            nn.Embedding(size, CATEGORY_CHANNELS) for size in category_sizes
        )
        self.register_buffer("numeric_mean", torch.zeros(num_numeric))
        self.register_buffer("numeric_deviation", torch.ones(num_numeric))
        pooled = num_hidden * self.recurrent.num_directions
        beside = num_numeric + CATEGORY_CHANNELS * len(category_sizes)
        self.head = nn.Linear(pooled + beside, num_classes)

    def set_standardisation(self, numeric: Float[Tensor, "n columns"]) -> None:
        """Take mean and deviation of the number columns from training rows."""
        deviation = numeric.std(dim=0, correction=0)
        self.numeric_mean = numeric.mean(dim=0)
        self.numeric_deviation = torch.where(deviation > 0, deviation, 1.0)

    def forward(
        self,
        tokens: Int64[Tensor, "b t"],
        lengths: Int64[Tensor, "b"],
        numeric: Float[Tensor, "b columns"] | None = None,
        categorical: Int64[Tensor, "b categories"] | None = None,
    ) -> Float[Tensor, "b k"]:
        """Logits; a text without a token is judged by its other columns and the bias."""
        outputs, state = self.recurrent(self.dropout(self.embedding(tokens)), lengths)
        parts = [self.dropout(self._pooled(outputs, lengths, state))]
        if numeric is not None:
            parts.append((numeric - self.numeric_mean) / self.numeric_deviation)
        if categorical is not None:
            columns = categorical.unbind(dim=1)
            parts += [embed(column) for embed, column in zip(self.categories, columns, strict=True)]
        return self.head(torch.cat(parts, dim=1))

    def _pooled(
        self, outputs: Float[Tensor, "b t c"], lengths: Int64[Tensor, "b"], state: State
    ) -> Float[Tensor, "b c"]:
        if self.pooling == "last":
            sides = state.hidden[-self.recurrent.num_directions :]
            return torch.cat(list(sides), dim=1)
        if self.pooling == "mean":
            return outputs.sum(dim=1) / lengths.clamp(min=1)[:, None]
        ended = torch.arange(outputs.shape[1], device=outputs.device) >= lengths[:, None]
        highest = outputs.masked_fill(ended[..., None], -torch.inf).amax(dim=1)
        return highest.masked_fill((lengths == 0)[:, None], 0.0)
