"""Files behind a URL: fetched through fsspec, with retries, a time limit and a bound on their size.

Only the schemes of `SCHEMES` are followed: a label file from somebody else must not make this
machine read its own disk. Keys and endpoints come from where fsspec looks for them (the
environment, ``~/.aws``), never from a catalogue or a label file.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import urlsplit, urlunsplit

from tilth.data.atomic import atomic_writer
from tilth.errors import MediaError, MissingExtraError

__all__ = ["SCHEMES", "FetchSettings", "fetch", "is_url", "local_copy", "shown_url", "url_suffix"]

SCHEMES = ("http", "https", "s3", "gs", "memory")
_URL = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+)://")
_CHUNK = 2**18
_FIRST_WAIT_S = 0.25


@dataclass(frozen=True, kw_only=True)
class FetchSettings:
    """How patiently remote files are fetched, and how much of them is kept.

    Attributes:
        timeout_s: seconds for one file, all attempts together.
        retries: attempts after the first, for errors that may pass.
        max_gb: of one file.
        cache_gb: of all files kept in the project's cache.
    """

    timeout_s: float = 60.0
    retries: int = 3
    max_gb: float = 4.0
    cache_gb: float = 10.0


def is_url(uri: str) -> bool:
    """Whether a uri has a scheme, as in ``s3://bucket/a.jpg``."""
    return _URL.match(uri) is not None


def shown_url(url: str) -> str:
    """A URL as it may be printed: without user, password and the values of its query."""
    parts = urlsplit(url)
    query = re.sub(r"=[^&]*", "=...", parts.query)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, query, ""))


def url_suffix(url: str) -> str:
    """The suffix of the file that a URL names: ``.jpg``; empty where it has none."""
    suffix = PurePosixPath(urlsplit(url).path).suffix.lower()
    return suffix if re.fullmatch(r"\.[a-z0-9]{1,8}", suffix) else ""


def fetch(url: str, target: BinaryIO, settings: FetchSettings = FetchSettings()) -> str:
    """Copy the file behind ``url`` into an open file; the hash of its bytes.

    Errors that may pass (a lost connection, a busy server) are tried again, after a wait that
    doubles; a file that is not there, or not ours to read, is not.

    Raises:
        MediaError: another scheme, not there, too large, or not to be had in time.
        MissingExtraError: the library for this scheme is not installed.
    """
    _refuse_scheme(url)
    deadline = time.monotonic() + settings.timeout_s
    start = target.tell()
    for attempt in range(settings.retries + 1):
        target.seek(start)
        target.truncate()
        try:
            return _copy(url, target, settings, deadline)
        except (MediaError, MissingExtraError):
            raise
        except Exception as error:
            # fsspec's file systems raise errors of many libraries; what they have in common is
            # that these mean "not there" and "not yours", and that others may pass.
            reason = _permanent_reason(error)
            wait = _FIRST_WAIT_S * 2**attempt
            is_late = time.monotonic() + wait > deadline
            if reason or attempt == settings.retries or is_late:
                raise _not_fetched(url, reason, error, attempt + 1, settings) from error
            time.sleep(wait)
    raise AssertionError("the last attempt returns or raises")


def local_copy(source: str, settings: FetchSettings = FetchSettings()) -> Path:
    """The path itself, or for a URL a temporary file with what is behind it.

    Raises:
        MediaError: as `fetch`.
    """
    if not is_url(source):
        return Path(source)
    folder = Path(tempfile.mkdtemp(prefix="tilth-"))
    name = PurePosixPath(urlsplit(source).path).name or "labels"
    path = folder / name
    with atomic_writer(path) as stream:
        fetch(source, stream, settings)
    return path


def _refuse_scheme(url: str) -> None:
    match = _URL.match(url)
    scheme = match.group(1).lower() if match else ""
    if scheme not in SCHEMES:
        raise MediaError(
            "a URL that is not followed",
            where=shown_url(url),
            expected=" or ".join(f"{name}://" for name in SCHEMES if name != "memory"),
            got=f"{scheme}://",
            fix="name files on this machine by their path",
        )


def _copy(url: str, target: BinaryIO, settings: FetchSettings, deadline: float) -> str:
    seen, digest, limit = 0, hashlib.blake2b(digest_size=16), int(settings.max_gb * 2**30)
    for chunk in _chunks(url, max(deadline - time.monotonic(), 0.001)):
        seen += len(chunk)
        if seen > limit:
            raise MediaError(
                "the file behind a URL is too large",
                where=shown_url(url),
                expected=f"at most {settings.max_gb:g} GB",
                fix="raise media.max_gb in tilth.toml if it is meant to be that large",
            )
        if time.monotonic() > deadline:
            raise TimeoutError(f"no end after {settings.timeout_s:g} s")
        digest.update(chunk)
        target.write(chunk)
    return digest.hexdigest()


def _chunks(url: str, timeout_s: float) -> Iterator[bytes]:
    system, path = _open_system(url, timeout_s)
    options: dict[str, Any] = {"cache_type": "readahead"}
    if url.lower().startswith("http"):
        # Without blocks it is one stream; with a size, whatever it is, the server is not asked for
        # it: that question hides every other answer behind "not found".
        options = {"block_size": 0, "size": 1}
    with system.open(path, "rb", **options) as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk


def _open_system(url: str, timeout_s: float) -> tuple[Any, str]:
    import fsspec  # at the first URL: a fifth of a second

    scheme = url.partition("://")[0].lower()
    options: dict[str, Any] = {}
    if scheme in ("http", "https"):
        aiohttp = _required("aiohttp")
        options["client_kwargs"] = {"timeout": aiohttp.ClientTimeout(total=timeout_s)}
        options["skip_instance_cache"] = True  # each has its own time limit
    elif scheme == "s3":
        options["config_kwargs"] = {
            "connect_timeout": timeout_s,
            "read_timeout": timeout_s,
            "retries": {"max_attempts": 1},  # the attempts are counted here
        }
        _required("s3fs")
    try:
        system, path = fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        raise _missing(str(error)) from error
    return system, path


def _required(module: str) -> Any:
    from tilth.lazy import require

    return require(module, extra="remote")


def _missing(reason: str) -> MissingExtraError:
    return MissingExtraError(
        "the library for this kind of URL is not installed",
        got=reason,
        fix="pip install 'tilth[remote]'",
    )


def _permanent_reason(error: Exception) -> str:
    """Why trying again is no use; empty where it may be of use."""
    status = getattr(error, "status", None)
    if isinstance(error, FileNotFoundError):
        return "it is not there"
    if isinstance(error, PermissionError):
        return "it may not be read (keys missing or wrong?)"
    if isinstance(status, int) and 400 <= status < 500 and status not in (408, 425, 429):
        return f"the server answers {status}"
    return ""


def _not_fetched(
    url: str, reason: str, error: Exception, attempts: int, settings: FetchSettings
) -> MediaError:
    got = reason or f"{type(error).__name__}: {_without_urls(str(error))}".rstrip(": ")
    return MediaError(
        "the file behind a URL cannot be fetched",
        where=shown_url(url),
        got=f"{got} (attempt {attempts} of {settings.retries + 1})",
        fix="check the address and its server"
        if reason
        else "try again, or raise media.timeout_s and media.retries in tilth.toml",
    )


def _without_urls(text: str) -> str:
    """Messages of libraries repeat the URL, with its keys."""
    urls = r"[A-Za-z][A-Za-z0-9+.-]+://[^\s'\")]+"
    return re.sub(urls, lambda match: shown_url(match.group()), text)[:200]
