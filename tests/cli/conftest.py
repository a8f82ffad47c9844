"""How the tests call the command line: in this process for speed, as a process where it matters."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_runs import Ended, Tilth

from tilth.cli.app import main


@pytest.fixture
def tilth(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Tilth:
    """Run ``tilth ARGUMENTS`` in this process, in an empty working folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Ended:
        capfd.readouterr()
        with pytest.raises(SystemExit) as exited:
            main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Ended(int(exited.value.code or 0), out, err)

    return run


@pytest.fixture
def tilth_process(tmp_path: Path) -> Tilth:
    """Run ``python -m tilth ARGUMENTS`` as a process of its own, in an empty working folder."""

    def run(*arguments: object, **environment: str) -> Ended:
        done = subprocess.run(
            [sys.executable, "-m", "tilth", *map(str, arguments)],
            cwd=tmp_path,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    return run
