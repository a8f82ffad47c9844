"""The page of the label formats is what the formats themselves say."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from tilth.data.formats import FORMATS

ROOT = Path(__file__).resolve().parents[2]


def test_page_of_the_formats_is_current() -> None:
    spec = importlib.util.spec_from_file_location("pages", ROOT / "docs" / "label_formats.py")
    assert spec is not None
    assert spec.loader is not None
    pages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pages)
    written = (ROOT / "docs" / "reference" / "formats.md").read_text(encoding="utf-8")
    assert written == pages.page(), "run: make docs"
    assert all(f"\n## {name}\n" in written for name in FORMATS)
