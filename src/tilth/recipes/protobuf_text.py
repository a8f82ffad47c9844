"""The text format of protocol buffers, read without their compiler: a tree that knows its lines.

Messages with or without a colon, in braces or angle brackets; lists in square brackets; strings in
either quote with escapes, several in a row joined; numbers in decimal, hexadecimal and octal; words
(enumerations, true, false); comments; commas and semicolons between fields. Extensions and Any are
refused. What the fields mean is the caller's to know.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from tilth.errors import SettingsError

__all__ = ["Field", "Message", "Word", "parse_protobuf_text"]


class Word(str):
    """A value that is written without quotes: an enumeration's name, or true and false."""

    __slots__ = ()


@dataclass(frozen=True, kw_only=True)
class Field:
    """One value of one field; a list gives several of the same name.

    Attributes:
        value: a `Message`, a string, a `Word`, or a number.
        line: counted from 1.
    """

    name: str
    value: Message | Word | str | int | float
    line: int


@dataclass(frozen=True, kw_only=True)
class Message:
    """The fields between two braces, in their order."""

    fields: tuple[Field, ...]
    line: int


class Token(NamedTuple):
    """A piece of the text: its kind is the name of the pattern that it matched."""

    kind: str
    text: str
    line: int


_PATTERNS = {
    "blank": r"[ \t\r\n\f\v]+|#[^\n]*",
    "string": r'"(?:[^"\\\n]|\\.)*"|\'(?:[^\'\\\n]|\\.)*\'',
    "number": r"[+-]?(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)[fFuUlL]?(?![\w.])",
    "word": r"-?[A-Za-z_]\w*",
    "mark": r"[{}<>\[\]:,;]",
    "open": r"[\"']",
}
_TOKEN = re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in _PATTERNS.items()))
_CLOSING = {"{": "}", "<": ">"}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{1,2})|([0-7]{1,3})|(.))", re.DOTALL)
_NOT_NUMBERS = {"inf": float("inf"), "infinity": float("inf"), "nan": float("nan")}


def parse_protobuf_text(text: str, *, where: str) -> Message:
    """The message that a text holds.

    Args:
        where: what to call the text in errors.

    Raises:
        SettingsError: not this format; says the line.

    >>> parse_protobuf_text("a: 1 b { c: 'x' }", where="spec").fields[0]
    Field(name='a', value=1, line=1)
    """
    parser = _Parser(list(_tokens(text, where)), where)
    fields = parser.fields(closing=None)
    return Message(fields=tuple(fields), line=1)


def _tokens(text: str, where: str) -> Iterator[Token]:
    at, line = 0, 1
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None or found.lastgroup == "open":
            is_string = found is not None
            raise SettingsError(
                "a string does not end on its line" if is_string else "a sign that means nothing",
                where=f"{where}:{line}",
                got=text[at:].splitlines()[0][:40],
            )
        kind = str(found.lastgroup)
        if kind != "blank":
            yield Token(kind, found.group(), line)
        line += found.group().count("\n")
        at = found.end()


class _Parser:
    """Goes through the tokens once, from left to right."""

    def __init__(self, tokens: list[Token], where: str) -> None:
        self._tokens = tokens
        self._where = where
        self._at = 0

    def fields(self, closing: str | None) -> list[Field]:
        """All fields up to the closing mark, or to the end of the text."""
        opened = self._line()
        found: list[Field] = []
        while (token := self._peek()) is not None:
            if token.text == closing and token.kind == "mark":
                self._at += 1
                return found
            found += self._field()
            while self._peek_text() in (",", ";"):
                self._at += 1
        if closing is not None:
            raise self._error("a message is not closed", f"'{closing}'", "the end", line=opened)
        return found

    def _field(self) -> list[Field]:
        name = self._next("the name of a field")
        if name.kind != "word" or name.text.startswith("-"):
            raise self._error("not a field", "the name of a field", name.text, line=name.line)
        has_colon = self._peek_text() == ":"
        self._at += has_colon
        if self._peek_text() == "[" and has_colon:
            return [Field(name=name.text, value=v, line=at) for v, at in self._list(name)]
        line = self._line()
        value = self._value(name, allow_scalar=has_colon)
        return [Field(name=name.text, value=value, line=line)]

    def _list(self, name: Token) -> list[tuple[Message | Word | str | int | float, int]]:
        opened = self._line()
        self._at += 1
        values: list[tuple[Message | Word | str | int | float, int]] = []
        while self._peek_text() != "]":
            line = self._line()
            values.append((self._value(name, allow_scalar=True), line))
            if self._peek_text() == ",":
                self._at += 1
            elif self._peek_text() != "]":
                got = self._peek_text() or "the end"
                raise self._error("a list is not closed", "',' or ']'", got, line=opened)
        self._at += 1
        return values

    def _value(self, name: Token, *, allow_scalar: bool) -> Message | Word | str | int | float:
        token = self._next(f"a value of '{name.text}'")
        if token.text in _CLOSING and token.kind == "mark":
            closing = _CLOSING[token.text]
            return Message(fields=tuple(self.fields(closing)), line=token.line)
        if token.kind == "mark" or not allow_scalar:
            expected = "a value" if allow_scalar else "':' and a value, or '{'"
            raise self._error(f"'{name.text}' has no value", expected, token.text, line=token.line)
        if token.kind == "string":
            return self._string(token)
        return _number(token.text) if token.kind == "number" else _word(token.text)

    def _string(self, first: Token) -> str:
        parts = [first.text]
        while (token := self._peek()) is not None and token.kind == "string":
            parts.append(token.text)
            self._at += 1
        return "".join(_ESCAPE.sub(_unescaped, part[1:-1]) for part in parts)

    def _peek(self) -> Token | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _peek_text(self) -> str | None:
        token = self._peek()
        return token.text if token is not None and token.kind == "mark" else None

    def _next(self, expected: str) -> Token:
        token = self._peek()
        if token is None:
            raise self._error("the text ends too early", expected, "the end", line=self._line())
        self._at += 1
        return token

    def _line(self) -> int:
        """Of the next token, or of the last one at the end."""
        if not self._tokens:
            return 1
        return self._tokens[min(self._at, len(self._tokens) - 1)].line

    def _error(self, message: str, expected: str, got: str, *, line: int) -> SettingsError:
        return SettingsError(message, where=f"{self._where}:{line}", expected=expected, got=got)


def _number(text: str) -> int | float:
    digits = text.rstrip("uUlL")
    if digits.lstrip("+-").lower().startswith("0x"):
        return int(digits, 16)
    plain = digits.rstrip("fF")
    if plain == digits and plain.lstrip("+-").isdigit():
        is_octal = len(plain.lstrip("+-")) > 1 and plain.lstrip("+-").startswith("0")
        return int(plain, 8 if is_octal and set(plain) <= set("+-01234567") else 10)
    return float(plain)


def _word(text: str) -> Word | float:
    bare = text.lstrip("-").lower()
    if bare in _NOT_NUMBERS:
        return -_NOT_NUMBERS[bare] if text.startswith("-") else _NOT_NUMBERS[bare]
    return Word(text)


def _unescaped(found: re.Match[str]) -> str:
    hexadecimal, octal, character = found.groups()
    if hexadecimal is not None:
        return chr(int(hexadecimal, 16))
    if octal is not None:
        return chr(int(octal, 8))
    return _ESCAPES.get(character, character)
