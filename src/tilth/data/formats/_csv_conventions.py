"""Which column of a CSV file is what: known by its header, by the shape of its rows, or as told.

Sources: keras-retinanet's README ("CSV datasets"); TensorFlow's object detection pets/raccoon
scripts (`xml_to_csv.py`); VoTT's CSV export; Google's AutoML Vision and Vertex AI, "CSV format" of
object detection; makesense.ai's CSV export.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tilth.errors import LabelError, SettingsError

__all__ = ["IMAGE_ROW", "OURS", "Convention", "Corners", "Dialect", "convention_of", "told"]

Dialect = Literal["tilth", "retinanet", "vott", "tfod", "automl"]
Corners = Literal["xyxy", "xywh", "cxcywh", "vertices", "none"]

IMAGE_ROW = "__image__"
"""The class of a row that says no more than that the picture is there (our own convention)."""

OURS = (
    "image", "width", "height", "split", "class", "x0", "y0", "x1", "y1", "score", "crowd",
    "attributes",
)  # fmt: skip

_HEADERS: dict[str, tuple[str, ...]] = {
    "tilth": OURS,
    "vott": ("image", "xmin", "ymin", "xmax", "ymax", "label"),
    "tfod": ("filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax"),
}
_ROLES = {
    "path": (
        "path", "image", "filename", "file_name", "filepath", "file_path", "image_path",
        "imagepath", "image_name", "imagename", "image_file", "image_id", "imageid", "img",
        "img_path", "file",
    ),
    "class": (
        "class", "label", "class_name", "classname", "label_name", "labelname", "category",
        "category_name", "name",
    ),
    "score": ("score", "confidence", "conf", "probability"),
    "split": ("split", "subset", "set", "ml_use"),
    "crowd": ("crowd", "iscrowd", "is_crowd"),
    "width": ("width", "image_width", "img_width", "img_w", "im_width"),
    "height": ("height", "image_height", "img_height", "img_h", "im_height"),
    "attributes": ("attributes",),
}  # fmt: skip
# The first whose four names all stand in the header counts.
_BOXES: tuple[tuple[Corners, tuple[str, str, str, str]], ...] = (
    ("xyxy", ("x0", "y0", "x1", "y1")),
    ("xyxy", ("xmin", "ymin", "xmax", "ymax")),
    ("xyxy", ("x_min", "y_min", "x_max", "y_max")),
    ("xyxy", ("x1", "y1", "x2", "y2")),
    ("xyxy", ("left", "top", "right", "bottom")),
    ("xyxy", ("bbox_xmin", "bbox_ymin", "bbox_xmax", "bbox_ymax")),
    ("cxcywh", ("cx", "cy", "w", "h")),
    ("cxcywh", ("xc", "yc", "w", "h")),
    ("cxcywh", ("x_center", "y_center", "w", "h")),
    ("cxcywh", ("x_center", "y_center", "width", "height")),
    ("cxcywh", ("center_x", "center_y", "width", "height")),
    ("cxcywh", ("cx", "cy", "width", "height")),
    ("xywh", ("bbox_x", "bbox_y", "bbox_width", "bbox_height")),
    ("xywh", ("x", "y", "w", "h")),
    ("xywh", ("left", "top", "width", "height")),
    ("xywh", ("x", "y", "width", "height")),
)
_TOLD: dict[Corners, tuple[str, str, str, str]] = {
    "xyxy": ("x0", "y0", "x1", "y1"),
    "xywh": ("x", "y", "w", "h"),
    "cxcywh": ("cx", "cy", "w", "h"),
}
_ML_USES = {"train", "training", "validation", "validate", "test", "unassigned"}
_NUMBER = re.compile(r"\s*[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?\s*")
_EXAMPLE = "--option columns=path=filename,class=label,x0=xmin,y0=ymin,x1=xmax,y1=ymax"


@dataclass(frozen=True, kw_only=True)
class Convention:
    """The meaning of the columns.

    Attributes:
        name: of a dialect, or "columns" for any other header.
        roles: position of path, class, score, split, crowd, width, height, attributes.
        corners: how the box is given, in the columns at the positions ``box``.
        units: of the box; None where the columns leave it open.
        width: how many cells a row has.
        extra: names of the other columns, and their positions.
    """

    name: str
    roles: Mapping[str, int]
    corners: Corners
    box: tuple[int, ...]
    has_header: bool
    width: int
    units: Literal["pixels", "normalised"] | None = None
    extra: Mapping[str, int]

    def __str__(self) -> str:
        head = "header" if self.has_header else f"no header, {self.width} cells a row"
        known = self.name if self.name != "columns" else "columns known by their names"
        return f"convention: {known} ({head}; box as {self.corners})"


def convention_of(
    records: Sequence[Sequence[str]], dialect: Dialect | Literal["auto"] = "auto"
) -> Convention | None:
    """The convention of a file by its first records; None where it is none that we know.

    Args:
        records: the first ones, a header included.
        dialect: the one that was named; ``auto`` looks for it.
    """
    if not records:
        return None
    if dialect in ("auto", *_HEADERS):
        found = _by_header(records[0])
        if found is not None and dialect in ("auto", found.name):
            return found
    for name, make in (("retinanet", _retinanet), ("automl", _automl)):
        if dialect in ("auto", name):
            found = make(records)
            if found is not None:
                return found
    return _makesense(records) if dialect == "auto" else None


def told(columns: str, records: Sequence[Sequence[str]], where: str) -> Convention:
    """The convention that the option ``columns`` spells out: ``role=column,...``.

    A column is a name of the header, or, where no header has it, a position from 1.

    Raises:
        SettingsError: an unknown role, or too few of them.
        LabelError: a column that the file does not have.
    """
    pairs = [pair.partition("=")[::2] for pair in columns.split(",")]
    wanted = {role.strip(): column.strip() for role, column in pairs}
    none: tuple[Corners, tuple[str, ...]] = ("none", ())
    corners, box_names = next((told for told in _TOLD.items() if set(told[1]) <= set(wanted)), none)
    allowed = {*_ROLES, *box_names}
    unknown = [role for role in wanted if role not in allowed]
    if unknown or "path" not in wanted or (corners == "none" and "class" not in wanted):
        raise SettingsError(
            "the option 'columns' does not say which column is what",
            expected=f"path, class, and x0 y0 x1 y1, x y w h or cx cy w h; as in {_EXAMPLE}",
            got=columns,
        )
    header = [name.strip() for name in records[0]] if records else []
    has_header = any(column in header for column in wanted.values())
    positions = {}
    for role, column in wanted.items():
        if has_header and column in header:
            positions[role] = header.index(column)
        elif column.isascii() and column.isdigit() and 0 < int(column[:9]) <= len(header):
            positions[role] = int(column[:9]) - 1
        else:
            names = ", ".join(header)[:200]
            raise LabelError("no such column", where=where, expected=f"one of {names}", got=column)
    return Convention(
        name="columns",
        roles={role: at for role, at in positions.items() if role not in box_names},
        corners=corners,
        box=tuple(positions[name] for name in box_names),
        has_header=has_header,
        width=len(header),
        extra={},
    )


def _by_header(header: Sequence[str]) -> Convention | None:
    names = [re.sub(r"[\s\-.]+", "_", name.strip().casefold()) for name in header]
    if {"imageid", "labelname"} <= set(names):
        return None  # Open Images has a format of its own
    corners, box_names = _box_columns(names)
    taken = set(box_names)
    roles = {}
    for role, aliases in _ROLES.items():
        free = [alias for alias in aliases if alias in names and alias not in taken]
        if free:
            roles[role] = names.index(free[0])
            taken.add(free[0])
    if "path" not in roles or "class" not in roles:
        return None
    name = next((key for key, known in _HEADERS.items() if set(known) == set(names)), "columns")
    return Convention(
        name=name,
        roles=roles,
        corners=corners,
        box=tuple(names.index(box_name) for box_name in box_names),
        has_header=True,
        width=len(header),
        units="pixels" if name in ("tilth", "vott") else None,
        extra={each: at for at, each in enumerate(names) if each not in taken},
    )


def _box_columns(names: Sequence[str]) -> tuple[Corners, tuple[str, ...]]:
    for corners, box in _BOXES:
        if set(box) <= set(names):
            return corners, box
    return "none", ()


def _retinanet(records: Sequence[Sequence[str]]) -> Convention | None:
    """``path,x1,y1,x2,y2,class``; of a picture without objects all but the path is empty."""
    rows = [row for row in records if len(row) == 6]
    if len(rows) * 2 <= len(records) or not _are_numbers([row[1:5] for row in rows]):
        return None
    if not _are_names([row[0] for row in rows]):
        return None
    return _without_header("retinanet", {"path": 0, "class": 5}, "xyxy", (1, 2, 3, 4), 6, "pixels")


def _automl(records: Sequence[Sequence[str]]) -> Convention | None:
    """``[ML_USE],path,label`` and four vertices, of which the second and fourth may be empty."""
    width = len(records[0])
    rows = [row for row in records if len(row) == width]
    shift = width - 10
    if shift not in (0, 1) or not _are_numbers([row[2 + shift :] for row in rows]):
        return None
    if shift and not all(row[0].strip().casefold() in _ML_USES for row in rows):
        return None
    if not all("." in row[shift] for row in rows):
        return None
    roles = {"path": shift, "class": 1 + shift} | ({"split": 0} if shift else {})
    box = tuple(range(2 + shift, width))
    return _without_header("automl", roles, "vertices", box, width, "normalised")


def _makesense(records: Sequence[Sequence[str]]) -> Convention | None:
    """``label,x,y,width,height,image,image width,image height``."""
    rows = [row for row in records if len(row) == 8]
    if len(rows) * 2 <= len(records) or not _are_numbers([[*row[1:5], *row[6:]] for row in rows]):
        return None
    if not _are_names([row[5] for row in rows]):
        return None
    roles = {"class": 0, "path": 5, "width": 6, "height": 7}
    return _without_header("makesense", roles, "xywh", (1, 2, 3, 4), 8, "pixels")


def _without_header(
    name: str,
    roles: Mapping[str, int],
    corners: Corners,
    box: tuple[int, ...],
    width: int,
    units: Literal["pixels", "normalised"],
) -> Convention:
    return Convention(
        name=name,
        roles=roles,
        corners=corners,
        box=box,
        has_header=False,
        width=width,
        units=units,
        extra={},
    )


def _are_numbers(rows: Sequence[Sequence[str]]) -> bool:
    """Whether these cells are numbers, where they are not empty: all of the first row, which is
    no header then, and most of the others, of which some may be wrong.
    """
    filled = [[cell for cell in row if cell.strip()] for row in rows]
    fits = [[_NUMBER.fullmatch(cell) is not None for cell in row] for row in filled]
    return all(fits[0]) and sum(map(sum, fits)) * 2 >= sum(map(len, fits))


def _are_names(cells: Sequence[str]) -> bool:
    """Whether the first cell and most others are neither empty nor numbers."""
    fits = [bool(cell) and _NUMBER.fullmatch(cell) is None for cell in cells]
    return fits[0] and sum(fits) * 2 >= len(fits)
