"""Rows that cannot be used: each is an error with its place, or is left out when asked for."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from tilth.data import from_frame
from tilth.errors import DataError, SettingsError


def frame(**columns: Any) -> dict[str, Any]:
    return {"label": ["a", "b", "a", "b"], "unstructured_text": ["w", "x", "y", "z"], **columns}


def refused(table: Any, message: str, **settings: Any) -> DataError:
    with pytest.raises(DataError, match=message) as caught:
        from_frame(table, progress=False, **settings)
    return caught.value


def test_a_misspelt_column() -> None:
    error = refused(frame(), "no column 'unstructured_texts'", text="unstructured_texts")
    assert error.fix == "did you mean 'unstructured_text'?"


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("label", ["a", None, "b", None]),
        ("label", [1, np.nan, 0, np.nan]),
        ("label", pd.array([1, pd.NA, 0, pd.NA])),
        ("unstructured_text", ["w", None, "y", None]),
        ("age", [1.0, np.nan, 2.0, None]),
        ("weight", [1.0, np.nan, 2.0, np.nan]),
    ],
)
def test_missing_values_are_counted_or_dropped(column: str, values: Any) -> None:
    settings: dict[str, Any] = {"on_single": "keep"}
    settings |= {"numeric": ["age"]} if column == "age" else {}
    settings |= {"weight": "weight"} if column == "weight" else {}
    for table in (frame(**{column: values}), pd.DataFrame(frame(**{column: values}))):
        error = refused(table, f"'{column}' has 2 missing values in 4 rows", **settings)
        assert error.where == "rows 1, 3"
        labels = {"label": ["a", "b", "b", "a"]} if column != "label" else {}
        kept = from_frame(
            pd.DataFrame(table).assign(**labels), on_missing="drop", progress=False, **settings
        )
        assert kept.rows.tolist() == [0, 2]


def test_many_missing_rows_are_cut_short() -> None:
    table = frame(label=["a"] * 3 + [None] * 97, unstructured_text=["w"] * 100)
    assert refused(table, "97 missing values in 100 rows").where == "rows 3, 4, 5, 6, 7, ..."


@pytest.mark.parametrize("text", ["", "  \n\t", "\u3000"])
def test_an_empty_text(text: str) -> None:
    table = frame(unstructured_text=["w", text, "y", "z"])
    assert refused(table, "1 empty texts in 4 rows").where == "row 1"
    dropped = from_frame(table, on_empty="drop", on_single="keep", progress=False)
    assert dropped.rows.tolist() == [0, 2, 3]
    kept = from_frame(table, on_empty="keep", progress=False)
    (batch,) = kept.batches(batch_size=4, shuffle=False)
    assert batch["lengths"].tolist() == [1, 0, 1, 1]
    assert batch["tokens"][1].tolist() == [0]


def test_only_empty_texts_make_batches_of_width_one() -> None:
    table = frame(unstructured_text=["", ".", "!", ""])
    (batch,) = from_frame(table, on_empty="keep", progress=False).batches(batch_size=4)
    assert batch["tokens"].tolist() == [[0]] * 4
    assert batch["lengths"].tolist() == [0] * 4


def test_a_label_seen_once() -> None:
    table = frame(label=["a", "b", "a", "a"])
    with pytest.warns(UserWarning, match="1 of the classes has a single row") as caught:
        data = from_frame(table)
    assert caught[0].filename == __file__, "the warning points at the caller's line"
    train, check = data.split(0.25)
    assert "b" in [data.class_names[code] for code in train.labels]
    assert len(check) == 1
    assert refused(table, "single row", on_single="error").got == "'b'"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        from_frame(table, on_single="keep")


def test_all_rows_of_one_class() -> None:
    table = frame(label=["a"] * 4)
    refused(table, "all 4 rows have the label 'a'")
    assert from_frame(table, class_names=["a", "b"]).class_counts().tolist() == [4, 0]


def test_an_index_value_twice() -> None:
    error = refused(frame(index=[7, 8, 7, 9]), "'index' has 1 values more than once", index="index")
    assert error.where == "7 in rows 0, 2"
    assert from_frame(frame(index=[7, 8, 6, 9]), index="index").index.to_pylist() == [7, 8, 6, 9]


@pytest.mark.parametrize("values", [[1, 2, 3, 4], [1.5, 2, 3, 4], [True] * 4, [["w"]] * 4])
def test_texts_that_are_none(values: list[Any]) -> None:
    error = refused(frame(unstructured_text=values), "'unstructured_text' holds no texts")
    assert repr(values[0]) in str(error.got)


def test_texts_of_bytes() -> None:
    error = refused(frame(unstructured_text=[b"w", b"x", b"y", b"z"]), "holds bytes")
    assert "decode('utf-8')" in str(error.fix)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0.5, 1.0, 0.0, 1.0], "numbers with a fraction"),
        ([[1], [2], [1], [2]], "cannot be labels of classes"),
        ([np.inf, 1.0, 0.0, 1.0], "numbers with a fraction"),
        (pa.array([1, 2, 1, 2], pa.timestamp("s")), "cannot be labels of classes"),
    ],
)
def test_labels_that_name_no_class(labels: Any, message: str) -> None:
    refused(frame(label=labels), message)


def test_an_unknown_class() -> None:
    error = refused(frame(), "none of the 2 classes", class_names=["a", "c"])
    assert error.got == "'b' (2)"
    assert error.where == "first in row 1"


def test_numbers_that_are_none() -> None:
    refused(frame(age=["1", "2", "3", "4"]), "'age' holds no numbers", numeric=["age"])
    error = refused(frame(age=[1.0, np.inf, 2, 3]), "'age' has infinite", numeric=["age"])
    assert error.where == "row 1"
    refused(frame(w=[1.0, -1.0, 2, 3]), "a weight that is negative", weight="w")


@pytest.mark.parametrize(
    "settings",
    [
        {"on_missing": "ignore"},
        {"on_empty": "skip"},
        {"on_single": "drop"},
        {"task": "regression"},
        {"label_mode": "one-hot"},
        {"text": None},
        {"max_length": 0},
        {"max_tokens": 0},
        {"tokeniser": "letters"},
    ],
)
def test_settings_that_cannot_be_meant(settings: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        _ = from_frame(frame(), progress=False, **settings).encoded
