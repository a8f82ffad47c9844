"""Search for wrong labels: held-out probabilities, judgement, ranked list, page.

data (table, folder, catalogue)
  -> groups      near-duplicates, derived media and a column are held out together
  -> judges      a classifier a fold, or probabilities from a file
  -> errors      `tilth.curate.label_errors`
  -> files       all rows with their scores, the wrong ones ranked, a page, the probabilities
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tilth.curate.label_error_records import (
    error_rows,
    label_table,
    noise_document,
    store_label_errors,
)
from tilth.curate.label_errors import LabelErrors, LabelErrorSettings, find_label_errors
from tilth.curate.label_folds import joined_groups
from tilth.data.directories import PictureDataset
from tilth.data.frame_dataset import FrameDataset
from tilth.data.project import Project
from tilth.errors import EmptyDatasetError, SettingsError
from tilth.recipes.catalogue_labels import CatalogueLabels, catalogue_labels
from tilth.recipes.classifier_runs import labelled_data
from tilth.recipes.classify import labelled_rows
from tilth.recipes.classify_settings import ClassifySettings
from tilth.recipes.held_out_probabilities import held_out_probabilities, probability_table
from tilth.recipes.label_error_groups import duplicate_groups, groups_of_column
from tilth.recipes.probability_file import read_probabilities
from tilth.recipes.report.label_errors import write_label_error_report
from tilth.recipes.run_names import new_run
from tilth.recipes.table_files import read_table, write_table

__all__ = ["LabelSearchSettings", "search_label_errors", "write_list"]

SHOWN_CHARACTERS = 80
LIST = {
    "rank": pa.int64(),
    "row": pa.int64(),
    "name": pa.string(),
    "given_label": pa.string(),
    "suggested_label": pa.string(),
    "predicted_label": pa.string(),
    "quality": pa.float64(),
    "margin": pa.float64(),
}


@dataclass(frozen=True, kw_only=True)
class LabelSearchSettings:
    """How a set is searched.

    Attributes:
        folds: into how many parts the rows are divided; each is judged by a model of the others.
        repeats: how often, each time divided anew.
        group: a column of the table; rows of one value are held out together.
        only: ``COLUMN=VALUE``: search these rows of the table and leave the others alone.
        near_duplicates: hold near-duplicates out together.
        errors: what is taken for wrong, and what it is ranked by.
    """

    folds: int = 4
    repeats: int = 1
    group: str = ""
    only: str = ""
    near_duplicates: bool = True
    errors: LabelErrorSettings = field(default_factory=LabelErrorSettings)

    def __post_init__(self) -> None:
        if self.folds < 2 or self.repeats < 1:
            raise SettingsError(
                "labels cannot be held out",
                expected="2 folds or more, 1 repeat or more",
                got=f"{self.folds} folds, {self.repeats} repeats",
            )
        if self.only and "=" not in self.only:
            raise SettingsError("rows cannot be chosen", expected="COLUMN=VALUE", got=self.only)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Searched:
    """The data of a search: places in what was given, and what they are called."""

    data: FrameDataset | PictureDataset
    rows: NDArray[np.int64]  # [n], in the table or folder that was given
    names: list[str]
    groups: list[NDArray[np.int64]]
    catalogue: CatalogueLabels | None = None


def search_label_errors(
    root: Path,
    *,
    data: Path | None,
    settings: ClassifySettings,
    search: LabelSearchSettings,
    name: str,
    probabilities: Path | None = None,
    task: str = "classification",
    split: str = "train",
    progress: bool = True,
) -> dict[str, Any]:
    """Judge all labels of a table, a folder, or a project; the run's folder is ``runs/<name>/``.

    It then holds ``labels.parquet`` (all rows with their scores), ``label_errors.csv`` (those taken
    for wrong, the worst first), ``probabilities.parquet`` and ``report.html``. No label is changed
    and no row removed, here or anywhere else.

    Args:
        data: None for the labels of whole pictures in the project's catalogue, whose scores then
            stand in the catalogue too; of ``split`` alone.
        probabilities: of models that have not seen the labels; nothing is trained then.

    Raises:
        DataError, EmptyDatasetError, MediaError: the data cannot be used; says where.
        TrainingError: the folder holds a search of other data or settings.
        SettingsError: see `new_run`.
    """
    project = Project.open(root)
    folder = new_run(project, name)
    searched = _searched(project, data, settings, search, task, split, progress)
    chances = _probabilities(searched, folder, settings, search, probabilities, progress)
    labels = np.asarray(searched.data.labels)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        errors = find_label_errors(labels, chances, settings=search.errors)
    if searched.catalogue is not None:
        store_label_errors(
            project.catalogue,
            searched.catalogue.annotation_ids,
            searched.catalogue.category_index,
            errors,
        )
    written = _write(folder, searched, errors, labels)
    return {
        "run": name,
        "folder": folder,
        "rows": len(labels),
        "found": len(errors.ranked),
        "filter": search.errors.filter,
        "score": search.errors.score,
        "folds": None if probabilities is not None else search.folds,
        "notices": [str(one.message) for one in told],
        "noise": noise_document(errors.noise, searched.data.class_names),
        "errors": written.to_pylist(),
        "report": folder / "report.html",
        "list": folder / "label_errors.csv",
        "labels": folder / "labels.parquet",
        "probabilities": probabilities or folder / "probabilities.parquet",
    }


def write_list(errors: list[dict[str, Any]], path: Path) -> None:
    """Write the ranked list of a search once more, as the file's suffix says.

    Raises:
        DataError: another suffix than a table's.
        StorageError: the disk refused.
    """
    columns = {name: pa.array([row[name] for row in errors], kind) for name, kind in LIST.items()}
    write_table(pa.table(columns), path)


def _searched(
    project: Project,
    data: Path | None,
    settings: ClassifySettings,
    search: LabelSearchSettings,
    task: str,
    split: str,
    progress: bool,
) -> _Searched:
    if data is None:
        found = catalogue_labels(project, task=task, split=split)
        return _Searched(
            data=found.pictures,
            rows=np.arange(len(found.uris)),
            names=list(found.uris),
            groups=[found.groups],
            catalogue=found,
        )
    if data.is_dir():
        rows, _ = labelled_data(data, settings, progress)
        if search.only or search.group:
            raise SettingsError("a folder has no columns", got=f"{search.only or search.group}")
        if isinstance(rows, FrameDataset):
            return _Searched(data=rows, rows=rows.rows, names=_text_names(rows), groups=[])
        names = [path.relative_to(data).as_posix() for path in rows.files]
        return _Searched(data=rows, rows=np.arange(len(names)), names=names, groups=[])
    return _of_table(data, settings, search, progress)


def _of_table(
    path: Path, settings: ClassifySettings, search: LabelSearchSettings, progress: bool
) -> _Searched:
    table = read_table(path)
    kept = np.arange(len(table))
    if search.only:
        column, _, value = search.only.partition("=")
        kept = np.flatnonzero(_equals(table, column, value))
        if not len(kept):
            raise EmptyDatasetError("no row is to be searched", where=str(path), got=search.only)
    rows = labelled_rows(table.take(pa.array(kept)), settings, progress=progress)
    places = kept[rows.rows]
    groups = [groups_of_column(table, search.group, places)] if search.group else []
    return _Searched(data=rows, rows=places, names=_text_names(rows), groups=groups)


def _probabilities(
    searched: _Searched,
    folder: Path,
    settings: ClassifySettings,
    search: LabelSearchSettings,
    given: Path | None,
    progress: bool,
) -> NDArray[np.floating]:
    class_names = searched.data.class_names
    if given is not None:
        return read_probabilities(given, class_names, searched.rows)
    groups = list(searched.groups)
    if search.near_duplicates:
        groups.append(duplicate_groups(searched.data, progress=progress))
    held_out = held_out_probabilities(
        searched.data,
        folder=folder,
        settings=settings,
        folds=search.folds,
        repeats=search.repeats,
        groups=joined_groups(*groups) if groups else None,
        progress=progress,
    )
    labels = np.asarray(searched.data.labels)
    table = probability_table(held_out, searched.rows, labels, class_names)
    write_table(table, folder / "probabilities.parquet")
    return held_out.probabilities


def _write(
    folder: Path, searched: _Searched, errors: LabelErrors, labels: NDArray[np.int64]
) -> pa.Table:
    """Write all rows, the list and the page; the list."""
    class_names = searched.data.class_names
    table = label_table(errors, labels, class_names, rows=searched.rows, names=searched.names)
    found = error_rows(table)
    write_table(table, folder / "labels.parquet")
    write_table(found, folder / "label_errors.csv")
    pictures = searched.data.files if isinstance(searched.data, PictureDataset) else None
    write_label_error_report(
        folder / "report.html",
        errors.noise,
        class_names,
        found,
        num_rows=len(errors),
        pictures=None if pictures is None else [pictures[row] for row in errors.ranked.tolist()],
    )
    return found


def _equals(table: pa.Table, column: str, value: str) -> NDArray[np.bool_]:
    if column not in table.column_names:
        raise SettingsError(
            "rows cannot be chosen",
            expected=f"a column of the table: {', '.join(table.column_names)}",
            got=column,
        )
    texts = pc.cast(table[column], pa.string())
    return np.asarray(pc.fill_null(pc.equal(texts, value), False))


def _text_names(data: FrameDataset) -> list[str]:
    column = data.columns.index or data.columns.text
    if column is None:
        return [f"row {row}" for row in data.rows.tolist()]
    texts = data.table[column].to_pylist()
    return [" ".join(str(text).split())[:SHOWN_CHARACTERS] for text in texts]
