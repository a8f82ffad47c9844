"""A detector as Darknet's own files, read back and compared, by OpenCV too where it can."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import torch
from torch import Tensor

from tilth.data.atomic import atomic_writer
from tilth.models.darknet import Darknet, read_cfg
from tilth.models.darknet_weights import load_weights, save_weights
from tilth.recipes.detector import Detector
from tilth.recipes.detector_pruning import darknet_of
from tilth.recipes.export_parity import raw_parity

__all__ = ["write_darknet"]


def write_darknet(
    detector: Detector, folder: Path, batches: Sequence[Tensor], *, tolerance: float
) -> dict[str, Any]:
    """Write ``detector.cfg``, ``.weights`` and ``.names`` into a folder.

    Raises:
        SettingsError: the files cannot describe this kind of detector.
        TilthError: what would be written computes something else; nothing is.
    """
    model = darknet_of(detector.model, size=detector.settings.size)
    with tempfile.TemporaryDirectory(prefix="tilth-darknet-") as name:
        cfg, weights = Path(name) / "detector.cfg", Path(name) / "detector.weights"
        cfg.write_bytes(model.cfg.text.encode())
        save_weights(model, weights)
        read = Darknet(read_cfg(cfg)).eval()
        load_weights(read, weights)
        parity = raw_parity(detector.model, read, batches, tolerance=tolerance)
        opencv = _opencv_objectness(model, cfg, weights, batches[0])
    target = folder / "detector.weights"
    save_weights(model, target)
    for suffix, text in (
        (".cfg", model.cfg.text),
        (".names", "".join(f"{each}\n" for each in detector.class_names)),
    ):
        with atomic_writer(target.with_suffix(suffix)) as stream:
            stream.write(text.encode())
    return {
        "file": target,
        "file_bytes": target.stat().st_size,
        "parity": parity,
        "opencv_objectness_max_abs": opencv,
        # OpenCV adds 1e-6 to the variance of batch normalisation, Darknet and Tilth 1e-5.
        "tolerance": tolerance,
    }


@torch.no_grad()
def _opencv_objectness(model: Darknet, cfg: Path, weights: Path, images: Tensor) -> float | None:
    """The largest difference of any cell's objectness; None where OpenCV reads no such files."""
    try:
        net = cv2.dnn.readNetFromDarknet(str(cfg), str(weights))
        net.setInput(images.numpy())
        outputs = net.forward(net.getUnconnectedOutLayersNames())
    except (AttributeError, cv2.error):  # OpenCV 5, or a layer that OpenCV does not know
        return None
    worst = 0.0
    for output, raw, anchors, is_activated in zip(
        outputs, model(images), model.anchors, model.is_activated, strict=True
    ):
        logits = raw.unflatten(1, (len(anchors), -1))[0, :, 4].permute(1, 2, 0).flatten()
        ours = logits if is_activated else logits.sigmoid()
        theirs = torch.from_numpy(output).reshape(-1, output.shape[-1])[:, 4]
        worst = max(worst, float((ours - theirs).abs().max()))
    return worst
