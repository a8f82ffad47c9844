"""From a data frame to batches in one call: `from_frame`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from tilth.data.encoded_rows import LabelMode
from tilth.data.frame_columns import ColumnSettings, Task
from tilth.data.frame_dataset import FrameDataset, TextSettings
from tilth.data.tokenise import Tokeniser
from tilth.data.vocabulary import Vocabulary

__all__ = ["from_frame"]


def from_frame(
    frame: Any,
    *,
    text: str | None = "unstructured_text",
    label: str | None = "label",
    numeric: Sequence[str] = (),
    categorical: Sequence[str] = (),
    weight: str | None = None,
    index: str | None = None,
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
    progress: bool = True,
) -> FrameDataset:
    """A data set of the rows of any data frame.

    Args:
        frame: pandas, polars, Arrow, a mapping of columns, or any object of a frame protocol.
        text, label, numeric, categorical, weight, index, task, on_missing, on_empty, on_single: see
            `ColumnSettings`.
        class_names: all classes in the order of their numbers; sorted from the labels otherwise.
        label_mode: labels as numbers (``"int"``), one-hot rows (``"categorical"``) or, of two
            classes, a column of 0 and 1 (``"binary"``).
        vocabulary: a fitted one; otherwise it is fitted on these texts, or on the training part of
            them after `FrameDataset.split`.
        tokeniser, max_tokens, min_count, max_length: see `TextSettings`.
        progress: show a bar on standard error for what takes long.

    Raises:
        SettingsError: arguments that contradict each other.
        DataError: a column is missing, mixes types, or has values that cannot be used; the error
            says which rows.

    >>> data = from_frame(
    ...     {
    ...         "index": [1, 2, 3],
    ...         "label": [1, 0, 1],
    ...         "unstructured_text": ["i like ice cream", "i don't like ice cream", "i'm happy"],
    ...     },
    ...     on_single="keep",
    ... )
    >>> data.class_names, len(data.vocabulary)
    (('0', '1'), 9)
    """
    columns = ColumnSettings(
        text=text,
        label=label,
        numeric=tuple(numeric),
        categorical=tuple(categorical),
        weight=weight,
        index=index,
        task=task,
        on_missing=on_missing,
        on_empty=on_empty,
        on_single=on_single,
    )
    texts = TextSettings(
        tokeniser=tokeniser, max_tokens=max_tokens, min_count=min_count, max_length=max_length
    )
    return FrameDataset.of(
        frame,
        columns,
        texts,
        class_names=None if class_names is None else tuple(map(str, class_names)),
        label_mode=label_mode,
        given_vocabulary=vocabulary,
        progress=progress,
    )
