"""One frame in every library gives one data set."""

from __future__ import annotations

from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from tilth.data import from_frame
from tilth.data.frame_table import column_names, table_of
from tilth.errors import DataError, SettingsError

COLUMNS: dict[str, list[Any]] = {
    "index": [11, 12, 13, 14],
    "label": ["no", "yes", "no", "yes"],
    "unstructured_text": ["i like ice cream", "größe 日本", "i'm a little teapot", "a"],
    "age": [1.5, 2.0, -3.0, 4.0],
    "town": ["Ulm", None, "Bern", "Ulm"],
}


class StreamOnly:
    """A frame of no known library that speaks the Arrow stream protocol."""

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return pa.table(COLUMNS).__arrow_c_stream__(requested_schema)


class InterchangeOnly:
    """A frame of no known library that speaks the older interchange protocol."""

    def __dataframe__(self, **settings: Any) -> Any:
        return pa.table(COLUMNS).__dataframe__(**settings)

    def column_names(self) -> list[str]:
        return list(COLUMNS)


def frames() -> dict[str, Any]:
    frame = pd.DataFrame(COLUMNS)
    return {
        "mapping": COLUMNS,
        "pandas": frame,
        "pandas arrow": frame.convert_dtypes(dtype_backend="pyarrow"),
        "pandas objects": frame.astype(object),
        "pandas categories": frame.astype({"label": "category", "town": "category"}),
        "pandas other index": frame.set_index(pd.Index([5, 5, 7, 9])),
        "polars": pl.DataFrame(COLUMNS),
        "polars lazy": pl.LazyFrame(COLUMNS),
        "polars categories": pl.DataFrame(COLUMNS).cast({"label": pl.Categorical}),
        "polars chunks": pl.concat([pl.DataFrame(COLUMNS)[:3], pl.DataFrame(COLUMNS)[3:]]),
        "arrow": pa.table(COLUMNS),
        "arrow batch": pa.table(COLUMNS).to_batches()[0],
        "arrow views": pa.table(COLUMNS).cast(
            pa.table(COLUMNS).schema.set(2, pa.field("unstructured_text", pa.string_view()))
        ),
        "narwhals": nw.from_native(pl.DataFrame(COLUMNS)),
        "stream protocol": StreamOnly(),
        "interchange protocol": InterchangeOnly(),
    }


def opened(frame: Any) -> Any:
    return from_frame(frame, index="index", numeric=["age"], categorical=["town"], progress=False)


@pytest.mark.parametrize("name", frames())
def test_every_library_gives_the_same_batches(name: str) -> None:
    data, wanted = opened(frames()[name]), opened(COLUMNS)
    assert data.class_names == ("no", "yes")
    assert data.vocabulary == wanted.vocabulary
    assert data.categories == (("Bern", "Ulm"),)
    assert data.index.to_pylist() == [11, 12, 13, 14]
    (batch,), (other,) = data.batches(batch_size=4), wanted.batches(batch_size=4)
    assert batch.keys() == other.keys()
    for key in batch:
        np.testing.assert_array_equal(batch[key], other[key], err_msg=key)
        assert batch[key].dtype == other[key].dtype


@pytest.mark.parametrize("name", frames())
def test_names_of_columns_are_found(name: str) -> None:
    assert column_names(frames()[name]) == list(COLUMNS)


@pytest.mark.parametrize("name", ["mapping", "pandas", "polars", "polars lazy", "arrow"])
def test_a_missing_column_names_the_nearest(name: str) -> None:
    with pytest.raises(DataError, match="has no column 'lable'") as caught:
        table_of(frames()[name], ["lable"])
    assert caught.value.fix == "did you mean 'label'?"
    assert "unstructured_text" in str(caught.value.expected)


@pytest.mark.parametrize("column", ["label", "unstructured_text"])
def test_mixed_types_are_named_with_their_row(column: str) -> None:
    mixed = {**COLUMNS, column: ["a", "b", 3, None]}
    for frame in (mixed, pd.DataFrame(mixed)):
        with pytest.raises(DataError, match=f"'{column}' mixes types") as caught:
            table_of(frame, [column])
        assert caught.value.where == "row 2, the first int: 3"
        assert caught.value.got == "2 str, 1 int"


def test_two_columns_of_one_name_are_refused() -> None:
    frame = pd.DataFrame([[1, "a", "b"]], columns=["label", "t", "t"])
    with pytest.raises(DataError, match="two columns 't'"):
        table_of(frame, ["t"])
    with pytest.raises(SettingsError, match="named twice"):
        table_of(COLUMNS, ["age", "age"])


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(DataError, match="different lengths"):
        table_of({"a": [1], "b": [1, 2]}, ["a", "b"])


@pytest.mark.parametrize("thing", [3, "path.csv", [1, 2], np.zeros((2, 2))])
def test_what_is_no_frame_is_refused(thing: Any) -> None:
    with pytest.raises(SettingsError, match="not a data frame"):
        table_of(thing, ["label"])
