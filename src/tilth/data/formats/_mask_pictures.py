"""The pictures that masks belong to: listed in ``pictures.txt``, or found by their names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tilth.data.formats._media_names import media_uri
from tilth.data.formats._pictures_by_stem import PICTURE_SUFFIXES, pictures_of
from tilth.data.formats._text_files import files_below
from tilth.data.problems import LabelReport
from tilth.errors import LabelError

__all__ = ["PICTURE_LIST", "Matched", "match_pictures", "picture_folder"]

PICTURE_LIST = "pictures.txt"
_PICTURE_FOLDERS = ("images", "JPEGImages", "Images", "leftImg8bit", "image_2")
# What masks are called beyond the name of their picture, and pictures beyond that of their mask.
_ENDINGS = (
    ("_gtFine_instanceIds", "_leftImg8bit"),
    ("_gtFine_labelIds", "_leftImg8bit"),
    ("_instanceIds", ""),
    ("_labelIds", ""),
    ("_mask", ""),
)


@dataclass(frozen=True)
class Matched:
    """Pictures and the masks that belong to them.

    Attributes:
        uris: of the pictures.
        rows: the picture of each mask, by its row; -1 where there is none.
    """

    uris: list[str]
    rows: list[int]


def match_pictures(
    stems: Sequence[str], folder: Path, media_root: Path | None, report: LabelReport
) -> Matched:
    """The pictures of masks: those that ``pictures.txt`` lists, else those of the same name.

    Args:
        stems: of the masks, below ``folder``; several may belong to one picture.
    """
    listed = folder / PICTURE_LIST
    root = (media_root or picture_folder(folder)).resolve()
    if listed.is_file():
        names = _listed(listed)
        rows_of = {_stem(name): row for row, name in enumerate(names)}
        rows = [rows_of.get(stem, -1) for stem in stems]
        lost = sorted({stem for stem, row in zip(stems, rows, strict=True) if row < 0})
        report.add(f"mask of no picture in {PICTURE_LIST}", "left out", lost)
        where = f"{listed}"
        return Matched([media_uri(name, root, where) for name in names], rows)
    known = _pictures(root, folder, report)
    wanted = [_picture_stem(stem, known) for stem in stems]
    unique = list(dict.fromkeys(wanted))
    more = sorted(set(known).difference(unique))
    report.add("picture without a mask", "kept, without labels", [known[stem] for stem in more])
    uris = pictures_of([*unique, *more], root, known, report)
    place = {stem: row for row, stem in enumerate(unique)}
    return Matched(uris, [place[stem] for stem in wanted])


def _stem(name: str) -> str:
    """The name of a picture's mask but for its suffix; a frame keeps the name of its video."""
    return name if "#" in name else os.path.splitext(name)[0]


def _listed(path: Path) -> list[str]:
    try:
        lines = path.read_bytes().decode("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError("the list of pictures cannot be read", where=str(path)) from error
    names = [line.removesuffix("\r") for line in lines]
    names = [name for name in names if name.strip()]
    if len({*map(_stem, names)}) < len(names):
        raise LabelError("two pictures that would share one mask", where=str(path))
    return names


def picture_folder(folder: Path) -> Path:
    """Where the pictures of a folder of masks usually lie."""
    places = [base / name for base in (folder.parent, folder) for name in _PICTURE_FOLDERS]
    return next((place for place in places if place.is_dir()), folder)


def _pictures(root: Path, folder: Path, report: LabelReport) -> dict[str, str]:
    """Stem -> name of the pictures below ``root`` that are no masks; of two the first."""
    found: dict[str, str] = {}
    twice = []
    inside = folder.resolve()
    masks = f"{inside.relative_to(root).as_posix()}/" if inside.is_relative_to(root) else None
    for name in files_below(root, PICTURE_SUFFIXES, report, links=True):
        is_png = name.lower().endswith(".png")
        if is_png and masks is not None and (masks == "./" or name.startswith(masks)):
            continue
        stem = _stem(name)
        if stem in found:
            twice.append(f"{name} beside {found[stem]}")
        else:
            found[stem] = name
    report.add("picture that shares its name without suffix", "the first is taken", twice)
    return found


def _picture_stem(stem: str, known: dict[str, str]) -> str:
    if stem in known:
        return stem
    for ending, instead in _ENDINGS:
        if stem.endswith(ending):
            return stem[: -len(ending)] + instead
    return stem
