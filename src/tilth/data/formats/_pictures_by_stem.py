"""The picture that a label file belongs to, where it says no more than its own name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tilth.data.formats._text_files import files_below
from tilth.data.problems import LabelReport

__all__ = ["PICTURE_SUFFIXES", "pictures_by_stem", "pictures_of"]

PICTURE_SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm", ".jp2"),
    *(".dng", ".mpo", ".heic", ".avif", ".pfm"),
)


def pictures_by_stem(root: Path, report: LabelReport) -> dict[str, str]:
    """Name without suffix -> name of the pictures below a folder; of two under one stem the first.

    Args:
        report: takes the further pictures of a stem.
    """
    names = files_below(root, PICTURE_SUFFIXES, report, links=True)
    stems = [name[: name.rindex(".")] for name in names]
    found = dict(zip(stems, names, strict=True))
    twice = []
    if len(found) < len(names):
        found |= dict(zip(reversed(stems), reversed(names), strict=True))
        pairs = zip(names, stems, strict=True)
        twice = [f"{name} beside {found[stem]}" for name, stem in pairs if found[stem] != name]
    report.add("picture that shares its name without suffix", "the first is taken", twice)
    return found


def pictures_of(
    stems: Sequence[str],
    root: Path,
    known: dict[str, str],
    report: LabelReport,
    *,
    suffix: str = ".jpg",
) -> list[str]:
    """The uri of each stem's picture below ``root``; one that is not there gets ``suffix``."""
    missing = [stem for stem in stems if stem not in known]
    if known:
        report.add("label file whose picture is not there", f"named {suffix}", missing)
    elif stems:
        report.notes.append(f"no pictures below {root}: named after the label files, {suffix}")
    prefix = root.resolve().as_posix().rstrip("/") + "/"
    if not missing:
        return [prefix + known[stem] for stem in stems]
    return [prefix + known.get(stem, stem + suffix) for stem in stems]
