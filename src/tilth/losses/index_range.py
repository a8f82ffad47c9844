"""Labels, rows and classes of a batch that are outside of what a loss was made for."""

from jaxtyping import Int64
from torch import Tensor

from tilth.errors import DataError

__all__ = ["refuse_outside"]


def refuse_outside(
    index: Int64[Tensor, "n"], count: int, message: str, *, item: str = "row"
) -> None:
    """Refuse numbers below 0, or of ``count`` and above.

    Args:
        message: what is wrong, for the error.
        item: what there is one of in the batch for each number.

    Raises:
        DataError: names the first.
    """
    outside = (index < 0) | (index >= count)
    if outside.any():
        place = int(outside.nonzero()[0])
        raise DataError(
            message,
            where=f"{item} {place} of the batch",
            expected=f"0 to {count - 1}",
            got=str(int(index[place])),
        )
