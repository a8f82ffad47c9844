"""From labelled rows or pictures to a classifier: data, model, loss, loop, evaluation.

Rows are divided three ways. Most are trained on; a tenth of those chooses the weights that are kept
(and the temperature, where one is asked for); the held-out fifth does neither, and the scores are
its.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tilth.config import settings_to_dict
from tilth.data.directories import PictureDataset
from tilth.data.frame_columns import ColumnSettings
from tilth.data.frame_dataset import FrameDataset, TextSettings
from tilth.data.frame_table import refuse_missing_columns
from tilth.errors import DataError
from tilth.losses.classification import example_losses, weighted_mean
from tilth.metrics.classification import (
    ClassificationScores,
    classification_scores,
    fit_temperature,
)
from tilth.recipes.classifier import (
    Classifier,
    Labelled,
    forward,
    logits_of,
    new_network,
    save_classifier,
)
from tilth.recipes.classify_settings import ClassifySettings
from tilth.recipes.learned_metric import (
    class_probabilities,
    metric_identity,
    metric_processes,
    with_metric,
)
from tilth.recipes.metric_judge import Judge, judging
from tilth.recipes.metric_record import metric_notices, write_metric_watch
from tilth.recipes.picture_folder import PictureFolder
from tilth.recipes.report.classification import write_classification_report
from tilth.recipes.robust_training import (
    Numbered,
    frozen_within,
    robust_loss,
    told,
    write_weights,
)
from tilth.recipes.table_files import with_predictions, write_table
from tilth.seeding import seed_everything
from tilth.train.checkpoint import load_weights
from tilth.train.loop import FitResult, fit
from tilth.train.processes import is_main

__all__ = ["ClassifyResult", "labelled_rows", "train_classifier"]


@dataclass(frozen=True, kw_only=True)
class ClassifyResult:
    """What a run made.

    Attributes:
        classifier: with the weights that the validation rows chose.
        scores: on the held-out rows.
        predictions: all rows that were given, each with its prediction and the part it was in.
        report: the page in the run's folder.
        instance_weights: file of the mean weight of every training row, where the settings keep it.
        metric: of the settings, on rows that were held out; None without one.
        metric_page: how far what was believed of the metric was true; None without one.
        notices: what the run found worth saying.
    """

    classifier: Classifier
    scores: ClassificationScores
    predictions: pa.Table
    report: Path
    fitted: FitResult
    num_rows: dict[str, int]
    instance_weights: Path | None = None
    metric: float | None = None
    metric_page: Path | None = None
    notices: tuple[str, ...] = ()


def labelled_rows(frame: Any, settings: ClassifySettings, *, progress: bool = True) -> FrameDataset:
    """The rows of a frame under the columns that the settings name.

    Args:
        frame: of a table of Arrow's, an empty text is no label: that is how CSV files and pandas
            write a missing one.

    Raises:
        DataError: a column is missing, or holds what cannot be used; all rows are of one class.
    """
    data = settings.data
    if isinstance(frame, pa.Table):
        _refuse_missing_column(frame, "text", data.text)
        _refuse_missing_column(frame, "label", data.label)
        frame = _with_missing_labels(frame, data.label)
    columns = ColumnSettings(
        text=data.text,
        label=data.label,
        numeric=data.numeric,
        categorical=data.categorical,
        weight=data.weight or None,
        on_missing=data.on_missing,
        on_empty=data.on_empty,
    )
    texts = TextSettings(
        max_tokens=data.max_tokens, min_count=data.min_count, max_length=data.max_length
    )
    try:
        return FrameDataset.of(frame, columns, texts, progress=progress)
    except DataError as error:
        for name in ("on_missing", "on_empty"):
            if f"{name}='drop'" in (error.fix or ""):
                error.fix = f"{error.fix} (--set data.{name}=drop)"
        raise


def _refuse_missing_column(table: pa.Table, what: str, name: str) -> None:
    try:
        refuse_missing_columns([name], table.column_names)
    except DataError as error:
        error.fix = f"{error.fix} (--{what} COLUMN, or data.{what} in the settings)"
        raise


def _with_missing_labels(table: pa.Table, label: str) -> pa.Table:
    """The table with nulls in the place of labels that are empty texts."""
    place = table.column_names.index(label)
    values = table.column(place)
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        return table
    is_empty = pc.equal(values, pa.scalar("", values.type))
    kept = pc.if_else(is_empty, pa.scalar(None, values.type), values)
    return table.set_column(place, table.schema.field(place).with_nullable(True), kept)


def train_classifier(
    data: FrameDataset | PictureDataset,
    *,
    run_dir: Path,
    settings: ClassifySettings | None = None,
    table: pa.Table | None = None,
    held_out_rows: NDArray[np.int64] | None = None,
    progress: bool = True,
) -> ClassifyResult:
    """Train on ``data``; the same call after a kill goes on where it stopped.

    The folder then holds the classifier (`load_classifier`), ``report.html``, and
    ``predictions.parquet``.

    Args:
        data: from `tilth.data.from_frame`, `tilth.data.from_directory` or `labelled_rows`.
        table: the whole frame that ``data`` was taken from, for the predictions beside its rows;
            the columns of ``data`` where it is None.
        held_out_rows: int64, places in ``data`` that are held out in place of a random share.

    Raises:
        DataError: too few rows to divide.
        TrainingError: the folder holds a run of other data or settings.
        MediaError: a picture that cannot be read.
    """
    settings = ClassifySettings() if settings is None else settings

    # Data: who learns, who chooses, who is only asked.
    seed = settings.train.seed
    rows = data if isinstance(data, FrameDataset) else PictureFolder.of(data, settings.picture)
    if held_out_rows is None:
        rest, held_out = rows.split(settings.data.holdout, seed=seed)
    else:
        rest = rows.take(np.setdiff1d(np.arange(len(rows)), held_out_rows))
        held_out = rows.take(held_out_rows)
    train, check = rest.split(settings.data.validation, seed=seed)
    if isinstance(held_out, FrameDataset) and isinstance(train, FrameDataset):
        held_out = replace(  # words that only validation has are unknown to both
            held_out, given_vocabulary=train.vocabulary, given_categories=train.categories
        )

    # Loss, and the model with what its loss remembers beside it.
    weights = None
    if settings.class_weights == "balanced":
        weights = torch.from_numpy(train.class_weights()).float()
    ordinary = robust_loss(train, settings, weights)
    seed_everything(seed)
    model = ordinary.network(partial(new_network, train, settings))
    batch_size = min(settings.batch_size, len(train))
    loss = with_metric(
        ordinary,
        settings.loss,
        outputs=class_probabilities(forward),
        inputs="table",
        steps=settings.train.steps,
        seed=seed,
        accumulate=settings.train.accumulate,
        batch_size=batch_size,
        says=progress and is_main(),
    )

    with judging(settings.loss) as judge:
        # Loop.
        with metric_processes(loss):
            fitted = fit(
                model,
                loss,
                Numbered(
                    batches=train.torch(batch_size=batch_size, seed=seed),
                    identity=_identity(train, settings),
                ),
                settings=replace(
                    settings.train, freeze=frozen_within(settings.train.freeze, model)
                ),
                run_dir=run_dir,
                evaluate=partial(_evaluated, check=check, class_weights=weights, judge=judge),
                progress=progress,
            )
        kept = write_weights(model, train, run_dir)
        notices = (*told(model, train.class_names), *metric_notices(loss))
        load_weights(fitted.best_weights, model)
        classifier = _classifier(ordinary.bare(model).eval(), train, settings)
        if settings.temperature:
            temperature = fit_temperature(classifier.logits(check), check.labels)
            classifier = replace(classifier, temperature=temperature)
        save_classifier(classifier, run_dir, bare=classifier.model is not model)

        # Evaluation.
        parts: dict[str, Labelled] = {"train": train, "validation": check, "held out": held_out}
        probabilities = {name: classifier.probabilities(part) for name, part in parts.items()}
        metric = None
        if judge is not None:
            metric = judge.value(probabilities["held out"], held_out.labels)
        page = write_metric_watch(run_dir, loss, seconds=fitted.seconds, held_out=metric)

    # Every row with its prediction.
    scores = classification_scores(probabilities["held out"], held_out.labels)
    numbers = {name: part.rows for name, part in parts.items()}
    predictions = with_predictions(
        _table(rows) if table is None else table,
        np.concatenate(list(numbers.values())),
        np.concatenate(list(probabilities.values())),
        classifier.class_names,
        parts=numbers,
    )
    write_table(predictions, run_dir / "predictions.parquet")
    num_rows = {name: len(part) for name, part in parts.items()}
    report = run_dir / "report.html"
    write_classification_report(
        report, scores, classifier.class_names, num_rows, metric=metric, metric_page=page
    )
    return ClassifyResult(
        classifier=classifier,
        scores=scores,
        predictions=predictions,
        report=report,
        fitted=fitted,
        num_rows=num_rows,
        instance_weights=kept,
        metric=metric,
        metric_page=page,
        notices=notices,
    )


def _evaluated(
    model: nn.Module, *, check: Labelled, class_weights: Tensor | None, judge: Judge | None
) -> dict[str, float]:
    """Of the validation rows; the loss decides, in which few rows tie less than in accuracy.

    It is plain cross-entropy whatever the loss that is trained with: no method is its own judge.
    A metric that the run is to better decides in its place, the true one.
    """
    logits = torch.from_numpy(logits_of(model, check.torch(batch_size=256, shuffle=False)))
    labels = torch.from_numpy(check.labels)
    weights = torch.ones(len(labels)) if class_weights is None else class_weights[labels]
    if isinstance(check, FrameDataset) and check.encoded.weight is not None:
        weights = weights * torch.from_numpy(check.encoded.weight)
    loss = weighted_mean(example_losses(logits, labels), weights)
    probabilities = torch.softmax(logits, dim=1).numpy()
    scores = classification_scores(probabilities, check.labels)
    return {
        "score": -loss.item(),
        "accuracy": scores.accuracy,
        "balanced_accuracy": scores.balanced_accuracy,
        **({} if judge is None else judge.evaluation(probabilities, check.labels)),
    }


def _classifier(model: nn.Module, train: Labelled, settings: ClassifySettings) -> Classifier:
    if isinstance(train, PictureFolder):
        return Classifier(model=model, settings=settings, class_names=train.class_names)
    return Classifier(
        model=model,
        settings=settings,
        class_names=train.class_names,
        columns=train.columns,
        vocabulary=train.vocabulary,
        max_length=train.text_settings.max_length,
        categories=train.categories,
    )


def _table(data: Labelled) -> pa.Table:
    if isinstance(data, PictureFolder):
        files = [path.relative_to(data.root).as_posix() for path in data.paths]
        return pa.table({"file": files, "label": [data.class_names[k] for k in data.labels]})
    places = np.full(int(data.rows.max()) + 1, -1)  # rows that were dropped become nulls
    places[data.rows] = np.arange(len(data))
    return data.table.take(pa.array(places, mask=places < 0))


def _identity(train: Labelled, settings: ClassifySettings) -> dict[str, Any]:
    if isinstance(train, PictureFolder):
        digest, network = train.digest, settings_to_dict(settings.picture)
    else:
        digest, network = _encoded_digest(train), settings_to_dict(settings.text)
    return {
        "num_rows": len(train),
        "digest": digest,
        "class_names": list(train.class_names),
        "network": network,
        "batch_size": settings.batch_size,
        "class_weights": settings.class_weights,
        "label_smoothing": settings.label_smoothing,
        **({"robust": settings_to_dict(settings.robust)} if settings.robust.is_on else {}),
        **metric_identity(settings.loss),
    }


def _encoded_digest(train: FrameDataset) -> str:
    encoded = train.encoded
    digest = hashlib.blake2b("\0".join(train.vocabulary.tokens).encode(), digest_size=16)
    arrays: list[NDArray[Any] | None] = [
        encoded.row,
        encoded.label,
        encoded.weight,
        encoded.numeric,
        encoded.categorical,
    ]
    if encoded.tokens is not None:
        arrays += [encoded.tokens.values, encoded.tokens.offsets]
    for array in arrays:
        if array is not None:
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
