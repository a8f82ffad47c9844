"""Data sets of Parquet and CSV files that are larger than memory: `from_parquet`, `from_csv`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tilth.data.encoded_rows import EncodedRows, LabelMode, RowEncoder
from tilth.data.frame_columns import ColumnSettings, Task
from tilth.data.frame_dataset import TextSettings
from tilth.data.frame_labels import balanced_weights, refuse_unlearnable
from tilth.data.frame_split import refuse_share
from tilth.data.row_batches import as_tensors
from tilth.data.stream_batches import StreamBatches, StreamSettings, torch_batches
from tilth.data.stream_fit import RowPart, StreamFit, fit_stream, usable_tables
from tilth.data.table_files import CsvDialect, TableFiles
from tilth.data.tokenise import Tokeniser
from tilth.data.vocabulary import Vocabulary
from tilth.errors import SettingsError

__all__ = ["StreamDataset", "from_csv", "from_parquet"]


def from_parquet(
    paths: str | Path | Sequence[str | Path],
    *,
    text: str | None = "unstructured_text",
    label: str | None = "label",
    numeric: Sequence[str] = (),
    categorical: Sequence[str] = (),
    weight: str | None = None,
    task: Task = "classify",
    class_names: Sequence[str] | None = None,
    label_mode: LabelMode = "int",
    vocabulary: Vocabulary | None = None,
    tokeniser: Tokeniser = "words",
    max_tokens: int | None = 20_000,
    min_count: int = 1,
    max_length: int | None = None,
    on_missing: Literal["error", "drop"] = "error",
    on_empty: Literal["error", "drop", "keep"] = "error",
    on_single: Literal["error", "warn", "keep"] = "warn",
    storage_options: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> StreamDataset:
    """A data set of the rows of Parquet files, read a row group at a time.

    Args:
        paths: files, folders, globs or URLs; row numbers count through the files in this order.
        text ... progress: as in `from_frame`. Classes and vocabulary that are not given are fitted
            in one pass over the files, when they are first needed.
        storage_options: keys and endpoints for the file system of fsspec.

    Raises:
        EmptyDatasetError: no such file.
        DataError: a file cannot be read or lacks a column; later, values that cannot be used.
    """
    return _opened("parquet", CsvDialect(), locals())


def from_csv(
    paths: str | Path | Sequence[str | Path],
    *,
    delimiter: str = ",",
    encoding: str = "utf8",
    text: str | None = "unstructured_text",
    label: str | None = "label",
    numeric: Sequence[str] = (),
    categorical: Sequence[str] = (),
    weight: str | None = None,
    task: Task = "classify",
    class_names: Sequence[str] | None = None,
    label_mode: LabelMode = "int",
    vocabulary: Vocabulary | None = None,
    tokeniser: Tokeniser = "words",
    max_tokens: int | None = 20_000,
    min_count: int = 1,
    max_length: int | None = None,
    on_missing: Literal["error", "drop"] = "error",
    on_empty: Literal["error", "drop", "keep"] = "error",
    on_single: Literal["error", "warn", "keep"] = "warn",
    storage_options: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> StreamDataset:
    """A data set of the rows of CSV files with a header, read a block at a time.

    Texts and labels are read as they are written; an empty field is a missing label, category or
    number, and an empty text. The workers of a `DataLoader` share out files: several medium ones
    are better than one large.

    Args:
        delimiter, encoding: how the files are written.
        paths ... progress: as in `from_parquet`.
    """
    return _opened("csv", CsvDialect(delimiter=delimiter, encoding=encoding), locals())


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamDataset:
    """Rows of files that are never all in memory.

    Attributes:
        files: where the rows are.
        part: which of them belong here; None for all.
        fitted_on: the training part, for a validation part.
    """

    files: TableFiles
    text_settings: TextSettings
    label_mode: LabelMode = "int"
    given_class_names: tuple[str, ...] | None = None
    given_vocabulary: Vocabulary | None = None
    part: RowPart | None = None
    fitted_on: StreamDataset | None = None
    progress: bool = field(default=True, repr=False)

    @property
    def columns(self) -> ColumnSettings:
        """What the columns mean."""
        return self.files.columns

    @cached_property
    def fitted(self) -> StreamFit:
        """What one pass over the files has found; made when first needed.

        Raises:
            DataError: values that cannot be used, with their rows.
        """
        needs_tokens = self.fitted_on is None and self.given_vocabulary is None
        found = fit_stream(
            self.files,
            part=self.part,
            tokeniser=self.text_settings.tokeniser if needs_tokens else None,
            progress=self.progress,
        )
        if self._has_classes and self.fitted_on is None:
            names = self.given_class_names or found.all_names
            refuse_unlearnable(
                np.array([found.label_counts.get(name, 0) for name in names]),
                names,
                on_single=self.columns.on_single,
                classes_given=self.given_class_names is not None,
            )
        return found

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes of all rows, in the order of their numbers."""
        if self.given_class_names is not None or not self._has_classes:
            return self.given_class_names or ()
        return (self.fitted_on or self).fitted.all_names

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The one that was given, or one fitted on the rows of this part.

        Raises:
            SettingsError: there is no text column.
        """
        if self.given_vocabulary is not None:
            return self.given_vocabulary
        if self.fitted_on is not None:
            return self.fitted_on.vocabulary
        tokens = None if self.columns.text is None else self.fitted.tokens
        if tokens is None:
            raise SettingsError("the data set has no texts", fix="name the column: text=...")
        return tokens.vocabulary(
            max_tokens=self.text_settings.max_tokens, min_count=self.text_settings.min_count
        )

    @property
    def num_rows(self) -> int:
        """Rows that can be used in this part; counted by a pass over the files."""
        return self.fitted.num_rows

    def class_counts(self) -> NDArray[np.int64]:
        """int64 [k]: rows of each class in this part."""
        if not self._has_classes:
            raise SettingsError("the data set has no classes", fix="give a label column of classes")
        counts = self.fitted.label_counts
        return np.array([counts.get(name, 0) for name in self.class_names], dtype=np.int64)

    def class_weights(self) -> NDArray[np.float64]:
        """float64 [k]: the weight of each class with which all classes count alike."""
        return balanced_weights(self.class_counts())

    def split(
        self, validation: float = 0.2, *, seed: int = 0
    ) -> tuple[StreamDataset, StreamDataset]:
        """Divide into (train, validation), each row by its number; shares are met in expectation.

        As in `FrameDataset.split`, vocabulary and categories are fitted on the training rows.
        """
        if self.part is not None:
            raise SettingsError("a part of a split cannot be divided again")
        refuse_share(validation)
        train = replace(self, part=RowPart(validation, seed, False))
        return train, replace(self, part=RowPart(validation, seed, True), fitted_on=train)

    def batches(self, **settings: Any) -> StreamBatches:
        """Batches of NumPy arrays; the keywords are those of `StreamSettings`."""
        return self._batches(StreamSettings(**settings), dict)

    def torch(self, **settings: Any) -> StreamBatches:
        """Batches of torch tensors, with the names that `FrameDataset.torch` documents.

        Args:
            settings: the keywords of `StreamSettings`.

        Raises:
            MissingExtraError: torch is not installed.
        """
        return torch_batches(self._batches(StreamSettings(**settings), as_tensors))

    def tensorflow(self, **settings: Any) -> Any:
        """A `tf.data.Dataset`, as `FrameDataset.tensorflow` gives it.

        Raises:
            MissingExtraError: TensorFlow is not installed.
        """
        from tilth.data.frame_tensorflow import tensorflow_dataset

        batches = self.batches(**settings)
        return tensorflow_dataset(batches, width=batches.settings.width)

    def rows_of(self, piece: int) -> Iterator[EncodedRows]:
        """The rows of one piece of the files as numbers, some at a time."""
        tables = usable_tables(self.files, self.files.pieces[piece], self._first_rows[piece])
        for table, rows, _ in tables:
            if self.part is not None:
                mask = self.part.mask(rows)
                table, rows = table.filter(pa.array(mask)), rows[mask]
            yield self._encoder.encode(table, rows)

    def _batches(self, settings: StreamSettings, convert: Any) -> StreamBatches:
        _ = self._encoder, self._first_rows  # fitted now, once, and not in every worker
        return StreamBatches(len(self.files.pieces), self.rows_of, settings, convert)

    @property
    def _has_classes(self) -> bool:
        return self.columns.label is not None and self.columns.task == "classify"

    @cached_property
    def _encoder(self) -> RowEncoder:
        columns = self.columns
        return RowEncoder(
            columns=columns,
            class_names=self.class_names,
            vocabulary=None if columns.text is None else self.vocabulary,
            categories=(self.fitted_on or self).fitted.categories if columns.categorical else (),
            max_length=self.text_settings.max_length,
            label_mode=self.label_mode,
        )

    @cached_property
    def _first_rows(self) -> list[int]:
        """The number of the first row of each piece, counted through all files."""
        counts = [piece.num_rows for piece in self.files.pieces]
        if None in counts[:-1]:  # of CSV files only reading tells
            counts = list((self.fitted_on or self).fitted.piece_rows)
        return (
            np.concatenate([[0], np.cumsum([count or 0 for count in counts[:-1]])])
            .astype(int)
            .tolist()
        )


def _opened(
    kind: Literal["parquet", "csv"], dialect: CsvDialect, arguments: Mapping[str, Any]
) -> StreamDataset:
    """Sort the arguments of an opener, which are named as the fields that they fill."""
    columns, texts = (
        {one.name: arguments[one.name] for one in fields(settings) if one.name in arguments}
        for settings in (ColumnSettings, TextSettings)
    )
    columns |= {name: tuple(columns[name]) for name in ("numeric", "categorical")}
    names = arguments["class_names"]
    return StreamDataset(
        files=TableFiles.open(
            arguments["paths"],
            kind,
            ColumnSettings(**columns),
            storage_options=arguments["storage_options"],
            dialect=dialect,
        ),
        text_settings=TextSettings(**texts),
        label_mode=arguments["label_mode"],
        given_class_names=None if names is None else tuple(map(str, names)),
        given_vocabulary=arguments["vocabulary"],
        progress=arguments["progress"],
    )
