"""The labels of whole pictures that a project's catalogue holds, as a classifier reads them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tilth.curate.label_folds import same_values
from tilth.data.dataset import Dataset
from tilth.data.directories import PictureDataset
from tilth.data.directory_files import DirectoryFiles
from tilth.data.preannotation import trusted
from tilth.data.project import Project
from tilth.data.records import Geometry, Split
from tilth.data.splits import root_rows
from tilth.data.video import split_frame
from tilth.errors import DataError, EmptyDatasetError

__all__ = ["CatalogueLabels", "catalogue_labels"]


@dataclass(frozen=True, kw_only=True, eq=False)
class CatalogueLabels:
    """n labelled pictures.

    Attributes:
        pictures: files and classes, in the order of the arrays.
        annotation_ids: int64 [n], of their labels.
        category_index: int64 [k], place of each class among the task's categories.
        groups: int64 [n], the same for a picture and all that was made from it, and for all frames
            of a video.
        uris: n names in the catalogue.
    """

    pictures: PictureDataset
    annotation_ids: NDArray[np.int64]
    category_index: NDArray[np.int64]
    groups: NDArray[np.int64]
    uris: tuple[str, ...]


def catalogue_labels(project: Project, *, task: str, split: str = "train") -> CatalogueLabels:
    """The pictures of one split that have exactly one label for the whole picture.

    Labels that wait for review or were rejected are none. Before the first split, all pictures
    count as training pictures.

    Raises:
        DataError: no such task, a picture with two such labels, or one class alone.
        EmptyDatasetError: no such picture.
        MediaError: a picture that cannot be had.
    """
    dataset = trusted(project.catalogue.read(task))
    labels, media = dataset.annotations, dataset.media
    divided = (media.split != Split.NONE).any()
    wanted = media.split == Split[split.upper()] if divided else np.ones(len(media), np.bool_)
    rows = np.flatnonzero((labels.geometry == Geometry.LABEL) & wanted[labels.media_index])
    if not len(rows):
        raise EmptyDatasetError(
            "no picture has a label for the whole of it",
            expected=f"labels of task '{task}' in the split '{split}'",
            fix="name a table or a folder, or give --boxes RUN for labels that are boxes",
        )
    of_picture = labels.media_index[rows]
    twice = np.flatnonzero(np.diff(of_picture) == 0)
    if len(twice):
        raise DataError(
            "a picture has two labels for the whole of it",
            where=media.uri[int(of_picture[twice[0]])],
            expected="one: pictures of several classes cannot be judged yet",
        )
    present, codes = np.unique(labels.category_index[rows], return_inverse=True)
    uris = tuple(media.uri[row] for row in of_picture.tolist())
    listed = DirectoryFiles(
        files=tuple(project.media_path(uri) for uri in uris),
        labels=codes.astype(np.int64),
        class_names=tuple(dataset.categories[place].name for place in present.tolist()),
    )
    return CatalogueLabels(
        pictures=PictureDataset(
            listed=listed,
            label_mode="int",
            image_size=(256, 256),
            interpolation="bilinear",
            crop_to_aspect_ratio=False,
        ),
        annotation_ids=labels.id[rows],
        category_index=present.astype(np.int64),
        groups=_groups(dataset)[of_picture],
        uris=uris,
    )


def _groups(dataset: Dataset) -> NDArray[np.int64]:
    uris = dataset.media.uri
    return same_values([split_frame(uris[row])[0] for row in root_rows(dataset).tolist()])
