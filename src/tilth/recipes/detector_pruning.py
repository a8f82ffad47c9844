"""Prune the detector of a run: a new run's folder with a smaller network, ready to be trained on.

The folder holds what any run's does (`tilth.recipes.detector`), Darknet's own ``network.cfg`` and
``network.weights``, ``pruning.json`` with the sizes of every layer before and after, and
``retrain.toml``, the settings with which training goes on from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import orjson
from torch import nn

from tilth.data.atomic import atomic_writer
from tilth.data.project import Project
from tilth.errors import SettingsError
from tilth.models.darknet import Darknet
from tilth.models.darknet_cfg import with_options
from tilth.models.darknet_conversion import as_darknet
from tilth.models.darknet_weights import save_weights as save_darknet_weights
from tilth.models.network_size import LayerSize, weights_bytes
from tilth.models.pruning import PrunedNetwork, PruningSettings, prune
from tilth.models.yolov4 import YoloV4
from tilth.recipes.anchor_grid_families import NETWORK_FILE
from tilth.recipes.detector import Detector, keep_detector, load_detector
from tilth.recipes.model_settings import ModelSettings
from tilth.recipes.run_names import existing_run, new_run
from tilth.train.checkpoint import save_weights

__all__ = ["RETRAIN_FILE", "darknet_of", "prune_run"]

RETRAIN_FILE = "retrain.toml"


def prune_run(root: Path, *, run: str, name: str, settings: PruningSettings) -> dict[str, Any]:
    """Make the run ``name`` of what is strong in the detector of ``run``.

    Raises:
        DataError: no such run.
        SettingsError: a run of that name is there, the detector is of a kind that cannot be pruned,
            or the settings cannot be met (`tilth.models.pruning.prune`).
    """
    project = Project.open(root)
    run_dir = new_run(project, name)
    if run_dir.exists() and any(run_dir.iterdir()):
        raise SettingsError(
            "there is a run of this name already", where=str(run_dir), fix="choose another --name"
        )
    detector = load_detector(existing_run(project, run), device="cpu")
    large = darknet_of(detector.model, size=detector.settings.size)
    result = prune(large, settings)
    weights = run_dir.relative_to(project.root).as_posix()
    model = ModelSettings(
        variant="darknet",
        cfg=f"{weights}/{NETWORK_FILE}",
        size=detector.settings.size,
        resize=detector.settings.resize,
    )
    report = {
        "run": name,
        "pruned_from": run,
        "folder": run_dir,
        "threshold": result.threshold,
        **_sizes(large, result),
    }
    _write(run_dir, replace(detector, model=result.model, settings=model), report, weights)
    return report


def darknet_of(model: nn.Module, *, size: int) -> Darknet:
    """A detector as a network of Darknet's files, at this input size; it computes the same.

    Raises:
        SettingsError: the files cannot describe this kind.
    """
    if isinstance(model, YoloV4):
        return as_darknet(model, size=size)
    if not isinstance(model, Darknet):
        raise SettingsError(
            "this detector cannot be written as a network file of Darknet",
            expected="one of the variants yolov4, yolov4-tiny, darknet",
            got=type(model).__name__,
        )
    if model.size == (size, size):
        return model
    names = [name for name in ("width", "height") if name in model.cfg.net.options]
    cfg = with_options(model.cfg, {(-1, name): size for name in names})
    norms = (layer.norm for _, layer in model.weighted_layers())
    eps = next((norm.eps for norm in norms if norm is not None), 1e-5)
    sized = Darknet(cfg, batch_norm_eps=eps)
    sized.load_state_dict(model.state_dict())
    return sized.eval()


def _sizes(large: Darknet, result: PrunedNetwork) -> dict[str, Any]:
    def total(layers: Sequence[LayerSize], what: str) -> int:
        return sum(getattr(layer, what) for layer in layers)

    sides = ("before", result.before), ("after", result.after)
    totals = {
        f"{what}_{side}": total(layers, what)
        for what in ("filters", "parameters", "flops")
        for side, layers in sides
    }
    layers = [
        {"layer": old.index}
        | {f"{what}_before": value for what, value in asdict(old).items() if what != "index"}
        | {f"{what}_after": value for what, value in asdict(new).items() if what != "index"}
        for old, new in zip(result.before, result.after, strict=True)
    ]
    files = {
        "file_bytes_before": weights_bytes(large),
        "file_bytes_after": weights_bytes(result.model),
    }
    return {**totals, **files, "layers": layers}


def _write(run_dir: Path, detector: Detector, report: dict[str, Any], weights: str) -> None:
    """The record of the detector comes last: a folder without it is no run."""
    assert isinstance(detector.model, Darknet)
    save_weights(run_dir / "last.safetensors", detector.model)
    save_darknet_weights(detector.model, run_dir / "network.weights")
    with atomic_writer(run_dir / "pruning.json") as stream:
        stream.write(orjson.dumps(report, default=str, option=orjson.OPT_INDENT_2))
    with atomic_writer(run_dir / RETRAIN_FILE) as stream:
        stream.write(_retrain_settings(detector.settings, weights).encode())
    keep_detector(detector, run_dir, seed=0)


def _retrain_settings(model: ModelSettings, weights: str) -> str:
    return (
        "# What was pruned is won back by training on from here:\n"
        f"#   tilth detect train --name NAME --settings {weights}/{RETRAIN_FILE}\n"
        "[model]\n"
        f'variant = "{model.variant}"\n'
        f'cfg = "{model.cfg}"\n'
        f"size = {model.size}\n"
        f'resize = "{model.resize}"\n'
        f'weights = "{weights}"\n'
    )
