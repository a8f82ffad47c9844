"""Lines as one table of numbers: the same as their words say, or no table at all."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.data.formats._number_grid import Grid, grid_of
from tilth.data.formats._text_files import TextBlock
from tilth.data.formats._text_tokens import finite_numbers

WORDS = [
    b"0",
    b"1.5",
    b"-2e3",
    b"+7",
    b".5",
    b"5.",
    b"nan",
    b"1_0",
    b"0x1",
    b"car",
    b"NULL",
    b'"1"',
]
SPACES = [b" ", b" ", b" ", b"  ", b"\t", b"\r", b"\x0b", b"\0", b"\xff"]


@st.composite
def some_texts(draw: st.DrawFn) -> list[bytes]:
    """Files that are nearly tables: few words, few of them odd, and now and then an odd space."""
    width = draw(st.integers(1, 4))
    words = st.sampled_from(WORDS[: draw(st.integers(1, len(WORDS)))])
    spaces = st.sampled_from(SPACES[: draw(st.integers(1, len(SPACES)))])
    first = st.sampled_from(draw(st.sampled_from([[b"1", b"2"], [b"car", b"bus", b"NA", b"\xc3"]])))

    def line() -> bytes:
        parts = [draw(first)]
        for _ in range(width - 1 + draw(st.sampled_from([0, 0, 0, 0, 1]))):
            parts += [draw(spaces), draw(words)]
        return b"".join(parts) + draw(st.sampled_from([b"\n", b"\n", b"\n", b"\n\n", b" \n"]))

    counts = draw(st.lists(st.integers(0, 3), max_size=4))
    return [b"".join(line() for _ in range(count)) for count in counts]


@given(texts=some_texts(), named=st.booleans(), first_file=st.integers(0, 9))
def test_a_table_says_what_the_words_of_its_lines_say(
    texts: list[bytes], named: bool, first_file: int
) -> None:
    block = TextBlock(texts, first_file)
    grid, tokens = block.grid(named=named), block.tokens()
    if grid is None:
        return
    assert grid.file.tolist() == tokens.file.tolist()
    assert grid.line.tolist() == tokens.line.tolist()
    assert (tokens.counts == grid.numbers.shape[1] + named).all()
    words = tokens.words.cast(pa.binary()).to_pylist()
    rows = [words[start:end] for start, end in zip(tokens.first, tokens.first[1:], strict=False)]
    if named:
        assert [grid.names[at] for at in grid.name.tolist()] == [row[0] for row in rows]
        assert grid.names == list(dict.fromkeys(row[0] for row in rows))
    numbers = [finite_numbers(pa.array(row[named:], pa.string())).tolist() for row in rows]
    assert grid.numbers.tolist() == numbers


def grid_from(texts: list[bytes], *, named: bool) -> Grid | None:
    lines = np.array([text.count(b"\n") for text in texts], np.int64)
    return grid_of(b"".join(texts), lines, 3, named=named)


def test_rows_of_one_length_are_a_table() -> None:
    grid = grid_from([b"car 1 2.5\nbus 3 -4e1\n", b"", b"car 0 .5\n"], named=True)
    assert grid is not None
    assert grid.names == [b"car", b"bus"]
    assert grid.name.tolist() == [0, 1, 0]
    assert grid.numbers.tolist() == [[1, 2.5], [3, -40], [0, 0.5]]
    assert grid.file.tolist() == [3, 3, 5]
    assert grid.line.tolist() == [1, 2, 1]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"car 1\n\ncar 2\n",
        b"car 1\ncar 2 3\n",
        b"car  1\n",
        b" 1 2\n",
        b"car 1 \n",
        b"car\t1\n",
        b"car 1\r\n",
        b"car nan\n",
        b"car 1e999\n",
        b"car 1_0\n",
        b"car 0x1\n",
        b"\xff 1\n",
        b"car" + b" 1" * 40 + b"\n",
        b"car " + b"1" * 2**21 + b"\n",
    ],
)
def test_anything_else_is_none(text: bytes) -> None:
    assert grid_from([text], named=True) is None


def test_names_are_numbered_as_they_occur_however_long_the_text_is() -> None:
    names = [b"class_%d" % (at % 700) for at in range(200_000)]
    grid = grid_from([b"".join(name + b" 0.5\n" for name in names)], named=True)
    assert grid is not None
    assert grid.names == list(dict.fromkeys(names))
    assert [grid.names[at] for at in grid.name[::997].tolist()] == names[::997]
