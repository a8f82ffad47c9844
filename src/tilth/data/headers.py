"""What only the files of an import know: sizes from their headers, and whether they decode."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tilth.data.dataset import Dataset
from tilth.data.images import content_hash, decode_image, read_bytes
from tilth.data.problems import LabelReport, Problem
from tilth.errors import MediaError

if TYPE_CHECKING:
    from tilth.data.catalogue import Catalogue

__all__ = ["fill_sizes", "verify_media"]

MediaPath = Callable[[str], Path]
SizeOfMedium = Callable[[str], tuple[int, int]]


def fill_sizes(dataset: Dataset, size_of: SizeOfMedium) -> tuple[Dataset, tuple[Problem, ...]]:
    """Read the headers of the media whose size is not known, and of no other.

    Args:
        size_of: width and height of a medium, by its uri.

    Returns:
        The data set with its sizes, and the media that could not be read (their size stays 0).
    """
    media = dataset.media
    rows = np.flatnonzero((media.width <= 0) | (media.height <= 0))
    if not len(rows):
        return dataset, ()
    width, height = media.width.copy(), media.height.copy()
    unreadable = LabelReport(where="headers")
    for row in rows.tolist():
        try:
            width[row], height[row] = size_of(media.uri[row])
        except MediaError as error:
            unreadable.add("picture that cannot be read", "kept without a size", [str(error)])
    filled = replace(dataset, media=replace(media, width=width, height=height))
    return filled, unreadable.problems


def verify_media(
    dataset: Dataset, media_path: MediaPath, catalogue: Catalogue, task: str
) -> tuple[Problem, ...]:
    """Decode every picture of the data set, keep its content hash, and report what is wrong."""
    ids = dict(zip(*_current_ids(catalogue, task), strict=True))
    broken = LabelReport(where="media")
    hashes: dict[int, str] = {}
    media = dataset.media
    for uri, width, height in zip(
        media.uri, media.width.tolist(), media.height.tolist(), strict=True
    ):
        try:
            data = read_bytes(media_path(uri))
            found = decode_image(data, where=uri).shape[1::-1]
        except MediaError as error:
            broken.add("picture that cannot be decoded", "kept", [str(error)])
            continue
        if found != (width, height):
            broken.add(
                "picture of another size than its labels say",
                "the labels' size was kept",
                [f"{uri}: {width} x {height} in the labels, {found[0]} x {found[1]} in the file"],
            )
        hashes[ids[uri]] = content_hash(data)
    catalogue.set_content_hashes(np.array(list(hashes), dtype=np.int64), list(hashes.values()))
    return broken.problems


def _current_ids(catalogue: Catalogue, task: str) -> tuple[list[str], list[int]]:
    media = catalogue.read(task).media
    return list(media.uri), media.id.tolist()
