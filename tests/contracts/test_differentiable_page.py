"""The page of the models that can be a loss is what the table of the code says."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from tilth.losses.differentiable.estimators import TABLE

ROOT = Path(__file__).resolve().parents[2]


def test_page_of_the_differentiable_models_is_current() -> None:
    script = ROOT / "docs" / "differentiable_models.py"
    spec = importlib.util.spec_from_file_location("differentiable_models", script)
    assert spec is not None
    assert spec.loader is not None
    pages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pages)
    written = pages.PAGE.read_text(encoding="utf-8")
    assert written == pages.page(), "run: make docs"
    assert all(f"`{name}`" in written for twin in TABLE for name in twin.names.split())
