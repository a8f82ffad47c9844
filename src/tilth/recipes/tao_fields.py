"""Every field of NVIDIA TAO's YOLOv4 specification, with its type; and a spec read by them.

Source: NVIDIA, tao_tensorflow1_backend (2024), the message definitions of its YOLOv4 (names and
    types of fields alone).
Follows: the message Experiment, and text merged into one -> `read_spec`.
Symbols: one = a field that may come once, many = a repeated one, mapping = a map<,>.
Differs: an unknown field is an error with the nearest name; a field that may come once and comes
    twice is noted (there, as here, the last one counts). Fields that are not written are missing,
    where protocol buffers would read a zero.
Checked by: `test_a_spec_with_every_field_is_read`, `test_unknown_fields_name_line_and_nearest`,
    `test_a_value_of_another_type_is_refused_with_its_line`
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tilth.errors import SettingsError
from tilth.recipes.protobuf_text import Field, Message, Word, parse_protobuf_text

__all__ = ["EXPERIMENT", "TaoSpec", "TaoValue", "read_spec"]

Kind = str | tuple[str, ...] | Mapping[str, Any]
"""A scalar's type, the words of an enumeration, or the fields of a message."""

_TRUE, _FALSE = ("true", "True", "t"), ("false", "False", "f")


@dataclass(frozen=True, kw_only=True)
class _Many:
    """A field that may come any number of times."""

    kind: Kind


def _mapping(value: str) -> _Many:
    return _Many(kind={"key": "string", "value": value})


_SCHEDULE = {
    "min_learning_rate": "float",
    "max_learning_rate": "float",
    "soft_start": "float",
}
_SOURCE = {
    "label_directory_path": "string",
    "tfrecords_path": "string",
    "image_directory_path": "string",
    "root_path": "string",
    "source_weight": "float",
}
EXPERIMENT: dict[str, Any] = {
    "random_seed": "count",
    "yolov4_config": {
        "big_anchor_shape": "string",
        "mid_anchor_shape": "string",
        "small_anchor_shape": "string",
        "matching_neutral_box_iou": "float",
        "box_matching_iou": "float",
        "arch": "string",
        "nlayers": "count",
        "arch_conv_blocks": "count",
        "loss_loc_weight": "float",
        "loss_neg_obj_weights": "float",
        "loss_class_weights": "float",
        "freeze_blocks": _Many(kind="float"),
        "freeze_bn": "bool",
        "force_relu": "bool",
        "activation": "string",
        "focal_loss_alpha": "float",
        "focal_loss_gamma": "float",
        "label_smoothing": "float",
        "big_grid_xy_extend": "float",
        "mid_grid_xy_extend": "float",
        "small_grid_xy_extend": "float",
    },
    "training_config": {
        "batch_size_per_gpu": "count",
        "num_epochs": "count",
        "learning_rate": {
            "soft_start_annealing_schedule": {**_SCHEDULE, "annealing": "float"},
            "soft_start_cosine_annealing_schedule": _SCHEDULE,
        },
        "regularizer": {"type": ("NO_REG", "L1", "L2"), "weight": "float"},
        "optimizer": {
            "adam": {"epsilon": "float", "beta1": "float", "beta2": "float", "amsgrad": "bool"},
            "sgd": {"momentum": "float", "nesterov": "bool"},
            "rmsprop": {
                "rho": "float",
                "momentum": "float",
                "epsilon": "float",
                "centered": "bool",
            },
        },
        "cost_scaling": {
            "enabled": "bool",
            "initial_exponent": "float",
            "increment": "float",
            "decrement": "float",
        },
        "checkpoint_interval": "count",
        "enable_qat": "bool",
        "resume_model_path": "string",
        "pretrain_model_path": "string",
        "pruned_model_path": "string",
        "max_queue_size": "count",
        "n_workers": "count",
        "use_multiprocessing": "bool",
        "early_stopping": {"monitor": "string", "min_delta": "float", "patience": "count"},
        "visualizer": {
            "enabled": "bool",
            "num_images": "count",
            "weight_histograms": "bool",
            "wandb_config": {
                "enabled": "bool",
                "key": "string",
                "project": "string",
                "entity": "string",
                "reinit": "bool",
                "name": "string",
                "tags": _Many(kind="string"),
                "wandb_dir": "string",
                "notes": "string",
                "mode": ("ONLINE", "OFFLINE", "DISABLED"),
            },
            "clearml_config": {
                "project": "string",
                "task": "string",
                "tags": _Many(kind="string"),
                "reuse_last_task_id": "bool",
                "continue_last_task": "bool",
                "deferred_init": "bool",
            },
        },
        "model_ema": "bool",
    },
    "eval_config": {
        "average_precision_mode": ("SAMPLE", "INTEGRATE"),
        "batch_size": "count",
        "matching_iou_threshold": "float",
        "visualize_pr_curve": "bool",
    },
    "nms_config": {
        "confidence_threshold": "float",
        "clustering_iou_threshold": "float",
        "top_k": "count",
        "infer_nms_score_bits": "count",
        "force_on_cpu": "bool",
    },
    "augmentation_config": {
        "hue": "float",
        "saturation": "float",
        "exposure": "float",
        "vertical_flip": "float",
        "horizontal_flip": "float",
        "jitter": "float",
        "output_width": "count",
        "output_height": "count",
        "output_channel": "count",
        "output_depth": "count",
        "randomize_input_shape_period": "count",
        "mosaic_prob": "float",
        "mosaic_min_ratio": "float",
        "image_mean": _mapping("float"),
    },
    "dataset_config": {
        "data_sources": _Many(kind=_SOURCE),
        "validation_data_sources": _Many(kind=_SOURCE),
        "target_class_mapping": _mapping("string"),
        "validation_fold": "count",
        "include_difficult_in_training": "bool",
        "type": "string",
        "image_extension": "string",
        "is_monochrome": "bool",
    },
    "class_weighting_config": {
        "class_weighting": _mapping("float"),
        "enable_auto": "bool",
    },
}
"""Field -> its type, message by message; the message of a whole specification."""


@dataclass(frozen=True, kw_only=True)
class TaoValue:
    """A value of the spec: a scalar, or the fields of a message of a repeated field."""

    value: Any
    line: int


@dataclass(frozen=True, kw_only=True)
class TaoSpec:
    """A specification, by dotted name of the field.

    Attributes:
        values: scalars, ``"yolov4_config.arch"``; and lists of repeated fields, where a message is
            a mapping of its fields.
        messages: lines of the messages that are written, empty ones too.
        repeated: lines of fields that may come once and came again, the last one counting.
    """

    where: str
    values: dict[str, TaoValue | list[TaoValue]] = field(default_factory=dict)
    messages: dict[str, int] = field(default_factory=dict)
    repeated: dict[str, int] = field(default_factory=dict)

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a scalar field, ``default`` where it is not written."""
        found = self.values.get(name)
        return found.value if isinstance(found, TaoValue) else default

    def many(self, name: str) -> list[TaoValue]:
        """The values of a repeated field."""
        found = self.values.get(name, [])
        assert isinstance(found, list)
        return found

    def line(self, name: str) -> int:
        """Where a field is written, the first time."""
        found = self.values[name]
        return found[0].line if isinstance(found, list) else found.line

    def under(self, prefix: str) -> Iterator[str]:
        """The names of the fields in a message."""
        return (name for name in self.values if name.startswith(f"{prefix}."))


def read_spec(text: str, *, where: str) -> TaoSpec:
    """Read a specification and check every field of it.

    Raises:
        SettingsError: not the text format, an unknown field, or a value of another type; says the
            line.
    """
    spec = TaoSpec(where=where)
    _fill(spec, parse_protobuf_text(text, where=where), EXPERIMENT, ())
    return spec


def _fill(spec: TaoSpec, message: Message, kinds: Mapping[str, Any], path: tuple[str, ...]) -> None:
    for each in message.fields:
        kind = _kind_of(spec, each, kinds, path)
        name = ".".join((*path, each.name))
        if isinstance(kind, _Many):
            values = spec.values.setdefault(name, [])
            assert isinstance(values, list)
            value = _checked(spec, each, kind.kind, name)
            values.append(TaoValue(value=value, line=each.line))
        elif isinstance(kind, Mapping):
            spec.messages.setdefault(name, each.line)
            _fill(spec, _message(spec, each, name), kind, (*path, each.name))
        else:
            if name in spec.values:
                spec.repeated[name] = each.line
            spec.values[name] = TaoValue(value=_checked(spec, each, kind, name), line=each.line)


def _kind_of(
    spec: TaoSpec, each: Field, kinds: Mapping[str, Any], path: tuple[str, ...]
) -> _Many | Kind:
    if each.name in kinds:
        return kinds[each.name]
    near = difflib.get_close_matches(each.name, kinds, n=1, cutoff=0.5)
    raise SettingsError(
        f"unknown field '{'.'.join((*path, each.name))}'",
        where=f"{spec.where}:{each.line}",
        expected=", ".join(kinds),
        fix=f"did you mean '{near[0]}'?" if near else None,
    )


def _checked(spec: TaoSpec, each: Field, kind: Kind, name: str) -> Any:
    """The value, of its field's type."""
    if isinstance(kind, Mapping):
        inner = TaoSpec(where=spec.where)
        _fill(inner, _message(spec, each, name), kind, ())
        return {key: inner.get(key) for key in inner.values}
    value = each.value
    if isinstance(kind, tuple) and isinstance(value, Word) and value in kind:
        return str(value)
    if kind == "string" and isinstance(value, str) and not isinstance(value, Word):
        return value
    if kind == "bool" and (value in (*_TRUE, *_FALSE) or value in (0, 1)):
        return value in _TRUE or value == 1
    is_number = isinstance(value, int | float) and math.isfinite(value)
    if kind == "float" and is_number:
        return float(value)  # type: ignore[arg-type]
    if kind == "count" and is_number and isinstance(value, int) and value >= 0:
        return value
    expected = {"string": "text in quotes", "bool": "true or false", "float": "a number"}
    raise SettingsError(
        f"field '{name}' has a value of another type",
        where=f"{spec.where}:{each.line}",
        expected=", ".join(kind) if isinstance(kind, tuple) else expected.get(kind, "0 or more"),
        got="a message" if isinstance(value, Message) else repr(value),
    )


def _message(spec: TaoSpec, each: Field, name: str) -> Message:
    if isinstance(each.value, Message):
        return each.value
    raise SettingsError(
        f"field '{name}' is a message",
        where=f"{spec.where}:{each.line}",
        expected=f"{each.name} {{ ... }}",
        got=repr(each.value),
    )
