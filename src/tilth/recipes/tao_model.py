"""The network of a TAO specification: variant, anchors, grid scales, size, what is frozen."""

from __future__ import annotations

import ast
import math
from collections.abc import Sequence

from tilth.errors import SettingsError
from tilth.models.darknet_cfg import DarknetCfg, with_anchors, with_options
from tilth.models.darknet_specs import built_in_cfg
from tilth.recipes.tao_fields import TaoSpec
from tilth.recipes.tao_translation import Translation

__all__ = ["class_names", "translate_model"]

VARIANTS = {
    "cspdarknet_53": "yolov4",
    "cspdarknet_tiny": "yolov4-tiny",
    "cspdarknet_tiny_3l": "yolov4-tiny-3l",
}
"""TAO's backbone -> the name of our network file."""

# TAO counts heads by the size of their objects; strides of the same heads.
HEADS = {"small": 8, "mid": 16, "big": 32}
# What `tilth.models.yolov4` builds and the network files say, by stride.
GRID_SCALES = {
    "yolov4": {8: 1.2, 16: 1.1, 32: 1.05},
    "yolov4-tiny": {16: 1.05, 32: 1.05},
    "yolov4-tiny-3l": {8: 1.05, 16: 1.05, 32: 1.05},
}
# The first layer of each of TAO's blocks in the network file, and the end of the last one.
BLOCK_STARTS = {
    "yolov4": (0, 1, 11, 24, 55, 86, 105),
    "yolov4-tiny": (0, 1, 2, 10, 18, 26, 27),
    "yolov4-tiny-3l": (0, 1, 2, 10, 18, 26, 27),
}
BLOCK_NAMES = {
    "yolov4": ("backbone.stem", *(f"backbone.stages.{stage}" for stage in range(5))),
    "yolov4-tiny": (
        *("backbone.stem.0", "backbone.stem.1"),
        *(f"backbone.blocks.{block}" for block in range(3)),
        "backbone.last",
    ),
}
NORMS = {
    "darknet": ("*.norm.*",),
    "module": tuple(
        f"{part}.1.{kind}"
        for part in ("backbone.*", "neck.*", "heads.*.0")
        for kind in ("weight", "bias")
    ),
}


def translate_model(made: Translation) -> None:
    """Fill ``model`` and ``train.freeze``.

    Raises:
        SettingsError: a backbone that is not here, or anchors that cannot be read.
    """
    name = _variant(made)
    strides = sorted(GRID_SCALES[name])
    anchors = _anchors(made, strides)
    scales = _grid_scales(made, name)
    needs_file = name == "yolov4-tiny-3l" or scales != GRID_SCALES[name]
    made.set("model.width", 1.0)
    _size(made)
    if needs_file:
        made.set("model.variant", "darknet")
        if scales == GRID_SCALES[name]:
            made.set("model.cfg", name)
        else:
            made.network = _network(made, name, anchors, scales)
    else:
        made.set("model.variant", name)
    if anchors:
        made.set("model.anchors", [list(anchor) for anchor in anchors])
    _freeze(made, name, needs_file)
    _layers(made, name)


def class_names(spec: TaoSpec) -> list[str]:
    """The classes that are learned, in TAO's order: by name."""
    pairs = spec.many("dataset_config.target_class_mapping")
    return sorted({str(pair.value.get("value", pair.value.get("key"))) for pair in pairs})


def _variant(made: Translation) -> str:
    spec, name = made.spec, "yolov4_config.arch"
    arch, layers = spec.get(name), spec.get("yolov4_config.nlayers")
    if arch == "cspdarknet":
        arch = f"cspdarknet_{layers or 53}"
    if arch not in VARIANTS:
        raise SettingsError(
            f"there is no backbone '{arch}' here" if arch else "no backbone is named",
            where=f"{spec.where}:{spec.line(name)}" if arch else spec.where,
            expected=", ".join(VARIANTS),
            fix="choose one of these; its published weights start the training",
        )
    made.note("changed", name, f"{VARIANTS[arch]}: the same network by its published name")
    made.note("kept", "yolov4_config.nlayers", f"{VARIANTS[arch]} has them")
    return VARIANTS[arch]


def _anchors(made: Translation, strides: Sequence[int]) -> list[tuple[float, float]]:
    """All anchors, those of the finest head first."""
    found: list[tuple[float, float]] = []
    for head, stride in HEADS.items():
        name = f"yolov4_config.{head}_anchor_shape"
        if name not in made.spec.values:
            continue
        if stride not in strides:
            made.drop([name], "this network has no head for small objects")
            continue
        own = _anchor_pairs(made.spec, name)
        found += sorted(own, key=math.prod)
        made.note("changed", name, f"{len(own)} of model.anchors: smallest first, all heads in one")
    if found and len(found) != 3 * len(strides):
        raise SettingsError(
            "the anchors do not fit the network",
            where=made.spec.where,
            expected=f"3 for each of the {len(strides)} heads",
            got=f"{len(found)} in all",
        )
    return found


def _anchor_pairs(spec: TaoSpec, name: str) -> list[tuple[float, float]]:
    text = spec.get(name)
    try:
        pairs = [(float(width), float(height)) for width, height in ast.literal_eval(text)]
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        pairs = []
    if not pairs or any(not 0 < side < math.inf for pair in pairs for side in pair):
        raise SettingsError(
            f"the anchors in '{name}' cannot be read",
            where=f"{spec.where}:{spec.line(name)}",
            expected="[(width, height), ...] in pixels, above 0",
            got=text,
        )
    return pairs


def _grid_scales(made: Translation, name: str) -> dict[int, float]:
    """By stride: scale_x_y = 1 + TAO's extend; ours where TAO says nothing."""
    scales = dict(GRID_SCALES[name])
    for head, stride in HEADS.items():
        field = f"yolov4_config.{head}_grid_xy_extend"
        if field not in made.spec.values:
            continue
        if stride not in scales:
            made.drop([field], "this network has no head for small objects")
            continue
        scales[stride] = round(1 + made.spec.get(field), 6)
        made.note("changed", field, f"scale_x_y {scales[stride]:g} of stride {stride}: 1 + extend")
    return scales


def _network(
    made: Translation,
    name: str,
    anchors: Sequence[tuple[float, float]],
    scales: dict[int, float],
) -> str:
    """The network file with these grid scales and anchors."""
    num_classes = max(1, len(class_names(made.spec)))
    cfg: DarknetCfg = built_in_cfg(name, num_classes, size=made.settings["model"].get("size"))
    # Heads stand in the order of the file: of yolov4 the finest first, of the others the coarsest.
    order = sorted(scales) if name == "yolov4" else sorted(scales, reverse=True)
    changes: dict[tuple[int, str], object] = {}
    for index, stride in zip(cfg.heads, order, strict=True):
        changes[index, "scale_x_y"] = f"{scales[stride]:g}"
        first = 3 * sorted(scales).index(stride)
        changes[index, "mask"] = f"{first},{first + 1},{first + 2}"
    cfg = with_options(cfg, changes)
    return (with_anchors(cfg, anchors) if anchors else cfg).text


def _size(made: Translation) -> None:
    width, height = (made.spec.get(f"augmentation_config.output_{s}") for s in ("width", "height"))
    if not (width or height):
        return
    side = max(width or 0, height or 0)
    made.set("model.size", side)
    outcome = "kept" if width == height else "changed"
    why = "" if width == height else ": inputs are square here, padded; boxes keep their size"
    for name in ("width", "height"):
        made.note(outcome, f"augmentation_config.output_{name}", f"model.size = {side}{why}")  # type: ignore[arg-type]


def _freeze(made: Translation, name: str, is_file: bool) -> None:
    spec, names = made.spec, []
    field = "yolov4_config.freeze_blocks"
    starts = BLOCK_STARTS[name]
    for value in spec.many(field):
        block = int(value.value)
        if not 0 <= block < len(starts) - 1:
            raise SettingsError(
                f"'{field}' names a block that the network does not have",
                where=f"{spec.where}:{value.line}",
                expected=f"0 to {len(starts) - 2}",
                got=str(value.value),
            )
        if is_file:
            cfg = built_in_cfg(name, 1)
            inside = range(starts[block], starts[block + 1])
            names += [f"layers.{i}" for i in inside if cfg.layers[i].kind == "convolutional"]
        else:
            names.append(BLOCK_NAMES[name][block])
    if names:
        made.note("changed", field, f"train.freeze.names = {names!r}: the same blocks by name")
    if spec.get("yolov4_config.freeze_bn"):
        names += NORMS["darknet" if is_file else "module"]
        made.note("changed", "yolov4_config.freeze_bn", "train.freeze.names: all normalisations")
    else:
        made.note("kept", "yolov4_config.freeze_bn", "normalisations are trained")
    if names:
        made.set("train.freeze.names", names)


def _layers(made: Translation, name: str) -> None:
    """Activations and blocks, which are as published."""
    usual = {"activation": "mish" if name == "yolov4" else "leaky_relu", "force_relu": False}
    for option in ("activation", "force_relu", "arch_conv_blocks"):
        field = f"yolov4_config.{option}"
        if option in usual and made.spec.get(field) == usual[option]:
            made.note("kept", field, f"{name} has it so")
        else:
            made.drop([field], f"the layers of {name} are as published, so that its weights fit")
