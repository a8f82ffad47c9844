"""A detector that starts from another one's weights, which may know other classes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from tilth.data.atomic import atomic_writer
from tilth.errors import LabelError, TrainingError
from tilth.models.coco_classes import COCO_CLASSES, same_class
from tilth.models.detection_network import AnchorGridNetwork, carry_over_head
from tilth.models.transfer import SkippedTensor, TransferReport, load_matching

__all__ = [
    "KnownWeights",
    "class_rows",
    "file_digest",
    "known_classes",
    "read_run",
    "read_transfer",
    "start_from",
    "weights_file",
    "write_transfer",
]

RECORD = "detector.json"
TRANSFER = "starting_weights.json"
WEIGHTS = ("best.safetensors", "last.safetensors")


@dataclass(frozen=True, kw_only=True)
class KnownWeights:
    """Weights by the names of a network's state.

    Attributes:
        class_names: what its scores stand for; empty where nobody says.
        is_whole: whether all layers are there; Darknet's partial files end early.
    """

    path: Path
    state: Mapping[str, Tensor]
    class_names: tuple[str, ...]
    is_whole: bool = True


def read_run(path: Path, classes: Path | None) -> KnownWeights:
    """The weights of a run's folder, or of a safetensors file.

    Raises:
        TrainingError: there are none, or they cannot be read.
        LabelError: the file of class names cannot be read.
    """
    found = weights_file(path)
    try:
        state = load_file(found)
    except (SafetensorError, OSError) as error:
        raise TrainingError(
            "the starting weights cannot be read",
            where=str(found),
            expected="a safetensors file",
            got=str(error),
        ) from error
    names: tuple[str, ...] = ()
    if classes is None and (found.parent / RECORD).is_file():
        names = _names_of_run(found.parent / RECORD)
    return KnownWeights(path=found, state=state, class_names=names or known_classes(classes, 0))


def known_classes(path: Path | None, num_classes: int) -> tuple[str, ...]:
    """The names in a file, one a line; without a file COCO's for 80 classes, and none for others.

    Raises:
        LabelError: the file cannot be read, or has another number of names than the weights.
    """
    if path is None:
        return COCO_CLASSES if num_classes == len(COCO_CLASSES) else ()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError(
            "the names of the classes cannot be read", where=str(path), got=str(error)
        ) from error
    names = tuple(line.strip() for line in lines if line.strip())
    if num_classes and len(names) != num_classes:
        raise LabelError(
            "the names do not belong to the weights",
            where=str(path),
            expected=f"{num_classes} names, one a line",
            got=f"{len(names)}",
        )
    return names


def start_from(
    model: AnchorGridNetwork, known: KnownWeights, class_names: Sequence[str]
) -> TransferReport:
    """Take over whatever fits; of the heads, the boxes and the classes of the same name.

    Where nobody says what the scores of ``known`` stand for, they are taken as they are if there
    are as many, and left out otherwise.

    Raises:
        TrainingError: the weights are of another network.
    """
    assert isinstance(model, nn.Module)
    heads = _head_names(model)
    plain = {name: value for name, value in known.state.items() if not _is_head(name, heads)}
    report = load_matching(model, plain)
    _refuse_other_network(model, report, heads, known)
    skipped = list(report.skipped)
    loaded, kept = list(report.loaded), set()
    convolutions = zip(heads, model.head_convolutions(), model.anchors, strict=True)
    for name, convolution, anchors in convolutions:
        weight, bias = known.state.get(f"{name}.weight"), known.state.get(f"{name}.bias")
        if weight is None or bias is None:
            continue
        old_classes = len(weight) // len(anchors) - 5
        rows = class_rows(known.class_names, class_names, old_classes)
        if weight.shape[1:] != convolution.weight.shape[1:] or len(weight) % len(anchors):
            wanted = tuple(convolution.weight.shape)
            skipped.append(SkippedTensor(f"{name}.weight", tuple(weight.shape), wanted))
            continue
        carry_over_head(convolution, weight, bias, num_anchors=len(anchors), class_rows=rows)
        loaded += [f"{name}.weight", f"{name}.bias"]
        kept |= {class_names[new] for new, old in enumerate(rows) if old is not None}
    classes = tuple(name for name in class_names if name in kept)
    return TransferReport(tuple(loaded), tuple(skipped), classes)


def write_transfer(run_dir: Path, report: TransferReport, class_names: Sequence[str]) -> None:
    """Keep in a run's folder what its starting weights gave.

    Raises:
        StorageError: the disk is full or not writable.
    """
    said = {
        "loaded_tensors": len(report.loaded),
        "skipped": [
            f"{skipped.name} {list(skipped.shape)}"
            + ("" if skipped.wanted_shape is None else f", here {list(skipped.wanted_shape)}")
            for skipped in report.skipped
        ],
        "known_classes": list(report.classes),
        "new_classes": [name for name in class_names if name not in report.classes],
    }
    with atomic_writer(run_dir / TRANSFER) as stream:
        stream.write(msgspec.json.format(msgspec.json.encode(said)))


def read_transfer(run_dir: Path) -> dict[str, Any] | None:
    """What `write_transfer` has kept: loaded and skipped tensors, known and new classes."""
    path = run_dir / TRANSFER
    return msgspec.json.decode(path.read_bytes()) if path.is_file() else None


def file_digest(path: Path) -> str:
    """SHA-256 of a file of weights, hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def weights_file(path: Path) -> Path:
    """The file itself, or the best weights in a run's folder.

    Raises:
        TrainingError: there are none.
    """
    if path.is_dir():
        for name in WEIGHTS:
            if (path / name).is_file():
                return path / name
    if path.is_file():
        return path
    raise TrainingError(
        "no weights here",
        where=str(path),
        expected=f"a file of weights, or a run's folder with {' or '.join(WEIGHTS)}",
    )


def _names_of_run(record: Path) -> tuple[str, ...]:
    try:
        return tuple(msgspec.json.decode(record.read_bytes())["class_names"])
    except (msgspec.DecodeError, KeyError, TypeError) as error:
        raise TrainingError(
            "the record of the starting weights is broken",
            where=str(record),
            got=str(error),
            fix="name the safetensors file itself, outside the folder",
        ) from error


def class_rows(
    old_names: Sequence[str], new_names: Sequence[str], old_classes: int
) -> list[int | None]:
    """For each new class the old one of the same name; as they are where nobody says the names."""
    if len(old_names) == old_classes:
        rows = {same_class(name): row for row, name in enumerate(old_names)}
        return [rows.get(same_class(name)) for name in new_names]
    if old_classes == len(new_names):
        return list(range(old_classes))
    return [None] * len(new_names)


def _head_names(model: AnchorGridNetwork) -> list[str]:
    assert isinstance(model, nn.Module)
    names = {id(module): name for name, module in model.named_modules()}
    return [names[id(convolution)] for convolution in model.head_convolutions()]


def _is_head(name: str, heads: Sequence[str]) -> bool:
    return name.rpartition(".")[0] in heads


def _refuse_other_network(
    model: nn.Module, report: TransferReport, heads: Sequence[str], known: KnownWeights
) -> None:
    """Without the whole backbone it is another network, though biases and counters may fit."""
    if not known.is_whole:
        return
    names = [name for name in model.state_dict() if not _is_head(name, heads)]
    wanted = [name for name in names if name.startswith("backbone.")] or names
    missing = sorted(set(wanted) - set(report.loaded))
    if missing:
        raise TrainingError(
            "the starting weights belong to another network",
            where=str(known.path),
            expected=f"{type(model).__name__} with the same settings",
            got=f"{len(missing)} of {len(wanted)} tensors of the backbone do not fit, "
            f"{missing[0]} first",
        )
