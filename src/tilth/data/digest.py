"""One digest for the content of a data set: what it says, not how a database numbered it.

Two catalogues that hold the same media, labels, categories and splits give the same digest,
whatever their ids and the order in which they were filled. A medium is identified by its uri.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilth.data.dataset import Dataset
from tilth.data.ragged import RaggedBytes

__all__ = ["dataset_digest"]


def dataset_digest(dataset: Dataset) -> str:
    """BLAKE2b-256 over categories, media, splits and labels, in hexadecimal.

    Not part of it: ids of media and annotations, picture sizes and content hashes (both may be
    filled in later), and the origin's further fields of a medium.
    """
    digest = hashlib.blake2b(digest_size=32)
    digest.update(b"tilth dataset 1\n")
    names = [[c.name, c.origin_id, c.supercategory] for c in dataset.categories]
    digest.update(json.dumps(names, ensure_ascii=True).encode())
    media_order = _update_media(digest, dataset)
    _update_annotations(digest, dataset, media_order)
    return digest.hexdigest()


def _update_media(digest: Any, dataset: Dataset) -> NDArray[np.int64]:
    media = dataset.media
    uris = [uri.encode() for uri in media.uri]
    order = np.array(sorted(range(len(uris)), key=uris.__getitem__), dtype=np.int64)
    _update_bytes(digest, (uris[row] for row in order))
    digest.update(media.split[order].astype("<i1").tobytes())
    uri_of = dict(zip(media.id.tolist(), uris, strict=True))
    parents = media.parent_id[order].tolist()
    _update_bytes(digest, (uri_of.get(parent, b"") for parent in parents))
    return order


def _update_annotations(digest: Any, dataset: Dataset, media_order: NDArray[np.int64]) -> None:
    labels = dataset.annotations
    rank = np.empty(len(media_order), dtype=np.int64)
    rank[media_order] = np.arange(len(media_order))
    media_rank = rank[labels.media_index]
    segmentation = RaggedBytes.of(labels.segmentation)
    attributes = RaggedBytes.of(labels.attributes)
    columns = [
        media_rank.astype("<i8"),
        labels.category_index.astype("<i8"),
        *labels.boxes_xyxy.astype("<f8").T,
        labels.area.astype("<f8"),
        labels.is_crowd.astype("<u1"),
        labels.score.astype("<f4"),
        labels.source.astype("<u1"),
        labels.review_state.astype("<u1"),
        labels.geometry.astype("<u1"),
    ]
    # Equal boxes of one picture can differ in their polygons alone; a checksum settles the order.
    order = np.lexsort([_checksums(segmentation, attributes), *columns[::-1]])
    for column in columns:
        digest.update(np.ascontiguousarray(column[order]).tobytes())
    for texts in (segmentation, attributes):
        ordered = texts.take(order)
        digest.update(ordered.lengths.astype("<i8").tobytes())
        digest.update(ordered.data)


def _checksums(*texts: Sequence[bytes | None]) -> NDArray[np.uint32]:
    sums = np.zeros(len(texts[0]), dtype=np.uint32)
    for column in texts:
        pairs = zip(column, sums.tolist(), strict=True)
        sums = np.fromiter((zlib.crc32(t or b"", s) for t, s in pairs), np.uint32, len(sums))
    return sums


def _update_bytes(digest: Any, items: Iterable[bytes]) -> None:
    for item in items:
        digest.update(len(item).to_bytes(4, "little"))
        digest.update(item)
