"""What a detector of transformers is made of, as plain values that rebuild it without the hub.

The record holds the network's own configuration (``config.json`` of a published folder) and what
its pictures are normalised with (``preprocessor_config.json``). Where nothing is published, the
default of each kind is scaled by the width and depth that the settings have for every network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import msgspec

from tilth.data.atomic import atomic_writer
from tilth.errors import DataError, SettingsError

__all__ = [
    "MODEL_TYPES",
    "HuggingFaceArchitecture",
    "read_architecture",
    "read_published",
    "scaled_architecture",
    "with_config",
    "write_architecture",
]

CONFIG = "config.json"
PREPROCESSOR = "preprocessor_config.json"

MODEL_TYPES = {
    "d-fine": "d_fine",
    "rt-detr": "rt_detr",
    "rt-detr-v2": "rt_detr_v2",
    "deim-v2": "deimv2",
}
"""Variant in the settings -> ``model_type`` in transformers' configurations."""

# Said of the classes or of where a file came from, not of the network.
NOT_ARCHITECTURE = {
    "_name_or_path",
    "architectures",
    "auto_map",
    "dtype",
    "id2label",
    "label2id",
    "num_labels",
    "torch_dtype",
    "transformers_version",
}
# The sizes are only caches of what the network works out from a picture of any size. The prior is
# that of the papers; the library's own, 1 / (classes + 1), starts a detector of one class at 0.5.
OVERRIDDEN = {"anchor_image_size": None, "eval_size": None, "initializer_bias_prior_prob": 0.01}


@dataclass(frozen=True, kw_only=True)
class HuggingFaceArchitecture:
    """A network of transformers without its weights and without its classes.

    Attributes:
        config: arguments of the configuration class; ``model_type`` says which.
        image_mean, image_std: per channel of RGB in 0..1; zeros and ones where the network reads
            the pictures as they are.
        source: the folder or hub name that it was read from, "" for a network of our own.
    """

    config: dict[str, Any]
    image_mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    image_std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    source: str = ""
    format: Literal["tilth.huggingface/1"] = field(default="tilth.huggingface/1")

    def __post_init__(self) -> None:
        known = set(MODEL_TYPES.values())
        if self.config.get("model_type") not in known:
            raise SettingsError(
                "not a kind of detector that is known here",
                where=self.source or None,
                expected=f"model_type {', '.join(sorted(known))}",
                got=str(self.config.get("model_type")),
            )
        if not all(deviation > 0 for deviation in self.image_std):
            raise SettingsError(
                "pictures cannot be divided by their deviation",
                where=self.source or None,
                expected="three numbers above 0",
                got=str(self.image_std),
            )


def read_published(path: Path, *, source: str = "") -> tuple[HuggingFaceArchitecture, list[str]]:
    """The architecture of a published folder or ``config.json``, and the names of its classes.

    A folder's weights bring the statistics of their backbone, which stay as they are; without
    weights there are none yet, and they are learned like the rest.

    Raises:
        DataError: a file is missing or is not what transformers writes.
        SettingsError: the network is not one of `MODEL_TYPES`.
    """
    config_file = path / CONFIG if path.is_dir() else path
    config = _json(config_file)
    names = _class_names(config, config_file)
    preprocessor_file = config_file.parent / PREPROCESSOR
    preprocessor = _json(preprocessor_file) if preprocessor_file.is_file() else {}
    mean, std = _normalisation(preprocessor, preprocessor_file)
    if config.get("use_timm_backbone") or isinstance(config.get("backbone"), str):
        raise DataError(
            "the network's backbone is one of timm's, which Tilth does not use",
            where=str(config_file),
            expected="a backbone of transformers itself (backbone_config)",
            fix="choose another size of the detector",
        )
    architecture = HuggingFaceArchitecture(
        config={"model_type": config.get("model_type")},
        image_mean=mean,
        image_std=std,
        source=source or str(path),
    )
    learns_statistics = {"freeze_backbone_batch_norms": False} if path.is_file() else {}
    return with_config(architecture, config | OVERRIDDEN | learns_statistics), names


def with_config(
    architecture: HuggingFaceArchitecture, config: Mapping[str, Any]
) -> HuggingFaceArchitecture:
    """The same with another configuration, of which only what makes the network is kept."""
    kept = {key: value for key, value in config.items() if key not in NOT_ARCHITECTURE}
    as_written = msgspec.json.decode(msgspec.json.encode(kept))  # tuples become lists
    return replace(architecture, config=as_written)


def scaled_architecture(variant: str, *, width: float, depth: float) -> HuggingFaceArchitecture:
    """The default network of a variant with ``width`` times its channels and ``depth`` its blocks.

    Channels are multiples of 8 (of the transformer: 32), and there are at least two decoder layers,
    since the loss compares each with the last.

    >>> scaled_architecture("rt-detr", width=0.25, depth=0.5).config["d_model"]
    64
    """
    if not (width > 0 and depth > 0):
        raise SettingsError(
            "width and depth scale the network", expected="above 0", got=f"{width} and {depth}"
        )

    def channels(published: int) -> int:
        return max(8, round(published * width / 8) * 8)

    def blocks(published: int) -> int:
        return max(1, round(published * depth))

    hidden = max(32, round(256 * width / 32) * 32)
    backbone, outputs = BACKBONES[MODEL_TYPES[variant]](channels, blocks)
    config = {
        "model_type": MODEL_TYPES[variant],
        "backbone_config": backbone,
        "encoder_in_channels": outputs,
        "encoder_hidden_dim": hidden,
        "encoder_ffn_dim": 4 * hidden,
        "d_model": hidden,
        "decoder_in_channels": [hidden] * 3,
        "decoder_ffn_dim": 4 * hidden,
        "decoder_layers": max(2, blocks(6)),
        # There are no statistics to keep yet.
        "freeze_backbone_batch_norms": False,
    }
    if variant in {"d-fine", "deim-v2"}:
        config["depth_mult"] = min(1.0, depth)
    return HuggingFaceArchitecture(config=config | OVERRIDDEN)


def write_architecture(architecture: HuggingFaceArchitecture, path: Path) -> None:
    """Write the record as JSON, whole or not at all."""
    with atomic_writer(path) as stream:
        stream.write(msgspec.json.format(msgspec.json.encode(architecture)))


def read_architecture(path: Path) -> HuggingFaceArchitecture:
    """What `write_architecture` wrote.

    Raises:
        DataError: there is no such file, or it is broken.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=HuggingFaceArchitecture)
    except OSError as error:
        raise DataError("the network's description is missing", where=str(path)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(
            "the network's description is broken", where=str(path), got=str(error)
        ) from error


Scale = Callable[[int], int]


def _hgnet(channels: Scale, blocks: Scale) -> tuple[dict[str, Any], list[int]]:
    """HGNetV2 with the stages of D-FINE's large network."""
    outputs = [channels(each) for each in (128, 512, 1024, 2048)]
    stem = [3, channels(32), channels(48)]
    backbone = {
        "model_type": "hgnet_v2",
        "stem_channels": stem,
        "embedding_size": stem[-1],
        "hidden_sizes": outputs,
        "stage_in_channels": [stem[-1], *outputs[:3]],
        "stage_mid_channels": [channels(each) for each in (48, 96, 192, 384)],
        "stage_out_channels": outputs,
        "stage_num_blocks": [blocks(each) for each in (1, 1, 3, 1)],
        "stage_numb_of_layers": [max(2, blocks(6))] * 4,
        "out_indices": [2, 3, 4],
    }
    return backbone, outputs[1:]


def _resnet(channels: Scale, blocks: Scale) -> tuple[dict[str, Any], list[int]]:
    """ResNet-50 with the stem of RT-DETR."""
    outputs = [channels(each) for each in (256, 512, 1024, 2048)]
    backbone = {
        "model_type": "rt_detr_resnet",
        "embedding_size": channels(64),
        "hidden_sizes": outputs,
        "depths": [blocks(each) for each in (3, 4, 6, 3)],
        "layer_type": "bottleneck",
        "out_indices": [2, 3, 4],
    }
    return backbone, outputs[1:]


BACKBONES = {"d_fine": _hgnet, "deimv2": _hgnet, "rt_detr": _resnet, "rt_detr_v2": _resnet}


def _json(path: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except OSError as error:
        raise DataError(
            "no published detector here",
            where=str(path),
            expected="a folder as transformers writes it: config.json beside model.safetensors",
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError("not a JSON object", where=str(path), got=str(error)) from error


def _class_names(config: Mapping[str, Any], path: Path) -> list[str]:
    """The names in the order of their numbers; none where only a count is given."""
    id2label = config.get("id2label") or {}
    try:
        by_number = {int(number): str(name) for number, name in id2label.items()}
    except (AttributeError, ValueError) as error:
        raise DataError(
            "the classes of the network have no numbers", where=f"{path}: id2label", got=str(error)
        ) from error
    if sorted(by_number) != list(range(len(by_number))):
        raise DataError(
            "the classes of the network are not numbered from 0 without gaps",
            where=f"{path}: id2label",
            got=", ".join(map(str, sorted(by_number)[:10])),
        )
    return [by_number[number] for number in range(len(by_number))]


Channels = tuple[float, float, float]


def _normalisation(preprocessor: Mapping[str, Any], path: Path) -> tuple[Channels, Channels]:
    """Mean and deviation of what `HuggingFaceDetector` is given: RGB in 0..1."""
    factor = preprocessor.get("rescale_factor", 1 / 255)
    if not preprocessor.get("do_rescale", True) or abs(factor * 255 - 1) > 1e-6:
        raise DataError(
            "the network reads pictures in another range",
            where=str(path),
            expected="pixels divided by 255 (do_rescale, rescale_factor)",
            got=f"do_rescale {preprocessor.get('do_rescale')}, rescale_factor {factor}",
        )
    if not preprocessor.get("do_normalize", False):
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    try:
        mean_red, mean_green, mean_blue = map(float, preprocessor["image_mean"])
        std_red, std_green, std_blue = map(float, preprocessor["image_std"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            "the network normalises its pictures, but with what is not said",
            where=str(path),
            expected="image_mean and image_std of three numbers each",
            got=str(error),
        ) from error
    return (mean_red, mean_green, mean_blue), (std_red, std_green, std_blue)
