"""Data sets of folders, with the arguments that people know from Keras' `*_from_directory`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tilth.data.class_folders import list_files
from tilth.data.directory_files import DirectoryFiles, Labels, Subset, list_directory
from tilth.data.encoded_rows import LabelMode, label_array, refuse_label_mode
from tilth.data.frame_columns import ColumnSettings
from tilth.data.frame_dataset import FrameDataset, TextSettings
from tilth.data.frame_labels import balanced_weights
from tilth.data.picture_rows import Interpolation, PictureRows
from tilth.data.row_bar import row_bar
from tilth.data.row_batches import BatchSettings, RowBatches, as_tensors
from tilth.data.tokenise import Tokeniser
from tilth.data.vocabulary import Vocabulary
from tilth.errors import DataError, EmptyDatasetError, SettingsError

__all__ = ["PictureDataset", "from_directory", "images_from_directory", "texts_from_directory"]

TEXT_EXTENSIONS = (".txt",)
IMAGE_EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png")


def from_directory(path: Path | str, **settings: Any) -> FrameDataset | PictureDataset:
    """`texts_from_directory` or `images_from_directory`, by what the folder holds.

    Where both are there, what lies beside the class folders, such as a ``classes.txt`` or a readme,
    does not count.

    Raises:
        EmptyDatasetError: neither texts nor pictures.
        SettingsError: both.
    """
    texts = list_files(Path(path), extensions=TEXT_EXTENSIONS)
    pictures = list_files(Path(path), extensions=IMAGE_EXTENSIONS)
    if texts and pictures:
        within = [_within_folders(files, path) for files in (texts, pictures)]
        texts, pictures = within if any(within) else (texts, pictures)
    if texts and pictures:
        raise SettingsError(
            "the folder holds texts and pictures",
            where=str(path),
            fix="call texts_from_directory or images_from_directory",
        )
    if not texts and not pictures:
        raise EmptyDatasetError(
            "the folder holds neither texts nor pictures",
            where=str(path),
            expected=", ".join((*TEXT_EXTENSIONS, *IMAGE_EXTENSIONS)),
        )
    return (texts_from_directory if texts else images_from_directory)(path, **settings)


def _within_folders(files: list[Path], root: Path | str) -> list[Path]:
    return [file for file in files if file.parent != Path(root)]


def texts_from_directory(
    path: Path | str,
    *,
    labels: Labels = "inferred",
    label_mode: LabelMode | None = "int",
    class_names: Sequence[str] | None = None,
    validation_split: float | None = None,
    subset: Subset | None = None,
    seed: int | None = None,
    shuffle: bool = True,
    follow_links: bool = False,
    extensions: Collection[str] = TEXT_EXTENSIONS,
    vocabulary: Vocabulary | None = None,
    tokeniser: Tokeniser = "words",
    max_tokens: int | None = 20_000,
    min_count: int = 1,
    max_length: int | None = None,
    on_empty: Literal["error", "drop", "keep"] = "keep",
    progress: bool = True,
) -> FrameDataset:
    """A data set of text files, one a row, in the order and the parts of Keras' function.

    Files, labels and order: see `list_directory`. ``index`` holds the paths. For a validation part
    pass the vocabulary of the training part: ``vocabulary=train.vocabulary``.

    Args:
        label_mode: ``"int"``, ``"categorical"``, ``"binary"``, or None for no labels.
        vocabulary ... max_length, on_empty, progress: see `from_frame`; empty files are kept, as
            Keras keeps them.

    Raises:
        SettingsError, EmptyDatasetError: as `list_directory`.
        DataError: a file that is not UTF-8.
    """
    listed = list_directory(
        path,
        extensions=extensions,
        labels=None if label_mode is None else labels,
        class_names=class_names,
        validation_split=validation_split,
        subset=subset,
        seed=seed,
        shuffle=shuffle,
        follow_links=follow_links,
    )
    columns = {"file": pa.array([str(file) for file in listed.files])}
    columns["unstructured_text"] = _read_texts(listed.files, progress)
    if listed.labels is not None:
        columns["label"] = pa.array(listed.class_names).take(pa.array(listed.labels))
    return FrameDataset.of(
        pa.table(columns),
        ColumnSettings(
            label=None if listed.labels is None else "label",
            index="file",
            on_empty=on_empty,
            on_single="keep",
        ),
        TextSettings(
            tokeniser=tokeniser, max_tokens=max_tokens, min_count=min_count, max_length=max_length
        ),
        class_names=listed.class_names,
        label_mode=label_mode or "int",
        given_vocabulary=vocabulary,
        progress=progress,
    )


def images_from_directory(
    path: Path | str,
    *,
    labels: Labels = "inferred",
    label_mode: LabelMode | None = "int",
    class_names: Sequence[str] | None = None,
    image_size: tuple[int, int] = (256, 256),
    interpolation: Interpolation = "bilinear",
    crop_to_aspect_ratio: bool = False,
    validation_split: float | None = None,
    subset: Subset | None = None,
    seed: int | None = None,
    shuffle: bool = True,
    follow_links: bool = False,
    extensions: Collection[str] = IMAGE_EXTENSIONS,
) -> PictureDataset:
    """A data set of picture files, in the order and the parts of Keras' function.

    Files, labels and order: see `list_directory`; pixels: see `tilth.data.picture_rows`.

    Args:
        label_mode: ``"int"``, ``"categorical"``, ``"binary"``, or None for no labels.
        image_size: height and width.
        crop_to_aspect_ratio: cut the largest window out of the middle instead of stretching.

    Raises:
        SettingsError, EmptyDatasetError: as `list_directory`.
    """
    listed = list_directory(
        path,
        extensions=extensions,
        labels=None if label_mode is None else labels,
        class_names=class_names,
        validation_split=validation_split,
        subset=subset,
        seed=seed,
        shuffle=shuffle,
        follow_links=follow_links,
    )
    if interpolation not in ("bilinear", "nearest"):
        raise SettingsError(
            "interpolation cannot be used",
            expected="'bilinear' or 'nearest'",
            got=repr(interpolation),
        )
    if len(image_size) != 2 or min(image_size) < 1:
        raise SettingsError(
            "image_size cannot be used", expected="height and width", got=str(image_size)
        )
    if listed.labels is not None:
        refuse_label_mode(label_mode or "int", listed.class_names)
    return PictureDataset(
        listed=listed,
        label_mode=label_mode or "int",
        image_size=image_size,
        interpolation=interpolation,
        crop_to_aspect_ratio=crop_to_aspect_ratio,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class PictureDataset:
    """Picture files with their classes; a picture is read when a batch asks for it.

    Attributes:
        listed: files, labels and class names.
        image_size: height and width of the batches.
    """

    listed: DirectoryFiles
    label_mode: LabelMode
    image_size: tuple[int, int]
    interpolation: Interpolation
    crop_to_aspect_ratio: bool

    def __len__(self) -> int:
        return len(self.listed.files)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files in the order of the rows."""
        return self.listed.files

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in the order of their numbers."""
        return self.listed.class_names

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def labels(self) -> NDArray[np.int64]:
        """int64 [n]: places in ``class_names``.

        Raises:
            SettingsError: there are no labels.
        """
        if self.listed.labels is None:
            raise SettingsError("the data set has no labels", fix="pass labels='inferred'")
        return self.listed.labels

    def class_weights(self) -> NDArray[np.float64]:
        """float64 [k]: the weight of each class with which all classes count alike."""
        return balanced_weights(np.bincount(self.labels, minlength=self.num_classes))

    def torch(self, **settings: Any) -> RowBatches:
        """Batches of torch tensors; the keywords are those of `BatchSettings`.

        A batch is a dict:
            images: float32 [b, 3, h, w], 0 to 1 (Keras gives [b, h, w, 3], 0 to 255).
            label: int64 [b]; float32 [b, classes] or [b, 1] by the label mode.
            row: int64 [b], place in ``files``.

        Raises:
            MissingExtraError: torch is not installed.
        """
        return RowBatches(self._rows, BatchSettings(**settings), as_tensors)

    @property
    def _rows(self) -> PictureRows:
        codes = self.listed.labels
        return PictureRows(
            files=self.files,
            row=np.arange(len(self)),
            label=None if codes is None else label_array(codes, self.label_mode, self.num_classes),
            size=self.image_size,
            interpolation=self.interpolation,
            crop=self.crop_to_aspect_ratio,
        )


def _read_texts(files: Sequence[Path], progress: bool) -> pa.Array:
    texts = []
    with row_bar("reading texts", len(files), visible=progress) as advance:
        for file in files:
            try:
                texts.append(file.read_bytes().decode())
            except UnicodeDecodeError as error:
                raise DataError(
                    "the text is not UTF-8",
                    where=f"{file}, byte {error.start}",
                    fix="convert it: iconv -f LATIN1 -t UTF-8",
                ) from error
            except OSError as error:
                raise DataError(
                    "the text cannot be read", where=str(file), got=error.strerror
                ) from error
            advance(1)
    return pa.array(texts, type=pa.large_string())
