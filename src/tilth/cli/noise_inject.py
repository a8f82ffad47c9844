"""`tilth noise inject`: wrong labels on purpose, beside a record of which are wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tilth.cli.label_formats import (
    later,
    local_source,
    names_from,
    read_options,
    source_format,
    write_options,
)
from tilth.cli.noise_words import WantedNoise, numbers_in
from tilth.cli.options import (
    ImagesOption,
    ProjectOption,
    QuietOption,
    ReadOptionsOption,
    SeedOption,
    TaskOption,
    WriteOptionsOption,
)
from tilth.cli.outcome import Outcome, table
from tilth.cli.problems import problem_documents, show_problems
from tilth.cli.progress import spinner
from tilth.cli.project import open_project
from tilth.errors import SettingsError

if TYPE_CHECKING:
    from tilth.data.dataset import Dataset
    from tilth.data.noise_injection import Injected


def command(
    kind: Annotated[
        list[str],
        typer.Option("--kind", metavar="NAME", help="What noise; of boxes it may be repeated."),
    ],
    output: Annotated[
        Path, typer.Option("--output", metavar="PATH", help="The noisy labels; a new place.")
    ],
    source: Annotated[
        str | None,
        typer.Argument(help="A table, a folder of pictures, or labels; otherwise the project."),
    ] = None,
    rate: Annotated[
        list[float] | None, typer.Option("--rate", help="Share of the labels, 0 to 1; one a kind.")
    ] = None,
    seed: SeedOption = 0,
    label: Annotated[
        str | None, typer.Option("--label", metavar="COLUMN", help="Of a table: the labels.")
    ] = None,
    feature: Annotated[
        list[str] | None,
        typer.Option("--feature", metavar="COLUMN", help="Of a table: instance_dependent sees it."),
    ] = None,
    features: Annotated[
        Path | None,
        typer.Option("--features", metavar="FILE", help="A .npy of what instance_dependent sees."),
    ] = None,
    flip: Annotated[
        list[str] | None,
        typer.Option("--flip", metavar="A=B", help="asymmetric: A becomes B; cifar10; mnist."),
    ] = None,
    superclass: Annotated[
        list[str] | None,
        typer.Option("--superclass", metavar="A=GROUP", help="superclass: A's group; cifar100."),
    ] = None,
    matrix: Annotated[
        Path | None,
        typer.Option(
            "--matrix", metavar="FILE", help="P(given | true), a row a class; .npy, .csv."
        ),
    ] = None,
    rate_of: Annotated[
        Literal["class", "set", "half_set"],
        typer.Option("--rate-of", help="asymmetric, superclass: what the rate is a share of."),
    ] = "class",
    exact: Annotated[
        bool, typer.Option("--exact", help="Hold all counts to what is expected.")
    ] = False,
    shift: Annotated[
        float, typer.Option("--shift", help="moved: the farthest, as a share of a side.")
    ] = 0.3,
    scale: Annotated[
        float, typer.Option("--scale", help="moved: the most that a side grows or shrinks.")
    ] = 0.3,
    split: Annotated[
        Literal["train", "val", "test"] | None,
        typer.Option("--split", help="Only labels of this part change."),
    ] = None,
    from_: Annotated[
        str | None, typer.Option("--from", metavar="FORMAT", help="Otherwise recognised.")
    ] = None,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="FORMAT", help="Otherwise as read; a project's is coco."),
    ] = None,
    images: ImagesOption = None,
    read_option: ReadOptionsOption = None,
    write_option: WriteOptionsOption = None,
    record: Annotated[
        Path | None,
        typer.Option("--record", metavar="FILE", help="What was changed: .json or .parquet."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an output that is there already.")
    ] = False,
    task: TaskOption = "detection",
    project: ProjectOption = None,
    quiet: QuietOption = False,
) -> Outcome:
    """Make some labels wrong, for experiments that must know which.

    The output is new, and beside it lies the record of every label that was changed; the source and
    its pictures stay as they are. Kinds for classes: symmetric_flip (always a wrong class),
    symmetric_uniform (any class, the true one included), asymmetric, pair_flip, superclass,
    instance_dependent, matrix. Kinds for boxes: missed, spurious, moved, swapped. A folder of
    pictures becomes class folders of links, which 'tilth train classify' and 'tilth noise find'
    read as any other; --to csv writes a table in its place.

    \b
    Example:
      tilth noise inject train.csv --label label --kind symmetric_flip --rate 0.4 --output noisy.csv
      tilth noise inject pets/ --kind asymmetric --flip cat=dog --rate 0.3 --output noisy-pets
      tilth noise inject --kind missed --rate 0.1 --kind moved --rate 0.1 --output noisy.json
    """
    from tilth.data.noise_record import record_beside, refuse_other_records, write_noise_record

    beside = record or record_beside(output)
    refuse_other_records(beside)
    of_labels = {"--from": from_, "--to": to, "--images": images}
    options = {"--read-option": read_option, "--write-option": write_option}
    _refuse_unread(source, label, feature, of_labels | options)
    _refuse_places(source, output, beside, overwrite=overwrite)
    wanted = WantedNoise(
        kinds=kind,
        rates=rate or [],
        seed=seed,
        flip=flip,
        superclass=superclass,
        matrix=numbers_in(matrix, "--matrix"),
        features=numbers_in(features, "--features"),
        rate_of=rate_of,
        exact=exact,
        moves={"shift": shift, "scale": scale},
        split=split,
    )
    target = _Target(output=output, to=to, options=write_option, replace=overwrite)
    with spinner(f"making {output.name}", quiet=quiet):
        if source is not None and label is not None:
            injected, written = _into_table(source, output, label, feature, wanted)
        elif source is not None:
            injected, written = _into_labels(source, from_, images, read_option, target, wanted)
        else:
            injected, written = _into_project(project, task, images, target, wanted)
        write_noise_record(beside, injected.noise | {"source": source}, injected.changes)
    document = {
        "source": source,
        "output": output,
        "record": beside,
        "changed": len(injected.changes),
        "noise": injected.noise,
        **written,
    }
    show_problems(document)
    return Outcome(document, lambda: _show(document))


@dataclass(frozen=True, kw_only=True)
class _Target:
    """Where the noisy labels go.

    Attributes:
        to: the format; None for that of the source.
    """

    output: Path
    to: str | None
    options: list[str] | None
    replace: bool

    def write(self, dataset: Dataset, name: str, media_root: Path | None) -> dict[str, Any]:
        """Write in the format ``name`` unless another was said; what it could not hold.

        Raises:
            SettingsError: the name of a file for what is a folder.
        """
        from tilth.data.formats import load_format

        writer = load_format(self.to or name)
        if writer.TARGET == "folder" and self.output.suffix in (".csv", ".json", ".parquet"):
            raise SettingsError(
                f"labels of the format '{self.to or name}' are a folder",
                where=str(self.output),
                expected="the name of a folder",
                fix="choose another name, or a format that is a file: --to csv",
            )
        options = write_options(writer, self.options)
        fitted, cost = writer.adapt(dataset, options=options)
        over = {"replace": self.replace} if writer.TARGET == "folder" else {}
        wrote = writer.write(fitted, self.output, media_root=media_root, options=options, **over)
        return {
            "format": self.to or name,
            "problems": problem_documents((*cost.problems, *later(wrote, cost))),
            "notes": list(dict.fromkeys((*cost.notes, *wrote.notes))),
        }


def _into_table(
    source: str, output: Path, label: str, feature: Sequence[str] | None, wanted: WantedNoise
) -> tuple[Injected, dict[str, Any]]:
    from tilth.data.label_column import read_label_column
    from tilth.data.noise_injection import column_with_noise

    if wanted.split is not None:
        raise SettingsError("a table has no parts", got=f"--split {wanted.split}")
    column = read_label_column(local_source(source), label)
    if feature:
        wanted = replace(wanted, features=column.numbers(feature))
    noise = wanted.of_classes(column.class_names)
    if noise["features"] is not None and len(noise["features"]) == len(column.labels):
        noise["features"] = noise["features"][column.labels >= 0]
    labels, injected = column_with_noise(column, **noise)
    column.write(output, labels)
    without = int((labels < 0).sum())
    notes = [f"rows that have no label, and keep none: {without:,}"] if without else []
    return injected, {"format": "table", "problems": [], "notes": notes}


def _into_labels(
    source: str,
    from_: str | None,
    images: Path | None,
    read_option: list[str] | None,
    target: _Target,
    wanted: WantedNoise,
) -> tuple[Injected, dict[str, Any]]:
    path = local_source(source)
    try:
        name, reader = source_format(from_, path)
    except SettingsError as error:
        error.fix = "of a table, name the column with --label COLUMN; else the format with --from"
        raise
    dataset, report = reader.read(
        path, media_root=images, on_unknown="error", options=read_options(reader, read_option)
    )
    noisy, injected = wanted.into(dataset)
    root = images or names_from(dataset.media.uri, path)
    written = target.write(noisy, name, root)
    written["problems"] = [*problem_documents(report.problems), *written["problems"]]
    written["notes"] = list(dict.fromkeys((*report.notes, *written["notes"])))
    return injected, written


def _into_project(
    project: Path | None, task: str, images: Path | None, target: _Target, wanted: WantedNoise
) -> tuple[Injected, dict[str, Any]]:
    catalogue = open_project(project).catalogue
    from tilth.data.preannotation import trusted

    noisy, injected = wanted.into(trusted(catalogue.read(task)))
    return injected, target.write(noisy, "coco", images)


def _refuse_unread(
    source: str | None,
    label: str | None,
    feature: Sequence[str] | None,
    of_labels: dict[str, Any],
) -> None:
    """Refuse options of another source than this one."""
    if label is None:
        if feature:
            raise SettingsError(
                "--feature names columns of a table",
                expected="a table, and --label COLUMN",
                fix="of anything else give --features FILE",
            )
        return
    if source is None or Path(source).is_dir():
        raise SettingsError(
            "--label names a column of a table",
            expected="a table",
            got="the project" if source is None else f"the folder {source}",
            fix="leave out --label",
        )
    given = [name for name, value in of_labels.items() if value]
    if given:
        raise SettingsError(
            f"a table does not read {', '.join(given)}",
            expected="--label alone, or labels in a format without it",
        )


def _refuse_places(source: str | None, output: Path, record: Path, *, overwrite: bool) -> None:
    """Refuse to write over the source, and over anything else unless that is said."""
    for path in (output, record):
        if source is not None and path.resolve() == Path(source).resolve():
            raise SettingsError(
                "the noisy labels would take the place of the clean ones",
                where=str(path),
                fix="name a new file",
            )
        if path.exists() and not overwrite:
            raise SettingsError(
                "what is to be written is there already",
                where=str(path),
                fix="name a new file, or pass --overwrite",
            )
    if output.resolve() == record.resolve():
        raise SettingsError("labels and record need a file each", where=str(output))


def _show(document: dict[str, Any]) -> None:
    noise = document["noise"]
    if noise["kind"] == "boxes":
        rows = [(name, n, noise["realised_rates"][name]) for name, n in noise["counts"].items()]
        table(("fault", "boxes", "share"), rows)
        typer.echo(f"{document['changed']} faults among {noise['boxes']} boxes")
    else:
        typer.echo(f"{noise['kind']}: {noise['definition']}")
        typer.echo(
            f"{noise['changed']} of {noise['labels']} labels are wrong now, "
            f"{noise['realised_rate']:.2%}; expected {noise['expected_rate']:.2%}"
        )
    typer.echo(f"labels: {document['output']} ({document['format']})")
    typer.echo(f"record: {document['record']}")
