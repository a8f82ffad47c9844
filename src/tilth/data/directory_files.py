"""Files of a folder with their classes, shuffled and divided as Keras' `*_from_directory` do.

The order of Keras 3: files as `list_class_folders` lists them; files and labels then shuffled alike
by ``numpy.random.RandomState(seed)``; the validation part is the last ``int(validation_split * n)``
of them. The order and the parts of a seed are therefore those that the same call of Keras gives.

Where Keras does what nobody can mean, this is an error: a split so small that one part is empty
(for ``subset="validation"`` Keras then gives all files).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tilth.data.class_folders import list_class_folders, list_files
from tilth.errors import EmptyDatasetError, SettingsError

__all__ = ["DirectoryFiles", "Labels", "Subset", "list_directory"]

Labels = Literal["inferred"] | Sequence[int] | None
Subset = Literal["training", "validation"]


@dataclass(frozen=True, eq=False)
class DirectoryFiles:
    """Files in the order of the data set.

    Attributes:
        labels: int64 [n], places in ``class_names``; None without labels.
    """

    files: tuple[Path, ...]
    labels: NDArray[np.int64] | None
    class_names: tuple[str, ...]


def list_directory(
    root: Path | str,
    *,
    extensions: Collection[str],
    labels: Labels = "inferred",
    class_names: Sequence[str] | None = None,
    validation_split: float | None = None,
    subset: Subset | None = None,
    seed: int | None = None,
    shuffle: bool = True,
    follow_links: bool = False,
) -> DirectoryFiles:
    """List, shuffle and divide.

    Args:
        extensions: which files count, in lower case and with the dot.
        labels: ``"inferred"`` from the folders, one number a file in the order of the listing, or
            None.
        class_names: with inferred labels, the classes in the order of their numbers.
        validation_split: share of the files that are not trained on; ``subset`` says which part is
            meant.
        seed: of the shuffle. Needed with a split, so that the two parts of two calls are disjoint.
        shuffle: otherwise the order of the listing.

    Raises:
        SettingsError: arguments that contradict each other.
        EmptyDatasetError: no file, or none in the part that was asked for.
    """
    _refuse_unusable(validation_split, subset, shuffle, seed)
    files, codes, names = _labelled(Path(root), extensions, labels, class_names, follow_links)
    order = np.arange(len(files))
    if shuffle:
        drawn = int(np.random.randint(10**6)) if seed is None else seed
        np.random.RandomState(drawn).shuffle(order)
    if validation_split and subset:
        order = _part(order, validation_split, subset, Path(root))
    return DirectoryFiles(
        tuple(files[place] for place in order.tolist()),
        None if codes is None else codes[order],
        names,
    )


def _labelled(
    root: Path,
    extensions: Collection[str],
    labels: Labels,
    class_names: Sequence[str] | None,
    follow_links: bool,
) -> tuple[list[Path], NDArray[np.int64] | None, tuple[str, ...]]:
    if isinstance(labels, str):
        if labels != "inferred":
            raise SettingsError(
                "labels cannot be used",
                expected="'inferred', a list of class numbers, or None",
                got=repr(labels),
            )
        return list_class_folders(
            root, extensions=extensions, class_names=class_names, follow_links=follow_links
        )
    if class_names is not None:
        raise SettingsError("class_names can only be given where labels are inferred from folders")
    files = list_files(root, extensions=extensions, follow_links=follow_links)
    if not files:
        raise EmptyDatasetError(
            "no files in the folder", where=str(root), expected=", ".join(sorted(extensions))
        )
    if labels is None:
        return files, None, ()
    if len(labels) != len(files):
        raise SettingsError(
            "there is not one label a file", expected=f"{len(files)} labels", got=str(len(labels))
        )
    values = np.asarray(labels, dtype=np.int64)
    different, codes = np.unique(values, return_inverse=True)
    return files, codes.astype(np.int64), tuple(str(value) for value in different.tolist())


def _part(
    order: NDArray[np.int64], validation_split: float, subset: Subset, root: Path
) -> NDArray[np.int64]:
    first = len(order) - int(validation_split * len(order))
    if first in (0, len(order)):
        raise EmptyDatasetError(
            "one part of the split would be empty",
            where=str(root),
            got=f"{len(order)} files and validation_split={validation_split}",
        )
    return order[:first] if subset == "training" else order[first:]


def _refuse_unusable(
    validation_split: float | None, subset: str | None, shuffle: bool, seed: int | None
) -> None:
    if validation_split and not 0 < validation_split < 1:
        raise SettingsError(
            "validation_split cannot be used",
            expected="a number between 0 and 1",
            got=str(validation_split),
        )
    if subset not in ("training", "validation", None):
        raise SettingsError(
            "subset cannot be used", expected="'training' or 'validation'", got=repr(subset)
        )
    if bool(validation_split) != bool(subset):
        raise SettingsError(
            "validation_split and subset belong together",
            got=f"validation_split={validation_split}, subset={subset!r}",
            fix="give both, in one call for each part, or neither",
        )
    if validation_split and shuffle and seed is None:
        raise SettingsError(
            "a shuffled split needs a seed, or the parts of two calls would overlap",
            fix="pass the same seed to both calls, or shuffle=False",
        )
