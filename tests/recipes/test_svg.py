"""Drawings are escaped, and their axes hold the data on round numbers."""

from __future__ import annotations

import itertools
import math
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from tilth.recipes.report.svg import Frame, marker, number, tag, ticks


@given(st.text(alphabet="<>&\"'ab/ ="))
def test_text_comes_back_from_text_title_and_attribute(words: str) -> None:
    element = ElementTree.fromstring(tag("text", words, title=words, data_name=words))
    assert element.get("data-name") == words
    assert (element.find("title").text or "") == words
    assert (element.find("title").tail or "") == words


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_enclose_the_data_in_equal_round_steps(low: float, span: float) -> None:
    high = low + span
    if high <= low:
        return
    found = ticks(low, high)
    step = found[1] - found[0]
    assert found[0] <= low + 1e-6 * step
    assert found[-1] >= high - 1e-6 * step
    assert 2 <= len(found) <= 8
    assert all(math.isclose(b - a, step, rel_tol=1e-3) for a, b in itertools.pairwise(found))


def test_ticks_of_a_single_value_still_make_an_axis() -> None:
    found = ticks(0.5, 0.5)
    assert found[0] <= 0.5 <= found[-1]
    assert found[0] < found[-1]


def test_numbers_are_short() -> None:
    assert [number(v) for v in (3.0, 1 / 3, -0.5, 100.0)] == ["3", "0.33", "-0.5", "100"]


def test_frame_maps_the_corners_of_the_data_to_the_corners_of_the_plot() -> None:
    frame = Frame(
        width=100, height=50, left=10, right=20, top=5, bottom=15, x_range=(0, 2), y_range=(-1, 1)
    )
    assert (frame.x(0), frame.x(2)) == (10, 80)
    assert (frame.y(-1), frame.y(1)) == (35, 5)


def test_four_series_have_four_shapes() -> None:
    assert len({marker(series, 0, 0, 5) for series in range(4)}) == 4
    assert marker(4, 0, 0, 5) == marker(0, 0, 0, 5)


def test_missing_attributes_are_left_out() -> None:
    assert tag("g", class_=None) == "<g></g>"
