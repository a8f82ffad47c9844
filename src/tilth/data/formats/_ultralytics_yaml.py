"""``data.yaml`` of an Ultralytics set: where the pictures of each split are, and the classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from tilth.data.problems import LabelReport
from tilth.data.records import Category, Split
from tilth.errors import LabelError

__all__ = ["DataYaml", "Source", "labels_of", "read_data_yaml", "written"]

_MOST_BYTES = 2**20
_SPLITS = {
    "train": Split.TRAIN,
    "val": Split.VAL,
    "validation": Split.VAL,
    "test": Split.TEST,
}


@dataclass(frozen=True)
class Source:
    """Where pictures of a split are: a folder, or a text file that lists them.

    Attributes:
        name: below the root of the set; a folder of pictures need not be there if that of their
            labels is.
    """

    split: Split
    name: str
    is_list: bool


@dataclass(frozen=True)
class DataYaml:
    """What ``data.yaml`` says, with its paths found below ``root``."""

    file: Path
    root: Path
    categories: tuple[Category, ...]
    sources: tuple[Source, ...]
    has_keypoints: bool


def read_data_yaml(file: Path, media_root: Path | None, report: LabelReport) -> DataYaml:
    """Read the file and find the folders and lists that it names.

    Raises:
        LabelError: not such a file, or nothing that it names is there.
    """
    fields = fields_of(file)
    root = _root(fields.get("path"), file, media_root, report)
    sources: list[Source] = []
    missing: list[str] = []
    for key, split in _SPLITS.items():
        for spec in _specs(fields.get(key), file):
            source = _source(root, spec, split)
            if source is None:
                missing.append(f"{file.name}: {key}: {spec}")
            elif any(source.name == other.name for other in sources):
                report.notes.append(f"{key}: {spec} is there already, not counted twice")
            else:
                sources.append(source)
    if not sources:
        raise LabelError(
            "none of the folders that the set names is there",
            where=str(file),
            expected=f"below {root}: {'; '.join(missing)[:200] or 'train, val or test'}",
            fix="correct path, train and val, or name the set's folder with --images",
        )
    report.add("folder or list of a split that is not there", "left out", missing)
    categories = _categories(fields.get("names"), fields.get("nc"), file, report)
    return DataYaml(file, root, categories, tuple(sources), bool(fields.get("kpt_shape")))


def fields_of(file: Path) -> dict[str, Any]:
    """The fields, every scalar as the text that stands there: a class may be called no, or 007.

    Raises:
        LabelError: not there, too large, or no such YAML.
    """
    try:
        with file.open("rb") as stream:
            text = stream.read(_MOST_BYTES + 1)
        if len(text) > _MOST_BYTES:
            raise LabelError("the description of the set is too large", where=str(file))
        # The base of safe_load's loader: texts, lists and mappings, and no other objects.
        found = yaml.load(text.decode("utf-8-sig"), Loader=yaml.BaseLoader)
    except OSError as error:
        raise LabelError("no such file", where=str(file), got=error.strerror) from error
    except (yaml.YAMLError, ValueError, RecursionError, TypeError) as error:
        raise LabelError(
            "the description of the set is not YAML",
            where=str(file),
            got=str(error).replace("\n", " ")[:120],
        ) from error
    if not isinstance(found, dict):
        raise LabelError("no description of a set", where=str(file), expected="train: , names: ")
    return found


def _root(path: object, file: Path, media_root: Path | None, report: LabelReport) -> Path:
    """The folder that the splits are relative to: ``path`` where it is allowed, else the file's."""
    home = file.parent.resolve()
    allowed = [home] if media_root is None else [home, media_root.resolve()]
    if not isinstance(path, str) or path in ("", "."):
        return home
    try:
        found = (home / path.replace("\\", "/")).resolve()
        is_there = found.is_dir()
    except (OSError, ValueError, RuntimeError):
        return home
    if is_there and any(found.is_relative_to(root) for root in allowed):
        return found
    # Written on another machine, or relative to a folder of all data sets.
    for root in reversed(allowed):
        if root.name == PurePosixPath(path.replace("\\", "/")).name or root == home:
            report.notes.append(f"path: {path[:80]} is taken as {root}")
            return root
    return home


def _specs(value: object, file: Path) -> list[str]:
    values = value if isinstance(value, list) else [value] if value else []
    specs = [spec for spec in values if isinstance(spec, str)]
    if len(specs) < len(values):
        raise LabelError("a split is a path or a list of paths", where=str(file))
    return [spec for spec in specs if spec]


def _source(root: Path, spec: str, split: Split) -> Source | None:
    """What a split names, with as few folders as possible taken off its front."""
    parts = PurePosixPath(spec.replace("\\", "/")).parts
    prefix = root.parts
    if parts[: len(prefix)] == prefix:
        parts = parts[len(prefix) :]
    for skip in range(len(parts)):
        name = "/".join(parts[skip:])
        if ".." in parts[skip:] or name.startswith("/"):
            continue
        if name.endswith(".txt") and _is_inside(root, name, Path.is_file):
            return Source(split, name, is_list=True)
        if any(_is_inside(root, place, Path.is_dir) for place in (name, labels_of(name))):
            return Source(split, name, is_list=False)
    return Source(split, ".", is_list=False) if not parts else None


def _is_inside(root: Path, name: str, is_kind: Any) -> bool:
    try:
        found = (root / name).resolve()
        return found.is_relative_to(root) and bool(is_kind(found))
    except (OSError, ValueError, RuntimeError):
        return False


def labels_of(path: str) -> str:
    """Where Ultralytics looks for labels: ``labels`` in place of the last folder ``images``.

    >>> labels_of("images/train/a"), labels_of("train/images"), labels_of("data/a")
    ('labels/train/a', 'train/labels', 'data/a')
    """
    if path.startswith("images/") and path.rfind("images") == 0:
        return f"labels/{path[len('images/') :]}"
    parts = path.split("/")
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return "/".join(parts)


def _categories(
    names: object, number: object, file: Path, report: LabelReport
) -> tuple[Category, ...]:
    """Classes from a list of names, or a mapping of numbers to names."""
    if isinstance(names, dict):
        pairs = [(_number(key, file), name) for key, name in names.items()]
    elif isinstance(names, list):
        pairs = list(enumerate(names))
    elif isinstance(number, str) and number.isascii() and number.isdigit() and len(number) < 6:
        report.notes.append("classes: without names, called by their numbers")
        pairs = [(at, str(at)) for at in range(int(number))]
    else:
        raise LabelError(
            "no names of classes", where=str(file), expected="names: [...] or {0: ...}"
        )
    pairs.sort(key=lambda pair: pair[0])
    if not all(isinstance(name, str) and name for _, name in pairs):
        raise LabelError("the name of a class is a text", where=str(file))
    if len({name for _, name in pairs}) < len(pairs) or len({at for at, _ in pairs}) < len(pairs):
        raise LabelError("a class that stands twice", where=f"{file}: names")
    if isinstance(number, str) and number.strip() != str(len(pairs)):
        kind = "number of classes that is not that of the names"
        report.add(kind, f"the {len(pairs)} names are taken", [f"{file.name}: nc: {number[:20]}"])
    return tuple(Category(name=str(name), origin_id=at) for at, name in pairs)


def _number(key: object, file: Path) -> int:
    if isinstance(key, str) and key.isascii() and key.isdigit() and len(key) < 10:
        return int(key)
    raise LabelError("the number of a class", where=f"{file}: names", got=str(key)[:80])


def written(names: Sequence[str], folders: Mapping[str, str]) -> str:
    """The text of ``data.yaml``; without ``path``, which is then the folder that it lies in."""
    fields: dict[str, Any] = dict(folders)
    fields["names"] = dict(enumerate(names))
    return yaml.safe_dump(fields, allow_unicode=True, sort_keys=False, width=2**20)
