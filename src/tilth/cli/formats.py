"""`tilth formats`: list the label formats, and what each can carry."""

from __future__ import annotations

import dataclasses
from types import ModuleType
from typing import Annotated, Any

import typer

from tilth.cli.outcome import Outcome, table
from tilth.config import settings_to_dict

_COLUMNS = {
    "labels": "labels",
    "boxes": "boxes",
    "polygons": "polygons",
    "masks": "masks",
    "scores": "scores",
    "crowd": "crowd",
    "frames": "frames",
    "empty_media": "empty pictures",
    "class_ids": "class ids",
    "splits": "splits",
    "attributes": "attributes",
}


def command(
    name: Annotated[str | None, typer.Argument(help="One format, with its options.")] = None,
) -> Outcome:
    """List the label formats, and what each can carry.

    With a name: that format alone, and the options that reading and writing it have.

    \b
    Example:
      tilth formats
      tilth formats pascal
    """
    from tilth.data.formats import FORMATS, load_format

    if name is not None:
        module = load_format(name)
        document = {**_document(name, module), "options": _options(module)}
        return Outcome({"formats": [document]}, lambda: _show_one(document, module))
    documents = [_document(each, load_format(each)) for each in FORMATS]
    return Outcome({"formats": documents}, lambda: _show_all(documents))


def _document(name: str, module: ModuleType) -> dict[str, Any]:
    return {
        "name": name,
        "summary": (module.__doc__ or "").strip().splitlines()[0],
        "target": module.TARGET,
        "holds": module.HOLDS.row(),
    }


def _options(module: ModuleType) -> dict[str, dict[str, Any]]:
    return {
        "read": settings_to_dict(module.ReadOptions()),
        "write": settings_to_dict(module.WriteOptions()),
    }


def _show_all(documents: list[dict[str, Any]]) -> None:
    rows = [
        (document["name"], *(document["holds"][column] for column in _COLUMNS))
        for document in documents
    ]
    table(("format", *_COLUMNS.values()), rows)


def _show_one(document: dict[str, Any], module: ModuleType) -> None:
    typer.echo((module.__doc__ or "").strip() + "\n")
    table(("holds", ""), [(name, document["holds"][key]) for key, name in _COLUMNS.items()])
    rows = [
        (way, field.name, _choices(field), str(field.default))
        for way, kind in (("read", module.ReadOptions), ("write", module.WriteOptions))
        for field in dataclasses.fields(kind)
    ]
    if rows:
        table(("when", "option", "values", "otherwise"), rows)


def _choices(field: dataclasses.Field[Any]) -> str:
    text = str(field.type)
    return text.removeprefix("Literal[").removesuffix("]").replace('"', "").replace("'", "")
