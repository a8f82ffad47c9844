"""Detectors against their peers: a picture's inference, a training step, the convolutions.

    python benchmarks/detector_speed.py --data ../shared/data/coco-person
    OMP_NUM_THREADS=2 python benchmarks/detector_speed.py    with two threads for everybody

Inference: yolov4-tiny and yolov4 at 416, batch 1, random weights, beside onnxruntime float32 and
OpenCV 4. Training: yolov4-tiny at 320 through our loop with its real input (cached pictures,
mosaic), beside Ultralytics' yolo11n from scratch on the same pictures, and beside the same loop in
float32 with channels first, as torch comes. All take turns in one run; ratios are of CPU seconds,
which a shared machine disturbs least, with wall seconds beside them. FLOP are those that torch
counts in a forward pass, two a multiplication and addition, the same way for both sides.
"""

from __future__ import annotations

import argparse
import os
import statistics
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch makes its thread pool

import torch
from detector_inference import measure_inference, tenths
from detector_training import measure_training
from evidence import claim, write_result

from tilth.models.deployed import has_fast_bfloat16

ROOT = Path(__file__).resolve().parents[1]
PEER = ROOT / ".venv-peers" / "ultralytics" / "bin" / "python"  # made by `make bench`
INFERENCE_SIZE, TRAINING_SIZE = 416, 320
BATCH = 16
THREADS = int(os.environ["OMP_NUM_THREADS"])
# name -> rounds; the larger network takes ten times as long
NETWORKS = {"yolov4-tiny": 31, "yolov4": 9}
NO_BFLOAT16 = "this processor has no bfloat16, so both sides compute in float32"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/coco-person"))
    parser.add_argument("--peer-python", type=Path, default=PEER, help="Ultralytics' environment")
    parser.add_argument("--quick", action="store_true", help="few rounds, no result")
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    quick = arguments.quick
    inference = {}
    for name, rounds in NETWORKS.items():
        inference[name] = measure_inference(
            name,
            size=INFERENCE_SIZE,
            threads=THREADS,
            rounds=3 if quick else rounds,
        )
        show_inference(name, inference[name])
    training = measure_training(
        arguments.data.resolve() if arguments.data.is_dir() else None,
        # Not resolved: the link in its environment is what makes it the environment's Python.
        peer_python=usable(arguments.peer_python),
        size=TRAINING_SIZE,
        batch=BATCH,
        steps=4 if quick else 16,
        threads=THREADS,
        rounds=1 if quick else 3,
        bfloat16=has_fast_bfloat16(torch.device("cpu")),
    )
    for name, rounds in training["rounds"].items():
        print(f"{name:<14}", rounds)
    claims = [
        *inference_claims(inference),
        *convolution_claims(inference),
        *training_claims(training),
    ]
    for one in claims:
        print(one["claim"], one["value"], one["note"])
    if quick:
        print("few rounds: nothing is written")
        return
    write_result(
        "detector_speed",
        claims,
        data={"name": training["pictures"]},
        detail={"inference": inference, "training": training, "threads": THREADS},
    )


def usable(python: Path) -> Path | None:
    """The peer's interpreter, where it is there."""
    if python.exists():
        return python.absolute()
    print(f"no {python}: training is measured without its peer; run `make bench`")
    return None


def show_inference(name: str, found: dict[str, Any]) -> None:
    for way, seconds in found["seconds"].items():
        print(
            f"{name:<12} {way:<22} CPU {seconds['cpu_ms']:7.1f} ms, wall {seconds['wall_ms']:7.1f}"
        )
    for precision, share in found["convolutions"].items():
        print(f"{name:<12} convolutions, {precision}", share)


def fastest(found: dict[str, Any]) -> str:
    """The precision that `deployed(precision="auto")` takes here."""
    return "bfloat16" if "bfloat16" in found["ratios"] else "float32"


def inference_claims(inference: dict[str, Any]) -> list[dict[str, Any]]:
    """CPU time as a share of onnxruntime's."""
    made = []
    for name, goal in (("yolov4-tiny", 0.5), ("yolov4", None)):
        found = inference[name]
        way = fastest(found)
        ratio, seconds = found["ratios"][way], found["seconds"]
        others = ", ".join(f"{one} {times['cpu_ms']:.0f}" for one, times in seconds.items())
        same = found["ratios"]["float32"]["ratio"]
        note = (
            f"peer: onnxruntime float32; ours: deployed, {way}, batch 1, {INFERENCE_SIZE} px, "
            f"{THREADS} thread(s), raw maps; in float32 the ratio is {same:.2f}; "
            f"CPU ms: {others}; maps apart by {found['apart'][f'deployed {way}']:.1g} of the "
            "greatest value; spread: first and last tenth"
        )
        if way == "float32":
            note += f"; {NO_BFLOAT16}"
        short = "tiny416" if name == "yolov4-tiny" else "yolov4_416"
        made.append(
            claim(
                f"{short}_infer_cpu_vs_onnxruntime",
                ratio["ratio"],
                unit="ratio of CPU time",
                goal=goal,
                spread=ratio["spread"],
                runs=NETWORKS[name],
                note=note,
            )
        )
    return made


def convolution_claims(inference: dict[str, Any]) -> list[dict[str, Any]]:
    """How near the convolutions come to a matrix product, the worse of the two networks."""
    made = []
    for precision, claimed in (
        ("float32", "conv_share_of_gemm_ceiling"),
        ("bfloat16", "conv_share_of_gemm_ceiling_bfloat16"),
    ):
        shares = {
            name: found["convolutions"][precision]
            for name, found in inference.items()
            if found["convolutions"].get(precision)
        }
        if not shares:
            continue
        worst = min(shares, key=lambda name: shares[name]["share"])
        one = shares[worst]
        each = "; ".join(
            f"{name}: {share['gflops_convolutions']:.0f} of {share['gflops_gemm']:.0f} GFLOP/s"
            for name, share in shares.items()
        )
        note = (
            f"all convolutions of a picture, {INFERENCE_SIZE} px, batch 1, {precision}, with bias "
            f"and fused activation, over a square GEMM of {one['gemm_side']} of the same "
            f"type and threads; the worse network, {worst}; {each}"
        )
        made.append(
            claim(
                claimed,
                one["share"],
                unit="share of the GEMM's FLOP/s",
                goal=0.7,
                better="higher",
                spread=one["spread"],
                runs=NETWORKS[worst],
                note=note,
            )
        )
    return made


def training_claims(training: dict[str, Any]) -> list[dict[str, Any]]:
    """FLOP a CPU second over the peer's, the gain over plain torch, and the wait for data."""
    rounds = training["rounds"]
    ours = rounds["tilth"]
    seconds = {name: middle(found, "cpu_seconds_per_image") for name, found in rounds.items()}
    common = (
        f"yolov4-tiny, {TRAINING_SIZE} px, batch {BATCH}, mosaic on every sample, "
        f"{training['pictures']}, {THREADS} thread(s); CPU seconds an image: "
        + ", ".join(f"{name} {value:.3f}" for name, value in seconds.items())
    )
    made = []
    if "ultralytics" in rounds:
        peer = rounds["ultralytics"]
        ratios = [flop_rate(one) / flop_rate(two) for one, two in zip(ours, peer, strict=True)]
        gflop = ours[0]["gflop_per_image"], peer[0]["gflop_per_image"]
        made.append(
            claim(
                "train_rate_per_flop_vs_ultralytics",
                statistics.median(ratios),
                unit="ratio of FLOP a CPU second",
                goal=2.5,
                better="higher",
                spread=tenths(ratios),
                runs=len(ratios),
                note=f"peer: yolo11n from scratch, ultralytics {peer[0]['version']}, float32 (its "
                f"mixed precision needs a GPU); forward GFLOP an image {gflop[0]:.2f} and "
                f"{gflop[1]:.2f}; {common}",
            )
        )
    gains = [
        one["cpu_seconds_per_image"] / two["cpu_seconds_per_image"]
        for one, two in zip(rounds["plain eager"], ours, strict=True)
    ]
    waits = [one["data_wait_share"] for one in ours]
    made.append(
        claim(
            "train_speed_vs_plain_eager",
            statistics.median(gains),
            unit="ratio of CPU time",
            better="higher",
            spread=tenths(gains),
            runs=len(gains),
            note=f"peer: the same loop in float32, channels first; {common}",
        )
    )
    made.append(
        claim(
            "train_data_wait_share",
            statistics.median(waits),
            unit="share of wall time",
            goal=0.05,
            spread=tenths(waits),
            runs=len(waits),
            note=f"one thread makes batches ahead; decoded pictures are cached; {common}",
        )
    )
    return made


def flop_rate(found: dict[str, Any]) -> float:
    return found["gflop_per_image"] / found["cpu_seconds_per_image"]


def middle(found: list[dict[str, Any]], name: str) -> float:
    return statistics.median(one[name] for one in found)


if __name__ == "__main__":
    main()
