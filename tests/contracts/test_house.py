"""The house keeps its shape: no empty rooms, documented public names, light rooms stay light."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "tilth"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "migrations" not in path.parts)


def _name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_module_and_public_names_have_docstrings(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), f"{path} has no docstring"
    undocumented = [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert not undocumented


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_dunder_all_names_exist(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if not any("__all__" in ast.dump(node) for node in tree.body if isinstance(node, ast.Assign)):
        pytest.skip("no __all__")
    module = importlib.import_module(_name(path))
    assert all(hasattr(module, name) for name in module.__all__)


def test_no_room_is_empty_or_a_catch_all():
    rooms = [path for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"]
    for room in rooms:
        assert any(path.name != "__init__.py" for path in room.rglob("*.py")), room
        assert room.name not in {"utils", "common", "helpers"}


@pytest.mark.parametrize("room", ["tilth", "tilth.data.catalogue", "tilth.curate.measure"])
def test_light_rooms_leave_torch_out_of_memory(room):
    code = f"import sys, {room}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
