"""A gradient of which no example has more than its share."""

from torch import Tensor

__all__ = ["with_bounded_gradient"]


def with_bounded_gradient(prediction: Tensor, limit: float) -> Tensor:
    """The same tensor, whose gradient is cut, example by example, to ``limit`` medians of norms.

    An example that pulls ten times as hard as the rest is more often an error of the surrogate than
    a find.

    Args:
        prediction: [n, ...].
        limit: 0 leaves the gradient as it is.
    """
    if not limit or not prediction.requires_grad:
        return prediction
    kept = prediction.view_as(prediction)

    def cut(gradient: Tensor) -> Tensor:
        norms = gradient.flatten(1).norm(dim=1) if gradient.ndim > 1 else gradient.abs()
        # Examples without a gradient (left out, or of weight 0) say nothing of what is usual.
        some = norms[norms > 0]
        if len(some) == 0:
            return gradient
        most = limit * some.median()
        factor = (most / norms.clamp_min(1e-30)).clamp_max(1.0)
        return gradient * factor.reshape(-1, *[1] * (gradient.ndim - 1))

    kept.register_hook(cut)
    return kept
