"""Runs of one classifier on files: train it on labelled ones, name the class of new ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tilth.data.directories import PictureDataset, from_directory
from tilth.data.frame_dataset import FrameDataset
from tilth.data.images import PICTURE_SUFFIXES
from tilth.data.project import Project
from tilth.errors import DataError, EmptyDatasetError
from tilth.metrics.classification import ClassificationScores, classification_scores
from tilth.recipes.classifier import Classifier, Labelled, load_classifier
from tilth.recipes.classify import labelled_rows, train_classifier
from tilth.recipes.classify_settings import ClassifySettings
from tilth.recipes.picture_folder import PictureFolder
from tilth.recipes.run_names import existing_run, new_run
from tilth.recipes.table_files import TABLE_SUFFIXES, read_table, with_predictions, write_table

__all__ = ["classify", "labelled_data", "train"]


def train(
    root: Path, *, data: Path, settings: ClassifySettings, name: str, progress: bool
) -> dict[str, Any]:
    """Train on a table or folder; the run's folder is ``runs/<name>/``.

    Raises:
        DataError, EmptyDatasetError, MediaError: the data cannot be used; says where.
        TrainingError: the folder holds a run of other data or settings.
        SettingsError: see `new_run`.
    """
    run_dir = new_run(Project.open(root), name)
    rows, table = labelled_data(data, settings, progress)
    result = train_classifier(
        rows, run_dir=run_dir, settings=settings, table=table, progress=progress
    )
    return {
        "run": name,
        "folder": run_dir,
        "classes": len(result.classifier.class_names),
        "rows": result.num_rows,
        "steps": result.fitted.steps,
        "resumed_from": result.fitted.resumed_from,
        "seconds": round(result.fitted.seconds, 1),
        **_numbers(result.scores),
        "temperature": result.classifier.temperature,
        "class_names": list(result.classifier.class_names),
        "confusion": result.scores.confusion.tolist(),
        "report": result.report,
        "predictions": run_dir / "predictions.parquet",
        **({"instance_weights": result.instance_weights} if result.instance_weights else {}),
        **(
            {"metric": result.metric, "metric_page": result.metric_page}
            if settings.loss.is_on
            else {}
        ),
        "notices": list(result.notices),
    }


def classify(root: Path | None, *, run: str, data: Path, output: Path | None) -> dict[str, Any]:
    """Write the rows of a table, or the names of pictures, with their predictions.

    Args:
        root: the project that ``run`` is a name in; None where ``run`` is a folder.
        output: where to; beside ``data`` where it is None.

    Raises:
        DataError: the table lacks a column, or a label is none of the classes.
        MediaError: a picture that cannot be read.
    """
    folder = Path(run) if root is None else existing_run(Project.open(root), run)
    classifier = load_classifier(folder)
    if classifier.reads_pictures:
        pictures = _pictures(data, classifier)
        rows: Labelled = pictures
        table = pa.table({"file": [path.relative_to(data).as_posix() for path in pictures.paths]})
        labels = None
    else:
        table = read_table(data)
        label = classifier.columns.label if classifier.columns is not None else None
        is_labelled = label in table.column_names and not table.column(label).null_count
        rows = classifier.rows(table, labelled=is_labelled)
        labels = rows.labels if is_labelled else None
    probabilities = classifier.probabilities(rows)
    if output is None:
        suffix = data.suffix if data.suffix in TABLE_SUFFIXES else ".csv"
        output = data.with_name(f"{data.stem}-classified{suffix}")
    names = classifier.class_names
    write_table(with_predictions(table, rows.rows, probabilities, names), output)
    counts = np.bincount(probabilities.argmax(axis=1), minlength=len(names))
    scores = None if labels is None else classification_scores(probabilities, labels)
    return {
        "run": run,
        "rows": len(table),
        "rows_without_prediction": len(table) - len(rows),
        "predictions": dict(zip(names, counts.tolist(), strict=True)),
        "written": output,
        **({} if scores is None else _numbers(scores)),
    }


def labelled_data(
    data: Path, settings: ClassifySettings, progress: bool
) -> tuple[FrameDataset | PictureDataset, pa.Table | None]:
    """The rows of a table or folder, and the table that they are rows of.

    Raises:
        DataError, EmptyDatasetError: the data cannot be used; says where.
    """
    if not data.exists():
        raise DataError("the data is not there", where=str(data))
    if not data.is_dir():
        table = read_table(data)
        return labelled_rows(table, settings, progress=progress), table
    found = from_directory(data, shuffle=False)
    if isinstance(found, PictureDataset):
        return found, None
    text, label = settings.data.text, settings.data.label
    names = {found.columns.text: text, found.columns.label: label}
    table = found.table.rename_columns([names.get(name, name) for name in found.table.column_names])
    return labelled_rows(table, settings, progress=progress), table


def _pictures(data: Path, classifier: Classifier) -> PictureFolder:
    """All pictures below a folder; their classes are what is asked for."""
    if not data.is_dir():
        raise DataError("this classifier reads pictures", where=str(data), expected="a folder")
    paths = tuple(
        path
        for path in sorted(data.rglob("*"))
        if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file()
    )
    if not paths:
        raise EmptyDatasetError("no picture in the folder", where=str(data))
    nothing = np.zeros(len(paths), dtype=np.int64)
    return PictureFolder(
        root=data,
        paths=paths,
        labels=nothing,
        rows=np.arange(len(paths)),
        class_names=classifier.class_names,
        size=classifier.settings.picture.size,
        flip=False,
        shift=0.0,
    )


def _numbers(scores: ClassificationScores) -> dict[str, float]:
    return {
        "accuracy": scores.accuracy,
        "majority_accuracy": scores.majority_accuracy,
        "balanced_accuracy": scores.balanced_accuracy,
        "macro_f1": scores.macro_f1,
        "log_loss": scores.log_loss,
        "brier": scores.brier,
        "calibration_error": scores.calibration_error,
    }
