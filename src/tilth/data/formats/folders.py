"""A folder a class: ``root/[split/]class/picture``, as ImageNet, Keras and torchvision lay it out.

Classes are the names of the folders, sorted, unless ``classes.txt`` in the root (one a line) gives
their order; that is how the order comes back, and how a name that no folder can have (``and/or``)
does, which is written with percent escapes. Folders are splits where all of them have the name of
one (train, val, valid, validation, test) and hold folders.

Pictures are linked (``pictures=link``, symbolic and relative, so that nothing is there twice),
hard-linked or copied. A link is read as the picture that it points to, if that lies below the
folder or the folder of the pictures; one that points elsewhere is reported and left out. A picture
has one class: those without any, and those with several, are reported and left out.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tilth.data.atomic import atomic_folder
from tilth.data.class_folders import list_class_folders
from tilth.data.dataset import Dataset, MediaColumns
from tilth.data.formats._class_list import class_list, classes_text, matched_classes
from tilth.data.formats._columns import annotation_columns, media_columns, report_rows
from tilth.data.formats._fit import fit
from tilth.data.formats._header_sizes import picture_sizes
from tilth.data.formats._media_names import relative_names
from tilth.data.formats._percent import decoded, encoded
from tilth.data.holds import Holds
from tilth.data.problems import LabelReport
from tilth.data.records import Split
from tilth.data.storage import is_url
from tilth.errors import EmptyDatasetError, LabelError, StorageError

__all__ = ["HOLDS", "TARGET", "ReadOptions", "WriteOptions", "adapt", "read", "recognises", "write"]

TARGET = "folder"
HOLDS = Holds(labels=True, empty_media=False, splits=True)
_SPLITS = {
    "train": Split.TRAIN,
    "training": Split.TRAIN,
    "val": Split.VAL,
    "valid": Split.VAL,
    "validation": Split.VAL,
    "test": Split.TEST,
    "testing": Split.TEST,
    "unassigned": Split.NONE,
}
_FOLDERS = {Split.TRAIN: "train", Split.VAL: "val", Split.TEST: "test", Split.NONE: "unassigned"}
_LIST = "classes.txt"
_SUFFIXES = frozenset(
    [".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"]
)
# First folders of other layouts, which hold nothing but pictures too.
_OTHER_LAYOUTS = {"images", "masks", "jpegimages", "segmentationclass", "segmentationobject"}
_UNSAFE = re.compile(r"[/\\\x00-\x1f]|^\.|^\s|\s$")
_FEW = 20


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How the folders are read.

    Attributes:
        splits: whether the first folders are splits; ``auto`` goes by their names.
        classes: a file with the classes, or their names with commas between.
        sizes: whether the headers of the pictures are read.
    """

    splits: Literal["auto", "yes", "no"] = "auto"
    classes: str = ""
    sizes: bool = True


@dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """How the folders are written.

    Attributes:
        pictures: linked, copied, or hard-linked (within one disk).
    """

    pictures: Literal["link", "copy", "hardlink"] = "link"


def recognises(path: Path) -> bool:
    """Folders of folders of pictures, and nothing else."""
    try:
        if not path.is_dir() or not _holds_nothing_else(path):
            return False
        roots = [root for _, root in _split_roots(path, "auto")]
        classes = [folder for root in roots for folder in _folders(root)]
        return any(map(_holds_pictures, classes)) and all(
            map(_holds_nothing_else_than_pictures, classes[:_FEW])
        )
    except OSError:
        return False


def read(
    path: Path,
    *,
    media_root: Path | None = None,
    on_unknown: Literal["error", "skip"] = "error",
    options: ReadOptions = ReadOptions(),
    report: LabelReport | None = None,
) -> tuple[Dataset, LabelReport]:
    """Read the pictures of class folders, each with the class of its folder.

    Args:
        media_root: where links may point to, besides the folder itself.
        on_unknown: what to do with folders that the list of classes does not have.
        report: takes the problems; a new one when left out.

    Raises:
        LabelError: a folder that the list of classes does not have.
        EmptyDatasetError: no pictures.
    """
    report = report or LabelReport(where=str(path))
    files, folders, splits = _listed(path, options, report)
    if not files:
        raise EmptyDatasetError(
            "no pictures in class folders", where=str(path), expected="class/picture.jpg"
        )
    listed = class_list(options.classes, [path / _LIST], report)
    names = sorted(set(folders))
    code_of = {name: code for code, name in enumerate(names)}
    codes = np.fromiter(map(code_of.__getitem__, folders), np.int64, len(folders))
    if listed is not None:
        known = {category.name for category in listed}
        names = [name if name in known else decoded(name) for name in names]

    def place(row: int) -> str:
        return files[row].relative_to(path).as_posix()

    categories, category_row = matched_classes(codes, names, listed, on_unknown, report, place)
    media, media_row = _media(files, splits, path, media_root, options, report)
    labels = np.flatnonzero((category_row >= 0) & (media_row >= 0))
    again = np.ones(len(labels), dtype=np.bool_)
    again[np.unique(media_row[labels], return_index=True)[1]] = False
    kind = "picture in several class folders"
    report_rows(report, kind, "a label for each", again, lambda row: place(labels[row]))
    annotations = annotation_columns(
        media,
        media_index=media_row[labels],
        category_index=category_row[labels],
        boxes_xyxy=None,
        report=report,
        place=lambda row: place(labels[row]),
    )
    report.num_media, report.num_annotations = len(media), len(annotations)
    return Dataset(categories=categories, media=media, annotations=annotations), report


def adapt(
    dataset: Dataset, *, options: WriteOptions = WriteOptions()
) -> tuple[Dataset, LabelReport]:
    """What class folders hold of a data set, and what that costs."""
    report = LabelReport(where="folders")
    fitted = fit(dataset, HOLDS, report)
    media = fitted.media

    def place(row: int) -> str:
        return media.uri[row]

    several = np.diff(fitted.offsets) > 1
    report_rows(report, "picture of several classes", "left out", several, place)
    labelled = np.diff(fitted.offsets) == 1
    away = np.fromiter((is_url(uri) or "#" in uri for uri in media.uri), np.bool_, len(media))
    kind = "picture that is no file here (a URL, or a frame of a video)"
    report_rows(report, kind, "left out", away & labelled, place)
    lost = (several | away)[fitted.annotations.media_index]
    if lost.any():
        fitted = fitted.keep_annotations(~lost)
    written = int((labelled & ~away).sum())
    report.num_media, report.num_annotations = written, written
    return fitted, report


def write(
    dataset: Dataset,
    path: Path,
    *,
    media_root: Path | None = None,
    options: WriteOptions = WriteOptions(),
    replace: bool = False,
) -> LabelReport:
    """Write class folders with the pictures, all of them or none.

    Args:
        media_root: within its class folder a picture has its path below this folder.
        replace: a folder that is there is replaced whole.

    Raises:
        PathEscapeError: a picture outside ``media_root``.
        SettingsError: the folder holds something and ``replace`` is false.
        StorageError: the write failed; what was there before is unchanged.
    """
    dataset, report = adapt(dataset, options=options)
    report.where = str(path)
    labels, media = dataset.annotations, dataset.media
    rows = labels.media_index.tolist()
    classes = [encoded(category.name, _UNSAFE) for category in dataset.categories]
    names = relative_names([media.uri[row] for row in rows], media_root)
    split_names = _split_names(media.split[rows], classes)
    place = path.parent.resolve() / path.name
    missing = []
    text = classes_text(dataset.categories)
    with atomic_folder(path, replace=replace) as folder:
        (folder / _LIST).write_bytes(text)
        for split in sorted(set(split_names)) or [""]:
            for name in classes:
                (folder / split / name).mkdir(parents=True, exist_ok=True)
        put = _put(options.pictures)
        made: set[str] = set()
        for row, category, name, split in zip(
            rows, labels.category_index.tolist(), names, split_names, strict=True
        ):
            source = media.uri[row]
            if not os.path.isfile(source):
                missing.append(source)
                continue
            target = os.path.join(split, classes[category], name)
            parent = os.path.dirname(target)
            if parent not in made:
                os.makedirs(folder / parent, exist_ok=True)
                made.add(parent)
            put(source, f"{folder}/{target}", f"{place}/{target}")
    report.add("picture that is missing", "left out", missing)
    return report


def _put(pictures: str) -> Callable[[str, str, str], None]:
    """How a picture gets to a path in the temporary folder, which becomes the last one."""

    @cache
    def way(folder: str, source_folder: str) -> str:
        return os.path.relpath(os.path.realpath(source_folder), folder)

    def link(source: str, target: str, final: str) -> None:
        source_folder, name = os.path.split(source)
        os.symlink(os.path.join(way(os.path.dirname(final), source_folder), name), target)

    def hardlink(source: str, target: str, _: str) -> None:
        try:
            os.link(source, target)
        except OSError as error:
            raise StorageError(
                "a picture cannot be hard-linked into the folder",
                where=source,
                got=error.strerror,
                fix="pass --write-option pictures=copy: hard links stay on one disk",
            ) from error

    def copy(source: str, target: str, _: str) -> None:
        shutil.copyfile(source, target)

    return {"link": link, "hardlink": hardlink, "copy": copy}[pictures]


def _split_names(splits: NDArray[np.int8], classes: Sequence[str]) -> list[str]:
    """The first folder of each picture; empty where there are no splits to tell apart.

    A class that has the name of a split needs a folder above it, or it would be read as one.
    """
    is_split = [name.casefold() in _SPLITS for name in classes]
    if (splits == Split.NONE).all() and not any(is_split):
        return [""] * len(splits)
    return [_FOLDERS[Split(code)] for code in splits.tolist()]


def _listed(
    path: Path, options: ReadOptions, report: LabelReport
) -> tuple[list[Path], list[str], list[int]]:
    """The pictures, and the class folder and the split of each."""
    files: list[Path] = []
    folders: list[str] = []
    splits: list[int] = []
    if not path.is_dir():
        raise LabelError("not a folder", where=str(path), expected="class/picture.jpg")
    roots = _split_roots(path, options.splits)
    if roots[0][1] != path:
        report.notes.append(f"splits: {', '.join(root.name for _, root in roots)}")
    for split, root in roots:
        try:
            found, codes, names = list_class_folders(root, extensions=_SUFFIXES)
        except EmptyDatasetError:
            continue  # of several splits one may be empty; the caller asks whether all are
        files += found
        folders += [names[code] for code in codes.tolist()]
        splits += [int(split)] * len(found)
    return files, folders, splits


def _split_roots(path: Path, splits: str) -> list[tuple[Split, Path]]:
    """The folders of classes, and the split that each stands for."""
    folders = _folders(path)
    named = [(_SPLITS.get(folder.name.casefold()), folder) for folder in folders]
    are_splits = bool(folders) and all(split is not None for split, _ in named)
    if splits == "auto":
        are_splits = are_splits and not any(map(_holds_pictures, folders))
    elif splits == "yes" and not are_splits:
        unknown = next((folder.name for split, folder in named if split is None), "no folder")
        raise LabelError(
            "a folder that is no split",
            where=str(path),
            expected=", ".join(_SPLITS),
            got=unknown,
            fix="rename it, or pass --option splits=no",
        )
    if splits == "no" or not are_splits:
        return [(Split.NONE, path)]
    return [(split, folder) for split, folder in named if split is not None]


def _media(
    files: Sequence[Path],
    splits: Sequence[int],
    path: Path,
    media_root: Path | None,
    options: ReadOptions,
    report: LabelReport,
) -> tuple[MediaColumns, NDArray[np.int64]]:
    """The pictures, and the picture of each file (int64 [n], -1 where it is left out)."""
    found = _uris(files, [path] if media_root is None else [path, media_root])
    report_rows(
        report,
        "link or name that leaves the folder",
        "left out",
        np.array([uri is None for uri in found], dtype=np.bool_),
        lambda row: files[row].relative_to(path).as_posix(),
    )
    rows: dict[str, int] = {}
    media_row = np.array(
        [-1 if uri is None else rows.setdefault(uri, len(rows)) for uri in found], dtype=np.int64
    )
    uris, kept = list(rows), media_row >= 0
    split = np.full(len(uris), Split.NONE, dtype=np.int8)
    split[media_row[kept]] = np.array(splits, dtype=np.int8)[kept]
    width, height = picture_sizes(uris, report) if options.sizes else (None, None)
    return media_columns(uris, width=width, height=height, split=split), media_row


def _uris(files: Sequence[Path], allowed: Sequence[Path]) -> list[str | None]:
    """The uri of each file, that of its target for a link; None for one that leads outside."""
    inside = tuple(f"{folder.resolve().as_posix().rstrip('/')}/" for folder in allowed)
    parents: dict[str, str] = {}
    found: list[str | None] = []
    for file in files:
        parent, name = os.path.split(file)
        if parent not in parents:
            parents[parent] = os.path.realpath(parent)
        uri = f"{parents[parent]}/{name}"
        if os.path.islink(uri):
            uri = os.path.realpath(uri)
        try:
            uri.encode()
        except UnicodeEncodeError:
            found.append(None)
            continue
        found.append(uri if uri.startswith(inside) else None)
    return found


def _folders(path: Path) -> list[Path]:
    return sorted(each for each in path.iterdir() if each.is_dir() and each.name[0] != ".")


def _holds_pictures(folder: Path) -> bool:
    return any(os.path.splitext(name)[1].lower() in _SUFFIXES for name in os.listdir(folder))


def _holds_nothing_else(path: Path) -> bool:
    """Only folders, none of which begins another layout, and a list of classes."""
    for entry in path.iterdir():
        name = entry.name.lower()
        if entry.is_dir():
            if name in _OTHER_LAYOUTS:
                return False
        elif name != _LIST and not name.startswith((".", "readme", "license")):
            return False
    return True


def _holds_nothing_else_than_pictures(folder: Path) -> bool:
    names = os.listdir(folder)[:_FEW]
    suffixes = {os.path.splitext(name)[1].lower() for name in names if name[0] != "."}
    return suffixes <= _SUFFIXES | {""}
