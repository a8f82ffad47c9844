"""How label files name pictures: to the catalogue's uri, inside its folder, and back."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import repeat
from pathlib import Path
from urllib.parse import urlsplit

from tilth.data.storage import is_url
from tilth.errors import DataError, PathEscapeError

__all__ = ["label_stems", "media_uri", "media_uris", "relative_names"]

# In names that stand on lines of their own: an empty or an absolute one; a drive or a URL; a folder
# above; what is none of ours to write.
_MARKS = ("\n\n", "\n/", ":", "..", "./", "//", "\\", "\0")


def media_uri(name: str, root: Path, where: str) -> str:
    """The uri of a picture that a label file calls ``name``: absolute below ``root``, or a URL.

    Args:
        root: the folder of the pictures, resolved.
        where: the label file, and the place in it, for the error.

    Raises:
        PathEscapeError: the name leaves ``root``.
    """
    if is_url(name):
        return name
    suspicious = (
        not name
        or name.startswith("/")
        or ".." in name
        or "\\" in name
        or "\0" in name
        or name[1:2] == ":"
        or "./" in name  # "./a.jpg", "a/./b.jpg" and "a//b.jpg": one file, so one uri
        or "//" in name
    )
    if not suspicious:
        return f"{root.as_posix().rstrip('/')}/{name}"
    path = Path(name.replace("\0", "\\"))
    lexical = path if path.is_absolute() else Path(root, *(p for p in path.parts if p != ".."))
    escapes = ".." in path.parts or "\\" in str(path) or name[1:2] == ":" or not name
    if escapes or not lexical.is_relative_to(root):
        raise PathEscapeError(
            "a file_name that leaves the folder of the pictures",
            where=where,
            expected=f"a path below {root}, with forward slashes",
            got=repr(name),
            fix="correct the label file, or name the right folder with --images",
        )
    return lexical.as_posix()


def media_uris(names: Sequence[str], root: Path, where: str | Sequence[str]) -> list[str]:
    """`media_uri` of many names: where none of them has anything to look at, only put together.

    Args:
        where: the label file of all of them, or one a name.

    Raises:
        PathEscapeError: a name leaves ``root``.
    """
    text = "\n".join(["", *names, ""])
    plain = text.count("\n") == len(names) + 1 and not any(mark in text for mark in _MARKS)
    if not plain:
        places = [where] * len(names) if isinstance(where, str) else where
        return [media_uri(*each) for each in zip(names, repeat(root), places, strict=False)]
    prefix = f"{root.as_posix().rstrip('/')}/"
    return [prefix + name for name in names]


def relative_names(uris: Sequence[str], media_root: Path | None) -> list[str]:
    """What a label file calls each picture: its path below ``media_root``.

    Without ``media_root``, absolute paths are named from the deepest folder that holds all of them.
    Of a URL the path after the host is taken.

    Raises:
        PathEscapeError: a picture outside ``media_root``.
    """
    if media_root is not None:
        root = media_root.resolve().as_posix()
    else:
        absolute = [uri for uri in uris if uri.startswith("/")]
        root = os.path.commonpath([os.path.dirname(uri) for uri in absolute]) if absolute else "/"
    prefix = root.rstrip("/") + "/"
    names = []
    for uri in uris:
        if uri.startswith(prefix):
            names.append(uri[len(prefix) :])
        elif is_url(uri):
            parts = urlsplit(uri)
            names.append(parts.path.lstrip("/") + (f"#{parts.fragment}" if parts.fragment else ""))
        elif uri.startswith("/"):
            raise PathEscapeError(
                "a picture outside the folder that names are relative to",
                expected=f"below {root}",
                got=uri,
                fix="name a folder that holds all pictures with --images",
            )
        else:
            names.append(uri)
    return names


def _stem(name: str) -> str:
    dot = name.rfind(".")
    if name.rfind("/") + 1 < dot and name[dot - 1] not in "./":
        return name[:dot]
    return os.path.splitext(name)[0]  # dots in front are no suffix


def label_stems(names: Sequence[str]) -> list[str]:
    """The name of each picture's label file, without its suffix: ``a/b.jpg`` gives ``a/b``.

    Raises:
        DataError: two pictures that would share one label file.
    """
    stems = [_stem(name) for name in names]
    if len(set(stems)) < len(stems):
        seen: dict[str, str] = {}
        for stem, name in zip(stems, names, strict=True):
            if stem in seen:
                raise DataError(
                    "two pictures would share one label file",
                    where=f"{stem}.*",
                    got=f"{seen[stem]} and {name}",
                    fix="rename one of them, or choose a format with one file for all (coco, csv)",
                )
            seen[stem] = name
    return stems
