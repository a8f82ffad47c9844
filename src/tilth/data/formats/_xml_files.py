"""XML label files: read, parsed with nothing from outside, and text made safe for them.

No parser is given a document type: what it may define (entities that grow without bound, files of
this machine) has no place in a label file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from lxml import etree
from numpy.typing import NDArray

from tilth.errors import DataError, LabelError

__all__ = [
    "XML_ILLEGAL",
    "all_escaped",
    "escaped",
    "is_plain_utf8",
    "number_texts",
    "parse_xml",
    "plain_numbers",
    "read_whole",
]

_PLAIN = (1e-4, 1e15)  # numbers that are written without an exponent
_FIRST_READ = 16_384  # bytes: a larger buffer costs more to set up than a second read

# What XML 1.0 has no place for, and the carriage return, which its readers turn into a line end.
XML_ILLEGAL = re.compile("[\x00-\x08\x0b-\x1f\ud800-\udfff\ufffe\uffff]")
# Line ends and tabs too: within an attribute, readers turn them into spaces.
_ESCAPES = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\n": "&#10;", "\t": "&#9;"}
)
_ESCAPED = re.compile('[&<>"\n\t]')


def read_whole(path: str) -> bytes:
    """The bytes of a file.

    One after the other: of small files a read is over before another thread has woken, and a pool
    of threads took two to four times as long.

    Raises:
        LabelError: it cannot be opened or read.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe must not hang
        try:
            data = os.read(handle, _FIRST_READ)
            if len(data) < _FIRST_READ:
                return data
            parts = [data]
            while data := os.read(handle, 2**20):
                parts.append(data)
            return b"".join(parts)
        finally:
            os.close(handle)
    except (OSError, ValueError) as error:
        raise LabelError("the label file cannot be read", where=path, got=str(error)) from error


def parse_xml(data: bytes, where: str, *, lines: int = 0) -> Any:
    """The root element; comments are gone, CDATA is text.

    Args:
        lines: of the file before ``data``, for the error.

    Raises:
        LabelError: not well-formed (with the line), or with a document type.
    """
    if b"<!DOCTYPE" in data:
        raise LabelError("an XML file with a document type (DOCTYPE) is not read", where=where)
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        line = lines + (getattr(error, "lineno", None) or 1)
        raise LabelError("not well-formed XML", where=f"{where}:{line}", got=str(error)) from error
    if root.getroottree().docinfo.internalDTD is not None:  # in UTF-16, say
        raise LabelError("an XML file with a document type (DOCTYPE) is not read", where=where)
    return root


def is_plain_utf8(text: bytes) -> bool:
    """Whether any XML reader takes these bytes for the text that they are, control codes aside."""
    if text.isascii():
        return True
    if b"\xef\xbf" in text:  # U+FFFE and U+FFFF are no XML; their neighbours are not worth a look
        return False
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def escaped(text: str) -> str:
    """Text for an element or an attribute in double quotes.

    Raises:
        DataError: a character that XML has no place for.
    """
    if XML_ILLEGAL.search(text):
        raise DataError(
            "a name with a character that XML has no place for", got=repr(text), fix="rename it"
        )
    return text.translate(_ESCAPES) if _ESCAPED.search(text) else text


def all_escaped(texts: Sequence[str]) -> Sequence[str]:
    """`escaped` of each: where none has anything to escape, the texts themselves.

    Raises:
        DataError: a character that XML has no place for.
    """
    together = "".join(texts)
    if not XML_ILLEGAL.search(together) and not _ESCAPED.search(together):
        return texts
    return [escaped(text) for text in texts]


def number_texts(values: NDArray[np.float64]) -> list[str]:
    """`plain_numbers` as they are written: the shortest texts that read back as the same."""
    numbers, size = plain_numbers(values), np.abs(values)
    # Elsewhere JSON's exponents are not those that Python writes.
    if ((size == 0) | (size >= _PLAIN[0]) & (size < _PLAIN[1])).all():
        return msgspec.json.encode(numbers).decode()[1:-1].split(",")
    return [repr(number) for number in numbers]


def plain_numbers(values: NDArray[np.float64]) -> Sequence[float]:
    """The numbers in a flat list, whole ones as integers: readers of old cannot take ``12.0``."""
    flat = values.ravel()
    if np.abs(flat).max(initial=0) < 2**53 and np.array_equal(np.trunc(flat), flat):
        return flat.astype(np.int64).tolist()
    return [int(value) if value.is_integer() else value for value in flat.tolist()]
