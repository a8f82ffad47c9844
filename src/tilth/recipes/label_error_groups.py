"""Which rows must be held out together: near-duplicates, and what a column says.

Two texts are near-duplicates when the same words stand in them; two pictures when their
perceptual hashes are equal: the same shot in another size, quality or file format.
"""

from __future__ import annotations

import hashlib
import re

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tilth.curate.image_metrics import IMAGE_METRIC_NAMES, image_metrics
from tilth.curate.label_folds import joined_groups, same_values
from tilth.data.directories import PictureDataset
from tilth.data.frame_dataset import FrameDataset
from tilth.data.images import read_image
from tilth.data.row_bar import row_bar
from tilth.errors import DataError

__all__ = ["duplicate_groups", "groups_of_column"]

WORDS = re.compile(r"\w+")
HASH_PLACES = [IMAGE_METRIC_NAMES.index(name) for name in ("phash_high", "phash_low")]


def duplicate_groups(
    data: FrameDataset | PictureDataset, *, progress: bool = True
) -> NDArray[np.int64]:
    """int64 [n]: a number for each row, the same for near-duplicates.

    Raises:
        MediaError: a picture that cannot be read.
    """
    if isinstance(data, PictureDataset):
        return joined_groups(*_picture_numbers(data, progress))
    if data.columns.text is None:
        return np.arange(len(data))
    return joined_groups(same_values(_text_keys(data)))


def groups_of_column(table: pa.Table, column: str, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64 [n]: a number for each value of a column; -1 where there is none.

    Raises:
        DataError: no such column.
    """
    if column not in table.column_names:
        raise DataError(
            "the table has no column to group by",
            expected=", ".join(table.column_names),
            got=column,
        )
    return same_values(table[column].take(pa.array(rows)).to_pylist())


def _text_keys(data: FrameDataset) -> list[object]:
    """What equal texts share: a digest of their words; None for a text without any."""
    keys: list[object] = []
    for text in data.table[data.columns.text].to_pylist():
        found = " ".join(WORDS.findall((text or "").casefold()))
        keys.append(hashlib.blake2b(found.encode(), digest_size=12).digest() if found else None)
    return keys


def _picture_numbers(data: PictureDataset, progress: bool) -> list[NDArray[np.int64]]:
    """Two columns of numbers: of equal files, and of equal perceptual hashes."""
    contents: list[object] = []
    looks: list[object] = []
    with row_bar("comparing pictures", len(data), visible=progress) as advance:
        for path in data.files:
            picture = read_image(path)
            contents.append(hashlib.blake2b(path.read_bytes(), digest_size=16).digest())
            high, low = image_metrics(picture)[HASH_PLACES].tolist()
            # A picture of one colour has no look of its own: it is like no other by its hash.
            looks.append((high, low) if picture.std() > 1 else None)
            advance(1)
    return [same_values(contents), same_values(looks)]
