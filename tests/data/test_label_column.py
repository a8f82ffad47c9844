"""The labels of a table file, and the table again with others: nothing else changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from tilth.data.label_column import read_label_column
from tilth.errors import DataError, EmptyDatasetError


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(("suffix", "delimiter"), [(".csv", ","), (".tsv", "\t")])
def test_text_tables_come_back_as_they_were(tmp_path: Path, suffix: str, delimiter: str) -> None:
    lines = ["id,y,words\n", '007,b,"two\nlines, quoted ""so"""\n', "1e3,,\n", " x ,a,NA\n"]
    text = "".join(lines).replace(",", delimiter) if suffix == ".tsv" else "".join(lines)
    source = written(tmp_path / f"rows{suffix}", text)
    column = read_label_column(source, "y")
    assert column.class_names == ("a", "b")
    assert column.labels.tolist() == [1, -1, 0]
    column.write(tmp_path / f"same{suffix}", column.labels)
    again = read_label_column(tmp_path / f"same{suffix}", "y")
    assert again.table.equals(column.table)
    column.write(tmp_path / f"other{suffix}", np.array([0, -1, 1]))
    other = read_label_column(tmp_path / f"other{suffix}", "y")
    assert other.table.column("y").to_pylist() == ["a", "", "b"]
    assert other.table.drop_columns("y").equals(column.table.drop_columns("y"))


def test_a_byte_order_mark_and_a_long_cell_are_read(tmp_path: Path) -> None:
    long = "word " * 60_000
    source = written(tmp_path / "rows.csv", f"\ufeffy,text\n1,{long}\n0,short\n")
    column = read_label_column(source, "y")
    assert column.class_names == ("0", "1")
    column.write(tmp_path / "same.csv", column.labels)
    assert read_label_column(tmp_path / "same.csv", "y").table.column("text")[0].as_py() == long


def test_classes_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    source = written(tmp_path / "rows.csv", "y\n10\n9\n10\n")
    column = read_label_column(source, "y")
    assert column.class_names == ("9", "10")
    assert column.labels.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    "labels",
    [
        pa.array([3.0, 1.0, None, 3.0]),
        pa.array([True, False, None, True]),
        pa.array([2, 1, None, 2], pa.uint8()),
        pa.array(["b", "a", None, "b"]),
        pa.array(["b", "a", None, "b"]).dictionary_encode(),
    ],
    ids=lambda labels: str(labels.type),
)
def test_parquet_columns_keep_type_and_metadata(tmp_path: Path, labels: pa.Array) -> None:
    fields = [pa.field("y", labels.type, metadata={"k": "v"}), pa.field("x", pa.int8())]
    table = pa.Table.from_arrays(
        [labels, pa.array([1, 2, 3, 4], pa.int8())], schema=pa.schema(fields)
    )
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    column = read_label_column(tmp_path / "rows.parquet", "y")
    assert column.labels.tolist() == [1, 0, -1, 1]
    column.write(tmp_path / "other.parquet", np.array([0, 1, -1, 1]))
    other = pyarrow.parquet.read_table(tmp_path / "other.parquet")
    first, second, _, third = labels.to_pylist()
    assert other.column("y").to_pylist() == [second, first, None, third]
    assert other.schema.field("y").type == labels.type
    assert other.schema.field("y").metadata[b"k"] == b"v"
    assert other.column("x").equals(table.column("x"))


def test_other_columns_are_read_as_numbers(tmp_path: Path) -> None:
    column = read_label_column(written(tmp_path / "rows.csv", "y,a,b\n1,2,x\n0,3.5,z\n"), "y")
    assert column.numbers(["a"]).tolist() == [[2.0], [3.5]]
    with pytest.raises(DataError, match="does not hold numbers"):
        column.numbers(["b"])
    with pytest.raises(DataError, match="no column 'c'"):
        column.numbers(["c"])


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("rows.txt", "y\n1\n", DataError),
        ("rows.csv", "y\n\n", EmptyDatasetError),
        ("rows.csv", "", DataError),
        ("rows.csv", "y,y\n1,2\n", DataError),
        ("rows.csv", "x\n1\n", DataError),
        ("rows.csv", "y,x\n1,2,3\n", DataError),
        ("rows.parquet", "PAR1", DataError),
    ],
)
def test_tables_that_cannot_be_used_are_refused(
    tmp_path: Path, name: str, text: str, error: type[DataError]
) -> None:
    with pytest.raises(error) as refused:
        read_label_column(written(tmp_path / name, text), "y")
    assert name in (refused.value.where or "")


def test_a_table_is_written_as_the_kind_it_was(tmp_path: Path) -> None:
    column = read_label_column(written(tmp_path / "rows.csv", "y\n1\n0\n"), "y")
    with pytest.raises(DataError, match="the kind of file that it was"):
        column.write(tmp_path / "rows.parquet", column.labels)
    with pytest.raises(DataError, match="not there"):
        read_label_column(tmp_path / "none.csv", "y")


def test_measurements_are_no_classes(tmp_path: Path) -> None:
    source = written(tmp_path / "rows.csv", "y,z\n1.0,0.5\n2.0,1.5\nnan,x\n")
    assert read_label_column(source, "y").class_names == ("1.0", "2.0", "nan")
    assert read_label_column(source, "z").class_names == ("0.5", "1.5", "x")
    source = written(tmp_path / "rows.csv", "y\n1.5\n2.0\n")
    with pytest.raises(DataError, match="numbers with a fraction"):
        read_label_column(source, "y")
