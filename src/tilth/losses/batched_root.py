"""The root of a falling function for many rows at once, with hardly a question to the device.

Source: Ridders, 1979, A new algorithm for computing a single root of a real continuous function,
    IEEE Transactions on Circuits and Systems 26(11).
Follows: the three points of an exponential -> `falling_root`.
Symbols: low, high = ends of the bracket; value = log(f(x) / target), above 0 left of the root.
Differs: rows share their rounds; the first two try a whole grid, which costs an accelerator no more
    than one point (a processor with many entries halves instead); both the point and the value are
    logarithms, in which the divergences that are solved here are all but straight lines.
Checked by: `test_finds_the_root_of_every_row`, `test_ends_answer_for_roots_beyond_them`,
    `test_a_found_root_stays_whatever_the_other_rows_need`
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["falling_root"]

SMALLEST_GRID, LARGEST_GRID = 16, 64
# In place of two grids of the smallest size: 2 ** 8 cells where they have (16 + 1) ** 2.
HALVINGS = 8
ENTRIES_AT_ONCE = 2**14
# Ridders' rounds at most. Where asking costs nothing, on the CPU, the last that changes ends them:
# some five for a smooth function. Enough is what weights in float32 can show, and well above the
# rounding of a divergence that is small.
ROUNDS, ASKED_ROUNDS = 12, 60
ENOUGH = 1e-11
# In place of infinite logarithms.
BEYOND = 700.0


def falling_root(
    function: Callable[[Float[Tensor, "r c"]], Float[Tensor, "r c"]],
    target: float | Float[Tensor, "r 1"],
    *,
    log_low: float,
    log_high: float,
    like: Float[Tensor, "r n"],
) -> Float[Tensor, "r"]:
    """For each row the x with ``function(x) = target``, both 0 or more.

    A row whose function is below the target everywhere gets the low end, and one that is above it
    everywhere the high end.

    Args:
        function: of candidates, falling (or level) along every row; NaN counts as above the target.
        log_low, log_high: natural logarithms of the ends.
        like: gives the number of rows, type and device; its size sets how many candidates the first
            rounds try at once.
    """
    goal = torch.as_tensor(target, dtype=like.dtype, device=like.device).log()

    def value(points: Float[Tensor, "r c"]) -> Float[Tensor, "r c"]:
        # Rounding may leave a little less than nothing, whose logarithm would count as above.
        above = function(points.exp()).clamp(min=0).log() - goal
        return above.nan_to_num(nan=BEYOND, posinf=BEYOND, neginf=-BEYOND).clamp(-BEYOND, BEYOND)

    low, high = _bracketed(value, log_low, log_high, like)
    at_low, at_high = value(low), value(high)
    # Asked of the ends alone: inside, rounding may tell two stories of one point.
    is_below = (low <= log_low) & (at_low <= 0)
    is_above = (high >= log_high) & (at_high > 0)
    estimate = (low + high) / 2
    is_done = is_below | is_above
    for _ in range(ROUNDS if like.is_cuda else ASKED_ROUNDS):
        middle = (low + high) / 2
        at_middle = value(middle)
        root = (at_middle**2 - at_low * at_high).sqrt()
        found = middle + (middle - low) * (at_low - at_high).sign() * at_middle / root
        # Outside of the bracket by rounding alone; 0 / 0 where both its ends are roots.
        found = found.maximum(low).minimum(high).where(~found.isnan(), middle)
        at_found = value(found)
        for point, at_point in ((middle, at_middle), (found, at_found)):
            is_left = (at_point > 0) & (point >= low)
            is_right = (at_point <= 0) & (point <= high)
            low, at_low = point.where(is_left, low), at_point.where(is_left, at_low)
            high, at_high = point.where(is_right, high), at_point.where(is_right, at_high)
        is_still = (found - estimate).abs() <= ENOUGH * (1 + found.abs())
        # A row that is done keeps its root, whatever rounds the others still need.
        estimate = estimate.where(is_done, found)
        is_done = is_done | is_still | (at_found.abs() <= ENOUGH)
        if not like.is_cuda and is_done.all():
            break
    ends = torch.where(is_below, log_low, log_high)
    return estimate.where(~(is_below | is_above), ends).exp().squeeze(1)


def _bracketed(
    value: Callable[[Float[Tensor, "r c"]], Float[Tensor, "r c"]],
    log_low: float,
    log_high: float,
    like: Float[Tensor, "r n"],
) -> tuple[Float[Tensor, "r 1"], Float[Tensor, "r 1"]]:
    """A cell of a grid in a cell of a grid that holds the root, or lies at the end next to it."""
    grid, rounds = min(LARGEST_GRID, ENTRIES_AT_ONCE // max(like.numel(), 1)), 2
    if grid < SMALLEST_GRID:
        # What a processor computes one after the other, it had better not compute at all.
        grid, rounds = (SMALLEST_GRID, 2) if like.is_cuda else (1, HALVINGS)
    steps = torch.linspace(0, 1, grid + 2, dtype=like.dtype, device=like.device)[1:-1]
    low = like.new_full((like.shape[0], 1), log_low)
    width, is_last = log_high - log_low, torch.ones_like(low, dtype=torch.bool)
    for _ in range(rounds):
        # Cells whose right end is still above the target lie left of the root.
        passed = (value(low + width * steps) > 0).sum(dim=1, keepdim=True)
        width /= grid + 1
        low = low + width * passed
        is_last &= passed == grid
    return low, (low + width).where(~is_last, log_high)
