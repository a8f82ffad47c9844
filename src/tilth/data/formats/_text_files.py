"""Many small text files: found, read and written by a few threads, and taken apart as one buffer.

A hundred thousand label files of a few lines each cost their opening; so nothing is done per line
or per number in Python: the files of a block are joined, and tokens, lines and numbers are arrays
over the joined bytes. Which file and line a token stands in stays known, for errors and reports.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tilth.data.dataset import Dataset
from tilth.data.problems import LabelReport
from tilth.errors import PathEscapeError

__all__ = [
    "Tokens",
    "column",
    "files_below",
    "finite_numbers",
    "lines_of",
    "read_tokens",
    "write_label_files",
]

_THREADS = 4  # opening and making files waits for the system; more of them gain nothing
_FILES_A_TASK = 256
_TASKS_AHEAD = 2 * _THREADS
_BLOCK_BYTES = 8 * 2**20  # of text at a time; arrays over it take some twenty times that
_MOST_BYTES = 64 * 2**20  # of one file: no picture has a million labels
_READ_BYTES = 65_536
_LABELS_A_BLOCK = 50_000
_DEEPEST = 40  # folders
_NEWLINE = 10
_BOM = b"\xef\xbb\xbf"

_IS_SPACE = np.zeros(256, dtype=np.bool_)
_IS_SPACE[[9, 10, 11, 12, 13, 32]] = True


@dataclass(frozen=True)
class Tokens:
    """The words of the lines of some files; lines without any are left out.

    Attributes:
        words: n strings, as their bytes (not known to be UTF-8).
        first: int64 [m + 1]; line i has the words ``first[i]:first[i + 1]``.
        file: int64 [m], row of the file among all that are read.
        line: int64 [m], counted from 1.
    """

    words: pa.StringArray
    first: NDArray[np.int64]
    file: NDArray[np.int64]
    line: NDArray[np.int64]

    @property
    def counts(self) -> NDArray[np.int64]:
        """int64 [m]: words in each line."""
        return np.diff(self.first)

    def text(self, line: int) -> str:
        """One line, for an error."""
        words = self.words[int(self.first[line]) : int(self.first[line + 1])]
        return b" ".join(words.cast(pa.binary()).to_pylist()).decode(errors="replace")[:80]


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
            wanted = os.path.splitext(entry.name)[1].lower() in suffixes
            if wanted and entry.is_file(follow_symlinks=False):
                names.append(prefix + entry.name)
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
    """The words of all files, some megabytes of them at a time.

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
            yield _tokens(texts, begin)
            begin, size, texts = begin + len(texts), 0, []
    yield _tokens(texts, begin)


def _read_ahead(prefix: str, names: Sequence[str]) -> Iterator[tuple[int, list[bytes | None]]]:
    """The first row and the texts of some hundred files at a time, in order.

    A few of them are read before they are asked for; not all, which is what `Executor.map` does.
    """

    def read(start: int) -> list[bytes | None]:
        return [_read(prefix, name) for name in names[start : start + _FILES_A_TASK]]

    with ThreadPoolExecutor(_THREADS) as pool:
        ahead: deque[tuple[int, Future[list[bytes | None]]]] = deque()
        for start in range(0, len(names), _FILES_A_TASK):
            ahead.append((start, pool.submit(read, start)))
            if len(ahead) > _TASKS_AHEAD:
                at, task = ahead.popleft()
                yield at, task.result()
        for at, task in ahead:
            yield at, task.result()


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


def _tokens(texts: list[bytes], first_file: int) -> Tokens:
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    ends = np.cumsum(lengths)
    buffer = np.frombuffer(b"".join(texts), dtype=np.uint8)
    space = _IS_SPACE[buffer]
    edges = np.flatnonzero(np.diff(space, prepend=True, append=True))
    word_starts, word_ends = edges[0::2], edges[1::2]
    newlines = np.flatnonzero(buffer == _NEWLINE)
    offsets = np.zeros(len(word_starts) + 1, dtype=np.int32)
    np.cumsum(word_ends - word_starts, out=offsets[1:])
    words = pa.StringArray.from_buffers(
        len(word_starts), pa.py_buffer(offsets), pa.py_buffer(buffer[~space])
    )
    # Every file ends with a newline, so that every line ends with one.
    bounds = np.concatenate([[0], np.searchsorted(word_starts, newlines)])
    lines = np.flatnonzero(np.diff(bounds))
    file = np.searchsorted(ends, newlines[lines], side="right")
    first_lines = np.searchsorted(newlines, ends - lengths)
    return Tokens(
        words=words,
        first=np.concatenate([bounds[lines], [len(word_starts)]]).astype(np.int64),
        file=file + first_file,
        line=lines - first_lines[file] + 1,
    )


def finite_numbers(words: pa.StringArray) -> NDArray[np.float64]:
    """The words as numbers; NaN where one is no number, or none that is finite."""
    try:
        values = pc.cast(words, pa.float64()).to_numpy(zero_copy_only=False).copy()
    except pa.ArrowInvalid:
        return _some_numbers(words)
    values[~np.isfinite(values)] = np.nan
    return values


def _some_numbers(words: pa.StringArray) -> NDArray[np.float64]:
    """Halved until the part that is no numbers is small."""
    if len(words) > 64:
        middle = len(words) // 2
        return np.concatenate([finite_numbers(words[:middle]), finite_numbers(words[middle:])])
    return np.array([_number(word) for word in words.cast(pa.binary()).to_pylist()], np.float64)


def _number(word: bytes) -> float:
    try:
        value = float(word)
    except ValueError:
        return float("nan")
    return value if np.isfinite(value) and b"_" not in word else float("nan")


def column(values: NDArray[Any]) -> pa.Array:
    """Numbers as the shortest texts that read back as the same numbers."""
    if values.dtype.kind == "f":
        values = values + values.dtype.type(0)  # a minus before 0 says nothing
    return pc.cast(pa.array(values), pa.large_string())


def lines_of(columns: Sequence[Any]) -> pa.LargeStringArray:
    """Each row as a line, with its newline; a null leaves its column out of the row."""
    space, newline, nothing = (pa.scalar(text, pa.large_string()) for text in (" ", "\n", ""))
    joined = pc.binary_join_element_wise(*columns, space, null_handling="skip")
    return pc.binary_join_element_wise(joined, nothing, newline)


def write_label_files(
    folder: Path,
    names: Sequence[str],
    dataset: Dataset,
    lines: Callable[[slice], pa.LargeStringArray],
) -> None:
    """Write one file a picture, some ten thousand labels at a time; one without labels is empty.

    Args:
        names: paths below ``folder``, one a picture.
        lines: rows of annotations -> their lines.
    """
    offsets, first = dataset.offsets, 0
    while first < len(names):
        end = int(np.searchsorted(offsets, offsets[first] + _LABELS_A_BLOCK, side="right")) - 1
        end = min(max(end, first + 1), len(names))
        text = lines(slice(int(offsets[first]), int(offsets[end])))
        _, starts, data = text.buffers()
        at = np.frombuffer(starts, np.int64)[text.offset : text.offset + len(text) + 1]
        bounds = at[offsets[first : end + 1] - offsets[first]]
        _write_texts(folder, names[first:end], data or b"", bounds.tolist())
        first = end


def _write_texts(
    folder: Path, names: Sequence[str], data: pa.Buffer | bytes, bounds: Sequence[int]
) -> None:
    """Write one file a name; that of row i has ``data[bounds[i]:bounds[i + 1]]``.

    Raises:
        PathEscapeError: a name that leaves the folder.
        OSError: the write failed; for `atomic_folder` to report.
    """
    for name in names:
        if name.startswith("/") or ".." in name.split("/") or "\0" in name:
            raise PathEscapeError("a label file outside the folder to write", got=repr(name))
    for parent in sorted({os.path.dirname(name) for name in names}):
        (folder / parent).mkdir(parents=True, exist_ok=True)
    prefix, view = f"{folder.as_posix()}/", memoryview(data)

    def write(start: int) -> None:
        for at in range(start, min(start + _FILES_A_TASK, len(names))):
            handle = os.open(prefix + names[at], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            try:
                text = view[bounds[at] : bounds[at + 1]]
                while len(text):
                    text = text[os.write(handle, text) :]
            finally:
                os.close(handle)

    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(write, range(0, len(names), _FILES_A_TASK)))
