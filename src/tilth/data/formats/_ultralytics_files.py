"""The pictures of an Ultralytics set with their label files, whether or not pictures are there."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tilth.data.formats._picture_lists import find_labels, picture_uris, read_lines
from tilth.data.formats._pictures_by_stem import pictures_by_stem
from tilth.data.formats._text_files import files_below
from tilth.data.formats._ultralytics_yaml import DataYaml, Source, labels_of
from tilth.data.problems import LabelReport
from tilth.data.records import Split

__all__ = ["Files", "find_files"]

_RULES = {"labels/ in place of images/": labels_of}


@dataclass
class Files:
    """One row a picture.

    Attributes:
        uris: pictures; one that was not found gets .jpg.
        labels: label files below ``root``; empty where there is none.
        splits: codes.
    """

    root: Path
    uris: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    splits: list[Split] = field(default_factory=list)

    def add(
        self, uris: list[str], labels: list[str], split: Split, report: LabelReport, where: str
    ) -> None:
        """Add the pictures of one folder or list; those that are there already count once."""
        new = set(uris)
        if len(new) == len(uris) and new.isdisjoint(self.uris):
            self.uris += uris
            self.labels += labels
            self.splits += [split] * len(uris)
            return
        known = set(self.uris)
        twice = []
        for uri, label in zip(uris, labels, strict=True):
            if uri in known:
                twice.append(f"{where}: {uri}")
                continue
            known.add(uri)
            self.uris.append(uri)
            self.labels.append(label)
            self.splits.append(split)
        report.add("picture that stands twice", "the first counts", twice)


def find_files(data: DataYaml, media_root: Path | None, report: LabelReport) -> Files:
    """All pictures of all splits.

    Args:
        media_root: where pictures are looked for first, by the names of their label files.

    Raises:
        PathEscapeError: a listed path that leaves its folder.
    """
    files = Files(data.root)
    elsewhere = media_root is not None and media_root.resolve() != data.root
    known = pictures_by_stem(media_root, report) if media_root and elsewhere else {}
    for source in data.sources:
        if source.is_list:
            _add_list(files, source, media_root, report)
        else:
            _add_folder(files, source, known, media_root, report)
    return files


def _add_list(files: Files, source: Source, media_root: Path | None, report: LabelReport) -> None:
    path = files.root / source.name
    lines = read_lines(path)
    if not lines:
        return
    roots = [files.root] if media_root is None else [media_root, files.root]
    uris = picture_uris(lines, roots, source.name, report)
    labels = find_labels(lines, [files.root], _RULES, report)
    files.add(uris, labels.names, source.split, report, source.name)


def _add_folder(
    files: Files,
    source: Source,
    known: dict[str, str],
    media_root: Path | None,
    report: LabelReport,
) -> None:
    """A folder's own pictures, and the label files that belong to pictures elsewhere."""
    home = "" if source.name == "." else f"{source.name}/"
    own = f"{files.root.as_posix().rstrip('/')}/{home}"
    borrowed = f"{media_root.resolve().as_posix().rstrip('/')}/" if media_root else ""
    folder = files.root / source.name
    here = pictures_by_stem(folder, report) if folder.is_dir() else {}
    labels = _labels(files.root, source.name, here, report)
    uris: list[str] = []
    names: list[str] = []
    missing: list[str] = []
    bare: list[str] = []
    for stem in sorted(here.keys() | labels.keys() if here else labels):
        found = known.get(stem) or known.get(home + stem)
        if found is not None:
            uris.append(borrowed + found)
        else:
            uris.append(own + here.get(stem, f"{stem}.jpg"))
            if stem not in here:
                missing.append(labels[stem])
        names.append(labels.get(stem, ""))
        if stem not in labels:
            bare.append(here[stem])
    report.add("label file whose picture is not there", "named .jpg", missing)
    report.add("picture without a label file", "kept, without labels", bare)
    files.add(uris, names, source.split, report, source.name)


def _labels(root: Path, name: str, pictures: dict[str, str], report: LabelReport) -> dict[str, str]:
    """Stem of the picture below its folder -> label file below the root.

    Looked for in ``labels``, and in the folder of the pictures where some may have theirs there: of
    images/train/images/a.jpg the labels are in images/train/labels.
    """
    found: dict[str, str] = {}
    folders = [labels_of(name)]
    if not pictures or any("images/" in stem for stem in pictures):
        folders.append(name)
    for folder in dict.fromkeys(folders):
        home = (root / folder).resolve()
        if not home.is_dir() or not home.is_relative_to(root):
            continue
        inside = "" if folder == "." else f"{folder}/"
        for file in files_below(root / folder, (".txt",), report):
            stem: str | None = file[: file.rindex(".")]
            if folder != folders[0] or "images" in file:  # otherwise it is in folder's own place
                stem = _stem_of(f"{inside}{stem}", name, folder)
            if stem is not None:
                found.setdefault(stem, inside + file)
    return found


def _stem_of(label: str, name: str, folder: str) -> str | None:
    """The stem, below the folder of pictures, whose labels Ultralytics seeks in ``label``."""
    inside = "" if folder == "." else f"{folder}/"
    stems = [label.removeprefix(inside)]
    parts = stems[0].split("/")
    stems += [
        "/".join([*parts[:at], "images", *parts[at + 1 :]])
        for at, part in enumerate(parts)
        if part == "labels"
    ]
    home = "" if name == "." else f"{name}/"
    return next((stem for stem in stems if labels_of(home + stem) == label), None)
