"""The README tells the truth: its commands exist with these options, its Python runs."""

from __future__ import annotations

import json
import re
import shlex
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tilth.cli.app import VERBS, app
from tilth.data.images import write_jpeg

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(line.split("#")[0])
    for line in README.splitlines()
    if line.startswith("tilth ") and line.split()[1] in VERBS
]


def test_make_verbs_are_those_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"\bmake (\w+)", README + (ROOT / "CONTRIBUTING.md").read_text()))
    assert {"demo", "test"} <= named
    assert named - {"alone"} <= set(re.findall(r"^(\w+):", makefile, flags=re.MULTILINE))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command[1:3]))
def test_options_of_the_readme_exist(command):
    has_verbs = isinstance(import_module(VERBS[command[1]][0]).command, dict)
    words = 3 if has_verbs else 2
    shown = CliRunner().invoke(app, [*command[1:words], "--help"])
    assert shown.exit_code == 0
    for word in command[words:]:
        if word.startswith("--"):
            assert word in shown.output


def test_python_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_jpeg(tmp_path / "photos" / "a.jpg", np.full((40, 60, 3), 90, np.uint8))
    labels = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 60, "height": 40}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [5, 6, 20, 10]}],
        "categories": [{"id": 3, "name": "thing"}],
    }
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    code = re.search(r"```python\n(.*?)```", README, flags=re.DOTALL).group(1)
    scope: dict = {}
    exec(code, scope)
    assert scope["dataset"].annotations.boxes_xyxy.tolist() == [[5, 6, 25, 16]]


@pytest.mark.parametrize(
    ("benchmark", "prefix", "starts"),
    [
        (
            "rebalance_pedestrians",
            "penn_map50",
            {
                "pretrained": "| pretrained, as it is",
                "raw": "| retrained on the 101",
                "random": "| with 43 random",
                "rebalanced": "| with 43 cluster",
            },
        ),
        (
            "coco_person",
            "coco_person_map50",
            {
                "pretrained": "| as published",
                "raw": "| retrained on the 1,581",
                "random": "| with 6,382 random",
                "rebalanced": "| with 6,367 that",
            },
        ),
    ],
)
def test_numbers_of_the_readme_are_those_of_the_results(benchmark, prefix, starts):
    path = ROOT / "benchmarks" / "results" / f"{benchmark}.json"
    claims = {entry["claim"]: entry for entry in json.loads(path.read_text())["claims"]}
    rows = [line for line in README.splitlines() if line.startswith("|")]
    for name, start in starts.items():
        entry = claims[f"{prefix}_{name}"]
        (row,) = [line for line in rows if line.startswith(start)]
        numbers = [entry["value"], *(entry["spread"] if entry["runs"] > 1 else [])]
        assert re.findall(r"\d+\.\d", row) == [f"{100 * number:.1f}" for number in numbers]


def test_links_of_the_pages_lead_somewhere():
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"
