"""Write `docs/reference/formats.md` from the label formats themselves.

What a format holds is its `HOLDS`, its definition the docstring of its module, its options the
fields of `ReadOptions` and `WriteOptions`. `tests/contracts/test_formats_page.py` holds the page
current.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path
from types import ModuleType

from tilth.data.formats import FORMATS, load_format
from tilth.data.holds import STANDARD_ATTRIBUTES

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "formats.md"

COLUMNS = {
    "labels": "picture labels",
    "boxes": "boxes",
    "polygons": "polygons",
    "masks": "masks",
    "scores": "scores",
    "crowd": "crowd",
    "frames": "video frames",
    "empty_media": "empty pictures",
    "class_order": "class list",
    "class_ids": "class numbers",
    "splits": "splits",
    "attributes": "attributes",
}

HEAD = """# Label formats

Written by `make docs` from the formats themselves; do not edit. `tilth formats` prints the same
table, `tilth formats NAME` one format with its options (`--option name=value` of `import`,
`export` and `check`, `--read-option` and `--write-option` of `convert`).

Inside Tilth a box is absolute pixel-edge `x0 y0 x1 y1` in float64. Every format converts to and
from that in one file, `src/tilth/data/formats/<name>.py`. What a format cannot hold is reported
before anything is written: `tilth convert` prints it, `--strict` refuses it, `--dry-run` stops
there.
"""


def page() -> str:
    """The text of `docs/reference/formats.md`."""
    lines = [HEAD, _row(["format", *COLUMNS.values()]), _row(["---"] * (1 + len(COLUMNS)))]
    for name in FORMATS:
        held = load_format(name).HOLDS.row()
        lines.append(_row([f"[`{name}`](#{name})", *(held[column] for column in COLUMNS)]))
    lines += ["", "Attributes that several formats know, under one name:", ""]
    lines += [f"- `{name}`: {meaning}" for name, meaning in STANDARD_ATTRIBUTES.items()]
    for name in FORMATS:
        lines += ["", f"## {name}", "", *_section(load_format(name))]
    return "\n".join(lines) + "\n"


def _section(module: ModuleType) -> list[str]:
    lines = [_markdown(inspect.getdoc(module) or "")]
    for title, kind in (("Reading", module.ReadOptions), ("Writing", module.WriteOptions)):
        options = dataclasses.fields(kind)
        if not options:
            continue
        lines += ["", f"{title}: {_first_line(kind)}", ""]
        lines += [_row(["option", "values", "otherwise"]), _row(["---"] * 3)]
        lines += [
            _row([f"`{option.name}`", f"`{_values(option)}`", f"`{option.default!r}`"])
            for option in options
        ]
    return lines


def _markdown(docstring: str) -> str:
    """The docstring as Markdown: indented blocks stay blocks, double backticks become single."""
    return re.sub(r"``([^`]+)``", r"`\1`", docstring)


def _first_line(kind: type) -> str:
    return _markdown((kind.__doc__ or "").strip().splitlines()[0])


def _values(option: dataclasses.Field) -> str:
    text = str(option.type).replace('"', "").replace("'", "")
    return text.removeprefix("Literal[").removesuffix("]").replace("|", "or")


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
