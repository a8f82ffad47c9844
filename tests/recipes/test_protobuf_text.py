"""The text format of protocol buffers: everything that it may look like, and where it is wrong."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tilth.errors import SettingsError
from tilth.recipes.protobuf_text import Message, Word, parse_protobuf_text


def plain(message: Message) -> list[tuple[str, Any]]:
    return [
        (field.name, plain(field.value) if isinstance(field.value, Message) else field.value)
        for field in message.fields
    ]


def read(text: str) -> list[tuple[str, Any]]:
    return plain(parse_protobuf_text(text, where="t"))


def test_messages_with_and_without_a_colon_in_either_bracket() -> None:
    inner = [("b", 1)]
    for text in ("a { b: 1 }", "a: { b: 1 }", "a < b: 1 >", "a: <b:1>", "a{b:1}", "a\n{\nb\n:\n1}"):
        assert read(text) == [("a", inner)], text
    assert read("a { b { c {} } }") == [("a", [("b", [("c", [])])])]
    assert read("") == []


def test_lists_are_repeated_fields() -> None:
    assert read("a: [1, 2]; a: 3") == [("a", 1), ("a", 2), ("a", 3)]
    assert read("a: []") == []
    assert read("a: [{ b: 1 }, { b: 2 }]") == [("a", [("b", 1)]), ("a", [("b", 2)])]
    assert read("a: ['x', \"y\"]") == [("a", "x"), ("a", "y")]


def test_separators_and_comments_mean_nothing() -> None:
    text = "a: 1, b: 2; # c: 3\nd: 4 # end"
    assert read(text) == [("a", 1), ("b", 2), ("d", 4)]
    assert read("a: '# no comment'") == [("a", "# no comment")]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("-17", -17),
        ("0x1F", 31),
        ("017", 15),
        ("1.", 1.0),
        (".5", 0.5),
        ("1e-7", 1e-7),
        ("3f", 3.0),
        ("2.5F", 2.5),
        ("-1E+3", -1000.0),
        ("inf", math.inf),
        ("-Infinity", -math.inf),
    ],
)
def test_numbers(text: str, value: float) -> None:
    ((_, found),) = read(f"a: {text}")
    assert found == value
    assert type(found) is type(value)


def test_strings_join_and_unescape() -> None:
    assert read(r"""a: "x\n\x41\101\"'" 'y' """) == [("a", "x\nAA\"'y")]


def test_words_are_not_strings() -> None:
    ((_, word),) = read("a: INTEGRATE")
    assert isinstance(word, Word)
    ((_, text),) = read("a: 'INTEGRATE'")
    assert not isinstance(text, Word)
    assert word == text


def test_lines_are_those_of_the_text() -> None:
    message = parse_protobuf_text("a: 1\n\nb {\n  c: [\n  2,\n  3]\n}\n", where="t")
    assert [field.line for field in message.fields] == [1, 3]
    assert [field.line for field in message.fields[1].value.fields] == [5, 6]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\nb {\n c: 2\n", 3, "not closed"),
        ("a: 1\n}", 2, "not a field"),
        ("a: 1\nb", 2, "too early"),
        ("a:\n\n'x", 3, "does not end on its line"),
        ("a: 1\nb 2", 2, "has no value"),
        ("a: 1\nb: }", 2, "has no value"),
        ("a {\n b: 1 >", 2, "not a field"),
        ("\na: [1 2]", 2, "list is not closed"),
        ("a: [1,", 1, "too early"),
        ("a: 1\n\n$", 3, "means nothing"),
        ("[foo.bar]: 1", 1, "means nothing"),
        ("a: 1.2.3", 1, "means nothing"),
    ],
)
def test_what_is_not_the_format_is_refused_with_its_line(
    text: str, line: int, message: str
) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        parse_protobuf_text(text, where="spec.txt")
    assert caught.value.where == f"spec.txt:{line}"
