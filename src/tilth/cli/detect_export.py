"""`tilth detect export`: a detector as files that other programs run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tilth import lazy
from tilth.cli.options import ProjectOption, QuietOption
from tilth.cli.outcome import Outcome, table
from tilth.cli.progress import shows_progress
from tilth.cli.project import find_project


def command(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A folder of the project's runs/.")],
    to: Annotated[
        Literal["onnx", "darknet"], typer.Option("--to", help="ONNX, or Darknet's cfg and weights.")
    ] = "onnx",
    nms: Annotated[
        bool, typer.Option("--nms", help="End in the best boxes, by NonMaxSuppression.")
    ] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="Also a file of 8-bit integers, by onnxruntime.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="FOLDER", help="[default: export in the run's folder]"),
    ] = None,
    score_threshold: Annotated[
        float, typer.Option("--score", help="With --nms: weaker boxes go.")
    ] = 0.25,
    iou_threshold: Annotated[
        float, typer.Option("--iou", help="With --nms: of two that overlap more, the weaker goes.")
    ] = 0.45,
    max_detections: Annotated[
        int, typer.Option("--max-detections", help="With --nms: the most of a picture.")
    ] = 300,
    calibration: Annotated[
        Literal["mean", "minmax", "percentile"],
        typer.Option("--calibration", help="With --int8: how ranges are chosen."),
    ] = "mean",
    calibration_pictures: Annotated[
        int, typer.Option("--calibration-pictures", help="With --int8: on how many.")
    ] = 64,
    tolerance: Annotated[
        float, typer.Option("--tolerance", help="The largest difference that is accepted.")
    ] = 1e-4,
    project: ProjectOption = None,
    quiet: QuietOption = False,
) -> Outcome:
    """Write a detector for other programs, and check that it computes the same.

    The graph takes any number of pictures. It is compared with the detector on one, two and three
    different pictures at a time; where they differ, nothing is written. Beside the file a JSON
    document says by how much, and what a picture costs. --int8 scores both on the split val.

    \b
    Example:
      tilth detect export first --nms
      tilth detect export first --int8 --output deployed
      tilth detect export first --to darknet
    """
    root = find_project(project)
    suppression = lazy.attribute("tilth.ops.nms:Suppression")(
        iou_threshold=iou_threshold, max_detections=max_detections
    )
    settings = lazy.attribute("tilth.recipes.detector_export:ExportSettings")(
        to=to,
        nms=nms,
        int8=int8,
        score_threshold=score_threshold,
        suppression=suppression,
        calibration=calibration,
        calibration_pictures=calibration_pictures,
        tolerance=tolerance,
    )
    report: dict[str, Any] = lazy.attribute("tilth.recipes.detector_export:export_run")(
        root, run=run, settings=settings, output=output, progress=shows_progress(quiet)
    )
    return Outcome(report, lambda: _show(report))


def _show(report: dict[str, Any]) -> None:
    columns = ("pictures at once", "boxes, pixels", "boxes, relative", "scores")
    keys = ("batch", "boxes_max_abs", "boxes_max_relative", "scores_max_abs")
    title = f"run '{report['run']}': largest differences, on pictures {report['parity_pictures']}"
    table(columns, [[row[key] for key in keys] for row in report["parity"]], title=title)
    for row in report.get("detection_parity", []):
        counts = ", ".join(map(str, row["detections"]))
        typer.echo(f"{row['batch']} at once: the same detections ({counts})")
    times = dict(report.get("milliseconds", {}))
    whole = report.get("int8")
    if whole:
        times["onnxruntime, int8"] = whole["milliseconds"]
    if times:
        rows = [(name, each["ms"], each["cpu_ms"]) for name, each in times.items()]
        table(("one picture", "ms", "ms of all threads"), rows)
    if whole and "int8_ap" in whole:
        scores = [(name, whole[f"{name}_ap"], whole[f"{name}_ap50"]) for name in ("float", "int8")]
        table((f"{whole['pictures']} pictures of val", "AP", "AP50"), scores)
    files = [report, whole] if whole else [report]
    for each in files:
        typer.echo(f"written: {each['file']} ({each['file_bytes']} bytes)")
