"""What a classifier says of rows that it has not seen: cross-validation with the recipe's model.

Every row is held out once a repeat; the classifier that judges it was trained on the other folds.
The folder of a search holds a run for each fold, so that a search that is stopped goes on in the
fold it was in, and finished folds are not trained again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tilth.curate.label_folds import fold_of_rows
from tilth.data.directories import PictureDataset
from tilth.data.frame_dataset import FrameDataset
from tilth.errors import SettingsError
from tilth.recipes.classify import ClassifyResult, train_classifier
from tilth.recipes.classify_settings import ClassifySettings
from tilth.seeding import derive_seed

__all__ = ["HeldOut", "held_out_probabilities", "probability_table"]


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOut:
    """Probabilities of n rows by models that have not seen them.

    Attributes:
        probabilities: float32 [n, k], the mean over the repeats.
        fold: int64 [r, n], the fold that held each row out, repeat by repeat.
        model: of each repeat and fold, a digest of the weights that judged it.
        seeds: of each repeat.
    """

    probabilities: NDArray[np.float32]
    fold: NDArray[np.int64]
    model: tuple[tuple[str, ...], ...]
    seeds: tuple[int, ...]


def held_out_probabilities(
    data: FrameDataset | PictureDataset,
    *,
    folder: Path,
    settings: ClassifySettings,
    folds: int = 4,
    repeats: int = 1,
    groups: NDArray[np.int64] | None = None,
    progress: bool = True,
) -> HeldOut:
    """Train a classifier a fold and ask each about the rows it has not seen.

    Args:
        folder: gets a run ``repeat-0/fold-0`` and so on; the same call goes on where it stopped.
        repeats: how often all rows are divided and judged anew, with another seed; the mean over
            several judges is steadier than one.
        groups: int64 [n], rows of one number are held out together.

    Raises:
        SettingsError: fewer than 2 folds or 1 repeat.
        DataError: too few rows or groups.
        TrainingError: the folder holds the folds of other data or settings.
    """
    if repeats < 1:
        raise SettingsError(
            "nothing would be judged", expected="1 repeat or more", got=f"{repeats}"
        )
    labels = np.asarray(data.labels)
    total = np.zeros((len(labels), len(data.class_names)))
    fold_rows, models, seeds = [], [], []
    for repeat in range(repeats):
        seed = derive_seed(settings.train.seed, "label errors", repeat) % 2**31
        own = replace(settings, train=replace(settings.train, seed=seed))
        fold = fold_of_rows(labels, folds=folds, seed=seed, groups=groups)
        judges = []
        for number in range(folds):
            held_out = np.flatnonzero(fold == number)
            run_dir = folder / f"repeat-{repeat}" / f"fold-{number}"
            result = train_classifier(
                data, run_dir=run_dir, settings=own, held_out_rows=held_out, progress=progress
            )
            total[held_out] += _judged(result, data, held_out)
            judges.append(_digest(result.fitted.best_weights))
        fold_rows.append(fold)
        models.append(tuple(judges))
        seeds.append(seed)
    return HeldOut(
        probabilities=(total / repeats).astype(np.float32),
        fold=np.stack(fold_rows),
        model=tuple(models),
        seeds=tuple(seeds),
    )


def probability_table(
    held_out: HeldOut, rows: NDArray[np.int64], labels: NDArray[np.int64], names: tuple[str, ...]
) -> pa.Table:
    """The probabilities as a table that stands for itself: row, label, who judged, and how.

    Args:
        rows: int64 [n], place of each row in the table or folder that was given.
        labels: int64 [n], places in ``names``.
    """
    columns: dict[str, pa.Array] = {
        "row": pa.array(rows, pa.int64()),
        "label": pa.array(names).take(pa.array(labels)),
    }
    for repeat, (fold, models) in enumerate(zip(held_out.fold, held_out.model, strict=True)):
        suffix = f" of repeat {repeat}" if len(held_out.seeds) > 1 else ""
        seeds = np.full(len(rows), held_out.seeds[repeat])
        columns[f"fold{suffix}"] = pa.array(fold, pa.int64())
        columns[f"seed{suffix}"] = pa.array(seeds, pa.int64())
        columns[f"model{suffix}"] = pa.array(models).take(pa.array(fold))
    for number, name in enumerate(names):
        values = np.ascontiguousarray(held_out.probabilities[:, number])
        columns[f"probability of {name}"] = pa.array(values, pa.float32())
    return pa.table(columns)


def _judged(
    result: ClassifyResult, data: FrameDataset | PictureDataset, held_out: NDArray[np.int64]
) -> NDArray[np.float64]:
    """float64 [h, k]: what the run says of its held-out rows."""
    rows = data.rows[held_out] if isinstance(data, FrameDataset) else held_out
    place = pa.array(rows)
    columns = [f"probability of {name}" for name in result.classifier.class_names]
    found = [result.predictions[name].take(place).to_numpy() for name in columns]
    return np.stack(found, axis=1).astype(np.float64)


def _digest(weights: Path) -> str:
    with weights.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=8)).hexdigest()
