"""Files behind a URL: fetched through fsspec, with retries, a time limit and a bound on their size.

Only the schemes of `SCHEMES` are followed, and none of fsspec's chains (``a::file://b``): a label
file from somebody else must not make this machine read its own disk. Keys and endpoints come from
where fsspec looks for them (the environment, ``~/.aws``), never from a catalogue or a label file.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import urlsplit, urlunsplit

from tilth.data.atomic import atomic_writer
from tilth.errors import MediaError, MissingExtraError
from tilth.lazy import require

__all__ = ["SCHEMES", "FetchSettings", "fetch", "is_url", "local_copy", "shown_url", "url_suffix"]

SCHEMES = ("http", "https", "s3", "gs", "memory")
_URL = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+)://")
_CHUNK = 2**18
_BLOCK = 2**23  # of an object store: one request each
_SLOWEST = 2**20
_FIRST_WAIT_S = 0.25


@dataclass(frozen=True, kw_only=True)
class FetchSettings:
    """How patiently remote files are fetched, and how much of them is kept.

    Attributes:
        timeout_s: seconds for one file, all attempts together; a second more for each megabyte that
            has come, so that large files are fetched and a server that drips is left.
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
    try:
        parts = urlsplit(url)
    except ValueError:  # what cannot be taken apart cannot be rid of its keys
        return f"{url.partition('://')[0]}://..."
    query = re.sub(r"=[^&]*", "=...", parts.query)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, query, ""))


def url_suffix(url: str) -> str:
    """The suffix of the file that a URL names: ``.jpg``; empty where it has none."""
    suffix = _name_of(url).suffix.lower()
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
    patience = _Patience(settings)
    start = target.tell()
    for attempt in range(settings.retries + 1):
        target.seek(start)
        target.truncate()
        try:
            return _copy(url, target, patience)
        except (MediaError, MissingExtraError):
            raise
        except Exception as error:
            # fsspec's file systems raise errors of many libraries; what they have in common is
            # that these mean "not there" and "not yours", and that others may pass.
            reason = _permanent_reason(error)
            wait = _FIRST_WAIT_S * 2**attempt
            if reason or attempt == settings.retries or wait > patience.left_s():
                raise _not_fetched(url, reason, error, attempt + 1, settings) from error
            time.sleep(wait)
    raise AssertionError("the last attempt returns or raises")


def local_copy(source: str, settings: FetchSettings = FetchSettings()) -> Path:
    """The path itself, or for a URL a file with what is behind it, deleted when the process ends.

    Raises:
        MediaError: as `fetch`.
    """
    if not is_url(source):
        return Path(source)
    name = re.sub(r"[^\w. -]", "_", _name_of(source).name).lstrip(".")[-100:] or "labels"
    path = Path(tempfile.mkdtemp(dir=_temporary_folder())) / name
    with atomic_writer(path) as stream:
        fetch(source, stream, settings)
    return path


@functools.cache
def _temporary_folder() -> Path:
    folder = tempfile.mkdtemp(prefix="tilth-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _name_of(url: str) -> PurePosixPath:
    try:
        return PurePosixPath(urlsplit(url).path)
    except ValueError:
        return PurePosixPath()


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


@dataclass
class _Patience:
    """The time that is left for one file."""

    settings: FetchSettings
    received: int = 0
    started: float = field(default_factory=time.monotonic)

    def left_s(self) -> float:
        """Seconds; never below a little, because libraries take 0 for no limit."""
        allowed = self.settings.timeout_s + self.received / _SLOWEST
        return max(self.started + allowed - time.monotonic(), 0.001)

    def is_over(self) -> bool:
        return self.left_s() <= 0.001


def _copy(url: str, target: BinaryIO, patience: _Patience) -> str:
    digest, limit, seen = hashlib.blake2b(digest_size=16), patience.settings.max_gb * 2**30, 0
    for chunk in _chunks(url, patience):
        seen += len(chunk)
        patience.received = max(patience.received, seen)  # another attempt is no progress
        if seen > limit:
            raise _too_large(url, patience.settings)
        if patience.is_over():
            raise TimeoutError
        digest.update(chunk)
        target.write(chunk)
    return digest.hexdigest()


def _chunks(url: str, patience: _Patience) -> Iterator[bytes]:
    scheme = url.partition("://")[0].lower()
    system = _file_system(scheme)
    if scheme in ("http", "https"):
        return _http_chunks(system, url, patience)
    path = system._strip_protocol(url)
    if system.async_impl:
        return _object_chunks(system, path, url, patience)
    return _plain_chunks(system, path)


def _http_chunks(system: Any, url: str, patience: _Patience) -> Iterator[bytes]:
    limit_of = require("aiohttp", extra="remote").ClientTimeout
    timeout = limit_of(total=None, connect=patience.left_s(), sock_read=patience.left_s())
    # Without blocks it is one stream; with a size, whatever it is, the server is not asked for it:
    # that question hides every other answer behind "not found".
    with system.open(url, "rb", block_size=0, size=1, timeout=timeout) as stream:
        while chunk := stream.read(_CHUNK, timeout=patience.left_s()):
            yield chunk


def _object_chunks(system: Any, path: str, url: str, patience: _Patience) -> Iterator[bytes]:
    """Of an object store: its size first, then block by block, each within the time limit."""
    size = int(system.info(path, timeout=patience.left_s())["size"])
    if size > patience.settings.max_gb * 2**30:
        raise _too_large(url, patience.settings)
    for start in range(0, size, _BLOCK):
        end = min(start + _BLOCK, size)
        block = system.cat_file(path, start=start, end=end, timeout=patience.left_s())
        if len(block) != end - start:
            raise ConnectionError(f"{len(block)} bytes came of {end - start}")
        yield block


def _plain_chunks(system: Any, path: str) -> Iterator[bytes]:
    with system.open(path, "rb") as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk


def _file_system(scheme: str) -> Any:
    """fsspec's, made once a thread: connections stay open from file to file."""
    import fsspec  # at the first URL: a fifth of a second

    # The attempts are counted here, not by the library as well.
    options = {"config_kwargs": {"retries": {"max_attempts": 1}}} if scheme == "s3" else {}
    try:
        return fsspec.filesystem(scheme, **options)
    except ImportError as error:
        raise MissingExtraError(
            "the library for this kind of URL is not installed",
            got=str(error),
            fix="pip install gcsfs" if scheme == "gs" else "pip install 'tilth[remote]'",
        ) from error


def _permanent_reason(error: Exception) -> str:
    """Why trying again is no use; empty where it may be of use."""
    status = getattr(error, "status", None)
    if isinstance(error, FileNotFoundError):
        return "it is not there"
    if isinstance(error, PermissionError) or type(error).__name__ == "NoCredentialsError":
        return "it may not be read: keys missing or wrong"
    if type(error).__name__ == "TooManyRedirects":
        return "the server sends us in circles"
    if type(error).__name__.startswith("NonHttpUrl"):
        return "the server sends us to an address of another kind"
    if isinstance(status, int) and 400 <= status < 500 and status not in (408, 425, 429):
        return f"the server answers {status}"
    if isinstance(error, ValueError):  # another scheme behind a redirect among them
        return f"not an address that is followed: {_without_urls(str(error))}"
    return ""


def _not_fetched(
    url: str, reason: str, error: Exception, attempts: int, settings: FetchSettings
) -> MediaError:
    got = reason or f"{type(error).__name__}: {_without_urls(str(error))}".rstrip(": ")
    if isinstance(error, TimeoutError):
        got = f"not all of it came in time (media.timeout_s = {settings.timeout_s:g})"
    return MediaError(
        "the file behind a URL cannot be fetched",
        where=shown_url(url),
        got=f"{got} (attempt {attempts} of {settings.retries + 1})",
        fix="check the address; keys and endpoint come from the environment (AWS_ACCESS_KEY_ID, "
        "AWS_ENDPOINT_URL; FSSPEC_S3_ANON=true for a public bucket)"
        if url.lower().startswith("s3:") and reason
        else "check the address and its server"
        if reason
        else "try again, or raise media.timeout_s and media.retries in tilth.toml",
    )


def _too_large(url: str, settings: FetchSettings) -> MediaError:
    return MediaError(
        "the file behind a URL is too large",
        where=shown_url(url),
        expected=f"at most {settings.max_gb:g} GB",
        fix="raise media.max_gb in tilth.toml if it is meant to be that large",
    )


def _without_urls(text: str) -> str:
    """Messages of libraries repeat the URL, with its keys."""
    urls = r"[A-Za-z][A-Za-z0-9+.-]+://[^\s'\")]+"
    return re.sub(urls, lambda match: shown_url(match.group()), text)[:200]
