"""A classifier as a run leaves it: the network, and all that turns new rows into its inputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tilth.data.atomic import atomic_writer
from tilth.data.frame_columns import ColumnSettings
from tilth.data.frame_dataset import FrameDataset, TextSettings
from tilth.data.vocabulary import Vocabulary
from tilth.errors import DataError
from tilth.models.small_cnn import SmallCnn
from tilth.models.text_classifier import TextClassifier
from tilth.recipes import classify_settings
from tilth.recipes.detector import device_for
from tilth.recipes.picture_folder import PictureFolder
from tilth.train.checkpoint import load_weights, save_weights

__all__ = ["Classifier", "Labelled", "load_classifier", "logits_of", "save_classifier"]

Labelled = FrameDataset | PictureFolder

RECORD, VOCABULARY = "classifier.json", "vocabulary.json"
# The first is there where a run's own weights hold more than the network's.
BARE_WEIGHTS = "classifier.safetensors"
WEIGHTS = (BARE_WEIGHTS, "best.safetensors", "last.safetensors")


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """A trained network.

    Attributes:
        columns, max_length, vocabulary, categories: of a text classifier; None of one of pictures.
        temperature: what logits are divided by before they become probabilities.
    """

    model: nn.Module
    settings: classify_settings.ClassifySettings
    class_names: tuple[str, ...]
    columns: ColumnSettings | None = None
    vocabulary: Vocabulary | None = None
    max_length: int | None = None
    categories: tuple[tuple[str, ...], ...] = ()
    temperature: float = 1.0

    @property
    def reads_pictures(self) -> bool:
        """Whether it was trained on pictures; otherwise on texts."""
        return self.columns is None

    def rows(self, frame: Any, *, labelled: bool = False) -> FrameDataset:
        """Rows of a new frame, ready for the network.

        Rows that lack something are left out; a text without a word stays.

        Args:
            labelled: read the label column too, to score predictions.

        Raises:
            DataError: a column is missing, or a label is none of the classes.
        """
        if self.columns is None:
            raise DataError("this classifier reads pictures", expected="a folder of pictures")
        columns = replace(
            self.columns,
            on_missing="drop",
            on_empty="keep",
            on_single="keep",
            weight=None,
            index=None,
        )
        return FrameDataset.of(
            frame,
            columns if labelled else replace(columns, label=None),
            TextSettings(max_length=self.max_length),
            class_names=self.class_names,
            given_vocabulary=self.vocabulary,
            given_categories=self.categories,
            progress=False,
        )

    def logits(self, data: Labelled) -> NDArray[np.float64]:
        """float64 [n, k], in the order of ``data``."""
        return logits_of(self.model, data.torch(batch_size=256, shuffle=False))

    def probabilities(self, data: Labelled) -> NDArray[np.float64]:
        """float64 [n, k], in the order of ``data``.

        Raises:
            MediaError: a picture that cannot be read.
        """
        scaled = torch.from_numpy(self.logits(data) / self.temperature)
        return torch.softmax(scaled, dim=1).numpy()


def logits_of(model: nn.Module, batches: Iterable[Mapping[str, Any]]) -> NDArray[np.float64]:
    """float64 [n, k]: what ``model`` says of every row of ``batches``."""
    device = next(model.parameters()).device
    with torch.no_grad():
        parts = [forward(model, _on(batch, device)).double().cpu() for batch in batches]
    return torch.cat(parts).numpy()


def forward(model: nn.Module, batch: Mapping[str, Any]) -> Tensor:
    """Logits [b, k] of a batch of pictures, or of texts and the columns beside them."""
    if "images" in batch:
        return model(batch["images"])
    return model(batch["tokens"], batch["lengths"], batch.get("numeric"), batch.get("categorical"))


def new_network(
    data: Labelled, settings: classify_settings.ClassifySettings
) -> TextClassifier | SmallCnn:
    """A network for this data, with its starting weights."""
    if isinstance(data, PictureFolder):
        return _picture_network(settings, len(data.class_names))
    columns = data.columns
    model = _text_network(
        settings, len(data.class_names), columns, data.vocabulary, data.categories
    )
    numeric = data.encoded.numeric
    if numeric is not None:
        model.set_standardisation(torch.from_numpy(numeric))
    return model


def save_classifier(classifier: Classifier, run_dir: Path, *, bare: bool = False) -> None:
    """Write all but the weights, which `fit` has written.

    Args:
        bare: write the network's weights too: what was trained was more than the network.

    Raises:
        StorageError: the disk refused.
    """
    if bare:
        save_weights(run_dir / BARE_WEIGHTS, classifier.model)
    if classifier.vocabulary is not None:
        classifier.vocabulary.save(run_dir / VOCABULARY)
    record = _Record(
        settings=classifier.settings,
        class_names=classifier.class_names,
        columns=classifier.columns,
        max_length=classifier.max_length,
        categories=classifier.categories,
        temperature=classifier.temperature,
    )
    with atomic_writer(run_dir / RECORD) as stream:
        stream.write(msgspec.json.format(msgspec.json.encode(record)))


def load_classifier(
    run_dir: Path, *, device: Literal["auto", "cpu", "cuda"] = "auto"
) -> Classifier:
    """The classifier that a run left behind, ready to use, on the device.

    Raises:
        DataError: the folder holds no classifier, or its record is broken.
        TrainingError: the weights are missing or broken.
    """
    path = run_dir / RECORD
    try:
        record = msgspec.json.decode(path.read_bytes(), type=_Record)
    except OSError as error:
        raise DataError(
            "no trained classifier here",
            where=str(run_dir),
            fix="tilth train classify DATA --name NAME",
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(
            "the classifier's record is broken", where=str(path), got=str(error)
        ) from error
    num_classes, vocabulary = len(record.class_names), None
    if record.columns is None:
        model: nn.Module = _picture_network(record.settings, num_classes)
    else:
        vocabulary = Vocabulary.load(run_dir / VOCABULARY)
        model = _text_network(
            record.settings, num_classes, record.columns, vocabulary, record.categories
        )
    found = [run_dir / name for name in WEIGHTS if (run_dir / name).is_file()]
    load_weights(found[0] if found else run_dir / WEIGHTS[0], model)
    return Classifier(
        model=model.to(device_for(device)).eval(),
        settings=record.settings,
        class_names=record.class_names,
        columns=record.columns,
        vocabulary=vocabulary,
        max_length=record.max_length,
        categories=record.categories,
        temperature=record.temperature,
    )


@dataclass(frozen=True, kw_only=True)
class _Record:
    """What ``classifier.json`` says."""

    settings: classify_settings.ClassifySettings
    class_names: tuple[str, ...]
    columns: ColumnSettings | None
    max_length: int | None
    categories: tuple[tuple[str, ...], ...]
    temperature: float
    format: Literal["tilth.classifier/1"] = "tilth.classifier/1"


def _text_network(
    settings: classify_settings.ClassifySettings,
    num_classes: int,
    columns: ColumnSettings,
    vocabulary: Vocabulary,
    categories: tuple[tuple[str, ...], ...],
) -> TextClassifier:
    text = settings.text
    return TextClassifier(
        len(vocabulary),
        num_classes,
        cell=text.cell,
        num_embedded=text.num_embedded,
        num_hidden=text.num_hidden,
        num_layers=text.num_layers,
        bidirectional=text.bidirectional,
        pooling=text.pooling,
        dropout=text.dropout,
        num_numeric=len(columns.numeric),
        category_sizes=[len(known) + 1 for known in categories],
    )


def _picture_network(settings: classify_settings.ClassifySettings, num_classes: int) -> SmallCnn:
    picture = settings.picture
    return SmallCnn(num_classes, width=picture.width, blocks=picture.blocks, stem=picture.stem)


def _on(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    return {
        name: value.to(device) if isinstance(value, Tensor) else value
        for name, value in batch.items()
    }
