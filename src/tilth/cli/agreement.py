"""`tilth agreement`: list the labels that a detector disagrees with, the worst first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from tilth import lazy
from tilth.cli.detector_options import (
    ClassesOption,
    ModelSetOption,
    ModelSettingsOption,
    RunOption,
    SplitOption,
    chosen_detector,
    class_map,
)
from tilth.cli.options import ProjectOption, QuietOption, TaskOption
from tilth.cli.outcome import Outcome, error_document, table
from tilth.cli.progress import shows_progress
from tilth.cli.project import open_project
from tilth.config import load_settings
from tilth.errors import SettingsError


def command(
    run: RunOption = None,
    settings_file: ModelSettingsOption = None,
    overrides: ModelSetOption = None,
    split: SplitOption = "",
    classes: ClassesOption = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="NAME=VALUE", help="A threshold; may be repeated."),
    ] = None,
    least_score: Annotated[
        float, typer.Option("--score", min=0.0, max=1.0, help="List findings from here up.")
    ] = 0.0,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Show so many.")] = 20,
    output: Annotated[
        list[Path] | None,
        typer.Option("--output", metavar="FILE", help="Also write all: .json or .csv; repeatable."),
    ] = None,
    propose: Annotated[
        bool, typer.Option("--propose", help="Write the missed objects as proposals for review.")
    ] = False,
    task: TaskOption = "detection",
    project: ProjectOption = None,
    quiet: QuietOption = False,
) -> Outcome:
    """List the labels that a detector disagrees with, the worst first.

    Missed: a confident detection where there is no label. Spurious: a label that no detection
    supports. Moved: the class is right, the place is not. Swapped: the place is right, the class is
    not. Without a detector the labels are compared with the proposals in the catalogue ('tilth
    preannotate', 'tilth import --as-preannotation'). A score near 1 is an error nearly for sure;
    the scores of labels and pictures are kept in the catalogue. A detector that was trained on
    these very labels has learned their errors too: choose a split that it has not seen.

    \b
    Example:
      tilth agreement --run first --split val
      tilth agreement --run first --output findings.csv --option confident_score=0.7
    """
    opened = open_project(project)
    from tilth.curate.box_pairs import AgreementSettings

    _check(split, output or (), propose and run is None and not (settings_file or overrides))
    settings = load_settings(AgreementSettings, overrides=option or (), where="--option")
    detector = None
    if run is None and settings_file is None and not overrides:
        from tilth.curate.proposals import compare_with_proposals

        compared = compare_with_proposals(opened, settings, split=split, task=task)
    else:
        detector = chosen_detector(opened.root, run, settings_file, overrides)
        compared = lazy.attribute("tilth.recipes.label_agreement:compare_with_detector")(
            opened,
            detector,
            settings,
            classes=class_map(classes),
            split=split,
            task=task,
            progress=shows_progress(quiet),
        )
    document = _document(compared, settings, least_score, output or ())
    if propose and detector is not None:
        document["proposed"] = lazy.attribute("tilth.recipes.label_agreement:propose_missed")(
            opened, compared, detector, task=task
        )
    return Outcome(document, lambda: _show(document, limit))


def _check(split: str, outputs: Sequence[Path], proposes_proposals: bool) -> None:
    """What would fail only after an hour of detecting."""
    from tilth.data.records import Split

    if split and split.upper() not in Split.__members__:
        raise SettingsError("no such split", expected="train, val, test", got=split)
    for path in outputs:
        if path.suffix not in (".json", ".csv"):
            raise SettingsError(
                "findings of this kind cannot be written",
                where=str(path),
                expected=".json or .csv",
                got=path.suffix or "no suffix",
            )
    if proposes_proposals:
        raise SettingsError(
            "the missed objects are proposals already",
            got="--propose without a detector",
            fix="--run NAME, or leave out --propose",
        )


def _document(
    compared: Any, settings: Any, least_score: float, outputs: Sequence[Path]
) -> dict[str, Any]:
    from tilth.curate.agreement_records import finding_rows, picture_rows, write_findings

    found = (compared.dataset, compared.detections, compared.agreement)
    findings = finding_rows(*found, least_score=least_score)
    pictures = picture_rows(compared.dataset, compared.agreement)
    for path in outputs:
        write_findings(path, findings, pictures, settings)
    return {
        "pictures": len(compared.dataset.media),
        "labels": len(compared.dataset.annotations),
        "counts": compared.agreement.counts(),
        "findings": findings,
        "worst_pictures": pictures,
        "classes": compared.classes,
        "unknown_classes": list(compared.unknown_classes),
        "errors": [error_document(error)["error"] for error in compared.errors],
        "written": [str(path) for path in outputs],
    }


def _show(document: dict[str, Any], limit: int) -> None:
    counts = ", ".join(f"{count} {name}" for name, count in document["counts"].items())
    typer.echo(f"{document['labels']} labels of {document['pictures']} pictures: {counts}")
    rows = [
        [
            row["error_score"],
            row["finding"],
            row["picture"],
            row["label_class"],
            row["detected_class"],
            row["detection_score"],
            row["iou"],
            " ".join(f"{edge:.0f}" for edge in row["label_box"] or row["detected_box"]),
        ]
        for row in document["findings"][:limit]
    ]
    if rows:
        columns = ("score", "finding", "picture", "label", "detected", "confidence", "iou", "box")
        table(columns, rows)
    if (left := len(document["findings"]) - limit) > 0:
        typer.echo(f"and {left} more: --limit, or --output FILE for all")
    if "proposed" in document:
        typer.echo(f"{document['proposed']} missed objects proposed for review")
    for error in document["errors"]:
        typer.echo(f"not read: {error.get('where', '')}: {error['message']}")
    for path in document["written"]:
        typer.echo(f"written: {path}")
