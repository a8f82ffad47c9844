"""Rows of a frame as numbers, ready to be laid out in batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tilth.data.frame_columns import ColumnSettings
from tilth.data.frame_labels import class_codes, class_values
from tilth.data.ragged_tokens import RaggedTokens
from tilth.data.vocabulary import Vocabulary
from tilth.errors import SettingsError

__all__ = [
    "EncodedRows",
    "LabelMode",
    "RowEncoder",
    "category_names",
    "label_array",
    "refuse_label_mode",
]

LabelMode = Literal["int", "categorical", "binary"]


@dataclass(frozen=True, eq=False)
class EncodedRows:
    """n rows; what the frame has no column for is None.

    Attributes:
        row: int64 [n], the row in the frame that was given.
        tokens: token numbers of n texts.
        label: int64 [n], or float32 [n], [n, 1] or [n, classes], as task and label mode ask.
        weight: float32 [n].
        numeric: float32 [n, k].
        categorical: int64 [n, k]; 0 is missing or unknown.
    """

    row: NDArray[np.int64]
    tokens: RaggedTokens | None = None
    label: NDArray[Any] | None = None
    weight: NDArray[np.float32] | None = None
    numeric: NDArray[np.float32] | None = None
    categorical: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.row)

    def take(self, rows: NDArray[np.int64]) -> EncodedRows:
        """These rows, in this order."""
        return self._each(
            lambda values: values.take(rows) if isinstance(values, RaggedTokens) else values[rows]
        )

    @classmethod
    def concatenate(cls, parts: Sequence[EncodedRows]) -> EncodedRows:
        """The rows of all ``parts``, at least one, which have the same columns."""

        def joined(name: str) -> Any:
            values = [getattr(part, name) for part in parts]
            if values[0] is None:
                return None
            if isinstance(values[0], RaggedTokens):
                return RaggedTokens.concatenate(values)
            return np.concatenate(values)

        return cls(**{field.name: joined(field.name) for field in fields(cls)})

    def batch(self, start: int, stop: int, width: int | None) -> dict[str, NDArray[Any]]:
        """Rows ``start`` to ``stop`` by the names that `.torch()` documents.

        Args:
            width: tokens in each row; as many as the longest text has, if None.
        """
        named: dict[str, NDArray[Any]] = {}
        if self.tokens is not None:
            named["tokens"], named["lengths"] = self.tokens.padded(start, stop, width)
        for name in ("label", "weight", "numeric", "categorical", "row"):
            values = getattr(self, name)
            if values is not None:
                named[name] = values[start:stop]
        return named

    def _each(self, function: Callable[[Any], Any]) -> EncodedRows:
        changed: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, values in changed.items():
            if values is not None:
                changed[name] = function(values)
        return EncodedRows(**changed)


@dataclass(frozen=True, kw_only=True)
class RowEncoder:
    """All that must be known to turn a cleaned table into numbers.

    Attributes:
        class_names: the classes in the order of their numbers; empty for a regression.
        categories: of each categorical column the known values, which count from 1.
        max_length: tokens of a text beyond it are left out.
        label_mode: classes as numbers, as one-hot rows, or (of two classes) as a column of 0 and 1.
    """

    columns: ColumnSettings
    class_names: tuple[str, ...] = ()
    vocabulary: Vocabulary | None = None
    categories: tuple[tuple[str, ...], ...] = ()
    max_length: int | None = None
    label_mode: LabelMode = "int"

    def __post_init__(self) -> None:
        classes = self.class_names if self.columns.label is not None else None
        refuse_label_mode(self.label_mode, classes)

    def encode(self, table: pa.Table, rows: NDArray[np.int64]) -> EncodedRows:
        """The numbers of rows that `usable_rows` has let pass.

        Raises:
            DataError: a label outside the classes.
        """
        columns = self.columns
        numeric = [table[name].to_numpy() for name in columns.numeric]
        categorical = [
            _category_numbers(table[name], known)
            for name, known in zip(columns.categorical, self.categories, strict=True)
        ]
        return EncodedRows(
            row=rows,
            tokens=self._tokens(table),
            label=self._labels(table, rows),
            weight=_float32(table[columns.weight].to_numpy()) if columns.weight else None,
            numeric=_float32(np.stack(numeric, axis=1)) if numeric else None,
            categorical=np.stack(categorical, axis=1) if categorical else None,
        )

    def _tokens(self, table: pa.Table) -> RaggedTokens | None:
        if self.columns.text is None or self.vocabulary is None:
            return None
        return self.vocabulary.encode(table[self.columns.text], max_length=self.max_length)

    def _labels(self, table: pa.Table, rows: NDArray[np.int64]) -> NDArray[Any] | None:
        name = self.columns.label
        if name is None:
            return None
        if self.columns.task == "regress":
            return _float32(table[name].to_numpy())
        values = class_values(table[name], column=name)
        codes = class_codes(values, self.class_names, rows=rows, column=name)
        return label_array(codes, self.label_mode, len(self.class_names))


def label_array(codes: NDArray[np.int64], label_mode: LabelMode, num_classes: int) -> NDArray[Any]:
    """Class numbers as int64 [n], one-hot float32 [n, classes], or float32 [n, 1] of 0 and 1."""
    if label_mode == "binary":
        return _float32(codes[:, None])
    if label_mode == "categorical":
        return np.eye(num_classes, dtype=np.float32)[codes]
    return codes


def category_names(values: pa.ChunkedArray) -> tuple[str, ...]:
    """The different values of a column as text, in the order of their code points."""
    return tuple(sorted(pc.unique(_as_text(values)).drop_null().to_pylist()))


def refuse_label_mode(label_mode: str, class_names: tuple[str, ...] | None) -> None:
    """Raise `SettingsError` for a label mode that is not known or does not fit the classes.

    Args:
        class_names: None where there are no labels, which any mode fits.
    """
    if label_mode not in ("int", "categorical", "binary"):
        raise SettingsError(
            "label_mode cannot be used",
            expected="'int', 'categorical' or 'binary'",
            got=repr(label_mode),
        )
    if label_mode == "binary" and class_names is not None and len(class_names) != 2:
        raise SettingsError(
            "label_mode='binary' needs two classes",
            got=f"{len(class_names)}: {', '.join(class_names[:10])}",
        )


def _category_numbers(values: pa.ChunkedArray, known: tuple[str, ...]) -> NDArray[np.int64]:
    found = pc.index_in(_as_text(values), value_set=pa.array(known, type=pa.large_string()))
    return pc.fill_null(pc.add(found, 1), 0).to_numpy().astype(np.int64)


def _as_text(values: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    return values.cast(pa.large_string())


def _float32(values: NDArray[Any]) -> NDArray[np.float32]:
    return values.astype(np.float32)
