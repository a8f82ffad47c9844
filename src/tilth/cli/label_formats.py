"""The label format of a source or target, and its options, as verbs spell them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tilth.config import load_settings

if TYPE_CHECKING:
    from tilth.data.problems import LabelReport, Problem

__all__ = [
    "FormatOption",
    "OptionsOption",
    "later",
    "local_source",
    "names_from",
    "read_options",
    "source_format",
    "write_options",
]

FormatOption = Annotated[
    str | None,
    typer.Option("--format", metavar="NAME", help="See 'tilth formats'; otherwise recognised."),
]
OptionsOption = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="NAME=VALUE", help="A choice of the format; may be repeated."),
]


def local_source(source: str) -> Path:
    """The file or folder of labels; one behind a URL is fetched."""
    from tilth.data.storage import local_copy

    return local_copy(source)


def source_format(name: str | None, path: Path) -> tuple[str, ModuleType]:
    """The format that was named, or that recognises the file."""
    from tilth.data.formats import load_format
    from tilth.data.formats._guess import guess_format

    name = name or guess_format(path)
    return name, load_format(name)


def read_options(reader: ModuleType, options: Sequence[str] | None) -> Any:
    """The format's ``ReadOptions`` with what ``--option`` says."""
    return load_settings(reader.ReadOptions, overrides=options or (), where="--option")


def write_options(writer: ModuleType, options: Sequence[str] | None) -> Any:
    """The format's ``WriteOptions`` with what ``--option`` says."""
    return load_settings(writer.WriteOptions, overrides=options or (), where="--option")


def names_from(uris: Sequence[str], path: Path) -> Path | None:
    """The folder of the labels, where all pictures are in it: names stay as they were."""
    root = (path if path.is_dir() else path.parent).resolve()
    inside = all(uri.startswith(f"{root.as_posix()}/") or "://" in uri for uri in uris)
    return root if inside else None


def later(wrote: LabelReport, adapted: LabelReport) -> list[Problem]:
    """What only the writing met: the names of files, say."""
    known = {problem.kind for problem in adapted.problems}
    return [problem for problem in wrote.problems if problem.kind not in known]
