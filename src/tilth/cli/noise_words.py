"""What the options of `tilth noise inject` say: classes by name, numbers from files."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tilth.errors import SettingsError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tilth.data.dataset import Dataset
    from tilth.data.noise_injection import Injected
    from tilth.data.records import Category

__all__ = ["WantedNoise", "box_rates", "class_pairs", "numbers_in", "superclass_numbers"]


# Option -> kinds that read it. Beside another kind it would change nothing, and nobody would know.
READERS = {
    "flip": ("asymmetric",),
    "superclass": ("superclass",),
    "features": ("instance_dependent",),
    "matrix": ("matrix", "asymmetric", "swapped"),
    "moves": ("moved",),
}
DEFAULT_MOVES = {"shift": 0.3, "scale": 0.3}


@dataclass(frozen=True, kw_only=True)
class WantedNoise:
    """The noise as the options say it; see `tilth noise inject`."""

    kinds: list[str]
    rates: list[float]
    seed: int
    flip: list[str] | None
    superclass: list[str] | None
    matrix: Any
    features: Any
    rate_of: str
    exact: bool
    moves: dict[str, float]
    split: str | None

    def __post_init__(self) -> None:
        for name, readers in READERS.items():
            value = getattr(self, name)
            is_default = value is None or (name == "moves" and value == DEFAULT_MOVES)
            if is_default or set(readers) & set(self.kinds):
                continue
            option = "--shift and --scale are" if name == "moves" else f"--{name} is"
            raise SettingsError(
                f"{option} not read by this kind of noise",
                expected=f"--kind {' or '.join(readers)}",
                got=f"--kind {', '.join(self.kinds)}",
            )

    @property
    def is_of_boxes(self) -> bool:
        """Whether all kinds are faults of boxes."""
        from tilth.data.box_noise_record import BOX_NOISE_KINDS

        of_boxes = [kind in BOX_NOISE_KINDS for kind in self.kinds]
        if any(of_boxes) and not all(of_boxes):
            raise SettingsError(
                "noise of boxes and noise of classes do not go together",
                expected=f"some of {', '.join(BOX_NOISE_KINDS)}, or one of the others",
                got=", ".join(self.kinds),
            )
        return all(of_boxes)

    def of_classes(self, categories: Sequence[Category] | Sequence[str]) -> dict[str, Any]:
        """The keywords of `inject_label_noise`."""
        if self.is_of_boxes or len(self.kinds) > 1 or len(self.rates) > 1:
            raise SettingsError(
                "classes have one kind of noise, with one rate",
                expected="--kind symmetric_flip --rate 0.2, say",
                got=f"kinds {', '.join(self.kinds)}; rates {self.rates}",
            )
        is_superclass = self.kinds[0] == "superclass"
        return {
            "kind": self.kinds[0],
            "rate": self.rates[0] if self.rates else None,
            "seed": self.seed,
            "flips": class_pairs(self.flip, _names(categories)),
            "superclasses": superclass_numbers(self.superclass, categories)
            if is_superclass
            else None,
            "matrix": self.matrix,
            "features": self.features,
            "rate_of": self.rate_of,
            "exact": self.exact,
        }

    def into(self, dataset: Dataset) -> tuple[Dataset, Injected]:
        """A data set with this noise in its boxes or in the classes of its pictures."""
        from tilth.data.box_noise_record import BoxNoiseSettings
        from tilth.data.noise_injection import boxes_with_noise, classes_with_noise
        from tilth.data.records import Split

        split = None if self.split is None else Split[self.split.upper()]
        if not self.is_of_boxes:
            noise = self.of_classes(dataset.categories)
            return classes_with_noise(dataset, split=split, **noise)
        settings = BoxNoiseSettings(**box_rates(self.kinds, self.rates), **self.moves)
        return boxes_with_noise(
            dataset, settings, split=split, seed=self.seed, swap_matrix=self.matrix
        )


def box_rates(kinds: Sequence[str], rates: Sequence[float]) -> dict[str, float]:
    """The rate of each fault of boxes.

    Raises:
        SettingsError: a fault twice, or rates that do not pair with them.

    >>> box_rates(["missed", "moved"], [0.1, 0.2])
    {'missed': 0.1, 'moved': 0.2}
    """
    if len(kinds) != len(rates) or len(set(kinds)) < len(kinds):
        raise SettingsError(
            "every --kind of boxes has a --rate of its own, in the same order",
            expected="--kind missed --rate 0.1 --kind moved --rate 0.2",
            got=f"kinds {', '.join(kinds)}; rates {', '.join(map(str, rates)) or 'none'}",
        )
    return dict(zip(kinds, rates, strict=True))


def class_pairs(pairs: Sequence[str] | None, names: Sequence[str]) -> dict[int, int] | str | None:
    """``cat=dog`` as places in ``names``; the name of a known map as it is.

    >>> class_pairs(["cat=dog", "dog=cat"], ["cat", "cow", "dog"])
    {0: 2, 2: 0}
    """
    if not pairs:
        return None
    if len(pairs) == 1 and "=" not in pairs[0]:
        return pairs[0]
    return {
        _place(source, names, "--flip"): _place(target, names, "--flip")
        for source, target in (_pair(text, "--flip", "CLASS=CLASS") for text in pairs)
    }


def superclass_numbers(
    pairs: Sequence[str] | None, categories: Sequence[Category] | Sequence[str]
) -> list[int] | str | None:
    """A number for the superclass of each class: as said, else as the data set has it.

    >>> superclass_numbers(["cat=pet", "dog=pet", "cow=stock"], ["cat", "cow", "dog"])
    [0, 1, 0]
    """
    names, groups_of = _names(categories), [getattr(one, "supercategory", "") for one in categories]
    if pairs and len(pairs) == 1 and "=" not in pairs[0]:
        return pairs[0]
    if pairs:
        said = {
            _place(name, names, "--superclass"): group
            for name, group in (_pair(text, "--superclass", "CLASS=SUPERCLASS") for text in pairs)
        }
    else:
        said = {place: group for place, group in enumerate(groups_of) if group}
        if not said:
            return None
    groups = {group: number for number, group in enumerate(sorted(set(said.values())))}
    # A class of which nothing is said is alone.
    return [groups[said[k]] if k in said else len(groups) + k for k in range(len(names))]


def numbers_in(path: Path | None, option: str) -> NDArray[np.float64] | None:
    """The numbers of a file: ``.npy``, or ``.csv`` without a header.

    Raises:
        SettingsError: no such file, or no numbers in it.
    """
    if path is None:
        return None
    import numpy as np

    try:
        if path.suffix == ".npy":
            return np.load(path, allow_pickle=False).astype(np.float64)
        return np.loadtxt(path, delimiter=",", ndmin=2)
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"the numbers of {option} cannot be read",
            where=str(path),
            expected="an array of NumPy (.npy), or lines of numbers with commas between",
            got=str(error),
        ) from error


def _names(categories: Sequence[Category] | Sequence[str]) -> list[str]:
    return [one if isinstance(one, str) else one.name for one in categories]


def _pair(text: str, option: str, form: str) -> tuple[str, str]:
    left, equals, right = text.partition("=")
    if not (left and equals and right):
        raise SettingsError(f"{option} cannot be read", expected=form, got=text)
    return left, right


def _place(name: str, names: Sequence[str], option: str) -> int:
    if name in names:
        return list(names).index(name)
    near: list[Any] = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    raise SettingsError(
        f"{option} names a class that is not there",
        expected=", ".join(names[:20]) + (", ..." if len(names) > 20 else ""),
        got=name,
        fix=f"did you mean '{near[0]}'?" if near else None,
    )
