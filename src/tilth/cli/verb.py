"""From a function `command` to a Typer command: its own parameters, and ``--json``."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Annotated, Any

import typer

__all__ = ["build_command"]

JSON_PARAMETER = inspect.Parameter(
    "as_json",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[
        bool, typer.Option("--json", help="Print one JSON document, for machines.")
    ],
)


def build_command(module: ModuleType, *, name: str) -> Any:
    """The Typer command of one verb.

    Args:
        module: its ``command`` is a function that returns an `Outcome`, or a table of such
            functions for a verb that has verbs of its own; that one's help is the module's.
        name: the verb.
    """
    command = module.command
    builder = typer.Typer(add_completion=False, rich_markup_mode=None)
    if isinstance(command, dict):
        builder.callback(help=module.__doc__)(lambda: None)
        for verb, function in command.items():
            builder.command(verb)(_with_json(function))
    else:
        builder.command(name)(_with_json(command))
    return typer.main.get_command(builder)


def _with_json(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb the option that all have; `app.main` reads it, so the verb need not."""
    signature = inspect.signature(function, eval_str=True)

    @functools.wraps(function)
    def run(*, as_json: bool, **values: Any) -> Any:
        return function(**values)

    parameters = [*signature.parameters.values(), JSON_PARAMETER]
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run
