"""What was found wrong while labels were read: counted, with the first examples, never dropped."""

from __future__ import annotations

from dataclasses import dataclass, field

from tilth.errors import LabelError

__all__ = ["LabelReport", "Problem"]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One kind of problem.

    Attributes:
        kind: what is wrong, in a few words; equal words mean an equal problem.
        action: what was done about it.
        count: how often.
        examples: the first few places, by the ids of the label file.
    """

    kind: str
    action: str
    count: int
    examples: tuple[str, ...] = ()

    def __str__(self) -> str:
        places = "; ".join(self.examples)
        more = ", ..." if self.count > len(self.examples) > 0 else ""
        return f"{self.count} x {self.kind} ({self.action}): {places}{more}"


@dataclass(kw_only=True)
class LabelReport:
    """What a reader or writer of labels met.

    Attributes:
        where: the label file.
        problems: in the order in which their kinds were met.
        notes: what was decided (which dialect), or what we cannot hold; no fault of any label.
        max_examples: how many places of each kind are kept; None for all of them.
    """

    where: str
    num_media: int = 0
    num_annotations: int = 0
    notes: list[str] = field(default_factory=list)
    max_examples: int | None = 5
    _counts: dict[tuple[str, str], list[str]] = field(default_factory=dict, repr=False)
    _totals: dict[tuple[str, str], int] = field(default_factory=dict, repr=False)

    def add(self, kind: str, action: str, places: list[str], *, count: int | None = None) -> None:
        """Count ``places`` under a kind of problem; ``count`` where there are more than places."""
        if not places and not count:
            return
        examples = self._counts.setdefault((kind, action), [])
        room = None if self.max_examples is None else self.max_examples - len(examples)
        examples += places[:room]
        total = len(places) if count is None else count
        self._totals[kind, action] = self._totals.get((kind, action), 0) + total

    @property
    def problems(self) -> tuple[Problem, ...]:
        return tuple(
            Problem(
                kind=kind,
                action=action,
                count=self._totals[kind, action],
                examples=tuple(examples),
            )
            for (kind, action), examples in self._counts.items()
        )

    def raise_if_any(
        self, *, fix: str = "correct the label file, or import without --strict"
    ) -> None:
        """Raise for the first problem: what ``strict`` means.

        Raises:
            LabelError: there is a problem.
        """
        for problem in self.problems:
            raise LabelError(
                f"{problem.count} x {problem.kind}",
                where=f"{self.where}: {'; '.join(problem.examples)}",
                fix=fix,
            )

    def __str__(self) -> str:
        head = f"{self.where}: {self.num_media} media, {self.num_annotations} annotations"
        return "\n".join([head, *(f"  {line}" for line in (*self.problems, *self.notes))])
