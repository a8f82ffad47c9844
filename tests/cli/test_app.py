"""How any run of `tilth` starts and ends: help, errors, exit codes, one JSON document."""

from __future__ import annotations

import importlib
import os
import pkgutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from cli_runs import Tilth
from typer.testing import CliRunner

import tilth.cli
from tilth import errors, lazy
from tilth.cli.app import VERBS, app
from tilth.errors import MediaError, TilthError

ERRORS = [kind for kind in vars(errors).values() if isinstance(kind, type)]


def verb_that(monkeypatch: pytest.MonkeyPatch, command: Any) -> None:
    """Put ``command`` in the place of the verb `formats`."""
    monkeypatch.setattr("tilth.cli.formats.command", command)


def test_table_and_folder_agree() -> None:
    """A verb's file holds a `command`; every one of them, and nothing else, is in the table."""
    files = [f"tilth.cli.{module.name}" for module in pkgutil.iter_modules(tilth.cli.__path__)]
    verbs = {name for name in files if hasattr(importlib.import_module(name), "command")}
    tables = [importlib.import_module(module).command for module, _ in VERBS.values()]
    inner = {f.__module__ for table in tables if isinstance(table, dict) for f in table.values()}
    assert verbs == {module for module, _ in VERBS.values()} | (inner & verbs)
    assert inner <= set(files)


@pytest.mark.parametrize("name", VERBS)
def test_summary_in_the_table_is_the_first_line_of_the_help(name: str) -> None:
    module, summary = VERBS[name]
    command = importlib.import_module(module).command
    text = importlib.import_module(module).__doc__ if isinstance(command, dict) else command.__doc__
    assert text.strip().splitlines()[0] == summary


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_has_help_with_an_example_and_json(name: str, tilth: Tilth) -> None:
    ended = tilth(name, "--help")
    assert ended.code == 0
    assert f"  Example:\n    tilth {name}" in ended.out
    inner = importlib.import_module(VERBS[name][0]).command
    for command in inner if isinstance(inner, dict) else [None]:
        path = [name, *([command] if command else [])]
        ended = tilth(*path, "--help")
        assert f"  Example:\n    tilth {' '.join(path)}" in ended.out
        assert "--json" in ended.out


def test_runner_of_typer_sees_the_verbs() -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    assert all(f"\n  {name} " in result.output for name in VERBS)


def test_no_arguments_print_the_help(tilth: Tilth) -> None:
    assert tilth() == tilth("--help")


def test_version_of_the_package(tilth: Tilth) -> None:
    assert tilth("--version").out == f"tilth {tilth_version()}\n"


def tilth_version() -> str:
    import tilth as package

    return package.__version__


def test_help_loads_no_heavy_library() -> None:
    code = (
        "import sys\n"
        "from tilth.cli.app import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as ended:\n    assert ended.code == 0\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "numpy", "pydantic", "sqlalchemy", "rich", "cv2", "sklearn", "accelerate"}
    assert "Verbs:" in done.stdout
    assert heavy & set(done.stderr.split()) == set()


@pytest.mark.parametrize("name", VERBS)
def test_help_of_a_verb_loads_no_torch(name: str) -> None:
    code = (
        "import sys\n"
        "from tilth.cli.app import main\n"
        f"try:\n    main(['{name}', '--help'])\nexcept SystemExit:\n    pass\n"
        "assert not {'torch', 'numpy', 'sqlalchemy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)


def test_unknown_verb_is_answered_with_the_nearest(tilth: Tilth) -> None:
    ended = tilth("exprot")
    assert ended.code == 2
    assert ended.out == ""
    assert "fix: did you mean 'tilth export'?" in ended.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["init", "--jason"], "No such option: --jason"),
        (["--jason"], "No such option: --jason"),
        (["evaluate", "--split", "all"], "all"),
        (["detect", "infer"], "sources"),
        (["version"], "Missing command"),
    ],
)
def test_wrong_usage_exits_with_2_and_names_the_help(
    arguments: list[str], message: str, tilth: Tilth
) -> None:
    ended = tilth(*arguments)
    assert ended.code == 2
    assert message in ended.err
    assert "--help'" in ended.err
    assert "Traceback" not in ended.err


def test_wrong_usage_under_json_is_a_document(tilth: Tilth) -> None:
    ended = tilth("init", "--jason", "--json")
    assert ended.document["error"]["kind"] == "SettingsError"
    assert ended.document["error"]["exit_code"] == ended.code == 2


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("as_json", [False, True])
def test_an_error_is_printed_with_its_parts_and_its_exit_code(
    kind: type[TilthError], as_json: bool, tilth: Tilth, monkeypatch: pytest.MonkeyPatch
) -> None:
    def command() -> None:
        raise kind("it is broken", where="a.jpg", expected="a JPEG", got="a cat", fix="copy it")

    verb_that(monkeypatch, command)
    ended = tilth("formats", *(["--json"] if as_json else []))
    assert ended.code == kind.exit_code
    assert ended.err == (
        "error: it is broken\n  where: a.jpg\n  expected: a JPEG\n  got: a cat\n  fix: copy it\n"
    )
    if not as_json:
        assert ended.out == ""
        return
    assert ended.document == {
        "error": {
            "kind": kind.__name__,
            "exit_code": kind.exit_code,
            "message": "it is broken",
            "where": "a.jpg",
            "expected": "a JPEG",
            "got": "a cat",
            "fix": "copy it",
        }
    }


def test_errors_are_red_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tilth.cli.outcome import show_error

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    show_error(MediaError("broken"))
    assert "\x1b[31m" in capsys.readouterr().err
    monkeypatch.setenv("NO_COLOR", "1")
    show_error(MediaError("broken"))
    assert capsys.readouterr().err == "error: broken\n"


def test_unexpected_error_is_one_line_and_a_way_to_the_traceback(
    tilth: Tilth, monkeypatch: pytest.MonkeyPatch
) -> None:
    verb_that(monkeypatch, lambda: 1 / 0)
    ended = tilth("formats")
    assert ended.code == 1
    assert "error: unexpected ZeroDivisionError: division by zero" in ended.err
    assert "Traceback" not in ended.err
    monkeypatch.setenv("TILTH_DEBUG", "1")
    assert "Traceback" in tilth("formats").err


@pytest.mark.parametrize("kind", [PermissionError, NotADirectoryError, FileNotFoundError])
def test_a_folder_that_cannot_be_used_is_named_and_no_defect(
    kind: type[OSError], tilth: Tilth, monkeypatch: pytest.MonkeyPatch
) -> None:
    def command() -> None:
        raise kind(5, "not to be used", "/some/folder")

    verb_that(monkeypatch, command)
    ended = tilth("formats", "--json")
    assert (ended.code, ended.document["error"]["kind"]) == (7, "StorageError")
    assert ended.document["error"]["where"] == "/some/folder"
    assert "report" not in ended.err


def test_init_below_a_file_is_refused_in_our_words(tilth: Tilth, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = tilth("init", "file/project", "--json")
    assert ended.code == 7
    assert "file" in ended.document["error"]["where"]


def test_ctrl_c_exits_with_130_and_says_what_is_kept(
    tilth: Tilth, monkeypatch: pytest.MonkeyPatch
) -> None:
    def command() -> None:
        raise KeyboardInterrupt

    verb_that(monkeypatch, command)
    ended = tilth("formats", "--json")
    assert ended.code == ended.document["error"]["exit_code"] == 130
    assert "kept" in ended.err


def test_json_keeps_standard_output_to_itself(tilth_process: Tilth, tmp_path: Path) -> None:
    """Neither print, nor C code, nor a worker process may write beside the document."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, subprocess, sys\n"
        "import tilth.cli.formats as formats\n"
        "from tilth.cli.outcome import Outcome\n"
        "def command():\n"
        "    print('from print')\n"
        "    os.write(1, b'from C\\n')\n"
        "    subprocess.run([sys.executable, '-S', '-c', 'print(\"from a worker\")'])\n"
        "    return Outcome({'value': float('nan')}, lambda: None)\n"
        "formats.command = command\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    ended = tilth_process("formats", "--json", PYTHONPATH=path)
    assert ended.code == 0, ended.err
    assert ended.document == {"value": None}
    assert all(f"from {who}" in ended.err for who in ("print", "C", "a worker"))


def test_reader_that_stops_early_is_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -m tilth --help | head -1"
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.startswith("Usage")
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


def test_missing_extra_names_its_install_command(
    tilth: Tilth, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lazy, "attribute", lambda path: lazy.require("no_such", extra="train"))
    (Path.cwd() / "tilth.toml").touch()
    ended = tilth("evaluate")
    assert ended.code == 6
    assert "pip install 'tilth[train]'" in ended.err


def test_interrupt_of_a_process(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import time\n"
        "import tilth.cli.formats as formats\n"
        "def command():\n"
        "    print('started', flush=True)\n"
        "    time.sleep(60)\n"
        "formats.command = command\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "tilth", "formats"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "error: interrupted" in err
    assert "Traceback" not in err
