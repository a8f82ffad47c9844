"""The guide for people with a frame: every snippet of it runs, in its order."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "i-have-a-dataframe.md"
SNIPPET = re.compile(r"(?:<!-- needs: (\w+) -->\n)?```python\n(.*?)```", re.DOTALL)


def test_every_snippet_of_the_guide_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    snippets = SNIPPET.findall(PAGE.read_text(encoding="utf-8"))
    for needed, code in snippets:
        if not needed or importlib.util.find_spec(needed):
            exec(compile(code, f"{PAGE.name}: {code.splitlines()[0]}", "exec"), names)
    assert len(snippets) == 9
    classes, words, score = capsys.readouterr().out.splitlines()
    assert classes == "('0', '1') 48 12"
    assert words.startswith("(")
    assert float(score) == 1.0, "the model of the guide learns its frame"
    assert len(names["validation"]) == 12  # type: ignore[arg-type]
