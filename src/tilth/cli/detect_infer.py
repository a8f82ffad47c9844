"""`tilth detect infer`: find objects in pictures and videos with a detector."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tilth import lazy
from tilth.cli.detector_options import (
    ModelSetOption,
    ModelSettingsOption,
    RunOption,
    chosen_detector,
)
from tilth.cli.options import ProjectOption, QuietOption
from tilth.cli.outcome import Outcome
from tilth.cli.progress import shows_progress
from tilth.cli.project import find_project
from tilth.errors import MediaError, SettingsError

DEFAULT_RUN = "detector"


def command(
    sources: Annotated[
        list[str],
        typer.Argument(help="Pictures, videos, folders, patterns, URLs; '-' reads a list of them."),
    ],
    run: RunOption = None,
    settings_file: ModelSettingsOption = None,
    overrides: ModelSetOption = None,
    score_threshold: Annotated[
        float, typer.Option("--score", min=0.0, max=1.0, help="Keep detections from here up.")
    ] = 0.25,
    iou: Annotated[
        float, typer.Option("--iou", min=0.0, max=1.0, help="Overlap that drops the weaker box.")
    ] = 0.5,
    suppression: Annotated[
        Literal["iou", "diou"],
        typer.Option("--suppression", help="'diou' spares neighbours, as Darknet does."),
    ] = "iou",
    class_agnostic: Annotated[
        bool, typer.Option("--class-agnostic", help="Boxes of all classes drop each other.")
    ] = False,
    max_detections: Annotated[
        int, typer.Option("--max-detections", min=1, help="Of one picture, or of one tile.")
    ] = 300,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Pictures at a time.")] = 8,
    precision: Annotated[
        Literal["float32", "bfloat16", "auto"],
        typer.Option("--precision", help="'auto' is the fastest of the machine."),
    ] = "float32",
    tile: Annotated[
        int,
        typer.Option("--tile", min=0, metavar="PX", help="Cut larger pictures into such squares."),
    ] = 0,
    overlap: Annotated[
        float, typer.Option("--overlap", min=0.0, max=0.9, help="Of neighbouring tiles.")
    ] = 0.2,
    every: Annotated[
        int, typer.Option("--every", min=1, metavar="N", help="Of a video every N-th frame.")
    ] = 1,
    draw: Annotated[
        Path | None,
        typer.Option("--draw", metavar="FOLDER", help="Draw the detections, into here."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", metavar="PATH", help="Write them as labels, with scores."),
    ] = None,
    format_name: Annotated[
        str, typer.Option("--format", metavar="NAME", help="Of the labels; see 'tilth formats'.")
    ] = "coco",
    options: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="NAME=VALUE", help="A choice of the format."),
    ] = None,
    lines: Annotated[
        Path | None,
        typer.Option("--lines", metavar="FILE", help="Write a JSON line for every picture."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="End at the first picture that cannot be read.")
    ] = False,
    project: ProjectOption = None,
    quiet: QuietOption = False,
) -> Outcome:
    """Find objects in pictures and videos with a detector.

    A run that is named by its path needs no project. Pictures that cannot be read are listed at
    the end, and the exit code is 4 then. With --tile a large picture is also looked at in
    overlapping squares at full resolution, so that small objects are found.

    \b
    Example:
      tilth detect infer --run first photo.jpg
      tilth detect infer --run field/runs/first photos/ --score 0.5 --draw drawn --json
      tilth detect infer --run first clip.mp4 --every 25 --labels found.json --format coco
      tilth detect infer --run first aerial.tif --tile 1024 --lines found.jsonl
    """
    detector, name = _detector(run, settings_file, overrides, project)
    settings = lazy.attribute("tilth.recipes.detector_inference:InferenceSettings")(
        score_threshold=score_threshold,
        suppression=lazy.attribute("tilth.ops.nms:Suppression")(
            kind=suppression,
            iou_threshold=iou,
            class_agnostic=class_agnostic,
            max_detections=max_detections,
        ),
        batch_size=batch,
        precision=precision,
        tile=tile,
        overlap=overlap,
        every=every,
        draw=draw,
        labels=labels,
        labels_format=format_name,
        labels_options=tuple(options or ()),
        lines=lines,
        is_strict=strict,
    )
    document: dict[str, Any] = lazy.attribute("tilth.recipes.detector_inference:infer")(
        detector,
        sources,
        settings,
        name=name,
        standard_input=sys.stdin if "-" in sources else (),
        progress=shows_progress(quiet),
    )
    code = MediaError.exit_code if document["failed"] else 0
    return Outcome(document, lambda: _show(document), exit_code=code)


def _detector(
    run: str | None,
    settings_file: Path | None,
    overrides: list[str] | None,
    project: Path | None,
) -> tuple[Any, str]:
    """The detector and what to call it; a project is looked for only where one is needed."""
    if settings_file is None and not overrides:
        run = run or DEFAULT_RUN
    # A path to a run stands alone; a bare name is looked up in the project.
    alone = project is None and (run is None or Path(run).is_dir())
    root = Path.cwd() if alone else find_project(project)
    if run is not None and not alone and Path(run).name != run:
        raise SettingsError(
            "a run of a project stays inside runs/", got=repr(run), expected="the name of a folder"
        )
    opened = chosen_detector(root, run, settings_file, overrides)
    return opened.detector, opened.name


def _show(document: dict[str, Any]) -> None:
    for picture in document["pictures"]:
        counts = Counter(found["class"] for found in picture["objects"])
        by_class = "".join(f", {name} {count}" for name, count in sorted(counts.items()))
        typer.echo(f"{picture['picture']}: {_objects(counts.total())}{by_class}")
    for picture in document["failed"]:
        typer.echo(f"{picture['picture']}: not read: {picture['message']}", err=True)
    typer.echo(f"{_objects(document['objects'])} in {len(document['pictures'])} pictures")
    for key, words in (("drawn_in", "drawn in"), ("labels", "labels in"), ("lines", "lines in")):
        if document[key]:
            typer.echo(f"{words} {document[key]}")
    if document["failed"]:
        typer.echo(f"{len(document['failed'])} pictures were not read", err=True)


def _objects(count: int) -> str:
    return "1 object" if count == 1 else f"{count} objects"
