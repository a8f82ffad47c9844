"""The tutorial's snippets run, one after the other, in one namespace."""

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tutorials" / "recurrent-layer.md"


def test_snippets_run_in_order():
    snippets = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(snippets) >= 6
    names: dict[str, object] = {}
    for number, snippet in enumerate(snippets, start=1):
        exec(compile(snippet, f"{PAGE.name}, snippet {number}", "exec"), names)
