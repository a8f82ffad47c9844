"""Label Studio's tasks as text: annotations for what people said, predictions for models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from tilth.data import rle
from tilth.data.dataset import AnnotationColumns, Dataset
from tilth.data.formats._label_studio_brush import encode_brush
from tilth.data.formats._label_studio_regions import OURS
from tilth.data.records import Geometry, ReviewState, Source

__all__ = ["task_texts"]

_BLOCK = 20_000  # labels

_encode = msgspec.json.Encoder().encode


class _Label(NamedTuple):
    """One annotation as plain values."""

    id: int
    category: int
    geometry: int
    box: list[float]
    score: float
    source: int
    review_state: int
    is_crowd: bool
    segmentation: bytes | None
    attributes: bytes | None


def task_texts(dataset: Dataset, urls: Sequence[str], model_version: str) -> Iterator[bytes]:
    """The JSON of each picture's task.

    Args:
        urls: what each task calls its picture.
        model_version: of predictions.
    """
    media, labels = dataset.media, _labels(dataset.annotations)
    names = [_encode(category.name) for category in dataset.categories]
    version = _encode(model_version)
    for key, url, width, height, extra, count in zip(
        media.id.tolist(),
        urls,
        media.width.tolist(),
        media.height.tolist(),
        media.attributes if len(media.attributes) else [None] * len(media),
        (dataset.offsets[1:] - dataset.offsets[:-1]).tolist(),
        strict=True,
    ):
        own = list(islice(labels, count))
        size = (width, height)
        said = [
            b'{"id":%d,"completed_by":%b,"was_cancelled":false,"result":[%b]}'
            % (key, _encode(annotator), b",".join(_results(group, size, names)))
            for annotator, group in _by_annotator(own)
        ]
        guessed = [label for label in own if label.source == Source.MODEL]
        guesses = b",".join(_results(guessed, size, names))
        yield (b'{"id":%d,"data":{"image":%b%b},"annotations":[%b],"predictions":[%b]%b}') % (
            key,
            _encode(url),
            b',"width":%d,"height":%d' % size if all(size) else b"",
            b",".join(said),
            b'{"model_version":%b,"result":[%b]}' % (version, guesses) if guessed else b"",
            b',"meta":' + extra if extra else b"",
        )


def _labels(labels: AnnotationColumns) -> Iterator[_Label]:
    """All annotations, some thousands at a time in memory."""
    for start in range(0, len(labels), _BLOCK):
        rows = slice(start, start + _BLOCK)
        yield from map(
            _Label,
            labels.id[rows].tolist(),
            labels.category_index[rows].tolist(),
            labels.geometry[rows].tolist(),
            labels.boxes_xyxy[rows].tolist(),
            labels.score[rows].tolist(),
            labels.source[rows].tolist(),
            labels.review_state[rows].tolist(),
            labels.is_crowd[rows].tolist(),
            labels.segmentation[rows],
            labels.attributes[rows],
        )


def _by_annotator(labels: list[_Label]) -> list[tuple[Any, list[_Label]]]:
    """What people said; an annotation for each of them where there are several."""
    human = [label for label in labels if label.source != Source.MODEL]
    groups: dict[Any, list[_Label]] = {}
    for label in human:
        text = label.attributes or b""
        who = msgspec.json.decode(text).get("annotator") if b'"annotator"' in text else None
        groups.setdefault(who if isinstance(who, (int, str)) else None, []).append(label)
    return list(groups.items()) if len(groups) > 1 else [(None, human)] if human else []


def _results(labels: list[_Label], size: tuple[int, int], names: list[bytes]) -> Iterator[bytes]:
    plain = [label for label in labels if label.geometry == Geometry.LABEL and _is_plain(label)]
    at_once = {label.category for label in plain}
    if plain and len(at_once) == len(plain):  # one answer with several choices
        choices = b",".join(names[label.category] for label in plain)
        yield _result(plain[0], size, b'"choices":[%b]' % choices, b"choices", b"choice")
        labels = [label for label in labels if label not in plain]
    for label in labels:
        name = names[label.category]
        if label.geometry == Geometry.BOX:
            value = b'%b,"rectanglelabels":[%b]' % (_percents(label.box, size), name)
            yield _result(label, size, value, b"rectanglelabels", b"label")
        elif label.geometry == Geometry.LABEL:
            yield _result(label, size, b'"choices":[%b]' % name, b"choices", b"choice")
        elif label.geometry == Geometry.RLE:
            value, own = _brush(label.segmentation or b"")
            value += b',"brushlabels":[%b]' % name
            yield _result(label, own, value, b"brushlabels", b"brush")
        else:
            yield from _polygons(label, size, name)


def _is_plain(label: _Label) -> bool:
    return label.attributes is None and label.score != label.score and not _ours(label)


def _result(
    label: _Label,
    size: tuple[int, int],
    value: bytes,
    kind: bytes,
    control: bytes,
    part: int | None = None,
) -> bytes:
    score = b"" if label.score != label.score else b',"score":%b' % _encode(label.score)
    key = b"%d" % label.id if part is None else b"%d-%d" % (label.id, part)
    return (
        b'{"id":"%b","type":"%b","from_name":"%b","to_name":"image","original_width":%d,'
        b'"original_height":%d,"image_rotation":0,"value":{%b}%b%b}'
    ) % (key, kind, control, *size, value, score, _meta(label, part))


def _percents(box: list[float], size: tuple[int, int]) -> bytes:
    x0, y0, x1, y1 = box
    width, height = size
    return b'"x":%b,"y":%b,"width":%b,"height":%b,"rotation":0' % (
        _encode(100 * x0 / width),
        _encode(100 * y0 / height),
        _encode(100 * (x1 - x0) / width),
        _encode(100 * (y1 - y0) / height),
    )


def _polygons(label: _Label, size: tuple[int, int], name: bytes) -> Iterator[bytes]:
    width, height = size
    parts = msgspec.json.decode(label.segmentation or b"[]", type=list[list[float]])
    for at, part in enumerate(parts):
        points = [
            (100 * x / width, 100 * y / height)
            for x, y in zip(part[0::2], part[1::2], strict=False)
        ]
        value = b'"points":%b,"closed":true,"polygonlabels":[%b]' % (_encode(points), name)
        several = at if len(parts) > 1 else None
        yield _result(label, size, value, b"polygonlabels", b"polygon", several)


def _brush(segmentation: bytes) -> tuple[bytes, tuple[int, int]]:
    counts, height, width = rle.from_json(segmentation)
    code = encode_brush(rle.decode(counts, height, width))
    return b'"format":"rle","rle":%b' % _encode(code), (width, height)


def _ours(label: _Label) -> dict[str, Any]:
    """What Label Studio has no field for."""
    ours: dict[str, Any] = {}
    if label.source == Source.SYNTHETIC:
        ours["source"] = Source.SYNTHETIC.name.lower()
    if label.review_state != ReviewState.UNREVIEWED:
        ours["review_state"] = ReviewState(label.review_state).name.lower()
    if label.is_crowd:
        ours["crowd"] = True
    return ours


def _meta(label: _Label, part: int | None) -> bytes:
    ours = _ours(label)
    if label.attributes:
        ours["attributes"] = msgspec.Raw(label.attributes)
    if part is not None:
        ours["part_of"] = label.id
    return b',"meta":%b' % _encode({OURS: ours}) if ours else b""
