"""What `import` and `export` met in the labels: counted, with examples, and never hidden."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from tilth.data.problems import Problem

__all__ = ["problem_documents", "show_problems"]


def problem_documents(problems: Iterable[Problem]) -> list[dict[str, Any]]:
    """Kind, action, count and examples of each."""
    return [dataclasses.asdict(problem) for problem in problems]


def show_problems(document: dict[str, Any]) -> None:
    """Print the problems and notes of a document, on standard error."""
    for problem in document["problems"]:
        places = "; ".join(problem["examples"])
        typer.echo(
            f"{problem['count']} x {problem['kind']} ({problem['action']}): {places}", err=True
        )
    for note in document["notes"]:
        typer.echo(f"note: {note}", err=True)
