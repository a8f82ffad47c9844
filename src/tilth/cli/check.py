"""`tilth check`: every problem of labels and their pictures, for people and for CI."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tilth.cli.label_formats import (
    FormatOption,
    OptionsOption,
    local_source,
    read_options,
    source_format,
)
from tilth.cli.options import (
    ImagesOption,
    QuietOption,
)
from tilth.cli.outcome import Outcome
from tilth.cli.progress import progress_bar, spinner
from tilth.errors import DataError


def command(
    source: Annotated[str, typer.Argument(help="The file or folder of labels, or a URL.")],
    format_name: FormatOption = None,
    images: ImagesOption = None,
    option: OptionsOption = None,
    decode: Annotated[
        bool,
        typer.Option("--decode", help="Decode every picture; finds broken and equal ones."),
    ] = False,
    no_images: Annotated[
        bool, typer.Option("--no-images", help="Look at the labels alone.")
    ] = False,
    fail_on: Annotated[
        Literal["error", "warning", "never"],
        typer.Option("--fail-on", help="What makes the exit code 3."),
    ] = "error",
    quiet: QuietOption = False,
) -> Outcome:
    """List every problem of labels and their pictures.

    No project is needed. One line a problem: severity, place (file and line, or picture), what is
    wrong. The exit code is 0 where all is well and 3 where --fail-on says so, so that it can guard
    a repository.

    \b
    Example:
      tilth check labels.json --images photos --decode
      tilth check Annotations --format pascal --json --fail-on warning
    """
    path = local_source(source)
    name, reader = source_format(format_name, path)
    from tilth.data.problems import LabelReport

    report = LabelReport(where=str(path), max_examples=None)
    options = read_options(reader, option)
    findings: list[dict[str, Any]] = []
    dataset = None
    try:
        with spinner(f"reading {path.name}", quiet=quiet):
            dataset, _ = reader.read(
                path, media_root=images, on_unknown="skip", options=options, report=report
            )
    except DataError as error:
        # A file that cannot be read at all is what somebody's CI has to hear about first.
        place = error.where or str(path)
        findings.append(_fatal(error, place))
    findings += _findings(dataset, report, path, images, decode, not no_images, quiet)
    document = {
        "source": path,
        "format": name,
        "num_media": 0 if dataset is None else len(dataset.media),
        "num_annotations": 0 if dataset is None else len(dataset.annotations),
        "counts": dict(Counter(finding["kind"] for finding in findings)),
        "findings": findings,
        "notes": report.notes,
    }
    severities = {finding["severity"] for finding in findings}
    failing = {"error": {"error"}, "warning": {"error", "warning"}, "never": set()}[fail_on]
    return Outcome(document, lambda: _show(document), exit_code=3 if severities & failing else 0)


def _fatal(error: DataError, place: str) -> dict[str, Any]:
    parts = [part for part in (error.expected and f"expected {error.expected}", error.got) if part]
    return {
        "severity": "error",
        "kind": error.message,
        "place": place,
        "detail": "; ".join(parts),
    }


def _findings(
    dataset: Any,
    report: Any,
    path: Path,
    images: Path | None,
    decode: bool,
    with_pictures: bool,
    quiet: bool,
) -> list[dict[str, Any]]:
    from tilth.data.checks import check_dataset, reader_findings

    found = list(reader_findings(report))
    if dataset is not None and with_pictures:
        with progress_bar("looking at pictures", len(dataset.media), quiet=quiet) as advance:
            found += check_dataset(
                dataset,
                media_path=local_source,
                media_root=images,
                decode=decode,
                advance=advance,
            )
    return [dataclasses.asdict(finding) for finding in found]


def _show(document: dict[str, Any]) -> None:
    for finding in document["findings"]:
        detail = f" ({finding['detail']})" if finding["detail"] else ""
        typer.echo(f"{finding['severity']}: {finding['place']}: {finding['kind']}{detail}")
    for note in document["notes"]:
        typer.echo(f"note: {note}", err=True)
    total = len(document["findings"])
    typer.echo(
        f"{document['num_media']} pictures, {document['num_annotations']} annotations "
        f"({document['format']}): {total or 'no'} problem{'' if total == 1 else 's'}"
    )
