"""Many small text files: found, read and written by a few threads, some megabytes at a time.

A hundred thousand label files of a few lines each cost their opening; so nothing is done per line
or per number in Python: the files of a block are taken apart, and put together, as one buffer.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from tilth.data.dataset import Dataset
from tilth.data.formats._file_threads import FILES_A_TASK, FileThreads
from tilth.data.formats._number_grid import Grid, grid_of
from tilth.data.formats._text_tokens import Tokens, tokens_of
from tilth.data.problems import LabelReport
from tilth.errors import PathEscapeError

__all__ = [
    "TextBlock",
    "files_below",
    "read_blocks",
    "read_tokens",
    "write_label_files",
]

_BLOCK_BYTES = 8 * 2**20  # of text at a time; arrays over it take some twenty times that
_MOST_BYTES = 64 * 2**20  # of one file: no picture has a million labels
_READ_BYTES = 65_536
_LABELS_A_BLOCK = 50_000
_DEEPEST = 40  # folders
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class TextBlock:
    """Some megabytes of files, each ended by a newline, and how to take them apart.

    Attributes:
        texts: one a file.
        first_file: row of the first among all that are read.
    """

    texts: list[bytes]
    first_file: int

    def grid(self, *, named: bool) -> Grid | None:
        """All lines as one table of numbers; None where they are none, and `tokens` has to do.

        Args:
            named: the first word of a line is a name.
        """
        lines = (text.count(b"\n") for text in self.texts)
        counts = np.fromiter(lines, np.int64, len(self.texts))
        return grid_of(b"".join(self.texts), counts, self.first_file, named=named)

    def tokens(self) -> Tokens:
        """All words of all lines."""
        return tokens_of(self.texts, self.first_file)


def files_below(
    root: Path, suffixes: Sequence[str], report: LabelReport, *, links: bool = False
) -> list[str]:
    """The regular files below a folder with one of these suffixes, relative to it, sorted.

    Args:
        suffixes: in lower case, with the dot.
        report: takes the symbolic links that leave the folder, which are left out.
        links: links may leave the folder (pictures that a set borrows from another).
    """
    inside = root.resolve()
    endings = tuple(suffixes)
    names: list[str] = []
    leaving: list[str] = []
    seen = {str(inside)}
    folders = [("", 0)]
    while folders:
        prefix, depth = folders.pop()
        try:
            entries = list(os.scandir(inside / prefix))
        except OSError:
            continue
        for entry in entries:
            name = entry.name
            wanted = name.endswith(endings) or name.lower().endswith(endings)
            if wanted and name.startswith("."):
                wanted = os.path.splitext(name)[1] != ""  # .txt is a name, not a suffix
            if wanted and entry.is_file(follow_symlinks=False):
                names.append(prefix + name)
            elif not wanted and not _is_folder(entry):
                continue
            elif entry.is_symlink() and not links and not _stays(Path(entry.path), inside):
                leaving.append(prefix + entry.name)
            elif _is_folder(entry):
                real = os.path.realpath(entry.path) if entry.is_symlink() else entry.path
                if real not in seen and depth < _DEEPEST:
                    seen.add(real)
                    folders.append((f"{prefix}{entry.name}/", depth + 1))
            elif entry.is_file():
                names.append(prefix + entry.name)
    report.add("link that leaves the folder", "not followed", sorted(leaving))
    return sorted(names)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _stays(path: Path, inside: Path) -> bool:
    try:
        return path.resolve().is_relative_to(inside)
    except (OSError, RuntimeError):  # a loop of links
        return False


def read_tokens(root: Path, names: Sequence[str], report: LabelReport) -> Iterator[Tokens]:
    """The words of all files, as `read_blocks` gives them."""
    for block in read_blocks(root, names, report):
        yield block.tokens()


def read_blocks(root: Path, names: Sequence[str], report: LabelReport) -> Iterator[TextBlock]:
    """The texts of all files, some megabytes of them at a time.

    Args:
        names: paths below ``root``; an empty one is a file that is not there.
        report: takes the files that cannot be read; they count as empty.
    """
    texts: list[bytes] = []
    begin = size = 0
    for at, found in _read_ahead(root.as_posix().rstrip("/") + "/", names):
        unreadable = [names[at + row] for row, text in enumerate(found) if text is None]
        report.add("label file that cannot be read", "taken as empty", unreadable)
        texts += [text or b"" for text in found]
        size += sum(map(len, texts[at - begin :]))
        if size >= _BLOCK_BYTES:
            yield TextBlock(texts, begin)
            begin, size, texts = begin + len(texts), 0, []
    yield TextBlock(texts, begin)


def _read_ahead(prefix: str, names: Sequence[str]) -> Iterator[tuple[int, list[bytes | None]]]:
    """The first row and the texts of some hundred files at a time, in order.

    A few of them are read before they are asked for; not all, which is what `Executor.map` does.
    """

    def read(start: int) -> tuple[int, list[bytes | None]]:
        some = names[start : start + FILES_A_TASK]
        return start, [_read(prefix, name) for name in some]

    with FileThreads[tuple[int, "list[bytes | None]"]]() as threads:
        yield from threads.results(read, range(0, len(names), FILES_A_TASK))


def _read(prefix: str, name: str) -> bytes | None:
    """The bytes of a file, ended by a newline; None where it cannot be read or is far too large."""
    if not name:
        return b""
    try:
        handle = os.open(prefix + name, os.O_RDONLY | os.O_NONBLOCK)
    except (OSError, ValueError):
        return None
    try:
        text = os.read(handle, _READ_BYTES)
        if len(text) == _READ_BYTES:
            text = _rest(handle, text)
    except OSError:
        return None
    finally:
        os.close(handle)
    if len(text) > _MOST_BYTES:
        return None
    text = text.removeprefix(_BOM)
    return text if text.endswith(b"\n") or not text else text + b"\n"


def _rest(handle: int, text: bytes) -> bytes:
    parts = [text]
    left = _MOST_BYTES
    while left > 0 and (part := os.read(handle, 2**20)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def write_label_files(
    folder: Path,
    names: Sequence[str],
    dataset: Dataset,
    lines: Callable[[slice], pa.LargeStringArray],
) -> None:
    """Write one file a picture, some ten thousand labels at a time; one without labels is empty.

    Args:
        names: paths below ``folder``, one a picture.
        lines: rows of annotations -> their lines; those of the next labels are made while files
            are written.

    Raises:
        PathEscapeError: a name that leaves the folder.
        OSError: the write failed; for `atomic_folder` to report.
    """
    _refuse_leaving(names)
    for parent in sorted({name.rpartition("/")[0] for name in names}):
        (folder / parent).mkdir(parents=True, exist_ok=True)
    offsets, first = dataset.offsets, 0
    with FileThreads[None]() as threads:
        while first < len(names):
            end = int(np.searchsorted(offsets, offsets[first] + _LABELS_A_BLOCK, side="right")) - 1
            end = min(max(end, first + 1), len(names))
            text = lines(slice(int(offsets[first]), int(offsets[end])))
            _, starts, data = text.buffers()
            at = np.frombuffer(starts, np.int64)[text.offset : text.offset + len(text) + 1]
            bounds = at[offsets[first : end + 1] - offsets[first]].tolist()
            for row in range(0, end - first, FILES_A_TASK):
                stop = min(row + FILES_A_TASK, end - first)
                some = names[first + row : first + stop], bounds[row : stop + 1]
                threads.submit(_write_texts, f"{folder.as_posix()}/", *some, data or b"")
            first = end
        for _ in threads.rest():
            pass


def _refuse_leaving(names: Sequence[str]) -> None:
    """Raise PathEscapeError for a name that leaves the folder."""
    text = "\n".join(["", *names])
    if "\n/" not in text and ".." not in text and "\0" not in text:
        return
    for name in names:
        if name.startswith("/") or ".." in name.split("/") or "\0" in name:
            raise PathEscapeError("a label file outside the folder to write", got=repr(name))


def _write_texts(
    prefix: str, names: Sequence[str], bounds: Sequence[int], data: pa.Buffer | bytes
) -> None:
    """Write one file a name; that of row i has ``data[bounds[i]:bounds[i + 1]]``."""
    view = memoryview(data)
    for name, start, end in zip(names, bounds, bounds[1:], strict=False):
        handle = os.open(prefix + name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            text = view[start:end]
            while len(text):
                text = text[os.write(handle, text) :]
        finally:
            os.close(handle)
