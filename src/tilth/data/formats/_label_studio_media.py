"""How Label Studio names pictures: local files, uploads, buckets, addresses."""

from __future__ import annotations

import base64
import binascii
import posixpath
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from tilth.data.formats._media_names import media_uri
from tilth.data.formats._pictures_by_stem import PICTURE_SUFFIXES
from tilth.data.storage import is_url
from tilth.data.video import VIDEO_SUFFIXES

__all__ = ["local_url", "picture_key", "task_uri"]

_KEYS = ("image", "img", "picture", "photo", "video", "url", "file")
_LOCAL = "/data/local-files/"
_UPLOAD = "/data/upload/"
_RESOLVE = "/resolve/"
_HASH = re.compile("^[0-9a-f]{8}-")
_SUFFIXES = frozenset(PICTURE_SUFFIXES) | VIDEO_SUFFIXES


def picture_key(data: dict[str, Any], wanted: str) -> str | None:
    """The field of a task's data that names its picture or video; None where there is none.

    Args:
        wanted: the field, or empty to find it: by its name, or else by what it holds.
    """
    texts = {key: value for key, value in data.items() if isinstance(value, str) and value}
    if wanted:
        return wanted if wanted in texts else None
    named = next((key for key in _KEYS if key in texts), None)
    return named or next((key for key, value in texts.items() if _looks_like_media(value)), None)


def _looks_like_media(value: str) -> bool:
    if _LOCAL in value or _UPLOAD in value:
        return True
    path = urlsplit(value).path if is_url(value) else value.partition("#")[0]
    return PurePosixPath(path).suffix.lower() in _SUFFIXES


def task_uri(name: str, root: Path, where: str) -> str:
    """The uri of the picture that a task names.

    Args:
        root: the folder of pictures on this machine, resolved.

    Raises:
        PathEscapeError: a name that leaves ``root``.
    """
    if _LOCAL in name:
        asked = parse_qs(name.partition("?")[2]).get("d", [""])[0]
        return media_uri(asked.replace("\\", "/").lstrip("/"), root, where)
    if _UPLOAD in name:
        stored = unquote(name.partition(_UPLOAD)[2].partition("?")[0])
        return media_uri(_upload(stored, root), root, where)
    if _RESOLVE in name and "fileuri=" in name:
        name = _resolved(name)
    return name if is_url(name) else media_uri(name.replace("\\", "/"), root, where)


def _upload(stored: str, root: Path) -> str:
    """Of ``1/0a1b2c3d-name.jpg`` what is there: as stored, without folder, or without hash."""
    name = posixpath.basename(stored)
    names: Iterable[str] = (f"upload/{stored}", stored, name, _HASH.sub("", name))
    inside = [n for n in names if n and ".." not in n.split("/")]
    return next((n for n in inside if (root / n).is_file()), name)


def _resolved(name: str) -> str:
    """The address in a bucket behind Label Studio's own: ``/tasks/1/resolve/?fileuri=<Base64>``."""
    code = parse_qs(name.partition("?")[2]).get("fileuri", [""])[0]
    try:
        uri = base64.b64decode(code + "=" * (-len(code) % 4), altchars=b"-_").decode()
    except (binascii.Error, ValueError):
        return name
    return uri if is_url(uri) else name


def local_url(name: str, prefix: str) -> str:
    """What a task calls a picture: an address as it is, a local one behind ``prefix``."""
    return name if is_url(name) else prefix + (quote(name, safe="/") if "?" in prefix else name)
