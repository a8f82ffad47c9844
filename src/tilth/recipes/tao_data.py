"""Data and evaluation of a TAO specification: commands to run, for settings do not hold them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tilth.errors import SettingsError
from tilth.recipes.tao_fields import TaoValue
from tilth.recipes.tao_model import class_names
from tilth.recipes.tao_translation import Translation

__all__ = ["count_pictures", "translate_data", "translate_evaluation"]

_SECTION = "dataset_config"


def translate_data(made: Translation) -> None:
    """Import commands, one a source of labels.

    Raises:
        SettingsError: a source of TFRecords.
    """
    spec = made.spec
    kind = spec.get(f"{_SECTION}.type", "kitti").lower()
    made.note("kept", f"{_SECTION}.type", f"--format {kind}")
    made.keep(f"{_SECTION}.include_difficult_in_training", "include_difficult")
    for name in ("data_sources", "validation_data_sources"):
        sources = spec.many(f"{_SECTION}.{name}")
        for number, source in enumerate(sources, 1):
            _refuse_tfrecords(made, source)
            origin = f"{'val' if name.startswith('val') else 'train'}{number}"
            made.commands.append(_import_command(made, source.value, kind, origin))
            if source.value.get("source_weight") not in (None, 1.0):
                made.drop([f"{_SECTION}.{name}"], "source_weight: pictures count alike here")
        text = "the commands below import them"
        made.note("changed", f"{_SECTION}.{name}", text)
    if spec.many(f"{_SECTION}.validation_data_sources"):
        text = "which pictures are for validation is drawn by 'tilth split', not by the source"
        made.note("dropped", f"{_SECTION}.validation_data_sources", text)
    made.commands.append("tilth split")
    _classes(made)
    made.drop([f"{_SECTION}.validation_fold"], "folds are of TFRecords; 'tilth split' divides")
    made.drop([f"{_SECTION}.image_extension"], "pictures are found whatever they end in")
    made.drop([f"{_SECTION}.is_monochrome"], "grey pictures are read as RGB")


def translate_evaluation(made: Translation) -> None:
    """The command that evaluates, with the protocol and the suppression of the specification."""
    spec, options = made.spec, []
    if "eval_config" in spec.messages:
        is_area = spec.get("eval_config.average_precision_mode", "SAMPLE") == "INTEGRATE"
        options += ["--mode", "area" if is_area else "voc07"]
        text = "area under the curve" if is_area else "VOC's eleven points"
        made.note("changed", "eval_config.average_precision_mode", f"--mode {options[-1]}: {text}")
        at_half = spec.get("eval_config.matching_iou_threshold", 0.5) == 0.5
        outcome = "kept" if at_half else "dropped"
        text = "AP50" if at_half else "AP50, AP75 and the mean from 0.5 to 0.95 are reported"
        made.note(outcome, "eval_config.matching_iou_threshold", text)  # type: ignore[arg-type]
        made.note("kept", "eval_config.visualize_pr_curve", "every evaluation has the curve")
        made.drop(["eval_config.batch_size"], "pictures are evaluated in batches of 16")
    thresholds = (("confidence_threshold", "--score"), ("clustering_iou_threshold", "--iou"))
    for theirs, ours in thresholds:
        name = f"nms_config.{theirs}"
        if name in spec.values:
            options += [ours, f"{spec.get(name):g}"]
            made.note("changed", name, f"{' '.join(options[-2:])} of tilth detect evaluate")
    made.drop(["nms_config.top_k"], "the best 300 of a picture are kept, and COCO looks at 100")
    made.drop(
        ["nms_config.infer_nms_score_bits", "nms_config.force_on_cpu"],
        "suppression runs in PyTorch, where the network runs",
    )
    if options:
        made.commands.append(shlex.join(["tilth", "detect", "evaluate", *options]))


def count_pictures(made: Translation) -> int | None:
    """Files of labels of the training sources, where all of their folders are on this machine."""
    folders = [
        Path(str(source.value.get("label_directory_path", "")))
        for source in made.spec.many(f"{_SECTION}.data_sources")
    ]
    if not folders or not all(str(folder) != "." and folder.is_dir() for folder in folders):
        return None
    return sum(1 for folder in folders for path in folder.iterdir() if path.suffix == ".txt")


def _import_command(made: Translation, source: Mapping[str, Any], kind: str, origin: str) -> str:
    spec = made.spec
    labels = source.get("label_directory_path")
    if labels is None:
        raise SettingsError(
            "a source of data without labels",
            where=spec.where,
            expected="label_directory_path",
            got=", ".join(source) or "nothing",
        )
    words = ["tilth", "import", labels, "--format", kind, "--origin", origin]
    images = source.get("image_directory_path")
    if images:
        words += ["--images", images]
    pairs = [pair.value for pair in spec.many(f"{_SECTION}.target_class_mapping")]
    keys = list(dict.fromkeys(str(pair.get("key")) for pair in pairs))
    if pairs and kind == "kitti":
        words += ["--option", f"classes={','.join(_in_order(spec, keys))}", "--on-unknown", "skip"]
    for pair in pairs:
        if pair.get("key") != pair.get("value"):
            words += ["--map", f"{pair.get('key')}={pair.get('value')}"]
    return shlex.join(words)


def _in_order(spec: Any, keys: list[str]) -> list[str]:
    """TAO's order of classes is that of their names; joined ones follow the one that they join."""
    pairs = {
        str(pair.value.get("key")): str(pair.value.get("value"))
        for pair in spec.many(f"{_SECTION}.target_class_mapping")
    }
    order = class_names(spec)
    return sorted(keys, key=lambda key: (order.index(pairs[key]), key != pairs[key]))


def _classes(made: Translation) -> None:
    name = f"{_SECTION}.target_class_mapping"
    pairs = [(pair.value.get("key"), pair.value.get("value")) for pair in made.spec.many(name)]
    joined = [f"{old} as {new}" for old, new in pairs if old != new]
    text = f"classes {', '.join(class_names(made.spec))}; the import maps {', '.join(joined)}"
    plain = f"classes {', '.join(class_names(made.spec))}; others are left out on import"
    made.note("changed", name, text if joined else plain)


def _refuse_tfrecords(made: Translation, source: TaoValue) -> None:
    if "tfrecords_path" in source.value:
        raise SettingsError(
            "TFRecords cannot be imported",
            where=f"{made.spec.where}:{source.line}",
            expected="label_directory_path and image_directory_path",
            got=f"tfrecords_path {source.value['tfrecords_path']}",
            fix="name the folders that dataset_convert made the records from: they are a copy "
            "that only TensorFlow reads, with the pictures' names but not the pictures",
        )
