"""Outputs of models in an .npz file: predictions, targets, and the metric's values where known.

Predictions or targets of several sizes (sequences, sets of boxes) lie padded in one array: whole
numbers with -1, others with 0, as `tilth.losses.metric_replay` pads them.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilth.errors import DataError

__all__ = ["Outputs", "read_array", "read_outputs"]

PAD = "pad examples of several sizes: -1 for whole numbers, 0 for others"
HOW = "np.savez('outputs.npz', predictions=..., targets=...), examples along the first axis"


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What models gave, and what was to be given.

    Attributes:
        predictions, targets: [n, ...], float32 or int64.
        values: float64 [n] (of sets [n / set_size]), None where the metric is to be asked.
    """

    predictions: NDArray[Any]
    targets: NDArray[Any]
    values: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.predictions)

    def some(self, most: int | None, *, set_size: int = 1) -> Outputs:
        """At most ``most`` examples or whole sets, evenly spread; what is over of a set goes.

        Raises:
            DataError: values that are not one an example, or one a set.
        """
        sets = len(self) // set_size
        if self.values is not None and len(self.values) != sets:
            raise DataError(
                "values and outputs differ in number",
                expected=f"{sets} values" + (f", one a set of {set_size}" if set_size > 1 else ""),
                got=str(len(self.values)),
            )
        count = sets if most is None else min(sets, most)
        chosen = np.linspace(0, sets - 1, count).astype(np.int64) if count else np.zeros(0, int)
        rows = (chosen[:, None] * set_size + np.arange(set_size)).ravel()
        return Outputs(
            predictions=self.predictions[rows],
            targets=self.targets[rows],
            values=None if self.values is None else self.values[chosen],
        )


def read_outputs(path: Path) -> Outputs:
    """The outputs that a file holds.

    Raises:
        DataError: no such file, arrays that are missing, empty or of other lengths, or numbers that
            are missing or infinite.
    """
    arrays = _arrays(path)
    missing = [name for name in ("predictions", "targets") if name not in arrays]
    if missing:
        raise DataError(
            f"the file of outputs has no '{missing[0]}'",
            where=str(path),
            expected="predictions, targets, and values where they are known",
            got=", ".join(arrays) or "nothing",
            fix=HOW,
        )
    predictions, targets = (_plain(arrays[name], name, path) for name in ("predictions", "targets"))
    if len(predictions) != len(targets) or not len(predictions):
        raise DataError(
            "predictions and targets do not go together",
            where=str(path),
            expected="as many of one as of the other, and some",
            got=f"{len(predictions)} predictions, {len(targets)} targets",
        )
    values = arrays.get("values")
    return Outputs(
        predictions=predictions,
        targets=targets,
        values=None if values is None else values.astype(np.float64).reshape(-1),
    )


def read_array(path: Path, name: str) -> NDArray[Any]:
    """One array of a file.

    Raises:
        DataError: no such file or array, or numbers that are missing or infinite.
    """
    arrays = _arrays(path)
    if name not in arrays:
        raise DataError(
            f"the file has no '{name}'",
            where=str(path),
            got=", ".join(arrays) or "nothing",
            fix=f"np.savez('{path.name}', {name}=...)",
        )
    return _plain(arrays[name], name, path)


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    if not path.is_file():
        raise DataError("the file of outputs is not there", where=str(path), fix=HOW)
    try:
        with np.load(path, allow_pickle=False) as found:
            if not hasattr(found, "files"):
                raise DataError("one array is no file of outputs", where=str(path), fix=HOW)
            return {name: found[name] for name in found.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        ragged = "allow_pickle" in str(error)
        raise DataError(
            "the file of outputs cannot be read",
            where=str(path),
            expected="an .npz of plain numbers",
            got="arrays of Python objects" if ragged else str(error).splitlines()[0],
            fix="pad examples of several sizes: -1 for whole numbers, 0 for others"
            if ragged
            else HOW,
        ) from error


def _plain(array: NDArray[Any], name: str, path: Path) -> NDArray[Any]:
    """int64 of whole numbers, float32 of others."""
    if array.dtype.kind in "iu":
        return array.astype(np.int64)
    if array.dtype.kind not in "fb":
        raise DataError(
            f"'{name}' holds no numbers", where=str(path), got=f"an array of {array.dtype}"
        )
    if not np.isfinite(array).all():
        place = np.argwhere(~np.isfinite(array))[0].tolist()
        raise DataError(
            f"'{name}' holds a missing or infinite number", where=f"{path}, index {place}"
        )
    return array.astype(np.float32)
