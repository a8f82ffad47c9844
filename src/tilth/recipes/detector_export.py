"""Export the detector of a run to files that other programs run, and check that they agree.

Beside each file lies a JSON document with the differences to the detector, for one picture and for
three at a time, and with what a picture costs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import orjson
import torch
from rich.console import Console
from torch import Tensor

import tilth
from tilth.data.atomic import atomic_writer
from tilth.data.project import Project
from tilth.errors import SettingsError
from tilth.metrics.average_precision import average_precision
from tilth.models.onnx_export import detector_graph
from tilth.models.onnx_int8 import Calibration, quantised_graph
from tilth.models.onnx_network import OnnxNetwork, open_session
from tilth.models.onnx_suppression import with_suppression
from tilth.ops.nms import Suppression
from tilth.recipes.darknet_export import write_darknet
from tilth.recipes.detector import Detector, find_objects, load_detector
from tilth.recipes.export_parity import detection_parity, milliseconds, raw_parity
from tilth.recipes.export_pictures import BATCHES, ExportPictures
from tilth.recipes.run_names import existing_run

__all__ = ["ExportSettings", "export_run"]

DETECTIONS = ["num_detections", "detection_boxes", "detection_scores", "detection_classes"]


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """What is written.

    Attributes:
        to: "onnx" for onnxruntime, TensorRT, OpenVINO; "darknet" for .cfg and .weights.
        nms: the ONNX graph ends in the best boxes of each picture instead of all boxes.
        int8: a second ONNX graph of 8-bit integers.
        score_threshold, suppression: of ``nms``.
        calibration, calibration_pictures: how the ranges of ``int8`` are found, and on how many.
        tolerance: the largest difference to the detector that is accepted.
    """

    to: Literal["onnx", "darknet"] = "onnx"
    nms: bool = False
    int8: bool = False
    score_threshold: float = 0.25
    suppression: Suppression = field(default_factory=lambda: Suppression(iou_threshold=0.45))
    calibration: Calibration = "mean"
    calibration_pictures: int = 64
    tolerance: float = 1e-4

    def __post_init__(self) -> None:
        if not 0 <= self.score_threshold < 1:
            got = str(self.score_threshold)
            raise SettingsError("'score_threshold' cannot be used", expected="0 to 1", got=got)
        if self.calibration_pictures < 1:
            got = str(self.calibration_pictures)
            raise SettingsError("'calibration_pictures' cannot be used", expected="1 up", got=got)
        if self.to == "darknet" and (self.nms or self.int8):
            raise SettingsError(
                "Darknet's files hold neither suppression nor integers",
                expected="--to onnx with --nms or --int8",
            )


def export_run(
    root: Path,
    *,
    run: str,
    settings: ExportSettings,
    output: Path | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Write the detector of a run for other programs; what was written, and how well it agrees.

    Args:
        output: a folder; by default ``export`` in the run's.

    Raises:
        DataError: no such run.
        TilthError: the exported detector computes something else; nothing is written.
        SettingsError: the detector cannot be written in this form.
        MissingExtraError: the extra ``onnx`` is not installed.
    """
    project = Project.open(root)
    run_dir = existing_run(project, run)
    detector = load_detector(run_dir, device="cpu")
    folder = output or run_dir / "export"
    pictures = ExportPictures(project, detector)
    report: dict[str, Any] = {
        "run": run,
        "to": settings.to,
        "class_names": list(detector.class_names),
        "size": detector.settings.size,
        "resize": detector.settings.resize,
        "parity_pictures": pictures.kind,
    }
    batches = [pictures.batch(count) for count in BATCHES]
    if settings.to == "darknet":
        report |= write_darknet(detector, folder, batches, tolerance=settings.tolerance)
        _write_json(folder / "detector.cfg.json", report)
        return report
    with _spinner("writing the graph", progress):
        exported = _Exported.of(detector, run=run, settings=settings)
        report |= exported.checked(batches)
    exported.write(folder / "detector.onnx", exported.float_graph)
    report["file"] = folder / "detector.onnx"
    report["file_bytes"] = report["file"].stat().st_size
    if settings.int8:
        report |= _write_int8(exported, folder, pictures, batches[0], progress=progress)
    _write_json(folder / "detector.onnx.json", report)
    return report


@dataclass(frozen=True, kw_only=True)
class _Exported:
    """A detector and its graph, which gives all boxes."""

    detector: Detector
    settings: ExportSettings
    float_graph: Any

    @classmethod
    def of(cls, detector: Detector, *, run: str, settings: ExportSettings) -> _Exported:
        side = detector.settings.size
        metadata = _metadata(detector, run, settings)
        graph = detector_graph(detector.model, size=(side, side), metadata=metadata)
        return cls(detector=detector, settings=settings, float_graph=graph)

    @property
    def suppresses(self) -> bool:
        return bool(self.detector.model.suppresses)

    def network(self, graph: Any) -> OnnxNetwork:
        return OnnxNetwork(graph, suppresses=self.suppresses)

    def finished(self, graph: Any) -> Any:
        """With suppression, where that is asked for."""
        if not self.settings.nms:
            return graph
        return with_suppression(
            graph,
            self.settings.suppression,
            score_threshold=self.settings.score_threshold,
            suppresses=self.suppresses,
        )

    def checked(self, batches: Sequence[Tensor]) -> dict[str, Any]:
        """Parity of what will be written, and milliseconds."""
        raw, tolerance = self.network(self.float_graph), self.settings.tolerance
        found: dict[str, Any] = {
            "tolerance": tolerance,
            "parity": raw_parity(self.detector.model, raw, batches, tolerance=tolerance),
        }
        if self.settings.nms:
            session = open_session(self.finished(self.float_graph))
            found["detection_parity"] = detection_parity(
                raw,
                lambda images: session.run(DETECTIONS, {"images": images}),
                batches,
                suppression=self.settings.suppression,
                score_threshold=self.settings.score_threshold,
                tolerance=tolerance,
            )
        found["threads"] = torch.get_num_threads()
        found["milliseconds"] = {
            "torch": milliseconds(self.detector.model, batches[0]),
            "onnxruntime": milliseconds(raw, batches[0]),
        }
        return found

    def write(self, path: Path, graph: Any) -> None:
        data = self.finished(graph).SerializeToString()
        with atomic_writer(path) as stream:
            stream.write(data)


def _write_int8(
    exported: _Exported,
    folder: Path,
    pictures: ExportPictures,
    one: Tensor,
    *,
    progress: bool,
) -> dict[str, Any]:
    """The graph of integers, with its average precision beside that of floats."""
    seen = pictures.calibration(exported.settings.calibration_pictures, progress=progress)
    graph = quantised_graph(exported.float_graph, seen, calibration=exported.settings.calibration)
    network = exported.network(graph)
    path = folder / "detector.int8.onnx"
    exported.write(path, graph)
    found: dict[str, Any] = {"file": path, "file_bytes": path.stat().st_size}
    found["milliseconds"] = milliseconds(network, one)
    validation = pictures.validation()
    if validation is not None:
        labelled, paths = validation
        found["pictures"] = len(paths)
        for name, model in (
            ("float", exported.network(exported.float_graph)),
            ("int8", network),
        ):
            detector = replace(exported.detector, model=model)
            objects = find_objects(detector, paths, labelled=labelled, progress=progress)
            measured = average_precision(labelled, objects)
            found[f"{name}_ap"], found[f"{name}_ap50"] = measured.ap, measured.ap50
    return {"int8": found}


def _metadata(detector: Detector, run: str, settings: ExportSettings) -> dict[str, str]:
    """What a program must know to use the file."""
    side, resize = detector.settings.size, detector.settings.resize
    fitted = {
        "letterbox": "the longer side resized to fit, the rest padded with 127 on both sides",
        "stretch": "both sides resized",
    }
    texts = {
        "class_names": orjson.dumps(list(detector.class_names)).decode(),
        "input": f"images [batch, 3, {side}, {side}]: RGB, divided by 255; {fitted[resize]}",
        "input_size": str(side),
        "resize": resize,
        "boxes": "x0 y0 x1 y1 in pixels of the input",
        "run": run,
        "data_digest": detector.digest,
        "producer": f"tilth {tilth.__version__}",
    }
    if settings.nms:
        texts["score_threshold"] = str(settings.score_threshold)
        texts["iou_threshold"] = str(settings.suppression.iou_threshold)
    return texts


def _write_json(path: Path, report: dict[str, Any]) -> None:
    with atomic_writer(path) as stream:
        stream.write(orjson.dumps(report, default=str, option=orjson.OPT_INDENT_2))


def _spinner(text: str, progress: bool) -> AbstractContextManager[Any]:
    return Console(stderr=True).status(text) if progress else contextlib.nullcontext()
