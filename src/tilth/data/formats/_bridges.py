"""An object of several parts as one outline, by bridges of no width, and back.

The outline goes around the first part back to its first corner, over to each further part, around
it and back the same way: ``a b c a | d e f d a | g h i g``. Area and interior stay what they were,
as a bridge is walked twice. Only outlines of exactly this form are taken apart again, and only
where all parts turn the same way: a hole is bridged alike, but turns the other way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

__all__ = ["joined", "taken_apart"]

Point = tuple[float, float]
Ring = list[Point]


def joined(parts: Sequence[Ring]) -> Ring:
    """One outline of all parts; they turn as the first and begin at a corner they pass once."""
    sign = _turn(parts[0]) >= 0
    rings = [part if (_turn(part) >= 0) == sign else part[::-1] for part in parts]
    return rings[0] if len(rings) == 1 else _walk([_from_a_single_corner(ring) for ring in rings])


def taken_apart(outline: Ring) -> list[Ring]:
    """The parts that were joined; the outline itself where it is not of that form."""
    parts = _candidate(outline)
    turns = [_turn(part) for part in parts]
    same_way = all(turn > 0 for turn in turns) or all(turn < 0 for turn in turns)
    whole = all(len(part) >= 3 for part in parts) and len(parts) > 1
    return parts if whole and same_way and _walk(parts) == outline else [outline]


def _walk(rings: Sequence[Ring]) -> Ring:
    start = rings[0][0]
    outline = [*rings[0], start]
    for ring in rings[1:]:
        outline += [*ring, ring[0], start]
    return outline[:-1] if len(rings) > 1 else list(rings[0])


def _candidate(outline: Ring) -> list[Ring]:
    """Cut where a first corner comes again; empty where the walk does not lead back each time."""
    again: dict[Point, int] = {}
    next_visit = [-1] * len(outline)
    for at in range(len(outline) - 1, -1, -1):
        next_visit[at] = again.get(outline[at], -1)
        again[outline[at]] = at
    parts: list[Ring] = []
    at = 0
    while at < len(outline):
        end = next_visit[at]
        if end < 0:
            return []
        parts.append(outline[at:end])
        at = end + (1 if len(parts) == 1 else 2)
    return parts


def _from_a_single_corner(ring: Ring) -> Ring:
    visits = Counter(ring)
    for at, corner in enumerate(ring):
        if visits[corner] == 1:
            return ring[at:] + ring[:at]
    return ring


def _turn(ring: Ring) -> float:
    """Twice the signed area (shoelace formula)."""
    following = [*ring[1:], *ring[:1]]
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(ring, following, strict=True))
