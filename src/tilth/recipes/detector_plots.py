"""What a run shows of itself, as files in its folder: ``plots/`` and ``results.csv``.

plots/batch-0.jpg ... batch-2.jpg   what the first steps learn from
plots/classes.svg, box-sizes.svg    the labels
plots/loss.svg, scores.svg          the run
plots/precision-recall.svg, f1.svg, confusion.svg   the best weights on the held-back pictures
results.csv                         one row an evaluation
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tilth.data.dataset import Dataset
from tilth.data.detections import Detections
from tilth.data.images import write_jpeg
from tilth.metrics.average_precision import average_precision
from tilth.metrics.confusion import confusion_matrix
from tilth.metrics.operating_points import score_curves
from tilth.recipes.batch_pictures import batch_picture
from tilth.recipes.report.detection_figures import (
    box_size_figure,
    class_count_figure,
    confusion_figure,
    f1_figure,
    precision_recall_figure,
)
from tilth.recipes.report.figure_file import write_figure
from tilth.recipes.report.training_figures import loss_figure, score_figure
from tilth.train.results_table import write_results_table
from tilth.train.trackers import read_records

__all__ = ["plot_data", "plot_detections", "plot_training"]

FIRST_BATCHES = 3


class _Batches(Protocol):
    def batch(self, step: int) -> Mapping[str, Any]: ...


def plot_data(run_dir: Path, batches: _Batches, dataset: Dataset) -> None:
    """Before the first step: the first batches, and the labels; what is there already stays.

    Raises:
        MediaError: a picture of the first batches cannot be read.
        StorageError: the disk refused.
    """
    folder = run_dir / "plots"
    names = [category.name for category in dataset.categories]
    for number in range(FIRST_BATCHES):
        path = folder / f"batch-{number}.jpg"
        if path.exists():
            continue
        batch = batches.batch(number)
        if "images" in batch:  # else they are made on the device, out of sight
            write_jpeg(path, batch_picture(batch, names))
    write_figure(folder / "classes.svg", class_count_figure(dataset))
    write_figure(folder / "box-sizes.svg", box_size_figure(dataset))


def plot_training(run_dir: Path, metrics: Path, *, steps_an_epoch: int) -> None:
    """After the last step: the curves of the run, and its table.

    Raises:
        StorageError: the disk refused.
    """
    records = read_records(metrics)
    folder = run_dir / "plots"
    write_figure(folder / "loss.svg", loss_figure(records))
    if any("evaluation" in record for record in records):
        write_figure(folder / "scores.svg", score_figure(records))
    write_results_table(run_dir / "results.csv", records, steps_an_epoch=steps_an_epoch)


def plot_detections(
    run_dir: Path, truth: Dataset, detections: Detections, class_names: Sequence[str]
) -> None:
    """How the detector does on ``truth``: curves, and what it mixes up.

    Raises:
        EmptyDatasetError, DataError: see `average_precision`.
        StorageError: the disk refused.
    """
    folder = run_dir / "plots"
    measured = average_precision(truth, detections)
    write_figure(folder / "precision-recall.svg", precision_recall_figure(measured))
    write_figure(folder / "f1.svg", f1_figure(score_curves(truth, detections), class_names))
    matrix = confusion_matrix(truth, detections)
    write_figure(folder / "confusion.svg", confusion_figure(matrix, class_names))
