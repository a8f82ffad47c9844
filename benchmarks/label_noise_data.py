"""The data of the benchmarks of wrong labels: MNIST and CIFAR-10 with its human labels, as arrays.

CIFAR-10 comes as JPEG bytes in the original order, which is that of CIFAR-N's labels. Decoded
pictures are kept as a file of arrays under the work folder, named by the digest of their source, so
that only the first call decodes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from tilth.data.atomic import atomic_writer
from tilth.data.images import decode_image, read_image
from tilth.errors import DataError, StorageError
from tilth.seeding import generator

__all__ = ["NOISY_LABELS", "Pictures", "cifar10", "full_cifar10", "mnist"]

T = TypeVar("T")

FOLDER = "label-noise"
NOISY_LABELS = ("worse_label", "aggre_label", "random_label1", "random_label2", "random_label3")
HUMAN = "cifar10n_labels.npz"
PARTS = ("train", "test")
NUM_CIFAR10 = 50_000


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Training pictures with the labels they are trained on and the true ones; test pictures.

    Attributes:
        name: of the data, for the evidence.
        digest: of the files that it came from.
        train_images: uint8 [n, h, w] or [n, h, w, 3].
        clean_labels: int64 [n], which only scoring may look at.
        labels: int64 [n], which training sees.
        test_images, test_labels: with true labels.
    """

    name: str
    digest: str
    train_images: NDArray[np.uint8]
    clean_labels: NDArray[np.int64]
    labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        for images, labels in (
            (self.train_images, self.labels),
            (self.train_images, self.clean_labels),
            (self.test_images, self.test_labels),
        ):
            if len(images) != len(labels):
                raise DataError(
                    f"pictures and labels of {self.name} differ in number",
                    expected=f"{len(images)} labels",
                    got=str(len(labels)),
                )

    @property
    def num_classes(self) -> int:
        """Labels are 0 to this, exclusive."""
        return int(self.clean_labels.max()) + 1

    @property
    def wrong_share(self) -> float:
        """The realised rate of wrong labels."""
        return float((self.labels != self.clean_labels).mean())

    def with_labels(self, labels: NDArray[np.integer]) -> Pictures:
        """The same pictures, trained on these labels."""
        return replace(self, labels=np.asarray(labels, np.int64))

    def take(self, rows: Sequence[int] | NDArray[np.integer] | slice) -> Pictures:
        """These training rows; the test pictures stay."""
        return replace(
            self,
            train_images=self.train_images[rows],
            clean_labels=self.clean_labels[rows],
            labels=self.labels[rows],
        )


def mnist(data: Path, *, num_train: int = 10_000, seed: int = 0) -> Pictures:
    """``num_train`` training pictures, drawn by the seed, and all 10,000 test pictures."""
    file = _present(data / FOLDER / "mnist.npz")
    with np.load(file) as arrays:
        images, labels = arrays["x_train"], arrays["y_train"].astype(np.int64)
        test_images, test_labels = arrays["x_test"], arrays["y_test"].astype(np.int64)
    rows = generator(seed, "mnist rows").permutation(len(images))[:num_train]
    return Pictures(
        name=f"MNIST, {len(rows)} training pictures",
        digest=_digest(file),
        train_images=images[rows],
        clean_labels=labels[rows],
        labels=labels[rows],
        test_images=test_images,
        test_labels=test_labels,
    )


def cifar10(data: Path, *, work: Path, labels: str = "worse_label") -> Pictures:
    """The CIFAR-10 pictures that ``data`` has: 10,000 of 50,000, and 2,000 to test on.

    Args:
        work: where decoded pictures are kept.
        labels: one of `NOISY_LABELS`, or ``"clean_label"``.
    """
    return _from_file(data / FOLDER / "cifar10_jpeg.npz", data=data, work=work, labels=labels)


def full_cifar10(
    source: Path, *, data: Path, work: Path, labels: str = "worse_label", allow_part: bool = False
) -> Pictures:
    """All 50,000 + 10,000 pictures.

    Args:
        source: an ``.npz`` as `cifar10` reads it, or a folder ``train|test/<class>/0000.jpg``,
            whose k-th file of a class is the k-th picture of that class in the original order.
        data: the folder of the human labels.
        allow_part: take what is there; for a trial of the program, never for a number.

    Raises:
        DataError: some pictures are missing.
        StorageError: there is nothing at ``source``.
    """
    reader = _from_folder if source.is_dir() else _from_file
    pictures = reader(source, data=data, work=work, labels=labels)
    found = len(pictures.train_images)
    if found != NUM_CIFAR10 and not allow_part:
        raise DataError(
            "these are not all training pictures of CIFAR-10",
            where=str(source),
            expected=f"{NUM_CIFAR10:,}",
            got=f"{found:,}",
            fix="give --cifar10 a folder train|test/<class>/*.jpg that has them all; --smoke "
            "tries the program on a part",
        )
    return pictures


def _from_file(source: Path, *, data: Path, work: Path, labels: str) -> Pictures:
    digest = _digest(_present(source))
    kept = work / f"cifar10-{digest}.npz"
    with np.load(source) as arrays:
        test_labels = arrays["test_labels"].astype(np.int64)
        if not kept.is_file():
            _keep(kept, *(_decode_all(arrays[p], arrays[f"{p}_offsets"], p) for p in PARTS))
    return _labelled(kept, test_labels, digest=digest, data=data, labels=labels)


def _from_folder(source: Path, *, data: Path, work: Path, labels: str) -> Pictures:
    classes = sorted(folder.name for folder in (source / "train").glob("*") if folder.is_dir())
    files = {part: [sorted((source / part / c).glob("*.*")) for c in classes] for part in PARTS}
    clean, _ = _human_labels(data, "clean_label")
    counts = [len(of_class) for of_class in files["train"]]
    if counts != np.bincount(clean, minlength=10).tolist():
        raise DataError(
            "the class folders have another number of pictures than the labels say",
            where=str(source / "train"),
            expected="10 folders of 5,000 pictures",
            got=", ".join(f"{c}: {n}" for c, n in zip(classes, counts, strict=True)) or "none",
        )
    digest = _digest_of_names(source, files)
    kept = work / f"cifar10-{digest}.npz"
    if not kept.is_file():
        train = np.empty((len(clean), 32, 32, 3), np.uint8)
        for k, of_class in enumerate(files["train"]):
            train[np.flatnonzero(clean == k)] = _read_all(of_class, f"train, {classes[k]}")
        test = np.concatenate([_read_all(of_class, "test") for of_class in files["test"]])
        _keep(kept, train, test)
    test_labels = np.repeat(np.arange(10), [len(of_class) for of_class in files["test"]])
    return _labelled(kept, test_labels, digest=digest, data=data, labels=labels)


def _labelled(
    kept: Path, test_labels: NDArray[np.int64], *, digest: str, data: Path, labels: str
) -> Pictures:
    """Decoded pictures with human labels."""
    clean, given = _human_labels(data, labels)
    with np.load(kept) as arrays:
        train, test = arrays["train"], arrays["test"]
    return Pictures(
        name=f"CIFAR-10, {len(train):,} training pictures, labels: {labels}",
        digest=f"{digest} {_digest(data / FOLDER / HUMAN)}",
        train_images=train,
        clean_labels=clean[: len(train)],
        labels=given[: len(train)],
        test_images=test,
        test_labels=test_labels,
    )


def _keep(kept: Path, train: NDArray[np.uint8], test: NDArray[np.uint8]) -> None:
    kept.parent.mkdir(parents=True, exist_ok=True)
    with atomic_writer(kept) as stream:
        np.savez(stream, train=train, test=test)


def _decode_all(
    data: NDArray[np.uint8], offsets: NDArray[np.int64], description: str
) -> NDArray[np.uint8]:
    ends = list(enumerate(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)))
    return np.stack(
        [
            decode_image(data[start:stop].tobytes(), where=f"{description} picture {row}")
            for row, (start, stop) in _shown(ends, f"decoding {description}")
        ]
    )


def _read_all(files: Sequence[Path], description: str) -> NDArray[np.uint8]:
    return np.stack([read_image(file) for file in _shown(files, f"reading {description}")])


def _shown(items: Sequence[T], description: str) -> Iterable[T]:
    return track(items, description, console=Console(stderr=True), transient=True)


def _human_labels(data: Path, name: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The true labels, and those of this name, of all 50,000."""
    file = _present(data / FOLDER / HUMAN)
    with np.load(file) as arrays:
        if name not in arrays:
            raise DataError(
                f"there are no labels {name}", where=str(file), expected=", ".join(arrays.files)
            )
        return arrays["clean_label"].astype(np.int64), arrays[name].astype(np.int64)


def _present(file: Path) -> Path:
    if not file.is_file():
        raise StorageError(
            "the data of this benchmark are not here",
            where=str(file),
            fix="give the folder that has label-noise/ by --data",
        )
    return file


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def _digest_of_names(source: Path, files: Mapping[str, Sequence[Sequence[Path]]]) -> str:
    """Of names and sizes: reading 60,000 files again would cost what the cache saves."""
    named = [
        f"{file.relative_to(source)} {file.stat().st_size}"
        for part in PARTS
        for of_class in files[part]
        for file in of_class
    ]
    return hashlib.sha256("\n".join(named).encode()).hexdigest()[:16]
