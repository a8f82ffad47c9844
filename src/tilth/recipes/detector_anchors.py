"""A project's own anchors: fitted, compared with what the network has, written where it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from tilth.curate.anchors import AnchorFit, box_sizes, fit_anchors, measure_anchors
from tilth.data.atomic import atomic_writer
from tilth.data.dataset import Dataset
from tilth.data.project import Project
from tilth.data.records import Split
from tilth.errors import EmptyDatasetError, SettingsError
from tilth.models.darknet import read_cfg
from tilth.models.darknet_cfg import DarknetCfg, with_anchors
from tilth.models.detection_network import AnchorGridNetwork
from tilth.recipes.detection_families import family_of
from tilth.recipes.model_settings import ModelSettings
from tilth.recipes.training_pictures import originals

__all__ = ["current_anchors", "fit"]


def fit(
    root: Path,
    model: ModelSettings,
    *,
    cfg: Path | None = None,
    k: int = 0,
    resize: Literal["letterbox", "stretch"] | None = None,
    split: str = "train",
    restarts: int = 10,
    seed: int = 0,
    output: Path | None = None,
) -> dict[str, Any]:
    """Fit anchors to the labelled originals of a split, and measure those of the network beside.

    Args:
        model: the network whose anchors are meant, and its size.
        cfg: a network file to take both from instead.
        k: how many; 0 for as many as the network has.
        resize: how pictures come into the network; as the settings say by default.
        output: where to write ``[model]`` settings, or with ``cfg`` a copy of it.

    Raises:
        EmptyDatasetError: no box.
        DataError: a picture of unknown size, or fewer sizes than anchors.
        SettingsError: the network has no anchors, or no place for so many.
    """
    project = Project.open(root)
    file = None if cfg is None else read_cfg(cfg)
    size = model.size if file is None else _cfg_size(file)
    now = current_anchors(model, root=root) if file is None else _cfg_anchors(file)
    resize = resize or model.resize
    dataset = _boxes(project, split)
    sizes = box_sizes(dataset, size=size, resize=resize)
    fitted = fit_anchors(sizes, k or len(now), seed=seed, restarts=restarts)
    if output is not None:
        text = _toml(size, resize, fitted) if file is None else _cfg_text(file, fitted)
        with atomic_writer(output) as stream:
            stream.write(text.encode())
    return {
        "boxes": len(sizes),
        "pictures": len(dataset.media),
        "split": split,
        "size": size,
        "resize": resize,
        "seed": seed,
        "now": _document(measure_anchors(sizes, now)),
        "fitted": _document(fitted),
        "output": output,
    }


def current_anchors(model: ModelSettings, *, root: Path) -> np.ndarray:
    """float64 [k, 2]: the anchors of all heads of a network, pixels of its input.

    Raises:
        SettingsError: a network that has none.
    """
    with torch.device("meta"):  # its shape is enough
        network = family_of(model).build(model, 1, root=root)
    if not isinstance(network, AnchorGridNetwork):
        raise SettingsError(
            "a network without anchors",
            got=model.variant,
            expected="one of the variants with anchors: yolov4, yolov4-tiny, darknet",
        )
    pairs = [pair for head in network.anchors for pair in head]
    return np.array(pairs, dtype=np.float64)


def _boxes(project: Project, split: str) -> Dataset:
    dataset = originals(project.catalogue.read())
    if split != "all":
        dataset = dataset.of_split(Split[split.upper()])
    if not len(dataset.annotations):
        raise EmptyDatasetError(
            f"no labelled picture in the {split} split",
            fix="tilth split, or --split all",
        )
    return dataset


def _cfg_size(cfg: DarknetCfg) -> int:
    width, height = (cfg.net.integer(name, 416) for name in ("width", "height"))
    if width != height:
        raise SettingsError(
            "the network's input is no square",
            where=cfg.net.where,
            expected="width equal to height",
            got=f"{width} x {height}",
        )
    return width


def _cfg_anchors(cfg: DarknetCfg) -> np.ndarray:
    """All pairs that a network file lists, whether a head uses them or not."""
    heads = [cfg.layers[index] for index in cfg.heads if cfg.layers[index].kind == "yolo"]
    if not heads:
        raise SettingsError(
            "a network file without a head that has anchors in pixels",
            where=cfg.net.where,
            expected="[yolo]",
        )
    return np.array(heads[0].numbers("anchors"), dtype=np.float64).reshape(-1, 2)


def _cfg_text(cfg: DarknetCfg, fitted: AnchorFit) -> str:
    return with_anchors(cfg, [(width, height) for width, height in fitted.anchors.tolist()]).text


def _toml(size: int, resize: str, fitted: AnchorFit) -> str:
    pairs = "".join(f"    [{width:g}, {height:g}],\n" for width, height in fitted.anchors)
    return (
        f"# Mean best IoU {fitted.mean_best_iou:.4f}, "
        f"best possible recall {fitted.best_possible_recall:.4f}.\n"
        f'[model]\nsize = {size}\nresize = "{resize}"\nanchors = [\n{pairs}]\n'
    )


def _document(fit: AnchorFit) -> dict[str, Any]:
    return {
        "anchors": fit.anchors.tolist(),
        "mean_best_iou": fit.mean_best_iou,
        "best_possible_recall": fit.best_possible_recall,
        "counts": fit.counts.tolist(),
        "mean_iou": [None if np.isnan(value) else float(value) for value in fit.mean_iou],
    }
