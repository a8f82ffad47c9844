"""Write `docs/papers.md` from the source blocks at the top of the files that follow a paper.

A source block is part of a module's docstring: lines that begin with `Source:`, `Follows:`,
`Symbols:`, `Differs:` and `Checked by:`, each reaching to the next.
`tests/contracts/test_sources.py` holds the blocks complete and this page current.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "tilth"
PAGE = ROOT / "docs" / "papers.md"
LABELS = ("Source:", "Follows:", "Symbols:", "Differs:", "Checked by:")


@dataclass(frozen=True)
class SourceBlock:
    """One file's source block.

    Attributes:
        path: the file, relative to ``src/tilth``.
        parts: text under each label that is present.
        followed: names in backticks under `Follows:` (functions or classes of the file).
        tests: names in backticks under `Checked by:` that begin with ``test_``.
        defined: every name that the file defines.
    """

    path: str
    parts: dict[str, str]
    followed: tuple[str, ...]
    tests: tuple[str, ...]
    defined: frozenset[str]


def source_blocks() -> list[SourceBlock]:
    """The source block of every file that has a line `Source:` in its docstring."""
    blocks = []
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docstring = ast.get_docstring(tree) or ""
        if re.search(r"^Source:", docstring, flags=re.MULTILINE):
            blocks.append(_block(path, docstring, tree))
    return blocks


def test_names() -> set[str]:
    """Every test function of the repository."""
    names = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        names |= set(re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8")))
    return names


def page() -> str:
    """The text of `docs/papers.md`."""
    lines = [
        "# Papers and where they are followed",
        "",
        "Written by `make docs` from the source blocks of the files; do not edit.",
        "",
        "| source | file | follows | checked by |",
        "|---|---|---|---|",
    ]
    for block in source_blocks():
        cells = [
            block.parts["Source:"],
            f"`{block.path}`",
            block.parts["Follows:"],
            ", ".join(f"`{name}`" for name in block.tests),
        ]
        lines.append("| " + " | ".join(_one_line(cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _block(path: Path, docstring: str, tree: ast.Module) -> SourceBlock:
    pattern = "^(" + "|".join(LABELS) + ")"
    pieces = re.split(pattern, docstring, flags=re.MULTILINE)[1:]
    parts = {label: text.strip() for label, text in zip(pieces[::2], pieces[1::2], strict=True)}
    nodes = (ast.FunctionDef, ast.ClassDef)
    defined = {node.name for node in ast.walk(tree) if isinstance(node, nodes)}
    checked = re.findall(r"`(?:[\w/.]+::)?(test_\w+)`", parts.get("Checked by:", ""))
    return SourceBlock(
        path=str(path.relative_to(PACKAGE)),
        parts=parts,
        followed=tuple(re.findall(r"`([A-Za-z_]\w*)`", parts.get("Follows:", ""))),
        tests=tuple(dict.fromkeys(checked)),
        defined=frozenset(defined),
    )


def _one_line(text: str) -> str:
    return " ".join(text.replace("|", "/").split())


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
