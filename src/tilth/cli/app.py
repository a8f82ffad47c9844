"""The command `tilth`: the table of verbs, and how a run ends.

A verb is imported when it is called, and `tilth --help` reads its one-line help from the table,
so the list of verbs costs the import of Typer and of nothing else.
"""

from __future__ import annotations

import difflib
import errno
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tilth import __version__
from tilth.cli.outcome import Outcome, error_document, print_document, reserved_stdout, show_error
from tilth.cli.verb import build_command
from tilth.errors import SettingsError, StorageError, TilthError

__all__ = ["VERBS", "VerbGroup", "app", "main"]

VERBS: dict[str, tuple[str, str]] = {
    "init": ("tilth.cli.init", "Make a project in a folder."),
    "import": ("tilth.cli.import_", "Bring labelled pictures into the catalogue."),
    "formats": ("tilth.cli.formats", "List the label formats, and what each can carry."),
    "check": ("tilth.cli.check", "List every problem of labels and their pictures."),
    "convert": ("tilth.cli.convert", "Turn labels from one format into another."),
    "info": ("tilth.cli.info", "Show what the project holds."),
    "split": ("tilth.cli.split", "Divide the pictures into train, val and test."),
    "metrics": ("tilth.cli.metrics", "Measure every picture and box that is not measured yet."),
    "clusters": ("tilth.cli.clusters", "Group the boxes by how they look."),
    "rebalance": ("tilth.cli.rebalance", "Plan and make pictures for the clusters that lack them."),
    "remove": ("tilth.cli.remove", "Take pictures out of the catalogue."),
    "version": ("tilth.cli.version", "Create, list and show immutable dataset versions."),
    "export": ("tilth.cli.export", "Write the labels to a file or folder in a known format."),
    "train": ("tilth.cli.train", "Train a detector, or run the whole experiment."),
    "train classify": ("tilth.cli.train_classify", "Train a classifier of texts or pictures."),
    "detect": ("tilth.cli.detect", "Everything about detectors, from training to export."),
    "classify": ("tilth.cli.classify", "Name the class of new texts or pictures."),
    "evaluate": (
        "tilth.cli.evaluate",
        "Score a trained detector, or a file of detections, on one split.",
    ),
    "preannotate": ("tilth.cli.preannotate", "Let a detector propose labels for review."),
    "agreement": (
        "tilth.cli.agreement",
        "List the labels that a detector disagrees with, the worst first.",
    ),
    "noise": (
        "tilth.cli.noise",
        "Wrong labels: find them in a set, or make them for an experiment.",
    ),
    "metric": (
        "tilth.cli.metric",
        "A slow metric, learned so that it can be a loss: fit it, check it, use it.",
    ),
    "report": ("tilth.cli.report", "Write an experiment's report again from its JSON."),
    "demo": ("tilth.cli.demo", "Run the whole way on pictures that come with the libraries."),
}
"""Verb -> module that holds its ``command``, and the first line of its help; in working order."""

# Typer does not export the class under `BadParameter`, and it moved between its releases.
UsageError: type[Exception] = typer.BadParameter.__bases__[0]


class Interrupted(Exception):
    """Ctrl-C inside a verb; Typer would turn the `KeyboardInterrupt` itself into a bare exit."""


class VerbGroup(TyperGroup):
    """The group of `VERBS`, each imported only when it is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in VERBS:
            return None
        module, _ = VERBS[cmd_name]
        return build_command(importlib.import_module(module), name=cmd_name)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(name, summary) for name, (_, summary) in VERBS.items()])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if " ".join(args[:2]) in VERBS:  # of two words: `tilth train` is a verb of its own
            args = [" ".join(args[:2]), *args[2:]]
        if args[0] not in VERBS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], VERBS, n=1, cutoff=0.5)
            raise SettingsError(
                f"unknown verb '{args[0]}'",
                expected=", ".join(VERBS),
                fix=f"did you mean 'tilth {near[0]}'?" if near else "see 'tilth --help'",
            )
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise Interrupted from error


app = typer.Typer(
    cls=VerbGroup,
    subcommand_metavar="VERB [ARGS]...",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tilth {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show and exit."),
    ] = False,
) -> None:
    """Tilth: a workbench for deep learning whose data is the problem.

    \b
    Example:
      tilth init field && cd field
      tilth import labels.json --format coco --images photos
      tilth split && tilth metrics && tilth clusters
      tilth rebalance --plan-only
      tilth train --experiment
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one verb and exit: 0, or the exit code of the error that ended it."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in arguments
    with reserved_stdout(as_json):
        ended = _run(arguments or ["--help"])
    try:
        sys.exit(_print(ended, as_json=as_json))
    except BrokenPipeError:  # the reader had enough, as in `tilth info | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _run(arguments: list[str]) -> Outcome | TilthError | int:
    """What the verb handed back, what stopped it, or the exit code of ``--help``."""
    try:
        group = typer.main.get_command(app)
        return group.main(arguments, prog_name="tilth", standalone_mode=False) or 0
    except TilthError as error:
        return error
    except UsageError as error:
        return _from_usage(error)
    except Interrupted:
        return _interruption()
    except Exception as error:
        if os.environ.get("TILTH_DEBUG") == "1":
            traceback.print_exc()
        # The ones without a file are of sockets and pipes, but for a disk that is full.
        if isinstance(error, OSError) and (error.filename or error.errno == errno.ENOSPC):
            return _from_files(error)
        return _from_defect(error)


def _print(ended: Outcome | TilthError | int, *, as_json: bool) -> int:
    """Print the result or the error; the exit code."""
    if isinstance(ended, int):
        return ended
    if isinstance(ended, TilthError):
        show_error(ended)
        if as_json:
            print_document(error_document(ended))
        return ended.exit_code
    if os.environ.get("RANK", "0") != "0":  # of torchrun: the first process prints for all
        return ended.exit_code
    if as_json:
        print_document(ended.document)
    else:
        ended.show()
    return ended.exit_code


def _interruption() -> TilthError:
    error = TilthError("interrupted", fix="finished work is kept; run the same command to go on")
    error.exit_code = 130
    return error


def _from_usage(error: Any) -> SettingsError:
    command = error.ctx.command_path if error.ctx else "tilth"
    return SettingsError(error.format_message(), fix=f"see '{command} --help'")


def _from_files(error: OSError) -> StorageError:
    """A folder that may not be written to, a file where a folder should be: the user's to mend."""
    return StorageError(
        "a file or folder cannot be used",
        where=str(error.filename) if error.filename else None,
        got=error.strerror or type(error).__name__,
        fix="check that it is there, that you may read and write it, and that the disk has space",
    )


def _from_defect(error: Exception) -> TilthError:
    return TilthError(
        f"unexpected {type(error).__name__}: {error}",
        fix="TILTH_DEBUG=1 shows the traceback; please report it",
    )
