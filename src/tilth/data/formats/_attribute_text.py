"""Attributes as the text of an XML element, of which nothing says what type it had.

A number, true, false, a list stand as JSON; a string stands as it is, and in quotation marks only
where it would be taken for one of those. So any value comes back as what it was, and any text of
somebody else's file comes back as the text that it was: ``1.10`` stays a version, ``007`` a string.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from tilth.data.formats._xml_files import XML_ILLEGAL

__all__ = ["attribute_text", "attribute_value", "encoded_attributes"]

_LONGEST_DIGITS = 18  # of a whole number: what any reader of JSON holds
_FIRST = frozenset('"[{-0123456789tfn')


def attribute_text(value: Any) -> str:
    """The text that stands for a value.

    >>> attribute_text(True), attribute_text("Left"), attribute_text("true"), attribute_text(0.5)
    ('true', 'Left', '"true"', '0.5')
    """
    if isinstance(value, str):
        plain = value == value.strip() and value and not XML_ILLEGAL.search(value)
        if plain and isinstance(attribute_value(value), str):
            return value
    return json.dumps(value, separators=(",", ":"))


def attribute_value(text: str) -> Any:
    """The value that a text stands for.

    >>> attribute_value("12"), attribute_value("1.10"), attribute_value('"12"')
    (12, '1.10', '12')
    """
    text = text.strip()
    if text[:1] not in _FIRST or (text.isdecimal() and len(text) > _LONGEST_DIGITS):
        return text
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return text
    return value if attribute_text(value) == text else text


def encoded_attributes(attributes: dict[str, Any]) -> bytes | None:
    """JSON bytes, as a data set holds attributes; None where there are none."""
    return msgspec.json.encode(attributes) if attributes else None
