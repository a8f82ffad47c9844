"""The page of the command line says what the commands say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tilth import errors
from tilth.cli import reference
from tilth.cli.app import VERBS

PAGE = Path(__file__).resolve().parents[2] / reference.PAGE


def test_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference.page(), (
        "run: python -m tilth.cli.reference"
    )


@pytest.mark.parametrize("name", VERBS)
def test_page_has_a_section_for_every_verb(name: str) -> None:
    assert f"\n## tilth {name}\n" in PAGE.read_text(encoding="utf-8")


def test_page_lists_every_exit_code() -> None:
    codes = {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type)}
    assert set(reference.exit_codes()) == codes | {0, 1, 130}
    for code in reference.exit_codes():
        assert f"\n| {code} | " in reference.page()


def test_writing_the_page_replaces_it_whole(tmp_path: Path) -> None:
    target = tmp_path / "docs" / "cli.md"
    reference.main(target)
    assert target.read_text(encoding="utf-8") == reference.page()
    assert list(target.parent.iterdir()) == [target]
