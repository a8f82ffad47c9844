"""Seconds of a picture through a detector: ours in several ways, onnxruntime, OpenCV, in turns.

Part of `detector_speed.py`. One network of random weights, written as Darknet's files for OpenCV
and as ONNX for onnxruntime; all give the raw maps of its heads (OpenCV decodes boxes too, a small
part).
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import torch
from torch import nn

from tilth.models.darknet import Darknet
from tilth.models.darknet_specs import built_in_cfg
from tilth.models.darknet_weights import save_weights
from tilth.models.deployed import DeployedNetwork, deployed, has_fast_bfloat16
from tilth.models.packed_convolution import PackedConvolution

Seconds = dict[str, dict[str, list[float]]]
GEMM_SIDES = (1024, 2048)
PASSES = 5  # of all convolutions, in a row


def in_turns(runs: dict[str, Callable[[], Any]], *, rounds: int) -> Seconds:
    """CPU and wall seconds of each, in turn in every round, after two rounds that do not count."""
    found: Seconds = {name: {"cpu": [], "wall": []} for name in runs}
    with torch.no_grad():
        for number in range(rounds + 2):
            for name, run in runs.items():
                wall, cpu = time.perf_counter(), time.process_time()
                run()
                cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
                if number >= 2:
                    found[name]["cpu"].append(cpu)
                    found[name]["wall"].append(wall)
    return found


def random_network(name: str, size: int, folder: Path) -> tuple[Darknet, Path, Path]:
    """A network with weights of a sane size, and its two files in Darknet's way."""
    torch.manual_seed(0)
    cfg = built_in_cfg(name, 80, size=size)
    model = Darknet(cfg).eval()
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.8, 1.2)
            nn.init.normal_(part.bias, std=0.1)
            part.running_mean.normal_(std=0.1)
            part.running_var.uniform_(0.5, 1.5)
    paths = folder / f"{name}.cfg", folder / f"{name}.weights"
    paths[0].write_text(cfg.text, encoding="utf-8")
    save_weights(model, paths[1])
    return model, *paths


def measure_inference(name: str, *, size: int, threads: int, rounds: int) -> dict[str, Any]:
    """Every way of running one network, and how far its answer lies from the network's own."""
    image = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    with tempfile.TemporaryDirectory() as folder:
        model, cfg, weights = random_network(name, size, Path(folder))
        peers = {
            "onnxruntime float32": onnxruntime_run(model, image, Path(folder), threads),
            "OpenCV float32": opencv_run(cfg, weights, image, threads),
        }
    fast = {"float32": deployed(model)}
    if has_fast_bfloat16(torch.device("cpu")):
        fast["bfloat16"] = deployed(model, precision="bfloat16")
    runs: dict[str, Callable[[], Any]] = {"eager float32": lambda: model(image)}
    for precision, network in fast.items():
        runs[f"deployed {precision}"] = lambda network=network: network(image)
    runs |= peers
    with torch.no_grad():
        wanted = model(image)
        apart = {name: apart_from(wanted, run()) for name, run in runs.items() if "CV" not in name}
    seconds = in_turns(runs, rounds=rounds)
    return {
        "seconds": summary(seconds),
        "ratios": {
            way: cpu_ratios(seconds, f"deployed {way}", "onnxruntime float32") for way in fast
        },
        "apart": apart,
        "convolutions": {way: convolution_share(fast[way], image, rounds) for way in fast},
    }


def onnxruntime_run(
    model: nn.Module, image: torch.Tensor, folder: Path, threads: int
) -> Callable[[], Any]:
    """The exported network in a session of its own."""
    path = folder / "network.onnx"
    torch.onnx.export(model, (image,), str(path), dynamo=False, opset_version=17)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(
        path.read_bytes(), options, providers=["CPUExecutionProvider"]
    )
    feed = {session.get_inputs()[0].name: image.numpy()}
    return lambda: session.run(None, feed)


def opencv_run(cfg: Path, weights: Path, image: torch.Tensor, threads: int) -> Callable[[], Any]:
    """OpenCV 4's own reader of Darknet files."""
    cv2.setNumThreads(threads)
    network = cv2.dnn.readNetFromDarknet(str(cfg), str(weights))
    names = network.getUnconnectedOutLayersNames()
    pixels = image.numpy()

    def run() -> Any:
        network.setInput(pixels)
        return network.forward(names)

    return run


def apart_from(wanted: list[torch.Tensor], found: list[Any]) -> float:
    """The greatest difference between maps, as a share of the greatest value."""
    pairs = zip(wanted, (torch.as_tensor(np.asarray(one)) for one in found), strict=True)
    return max(float((one - two).abs().max() / one.abs().max()) for one, two in pairs)


def convolution_share(network: DeployedNetwork, image: torch.Tensor, rounds: int) -> dict[str, Any]:
    """FLOP/s of all convolutions, each on what it gets in the network, over those of a large GEMM.

    A multiplication and an addition count as two. The GEMM is square, of the same type, as many
    threads, the fastest of `GEMM_SIDES`; both by the median of CPU seconds, in turns. The time of
    the convolutions includes what is fused with them: bias and, where it is, activation. They run
    as they do when pictures follow one another, `PASSES` times in a row; a single pass between
    other programs' work spends a quarter of its time fetching kernels into the caches.
    """
    layers: list[tuple[PackedConvolution, torch.Tensor]] = []
    flops = 0

    def keep(layer: PackedConvolution, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        nonlocal flops
        layers.append((layer, inputs[0].clone(memory_format=torch.preserve_format)))
        flops += 2 * output.numel() * layer.kernels[0].numel()

    parts = [part for part in network.modules() if isinstance(part, PackedConvolution)]
    hooks = [part.register_forward_hook(keep) for part in parts]
    with torch.no_grad():
        network(image)
    for hook in hooks:
        hook.remove()
    if not layers:  # this torch has no such operators
        return {}
    flops *= PASSES
    dtype = getattr(torch, network.deployment.precision)
    runs: dict[str, Callable[[], Any]] = {
        "convolutions": lambda: [
            layer(features) for _ in range(PASSES) for layer, features in layers
        ]
    }
    for side in GEMM_SIDES:
        first, second = torch.randn(2, side, side).to(dtype)
        runs[str(side)] = lambda first=first, second=second: first @ second
    seconds = in_turns(runs, rounds=rounds)
    rates = {str(side): 2 * side**3 / median(seconds, str(side)) for side in GEMM_SIDES}
    side = max(rates, key=lambda name: rates[name])
    shares = [
        (flops / conv) / (2 * int(side) ** 3 / gemm)
        for conv, gemm in zip(seconds["convolutions"]["cpu"], seconds[side]["cpu"], strict=True)
    ]
    return {
        "gflop": flops / PASSES / 1e9,
        "gflops_convolutions": flops / median(seconds, "convolutions") / 1e9,
        "gflops_gemm": rates[side] / 1e9,
        "gemm_side": int(side),
        "share": statistics.median(shares),
        "spread": tenths(shares),
    }


def median(seconds: Seconds, name: str, kind: str = "cpu") -> float:
    """The median of one way's seconds."""
    return statistics.median(seconds[name][kind])


def cpu_ratios(seconds: Seconds, ours: str, peer: str) -> dict[str, Any]:
    """Of CPU seconds, round by round: median, first and last tenth."""
    pairs = zip(seconds[ours]["cpu"], seconds[peer]["cpu"], strict=True)
    ratios = [one / two for one, two in pairs]
    return {"ratio": statistics.median(ratios), "spread": tenths(ratios)}


def tenths(values: list[float]) -> list[float]:
    """First and last tenth; lowest and highest of few."""
    if len(values) < 10:
        return [min(values), max(values)]
    cuts = statistics.quantiles(values, n=10)
    return [cuts[0], cuts[-1]]


def summary(seconds: Seconds) -> dict[str, dict[str, float]]:
    """Medians in milliseconds."""
    return {
        name: {f"{kind}_ms": 1e3 * statistics.median(values) for kind, values in kinds.items()}
        for name, kinds in seconds.items()
    }
