"""Problems are counted by kind, with a few examples."""

from __future__ import annotations

import pytest

from tilth.data.problems import LabelReport
from tilth.errors import LabelError


def test_equal_kinds_are_counted_together_and_examples_are_few() -> None:
    report = LabelReport(where="a.json")
    for i in range(8):
        report.add("box without area", "left out", [f"annotation {i}"])
    report.add("NaN", "left out", [], count=0)
    (problem,) = report.problems
    assert problem.count == 8
    assert problem.examples == tuple(f"annotation {i}" for i in range(5))
    assert str(problem).endswith("annotation 4, ...")


def test_strict_raises_the_first_problem_and_nothing_otherwise() -> None:
    report = LabelReport(where="a.json", notes=["info was not kept"])
    report.raise_if_any()
    report.add("box without area", "left out", ["annotation 3"])
    with pytest.raises(LabelError, match="1 x box without area") as caught:
        report.raise_if_any()
    assert caught.value.where == "a.json: annotation 3"
    assert str(report).splitlines()[1:] == [
        "  1 x box without area (left out): annotation 3",
        "  info was not kept",
    ]
