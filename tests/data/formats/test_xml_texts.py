"""Numbers and names as they stand in XML: many at once as one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.data.formats._xml_files import all_escaped, escaped, number_texts, plain_numbers
from tilth.errors import DataError

numbers = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(-5000, 5000),
    st.integers(-(10**6), 10**6).map(float),
)


@given(st.lists(numbers, min_size=1, max_size=20))
def test_numbers_are_written_as_python_writes_them(values: list[float]) -> None:
    array = np.array(values, np.float64)
    assert number_texts(array.reshape(1, -1)) == [repr(number) for number in plain_numbers(array)]


@given(st.lists(st.text("aä&<\n ", max_size=3), max_size=4))
def test_many_names_are_escaped_as_one(names: list[str]) -> None:
    assert list(all_escaped(names)) == [escaped(name) for name in names]


def test_a_character_that_xml_has_no_place_for_is_refused_among_many() -> None:
    with pytest.raises(DataError, match="XML has no place for"):
        all_escaped(["a", "b\x01"])
