"""`tilth evaluate`: score a trained detector, or a file of detections, on one split."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tilth import lazy
from tilth.cli.detector_options import (
    ClassesOption,
    ModelSetOption,
    ModelSettingsOption,
    RunOption,
    chosen_detector,
    class_map,
)
from tilth.cli.options import ProjectOption, QuietOption
from tilth.cli.outcome import Outcome, table
from tilth.cli.progress import shows_progress
from tilth.cli.project import find_project
from tilth.errors import SettingsError

DEFAULT_RUN = "detector"
RECIPE = "tilth.recipes.detector_evaluation"
MODE_WORDS = {
    "coco": "COCO, 101 recalls",
    "voc07": "Pascal VOC 2007, 11 recalls",
    "area": "area under the curve (VOC 2010, Darknet)",
}


def command(
    run: RunOption = None,
    split: Annotated[
        Literal["train", "val", "test"], typer.Option("--split", help="Pictures to score on.")
    ] = "test",
    mode: Annotated[
        Literal["coco", "voc07", "area"], typer.Option("--mode", help="The rule of scoring.")
    ] = "coco",
    like: Annotated[
        Literal["tilth", "darknet-map", "darknet-valid", "darknet-demo"],
        typer.Option("--like", help="Least score and suppression as these programs have them."),
    ] = "tilth",
    score: Annotated[
        float | None,
        typer.Option("--score", min=0.0, max=1.0, help="Weaker detections are not looked at."),
    ] = None,
    iou: Annotated[
        float | None,
        typer.Option("--iou", min=0.0, max=1.0, help="Overlap that drops the weaker box."),
    ] = None,
    suppression: Annotated[
        Literal["iou", "diou"] | None,
        typer.Option("--suppression", help="'diou' spares neighbours, as Darknet does."),
    ] = None,
    class_agnostic: Annotated[
        bool, typer.Option("--class-agnostic", help="Boxes of all classes drop each other.")
    ] = False,
    bootstrap: Annotated[
        int, typer.Option("--bootstrap", min=0, help="Resamplings for the intervals; 0: none.")
    ] = 200,
    latency: Annotated[
        int, typer.Option("--latency", min=0, help="Pictures to time one by one.")
    ] = 0,
    predictions: Annotated[
        Path | None,
        typer.Option(
            "--predictions", metavar="FILE", help="Score these detections instead of a run's."
        ),
    ] = None,
    format_name: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="NAME",
            help="Of them: coco_results, or a label format; otherwise recognised.",
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", metavar="FILE", help="Score them against these; no project."),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option("--images", metavar="FOLDER", help="Where the pictures of --labels are."),
    ] = None,
    settings_file: ModelSettingsOption = None,
    overrides: ModelSetOption = None,
    classes: ClassesOption = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Also write one line a class.")
    ] = None,
    project: ProjectOption = None,
    quiet: QuietOption = False,
) -> Outcome:
    """Score a trained detector, or a file of detections, on one split.

    Average precision (0 to 1, higher is better) by the rule that --mode names: for all classes
    together with a 95 % interval from resampling the pictures, for small, medium and large
    objects, for each class with the score of its best F1, and for each cluster of boxes where
    there are clusters. With --json also the precision-recall curve. Only original pictures are
    scored; on another split than train, none that the run was trained on.

    \b
    Example:
      tilth evaluate --run first --split test
      tilth evaluate --run first --mode area --like darknet-map --csv classes.csv
      tilth evaluate --predictions results.json --labels instances.json
    """
    settings = lazy.attribute("tilth.recipes.evaluation_settings:evaluation_settings")(
        constants=like,
        score_threshold=score,
        iou_threshold=iou,
        kind=suppression,
        class_agnostic=class_agnostic,
        mode=mode,
        bootstrap=bootstrap,
        latency=latency,
    )
    by_settings = settings_file is not None or bool(overrides)
    _refuse_mixture(run, by_settings, predictions, labels)
    if labels is not None:
        scores: dict[str, Any] = lazy.attribute(f"{RECIPE}:evaluate_file")(
            labels,
            predictions=predictions,
            format_name=format_name,
            images=images,
            settings=settings,
        )
    elif predictions is not None:
        scores = lazy.attribute(f"{RECIPE}:evaluate_predictions")(
            find_project(project),
            predictions=predictions,
            split=split,
            format_name=format_name,
            settings=settings,
        )
    elif by_settings:
        root = find_project(project)
        scores = lazy.attribute(f"{RECIPE}:evaluate_weights")(
            root,
            opened=chosen_detector(root, None, settings_file, overrides),
            split=split,
            classes=class_map(classes),
            settings=settings,
            progress=shows_progress(quiet),
        )
    else:
        scores = lazy.attribute(f"{RECIPE}:evaluate")(
            find_project(project),
            run=run or DEFAULT_RUN,
            split=split,
            settings=settings,
            progress=shows_progress(quiet),
        )
    if csv is not None:
        lazy.attribute(f"{RECIPE}:write_class_table")(scores, csv)
    return Outcome(scores, lambda: _show(scores))


def _refuse_mixture(
    run: str | None, by_settings: bool, predictions: Path | None, labels: Path | None
) -> None:
    if labels is not None and predictions is None:
        raise SettingsError(
            "--labels are for a file of detections",
            expected="--predictions FILE beside it",
            fix="a run is scored on the pictures of a project: tilth import",
        )
    named = [
        name
        for name, is_given in (
            ("--run", run is not None),
            ("--settings or --set", by_settings),
            ("--predictions", predictions is not None),
        )
        if is_given
    ]
    if len(named) > 1:
        raise SettingsError(
            "one thing is scored at a time", expected="one of these", got=" and ".join(named)
        )


def _show(scores: dict[str, Any]) -> None:
    seen = f"{scores['pictures']} pictures, {scores['boxes']} boxes"
    table(
        ("", "value", "95 % interval", ""),
        _overall(scores),
        title=f"run '{scores['run']}' on split {scores['split']}: {seen}",
    )
    typer.echo(_protocol_words(scores))
    if scores["held_out"] is None:
        typer.echo("The data of this run is not kept here: it may have seen these pictures.")
    if others := scores.get("detections_of_other_pictures"):
        typer.echo(f"{others} detections of other pictures are not scored.")
    table(("class", "objects", "AP", "AP50", "AR", "best F1", "at score"), _by_class(scores))
    if scores["per_group"]:
        table(("cluster", "AP50"), list(scores["per_group"].items()))
    if scores["latency"] is not None:
        _show_latency(scores["latency"])


def _overall(scores: dict[str, Any]) -> list[tuple[Any, ...]]:
    if scores["mode"] == "coco":
        recall = "recall of the best 100 detections a picture"
    else:
        recall = "recall of all detections"
    return [
        ("AP", scores["ap"], _interval(scores["ap_interval"]), "IoU 0.50 to 0.95"),
        ("AP50", scores["ap50"], _interval(scores["ap50_interval"]), "IoU 0.50"),
        ("AP75", scores["ap75"], "", "IoU 0.75"),
        ("AP small", scores["ap_small"], "", "below 32 x 32 pixels"),
        ("AP medium", scores["ap_medium"], "", "up to 96 x 96 pixels"),
        ("AP large", scores["ap_large"], "", "above"),
        ("AR", scores["ar"], "", recall),
    ]


def _by_class(scores: dict[str, Any]) -> list[tuple[Any, ...]]:
    rows = []
    for name, ap in scores["per_class"].items():
        best = scores["best_f1"][name] or {"f1": None, "score": None}
        numbers = (ap, scores["per_class_ap50"][name], scores["per_class_ar"][name])
        truths = scores["per_class_truths"][name]
        rows.append((name, truths, *numbers, best["f1"], best["score"]))
    return rows


def _protocol_words(scores: dict[str, Any]) -> str:
    protocol = scores["protocol"]
    words = [MODE_WORDS[protocol["mode"]], f"score from {protocol['score_threshold']:g}"]
    if detector := protocol["detector"]:
        suppression = detector["suppression"]
        words.append(f"suppression {suppression['kind']} {suppression['iou_threshold']:g}")
        words.append(f"{detector['size']} pixels, {detector['resize']}")
    return f"Scored by {'; '.join(words)}."


def _show_latency(latency: dict[str, Any]) -> None:
    times = latency["median_ms"]
    table(
        ("ms a picture", "median"),
        list(times.items()),
        title=f"{latency['pictures']} pictures one by one, {latency['threads']} threads",
    )


def _interval(interval: list[float] | None) -> str:
    return "-" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"
