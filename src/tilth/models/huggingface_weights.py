"""Published weights of a detector: found in a folder or on the hub, taken over for other classes.

Nothing is fetched unless a hub name is given, and then only what is not in the hub's cache already.
Only safetensors are read, and no code that a folder may bring is run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from tilth.data.atomic import atomic_folder
from tilth.errors import DataError, TrainingError
from tilth.lazy import require
from tilth.models.huggingface_architecture import CONFIG, PREPROCESSOR
from tilth.models.huggingface_detector import EXTRA, SECOND_NAMES, HuggingFaceDetector
from tilth.models.transfer import SkippedTensor, TransferReport

__all__ = [
    "carry_over",
    "num_classes_of",
    "published_path",
    "published_state",
    "published_weights",
    "refuse_other_network",
    "save_published",
]

HUB_NAME = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
FILES = [CONFIG, PREPROCESSOR, "*.safetensors", "*.safetensors.index.json"]
# One row a class; the embedding of denoising has another for "nothing", at the end.
BY_CLASS = re.compile(r"(class_embed\.\d+|enc_score_head|denoising_class_embed)\.(weight|bias)$")
SCORES = "network.model.enc_score_head.weight"


def published_path(source: str, *, root: Path) -> Path:
    """The folder, or ``config.json``, that ``source`` stands for.

    Args:
        source: a path, relative to ``root`` or absolute; or ``owner/name`` on the hub, with
            ``@revision`` where it must be a certain one. What lies on the disk comes first.

    Raises:
        DataError: there is no such path, or the hub cannot be reached and has not been before.
        MissingExtraError: a hub name is given, and the hub's library is not installed.
    """
    local = root / Path(source).expanduser()
    if local.exists():
        return local
    hub_name = HUB_NAME.fullmatch(source)
    if hub_name is None or local.suffix == ".json":
        raise DataError(
            "no such detector",
            where=str(local),
            expected="a folder with config.json and model.safetensors, or owner/name on the hub",
        )
    return _from_hub(hub_name["name"], hub_name["revision"])


def published_state(folder: Path) -> dict[str, Tensor]:
    """The weights of a published folder, by the names that `HuggingFaceDetector` has for them.

    Raises:
        DataError: no safetensors, or broken ones.
        TrainingError: weights are missing that the network needs.
    """
    published_weights(folder)
    transformers = require("transformers", extra=EXTRA)
    try:
        with _without_bars(transformers):
            network, said = transformers.AutoModelForObjectDetection.from_pretrained(
                folder,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
    except Exception as error:  # the library's own, and those of what it reads with
        raise DataError(
            "the published weights cannot be read", where=str(folder), got=str(error)
        ) from error
    missing = sorted(said["missing_keys"])
    if missing:
        raise TrainingError(
            "the published weights are of another network than their config.json says",
            where=str(folder),
            got=f"{len(missing)} tensors are missing, {missing[0]} first",
        )
    own = network.state_dict().items()
    return {f"network.{n}": value for n, value in own if n.partition(".")[0] not in SECOND_NAMES}


def published_weights(folder: Path) -> Path:
    """The file of weights in a published folder; the first where there are several.

    Raises:
        DataError: none in safetensors.
    """
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        raise DataError(
            "no weights in safetensors",
            where=str(folder),
            expected="model.safetensors; pickled weights (pytorch_model.bin) could run code",
            got=", ".join(sorted(path.name for path in folder.iterdir())) or "an empty folder",
            fix="convert them with transformers' save_pretrained, or name config.json itself to "
            "start from random weights",
        )
    return found[0]


def num_classes_of(state: Mapping[str, Tensor]) -> int:
    """How many classes the weights of a `HuggingFaceDetector` score; 0 where they do not say."""
    return len(state[SCORES]) if SCORES in state else 0


@torch.no_grad()
def carry_over(
    model: HuggingFaceDetector,
    state: Mapping[str, Tensor],
    class_rows: Sequence[int | None],
    *,
    class_names: Sequence[str] = (),
) -> TransferReport:
    """Take over whatever fits; of tensors with a row a class, the rows of the classes both know.

    Args:
        class_rows: for each class of ``model`` its number in ``state``, None for a new one, which
            keeps its random row.
        class_names: of ``model``, for the report.

    Returns:
        the tensors of which anything was taken, those of which nothing was, and the names of the
        classes that kept their scores.
    """
    own = model.state_dict()
    loaded, skipped = [], []
    for name, tensor in state.items():
        wanted = own.get(name)
        by_class = BY_CLASS.search(name) is not None
        if wanted is not None and by_class and wanted.shape[1:] == tensor.shape[1:]:
            taken = _take_rows(wanted, tensor, class_rows)
        elif wanted is not None and not by_class and wanted.shape == tensor.shape:
            wanted.copy_(tensor)
            taken = True
        else:
            taken = False
        if taken:
            loaded.append(name)
        else:
            wanted_shape = None if wanted is None else tuple(wanted.shape)
            skipped.append(SkippedTensor(name, tuple(tensor.shape), wanted_shape))
    kept = zip(class_names, class_rows, strict=False)
    names = tuple(name for name, row in kept if row is not None)
    return TransferReport(tuple(loaded), tuple(skipped), names)


def refuse_other_network(model: nn.Module, report: TransferReport, *, where: str) -> None:
    """Stop where anything but the rows of classes did not fit.

    Raises:
        TrainingError: the weights are of another network.
    """
    own = model.state_dict()
    wanted = [name for name in own if not BY_CLASS.search(name)]
    # A file holds one of several names of the same tensor.
    filled = {own[name].data_ptr() for name in report.loaded}
    missing = [name for name in wanted if own[name].data_ptr() not in filled]
    if missing:
        raise TrainingError(
            "the starting weights belong to another network",
            where=where,
            expected="weights of a network with the same description",
            got=f"{len(missing)} of {len(wanted)} tensors do not fit, {missing[0]} first",
        )


def save_published(model: HuggingFaceDetector, class_names: Sequence[str], folder: Path) -> None:
    """Write ``config.json``, ``model.safetensors`` and ``preprocessor_config.json``.

    transformers' own ``from_pretrained`` reads the folder, and so does ``model.hub``.

    Raises:
        SettingsError: the folder holds something already.
        StorageError: a write failed; there is no folder then.
    """
    transformers = require("transformers", extra=EXTRA)
    mean, std = model.architecture.image_mean, model.architecture.image_std
    preprocessor = {
        "image_processor_type": "RTDetrImageProcessor",
        "do_resize": True,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": mean != (0.0, 0.0, 0.0) or std != (1.0, 1.0, 1.0),
        "image_mean": mean,
        "image_std": std,
    }
    config = model.network.config
    config.id2label = dict(enumerate(class_names))
    config.label2id = {name: number for number, name in enumerate(class_names)}
    with atomic_folder(folder) as unfinished, _without_bars(transformers):
        model.network.save_pretrained(unfinished)
        (unfinished / PREPROCESSOR).write_bytes(msgspec.json.encode(preprocessor))


@contextmanager
def _without_bars(transformers: Any) -> Iterator[None]:
    """transformers draws bars for its own work, which takes no time here."""
    logging = transformers.utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _take_rows(wanted: Tensor, tensor: Tensor, class_rows: Sequence[int | None]) -> bool:
    pairs = [(new, old) for new, old in enumerate(class_rows) if old is not None]
    if len(wanted) == len(class_rows) + 1:  # the last one of each is "nothing"
        pairs.append((len(wanted) - 1, len(tensor) - 1))
    if pairs:
        new, old = zip(*pairs, strict=True)
        wanted[list(new)] = tensor[list(old)].to(wanted)
    return bool(pairs)


def _from_hub(name: str, revision: str | None) -> Path:
    """The hub's cache folder of a detector, filled first where it is not."""
    hub = require("huggingface_hub", extra=EXTRA)
    wanted: dict[str, Any] = {"revision": revision, "allow_patterns": FILES}
    try:
        cached = Path(hub.snapshot_download(name, local_files_only=True, **wanted))
        if any(cached.glob("*.safetensors")):
            return cached
    except OSError:  # not in the cache
        pass
    try:
        return Path(hub.snapshot_download(name, **wanted))
    except (OSError, ValueError) as error:  # the hub's own errors are OSErrors
        raise DataError(
            "the detector is not on this machine, and the hub does not give it",
            where=f"{name}@{revision}" if revision else name,
            expected="the name of a public detector and a way to the hub, or a local folder",
            got=str(error).strip().splitlines()[0],
            fix=f"on a connected machine: hf download {name} --local-dir FOLDER; copy the folder "
            "here and set model.hub to it",
        ) from error
