"""Names that a format's grammar has no room for, as percent escapes that can be undone."""

from __future__ import annotations

import re
from urllib.parse import unquote

from tilth.errors import DataError

__all__ = ["ESCAPE", "decoded", "encoded"]

ESCAPE = re.compile("%[0-9A-Fa-f]{2}")


def encoded(name: str, unsafe: re.Pattern[str]) -> str:
    """The name with what matches ``unsafe`` escaped; one that needs no escape is as it was.

    A percent sign is escaped where anything is, or where the name would look escaped.

    Raises:
        DataError: a name that is not Unicode.

    >>> encoded("a b.jpg", re.compile(" ")), encoded("100%.jpg", re.compile(" "))
    ('a%20b.jpg', '100%.jpg')
    """
    if not (unsafe.search(name) or ESCAPE.search(name)):
        return name
    try:
        return re.sub(f"%|{unsafe.pattern}", lambda found: _escape(found.group()), name)
    except UnicodeEncodeError as error:
        raise DataError("a name that is not Unicode", got=ascii(name)) from error


def _escape(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


def decoded(name: str) -> str:
    """The name before it was escaped."""
    return unquote(name, errors="replace") if ESCAPE.search(name) else name
