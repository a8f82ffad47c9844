"""Lists of picture paths, as YOLO's trainers take them, and the label file that each path implies.

The paths were right on the machine and from the folder where somebody trained. So the folders at
the front of them count for little: as many are taken off as it takes to find the files, and which
rule leads from pictures to labels is settled by the label files that are there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from tilth.data.formats._media_names import media_uris
from tilth.data.formats._text_files import files_below
from tilth.data.problems import LabelReport
from tilth.errors import LabelError

__all__ = ["LabelFiles", "find_labels", "picture_uris", "read_lines"]

_SAMPLE = 100
_MOST_BYTES = 512 * 2**20

Rule = Callable[[str], str]


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that hold something; backslashes become slashes.

    Raises:
        LabelError: not there, or not UTF-8.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise LabelError("the list of pictures is too large", where=str(path))
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LabelError("the list of pictures is not UTF-8", where=str(path)) from error
    except (OSError, ValueError) as error:
        raise LabelError(
            "the list of pictures cannot be read", where=str(path), got=str(error)[:80]
        ) from error
    lines = (line.strip().replace("\\", "/") for line in text.split("\n"))
    return [line.removeprefix("./") for line in lines if line]


def picture_uris(
    lines: Sequence[str], roots: Sequence[Path], where: str, report: LabelReport
) -> list[str]:
    """The uri of each path of a list, below the one of ``roots`` where more of them are.

    Raises:
        PathEscapeError: a path that leaves the folder of the pictures.
    """
    most = -1
    for folder in roots:
        prefix = folder.resolve().as_posix().rstrip("/") + "/"
        inside = [line.removeprefix(prefix) for line in lines]
        hits, at = _best_skip(inside, partial(_is_inside, prefix=prefix))
        if hits > most:
            most, skip, root, names = hits, at, folder.resolve(), inside
    if skip:
        front = "/".join(names[0].split("/")[:skip])
        report.notes.append(f"pictures of {where}: '{front}/' is taken as {root}")
    return media_uris([_skipped(name, skip) for name in names], root, where)


def _is_inside(name: str, prefix: str) -> bool:
    if name.startswith("/") or ".." in name or "\0" in name:
        return False
    return os.path.lexists(prefix + name)


@dataclass(frozen=True)
class LabelFiles:
    """Where the labels of listed pictures are.

    Attributes:
        root: the folder that names are relative to.
        names: one a picture; empty where there is no file.
    """

    root: Path
    names: list[str]


def find_labels(
    lines: Sequence[str],
    roots: Sequence[Path],
    rules: Mapping[str, Rule],
    report: LabelReport,
) -> LabelFiles:
    """The label file of each picture, by the rule, root and front folders that find most of them.

    Args:
        rules: what leads from a picture's path to that of its labels, but for the suffix.
        report: takes pictures without a label file, and label files of no picture.
    """
    best: tuple[int, int, Path, Rule, set[str]] | None = None
    sample = _sample(lines)
    named = next(iter(rules))
    for root in roots:
        known = set(files_below(root, (".txt",), report))
        for name, rule in rules.items():
            hits, skip = _best_skip([_label(rule, line) for line in sample], known.__contains__)
            if best is None or hits > best[0]:
                best, named = (hits, skip, root, rule, known), name
        if best is not None and best[0] == len(sample):
            break
    if best is None:
        return LabelFiles(Path(), [""] * len(lines))
    _, skip, root, rule, known = best
    names = [_skipped(_label(rule, line), skip) for line in lines]
    missing = [line for line, name in zip(lines, names, strict=True) if name not in known]
    report.add("picture without a label file", "kept, without labels", missing)
    report.notes.append(f"label files: {named}; {len(lines) - len(missing)} of {len(lines)} found")
    found = [name if name in known else "" for name in names]
    folders = {name.rpartition("/")[0] for name in found} - {""}
    orphans = {name for name in known.difference(found) if name.rpartition("/")[0] in folders}
    report.add("label file of no picture in the lists", "not read", sorted(orphans))
    return LabelFiles(root, found)


def _label(rule: Rule, line: str) -> str:
    name = rule(line)
    dot = name.rfind(".")
    if name.rfind("/") + 1 < dot < len(name) - 1 and "//" not in name and "./" not in name:
        return f"{name[:dot]}.txt"
    path = PurePosixPath(name)
    return path.with_suffix(".txt").as_posix() if path.name else ""


def _sample(lines: Sequence[str]) -> list[str]:
    return list(lines[:: max(1, len(lines) // _SAMPLE)])


def _best_skip(names: Sequence[str], exists: Callable[[str], bool]) -> tuple[int, int]:
    """How many of a sample are found, and how many folders are taken off their front for it."""
    sample = _sample(names)
    depth = max((name.count("/") for name in sample), default=0)
    hits = [sum(exists(_skipped(name, skip)) for name in sample) for skip in range(depth + 1)]
    most = max(hits, default=0)
    return most, hits.index(most) if most else 0


def _skipped(name: str, skip: int) -> str:
    """A path without its first folders; at least its last part stays."""
    if not skip:
        return name
    parts = name.split("/")
    return "/".join(parts[min(skip, len(parts) - 1) :])
