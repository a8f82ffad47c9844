"""Which detector a verb uses, and how its classes are called here: options of several verbs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from tilth import lazy
from tilth.config import read_toml
from tilth.errors import SettingsError

__all__ = [
    "ClassesOption",
    "ModelSetOption",
    "ModelSettingsOption",
    "RunOption",
    "SplitOption",
    "chosen_detector",
    "class_map",
]

RunOption = Annotated[
    str | None,
    typer.Option("--run", metavar="NAME", help="A folder of the project's runs/, or a path."),
]
ModelSettingsOption = Annotated[
    Path | None,
    typer.Option("--settings", metavar="FILE", help="A detector without a run: its [model]."),
]
ModelSetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="MODEL.B=1", help="One setting, over the file; repeatable."),
]
ClassesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="DETECTOR=TASK",
        help="A class of the detector and what it is called here; 'DETECTOR=' leaves it out.",
    ),
]
SplitOption = Annotated[
    str, typer.Option("--split", metavar="train|val|test", help="Only pictures of this split.")
]


def chosen_detector(
    root: Path, run: str | None, settings_file: Path | None, overrides: Sequence[str] | None
) -> Any:
    """The `OpenedDetector` that the options name.

    Raises:
        SettingsError: none is named, or two.
    """
    by_settings = settings_file is not None or bool(overrides)
    if (run is None) != by_settings:
        raise SettingsError(
            "one detector is needed" if run is None else "two detectors are named",
            expected="--run NAME; or --settings FILE, --set model.weights=FILE",
        )
    folder = None
    if run is not None:
        is_path = "/" in run or Path(run).is_dir()
        folder = Path(run) if is_path else root / "runs" / run
    return lazy.attribute("tilth.recipes.detector_source:open_detector")(
        root,
        run=folder,
        model=read_toml(settings_file) if settings_file is not None else None,
        overrides=tuple(overrides or ()),
    )


def class_map(pairs: Sequence[str] | None) -> dict[str, str]:
    """``["person=pedestrian"]`` as a mapping.

    Raises:
        SettingsError: no equals sign, or a class of the detector twice.

    >>> class_map(["person=pedestrian", "dog="])
    {'person': 'pedestrian', 'dog': ''}
    """
    found: dict[str, str] = {}
    for pair in pairs or ():
        source, equals, target = pair.partition("=")
        if not equals or not source or source in found:
            raise SettingsError(
                "--map cannot be read", expected="DETECTOR=TASK, each class once", got=pair
            )
        found[source] = target
    return found
