"""The page of the noises names every one, its figure is what the code does, its Python runs."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

from tilth.data.box_noise_record import BOX_NOISE_KINDS
from tilth.data.label_noise import NOISE_KINDS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "explanation" / "label-noise.md"
SCRIPT = ROOT / "docs" / "label_noise_figure.py"


def drawing():
    spec = importlib.util.spec_from_file_location("label_noise_figure", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", [*NOISE_KINDS, *BOX_NOISE_KINDS])
def test_page_defines_every_noise(name):
    assert re.search(rf"^\| `{name}` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def test_figure_is_current():
    script = drawing()
    # Numbers alone, of which the last digits differ between processors.
    assert texts(script.FIGURE.read_text(encoding="utf-8")) == texts(script.figure()), (
        "run: python docs/label_noise_figure.py"
    )


def test_figure_shows_every_noise_but_the_given_matrix():
    shown = {kind for kind, _, _ in drawing().KINDS}
    assert shown == set(NOISE_KINDS) - {"matrix"}


def test_figures_of_the_page_are_there():
    found = re.findall(r"!\[.*?\]\((.*?)\)", PAGE.read_text(encoding="utf-8"))
    assert len(found) == 3
    assert all((PAGE.parent / path).is_file() for path in found)


def test_python_of_the_page_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(code, str(PAGE), "exec"), {})
    assert "expected 72%" in capsys.readouterr().out


def texts(drawing):
    return re.findall(r"<text[^>]*>(.*?)</text>", drawing)
