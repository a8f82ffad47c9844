"""A data set of the rows of a frame: split, weighted, and turned into batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tilth.data.encoded_rows import EncodedRows, LabelMode, RowEncoder, category_names
from tilth.data.frame_columns import (
    ColumnSettings,
    refuse_duplicates,
    refuse_nothing_left,
    usable_rows,
)
from tilth.data.frame_labels import (
    balanced_weights,
    class_codes,
    class_values,
    refuse_unlearnable,
    sorted_names,
)
from tilth.data.frame_split import split_rows
from tilth.data.frame_table import column_names, table_of
from tilth.data.row_bar import row_bar
from tilth.data.row_batches import BatchSettings, RowBatches, as_tensors
from tilth.data.tokenise import Tokeniser, text_blocks
from tilth.data.vocabulary import TokenCounts, Vocabulary
from tilth.errors import SettingsError
from tilth.seeding import generator

__all__ = ["FrameDataset", "TextSettings"]


@dataclass(frozen=True, kw_only=True)
class TextSettings:
    """How texts are cut into tokens, and which tokens are known.

    Attributes:
        tokeniser: ``"words"``, ``"characters"`` or a callable, as `tilth.data.tokenise` says.
        max_tokens: how many tokens are known at most, the most frequent; None for all.
        min_count: a token seen less often stays unknown.
        max_length: tokens of a text beyond it are left out; None keeps all.
    """

    tokeniser: Tokeniser = "words"
    max_tokens: int | None = 20_000
    min_count: int = 1
    max_length: int | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameDataset:
    """Rows of a frame that can be used, held as Arrow columns. Nothing changes it: what selects or
    orders rows gives a new one.

    Attributes:
        table: the columns that were named.
        rows: int64 [n], the row of each in the frame that was given.
        columns: what the columns mean.
        class_names: the classes in the order of their numbers; empty without labels of classes.
    """

    table: pa.Table
    rows: NDArray[np.int64]
    columns: ColumnSettings
    text_settings: TextSettings
    class_names: tuple[str, ...]
    label_mode: LabelMode = "int"
    given_vocabulary: Vocabulary | None = None
    given_categories: tuple[tuple[str, ...], ...] | None = None
    progress: bool = field(default=True, repr=False)

    @classmethod
    def of(
        cls,
        frame: Any,
        columns: ColumnSettings,
        text_settings: TextSettings,
        *,
        class_names: tuple[str, ...] | None = None,
        label_mode: LabelMode = "int",
        given_vocabulary: Vocabulary | None = None,
        given_categories: tuple[tuple[str, ...], ...] | None = None,
        progress: bool = True,
    ) -> FrameDataset:
        """Read, check and label a frame; `from_frame` has the arguments one by one."""
        table, rows = usable_rows(table_of(frame, columns.names), columns)
        refuse_nothing_left(len(rows), columns)
        if columns.index is not None:
            refuse_duplicates(table[columns.index], columns.index, rows)
        given = class_names is not None
        classes = class_names or ()
        if columns.label is not None and columns.task == "classify" and class_names is None:
            values = class_values(table[columns.label], column=columns.label)
            classes = sorted_names(pc.unique(values).to_pylist())
        dataset = cls(
            table=table,
            rows=rows,
            columns=columns,
            text_settings=text_settings,
            class_names=classes,
            label_mode=label_mode,
            given_vocabulary=given_vocabulary,
            given_categories=given_categories,
            progress=progress,
        )
        if columns.label is not None and columns.task == "classify":
            refuse_unlearnable(
                dataset.class_counts(), classes, on_single=columns.on_single, classes_given=given
            )
        return dataset

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def num_classes(self) -> int:
        """Number of classes, those without a row among them."""
        return len(self.class_names)

    @property
    def index(self) -> pa.ChunkedArray:
        """What names each row: the index column, or the row's number in the frame."""
        if self.columns.index is None:
            return pa.chunked_array([self.rows])
        return self.table[self.columns.index]

    @cached_property
    def labels(self) -> NDArray[Any]:
        """int64 [n] places in ``class_names``, or float64 [n] for a regression.

        Raises:
            SettingsError: the frame has no label column.
        """
        name = self.columns.label
        if name is None:
            raise SettingsError("the data set has no labels", fix="name the column: label=...")
        if self.columns.task == "regress":
            return self.table[name].to_numpy()
        values = class_values(self.table[name], column=name)
        return class_codes(values, self.class_names, rows=self.rows, column=name)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The one that was given, or one fitted on the texts of this data set.

        Raises:
            SettingsError: the frame has no text column.
        """
        if self.columns.text is None:
            raise SettingsError("the data set has no texts", fix="name the column: text=...")
        if self.given_vocabulary is not None:
            return self.given_vocabulary
        counts = TokenCounts(self.text_settings.tokeniser)
        for block in _text_blocks(self, "counting tokens"):
            counts.add(block)
        return counts.vocabulary(
            max_tokens=self.text_settings.max_tokens, min_count=self.text_settings.min_count
        )

    @cached_property
    def categories(self) -> tuple[tuple[str, ...], ...]:
        """Of each categorical column its known values, which count from 1."""
        if self.given_categories is not None:
            return self.given_categories
        return tuple(category_names(self.table[name]) for name in self.columns.categorical)

    @cached_property
    def encoded(self) -> EncodedRows:
        """All rows as numbers; kept, since every epoch reads them."""
        columns = self.columns
        vocabulary = None if columns.text is None else self.vocabulary
        encoder = RowEncoder(
            columns=columns,
            class_names=self.class_names,
            vocabulary=vocabulary,
            categories=self.categories,
            max_length=self.text_settings.max_length,
            label_mode=self.label_mode,
        )
        parts = []
        with row_bar("encoding rows", len(self), visible=self.progress) as advance:
            for start, part in _tables(self.table, columns.text):
                parts.append(encoder.encode(part, self.rows[start : start + len(part)]))
                advance(len(part))
        return EncodedRows.concatenate(parts)

    def class_counts(self) -> NDArray[np.int64]:
        """int64 [k]: rows of each class."""
        if not self.class_names:
            raise SettingsError("the data set has no classes", fix="give a label column of classes")
        return np.bincount(self.labels, minlength=self.num_classes)

    def class_weights(self) -> NDArray[np.float64]:
        """float64 [k]: the weight of each class with which all classes count alike."""
        return balanced_weights(self.class_counts())

    def take(self, rows: NDArray[np.int64]) -> FrameDataset:
        """These rows (counted in this data set), in this order; what was fitted stays."""
        return self._rows(np.asarray(rows, dtype=np.int64))

    def shuffle(self, seed: int) -> FrameDataset:
        """All rows in a random order. `torch` shuffles anew each epoch without it."""
        return self.take(generator(seed, "shuffle").permutation(len(self)))

    def split(
        self, validation: float = 0.2, *, seed: int = 0, stratify: bool = True
    ) -> tuple[FrameDataset, FrameDataset]:
        """Divide into (train, validation).

        Vocabulary and categories, unless given, are fitted on the training rows alone, and the
        validation part uses them: tokens that only it has are unknown, as they will be in use. The
        classes are those of the whole frame: they are the question, not an answer.

        Args:
            stratify: every class in its share; a class of one row stays in the training part.
        """
        by_class = stratify and bool(self.class_names) and self.columns.label is not None
        codes = self.labels if by_class else None
        train_rows, check_rows = split_rows(len(self), validation, seed=seed, codes=codes)
        train = self._rows(train_rows)
        check = replace(
            self._rows(check_rows),
            given_vocabulary=None if self.columns.text is None else train.vocabulary,
            given_categories=train.categories,
        )
        return train, check

    def like(self, frame: Any, *, labelled: bool | None = None) -> FrameDataset:
        """Another frame with the same columns, in the classes, vocabulary and categories of this.

        Args:
            labelled: whether it has the label column; found out if None.

        Raises:
            DataError: as `from_frame`; a label outside the classes among them.
        """
        columns = self.columns
        if labelled is None:
            labelled = columns.label is not None and columns.label in column_names(frame)
        if not labelled:
            columns = replace(columns, label=None)
        return FrameDataset.of(
            frame,
            columns,
            self.text_settings,
            class_names=self.class_names,
            label_mode=self.label_mode,
            given_vocabulary=None if columns.text is None else self.vocabulary,
            given_categories=self.categories,
            progress=self.progress,
        )

    def batches(self, **settings: Any) -> RowBatches:
        """Batches of NumPy arrays; the keywords are those of `BatchSettings`."""
        return RowBatches(self.encoded, BatchSettings(**settings))

    def torch(self, **settings: Any) -> RowBatches:
        """Batches of torch tensors; the keywords are those of `BatchSettings`.

        A batch of b rows is a dict; what the frame has no column for is not in it:
            tokens: int64 [b, t], 0 is padding and 1 an unknown token.
            lengths: int64 [b].
            label: int64 [b]; float32 [b] for a regression.
            weight: float32 [b].
            numeric: float32 [b, k].
            categorical: int64 [b, k], 0 is missing or unknown.
            row: int64 [b], the row in the frame that was given.

        Raises:
            MissingExtraError: torch is not installed.
        """
        return RowBatches(self.encoded, BatchSettings(**settings), as_tensors)

    def tensorflow(self, **settings: Any) -> Any:
        """A `tf.data.Dataset` of (features, label[, weight]), as Keras' ``fit`` takes it.

        Features are tokens, numeric and categorical, named as in `torch`: one of them as it is,
        several as a dict; without labels they come alone. Every pass is the next epoch.

        Args:
            settings: the keywords of `BatchSettings`.

        Raises:
            MissingExtraError: TensorFlow is not installed.
        """
        from tilth.data.frame_tensorflow import tensorflow_dataset

        batches = self.batches(**settings)
        return tensorflow_dataset(batches, width=batches.settings.width)

    def huggingface(self) -> Any:
        """A `datasets.Dataset` of the columns, labels of classes as ``ClassLabel``.

        Raises:
            MissingExtraError: datasets is not installed.
        """
        from tilth.data.frame_huggingface import huggingface_dataset

        labels = self.labels if self.class_names and self.columns.label else None
        return huggingface_dataset(self.table, self.columns.label, labels, self.class_names)

    def _rows(self, rows: NDArray[np.int64]) -> FrameDataset:
        return replace(self, table=self.table.take(pa.array(rows)), rows=self.rows[rows])


def _text_blocks(dataset: FrameDataset, what: str) -> Iterator[pa.Array]:
    with row_bar(what, len(dataset), visible=dataset.progress) as advance:
        for block in text_blocks(dataset.table[dataset.columns.text]):
            yield block
            advance(len(block))


def _tables(table: pa.Table, text: str | None) -> Iterator[tuple[int, pa.Table]]:
    """Parts of a table that are small enough to be encoded at once, and where each begins."""
    if text is None:
        yield 0, table
        return
    start = 0
    for block in text_blocks(table[text]):
        yield start, table.slice(start, len(block))
        start += len(block)
