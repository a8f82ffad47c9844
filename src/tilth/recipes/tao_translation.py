"""What became of each field of a TAO specification: kept, changed, or without a counterpart."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from tilth.recipes.tao_fields import TaoSpec

__all__ = ["Note", "Translation"]

Outcome = Literal["kept", "changed", "dropped"]


@dataclass(frozen=True, kw_only=True)
class Note:
    """What became of a field.

    Attributes:
        outcome: "kept", the same value under our name; "changed", the same meaning in other units
            or words; "dropped", there is no counterpart.
        field: dotted name in the specification.
        line: where it is written.
        text: our setting and its value, or the reason.
    """

    outcome: Outcome
    field: str
    line: int
    text: str


@dataclass(kw_only=True)
class Translation:
    """A specification in our words, filled field by field.

    Attributes:
        settings: nested values for `tilth.recipes.detect_settings.settings`.
        notes: one for every field that is written.
        commands: what else to run: imports, evaluation.
        network: text of a Darknet network file that the settings name, "" where none is needed.
    """

    spec: TaoSpec
    settings: dict[str, Any] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    network: str = ""

    def set(self, path: str, value: Any) -> None:
        """Give one of our settings a value."""
        *parents, name = path.split(".")
        node = self.settings
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = value

    def keep(self, name: str, path: str) -> None:
        """The field's value as it is, under our name; nothing where it is not written."""
        if name in self.spec.values:
            value = self.spec.get(name)
            self.set(path, value)
            self.note("kept", name, f"{path} = {value!r}")

    def change(self, name: str, path: str, value: Any, why: str) -> None:
        """Another value under our name."""
        self.set(path, value)
        self.note("changed", name, f"{path} = {value!r}: {why}")

    def note(self, outcome: Outcome, name: str, text: str) -> None:
        """Say what became of a field, where it is written."""
        if name in self.spec.values:
            line = self.spec.line(name)
            self.notes.append(Note(outcome=outcome, field=name, line=line, text=text))

    def drop(self, names: Iterable[str], why: str) -> None:
        """Fields without a counterpart; those that are not written are not mentioned."""
        for name in names:
            self.note("dropped", name, why)

    def unmentioned(self) -> list[str]:
        """Fields that are written and of which nothing has been said."""
        said = {note.field for note in self.notes}
        return [name for name in self.spec.values if name not in said]
