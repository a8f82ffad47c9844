"""Darknet's `.weights` files: float32 after a short header, in the order of the layers.

Source: the reader and writer of the authors' program, `src/parser.c` of AlexeyAB/darknet
    (`load_weights_upto`, `save_weights_upto`, `load_convolutional_weights`).
Follows: header -> `WeightsHeader`; one convolution -> `convolution_arrays`; whole and partial files
    -> `load_weights`, `save_weights`.
Symbols: seen = pictures seen in training; iterations = seen / batch; cutoff = the number of
    layers that a partial file such as yolov4.conv.137 holds.
Differs: a file that ends inside a layer, or goes on behind the last one, is an error that names
    sizes; Darknet fills what there is and says nothing.
Checked by: `test_weights_are_written_back_to_the_byte`, `test_partial_weights_fill_whole_layers`,
    `test_foreign_weights_are_refused_with_sizes`, `test_real_weights_are_consumed_exactly`
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tilth.data.atomic import atomic_writer
from tilth.errors import LabelError

if TYPE_CHECKING:
    from tilth.models.darknet import Convolution, Darknet

__all__ = ["LoadedWeights", "WeightsHeader", "load_weights", "save_weights"]


@dataclass(frozen=True, kw_only=True)
class WeightsHeader:
    """Version of the writer, and how many pictures training had seen (64 bits from 0.2 on)."""

    major: int = 0
    minor: int = 2
    revision: int = 5
    seen: int = 0

    @property
    def num_bytes(self) -> int:
        """12 for the version, and 4 or 8 for the number of pictures."""
        return 12 + self._seen_bytes

    @property
    def _seen_bytes(self) -> int:
        return 8 if self.major * 10 + self.minor >= 2 else 4

    def encode(self) -> bytes:
        """The header as it stands in the file, little-endian."""
        version = np.array([self.major, self.minor, self.revision], dtype="<i4").tobytes()
        return version + self.seen.to_bytes(self._seen_bytes, "little")

    @classmethod
    def decode(cls, data: bytes, *, where: str) -> "WeightsHeader":
        """The header at the beginning of a file.

        Raises:
            LabelError: the file is shorter, or the version is no version.
        """
        version = np.frombuffer(data[:12], dtype="<i4") if len(data) >= 12 else np.empty(0, "<i4")
        major, minor, revision = version.tolist() if len(version) else (-1, -1, -1)
        if not (0 <= major < 1000 and 0 <= minor < 1000):
            raise LabelError(
                "not a Darknet weights file",
                where=where,
                expected="three version numbers, such as 0 2 5",
                got=f"{len(data)} bytes that begin with {data[:12].hex()}",
            )
        header = cls(major=major, minor=minor, revision=revision)
        if len(data) < header.num_bytes:
            raise LabelError("a weights file that ends in its header", where=where)
        seen = int.from_bytes(data[12 : header.num_bytes], "little")
        return cls(major=major, minor=minor, revision=revision, seen=seen)


@dataclass(frozen=True, kw_only=True)
class LoadedWeights:
    """What a file filled.

    Attributes:
        layers: the layers with weights that were filled, by their number.
        missing: those that the file does not reach, as they were before.
        num_floats: read.
    """

    header: WeightsHeader
    layers: tuple[int, ...]
    missing: tuple[int, ...]
    num_floats: int


def convolution_arrays(convolution: "Convolution") -> list[Tensor]:
    """The tensors of one layer in the order of the file.

    With batch normalisation: its bias, scale, running mean and variance, then the kernels; without
    it: bias, kernels. Kernels lie as in PyTorch, [out, in / groups, k, k].
    """
    kernels, norm = convolution.conv.weight, convolution.norm
    if norm is None:
        assert convolution.conv.bias is not None  # one without batch normalisation has a bias
        return [convolution.conv.bias, kernels]
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return [norm.bias, norm.weight, norm.running_mean, norm.running_var, kernels]


def load_weights(model: "Darknet", path: Path) -> LoadedWeights:
    """Fill a network from a file; one that ends early at the end of a layer fills what it reaches.

    Raises:
        LabelError: the file cannot be read, ends inside a layer, or is longer than the network.
    """
    where = str(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LabelError(
            "the weights file cannot be read", where=where, got=error.strerror
        ) from error
    header = WeightsHeader.decode(data, where=where)
    if (len(data) - header.num_bytes) % 4:
        raise _wrong_size(model, path, len(data), header, "is no whole number of floats")
    values = np.frombuffer(data, dtype="<f4", offset=header.num_bytes)
    filled, missing, at = [], [], 0
    plan = []
    for index, layer in model.weighted_layers():
        size = sum(array.numel() for array in convolution_arrays(layer))
        if at == len(values):
            missing.append(index)
            continue
        if at + size > len(values):
            raise _wrong_size(model, path, len(data), header, f"ends inside layer {index}")
        plan.append((layer, at))
        filled.append(index)
        at += size
    if at < len(values):
        raise _wrong_size(model, path, len(data), header, "goes on behind the last layer")
    for layer, start in plan:  # only now: a file that is refused changes nothing
        _fill(convolution_arrays(layer), values[start:])
    return LoadedWeights(
        header=header, layers=tuple(filled), missing=tuple(missing), num_floats=len(values)
    )


@torch.no_grad()
def _fill(arrays: list[Tensor], values: NDArray[np.float32]) -> None:
    at = 0
    for array in arrays:
        part = values[at : at + array.numel()].astype(np.float32)
        array.copy_(torch.from_numpy(part).view_as(array))
        at += array.numel()


def _wrong_size(
    model: "Darknet", path: Path, size: int, header: WeightsHeader, what: str
) -> LabelError:
    wanted = sum(
        array.numel() for _, layer in model.weighted_layers() for array in convolution_arrays(layer)
    )
    return LabelError(
        f"the weights do not fit the network: the file {what}",
        where=str(path),
        expected=f"{header.num_bytes + 4 * wanted} bytes ({wanted} floats), or fewer up to the end "
        "of a layer",
        got=f"{size} bytes",
        fix="use the .cfg that the weights were trained with (its classes and filters too)",
    )


def save_weights(
    model: "Darknet",
    path: Path,
    *,
    header: WeightsHeader | None = None,
    cutoff: int | None = None,
) -> None:
    """Write a network's weights in one step.

    Args:
        header: of a file that was read, to write it back to the byte; otherwise version 0.2.5.
        cutoff: write only the layers before this one, as the partial files do.

    Raises:
        StorageError: the write failed; a file that was there before is unchanged.
    """
    with atomic_writer(path) as stream:
        stream.write((header or WeightsHeader()).encode())
        for index, layer in model.weighted_layers():
            if cutoff is not None and index >= cutoff:
                break
            for array in convolution_arrays(layer):
                stream.write(array.detach().cpu().numpy().astype("<f4").tobytes())
