"""Image metrics: pictures a second on one core, and the share of that which is decoding JPEGs.

Ours, the same measures written plainly with Pillow, NumPy, SciPy and scikit-image, and cleanvision
(in its own interpreter: --cleanvision PYTHON) take turns on the same files, one process and one
thread each. cleanvision's nine checks (dark, light, odd size, odd aspect ratio, low information,
blurry, greyscale, exact and near duplicates) rest on a subset of what ours measures. Times are CPU
seconds of the process, which a shared machine disturbs least.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
import scipy.fft
from evidence import ROOT, claim, write_result
from PIL import Image
from skimage.color import rgb2gray
from skimage.filters import laplace
from skimage.measure import shannon_entropy

from tilth.curate.image_metrics import IMAGE_METRIC_NAMES, image_metrics
from tilth.data.images import content_hash, decode_image, read_image

SHARED = Path(os.environ.get("TILTH_SHARED_DATA", ROOT.parent / "shared" / "data"))

CLEANVISION = """
import json, sys, time
from cleanvision import Imagelab
lab = Imagelab(filepaths=json.load(sys.stdin), verbose=False)
start = time.process_time()
lab.find_issues(n_jobs=1, verbose=False)
seconds = time.process_time() - start
print(json.dumps({"seconds": seconds, "checks": list(lab.issue_summary.issue_type)}))
"""


def ours(paths: Sequence[Path]) -> None:
    for path in paths:
        data = path.read_bytes()
        content_hash(data)
        image_metrics(decode_image(data, where=str(path)))


def plain(paths: Sequence[Path]) -> None:
    for path in paths:
        hashlib.md5(path.read_bytes()).hexdigest()
        image = np.asarray(Image.open(path).convert("RGB"))
        plain_metrics(image)


def plain_metrics(image: np.ndarray) -> list[float]:
    """What a careful person writes first: every measure on its own, each over the whole picture."""
    grey = rgb2gray(image)
    levels = (grey * 255).astype(np.uint8)
    red, green, blue = (image[..., channel].astype(float) for channel in range(3))
    rg, yb = red - green, (red + green) / 2 - blue
    low, high = np.percentile(levels, [5, 95])
    small = np.asarray(Image.fromarray(levels).resize((32, 32), Image.Resampling.LANCZOS), float)
    lowest = scipy.fft.dctn(small)[1:9, 1:9]
    return [
        *image.shape[:2],
        *image.mean(axis=(0, 1)),
        *image.std(axis=(0, 1)),
        levels.std(),
        shannon_entropy(levels),
        grey.mean(),
        (high - low) / 255,
        laplace(grey).var(),
        np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean()),
        np.packbits(lowest > np.median(lowest)).sum(),
    ]


def cpu_seconds(function: Callable[[Sequence[Path]], None], paths: Sequence[Path]) -> float:
    start = time.process_time()
    function(paths)
    return time.process_time() - start


def cleanvision_seconds(python: Path, paths: Sequence[Path]) -> tuple[float, list[str]]:
    done = subprocess.run(
        [str(python), "-c", CLEANVISION],
        input=json.dumps([str(path) for path in paths]),
        capture_output=True,
        text=True,
        check=True,
    )
    answer = json.loads(done.stdout.splitlines()[-1])
    return answer["seconds"], answer["checks"]


def decode_share(paths: Sequence[Path]) -> dict[str, float]:
    """Reading and decoding against everything, picture by picture as a real pass runs."""
    reading = measuring = pixels = 0.0
    for path in paths:
        start = time.process_time()
        image = read_image(path)
        read = time.process_time()
        image_metrics(image)
        measuring += time.process_time() - read
        reading += read - start
        pixels += image.shape[0] * image.shape[1]
    encoded = [np.fromfile(path, dtype=np.uint8) for path in paths]
    start = time.process_time()
    for data in encoded:
        cv2.imdecode(data, cv2.IMREAD_COLOR)
    codec = time.process_time() - start
    count = len(paths)
    return {
        "share": reading / (reading + measuring),
        "codec_share": codec / (reading + measuring),
        "read_us": 1e6 * reading / count,
        "metrics_us": 1e6 * measuring / count,
        "megapixels": pixels / count / 1e6,
        "bits_per_pixel": 8 * sum(path.stat().st_size for path in paths) / pixels,
    }


def picture_sets() -> dict[str, list[Path]]:
    folders = {
        "coco-person": "coco-person/images/*.jpg",
        "penn-fudan": "penn-fudan/images/*.jpg",
        "raccoon": "formats/raccoon/images/*.jpg",
        "bccd": "formats/bccd/JPEGImages/*.jpg",
    }
    found = {name: sorted(SHARED.glob(pattern)) for name, pattern in folders.items()}
    return {name: paths for name, paths in found.items() if paths}


def median_of(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}


def spread_of(values: Sequence[float]) -> list[float]:
    return [min(values), max(values)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cleanvision", type=Path, help="a Python that has cleanvision")
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=7)
    settings = parser.parse_args()
    cv2.setNumThreads(1)
    sets = picture_sets()
    if "coco-person" not in sets:
        sys.exit(f"real pictures not found under {SHARED} (set TILTH_SHARED_DATA)")
    everything = sets["coco-person"]
    paths = everything[:: max(1, len(everything) // settings.pictures)][: settings.pictures]
    sets["coco-person"] = paths
    ours(paths)  # files into the page cache, code into memory
    shares: dict[str, list[dict[str, float]]] = {name: [] for name in sets}
    seconds: dict[str, list[float]] = {"ours": [], "plain": [], "cleanvision": []}
    checks: list[str] = []
    for _ in range(settings.rounds):
        for name, members in sets.items():
            shares[name].append(decode_share(members))
        seconds["ours"].append(cpu_seconds(ours, paths))
        seconds["plain"].append(cpu_seconds(plain, paths))
        if settings.cleanvision:
            took, checks = cleanvision_seconds(settings.cleanvision, paths)
            seconds["cleanvision"].append(took)
    write(settings.rounds, paths, shares, seconds, checks)


def write(
    rounds: int,
    paths: Sequence[Path],
    shares: dict[str, list[dict[str, float]]],
    seconds: dict[str, list[float]],
    checks: list[str],
) -> None:
    medians = {name: median_of(values) for name, values in shares.items()}
    other = ", ".join(
        f"{name} {one['share']:.3f} ({one['bits_per_pixel']:.1f} bit/px)"
        for name, one in medians.items()
        if name != "coco-person"
    )
    main_set = medians["coco-person"]
    claims = [
        claim(
            "image_metrics_decode_share",
            main_set["share"],
            unit="share of the time per picture",
            goal=0.8,
            better="higher",
            spread=spread_of([one["share"] for one in shares["coco-person"]]),
            runs=rounds,
            note=f"opening, checking and decoding over the whole pass; coco-person, 416 px and "
            f"{main_set['bits_per_pixel']:.1f} bit/px: recompressed pictures, light to decode; the "
            f"bare codec alone is {main_set['codec_share']:.3f}; what follows is "
            "fourteen OpenCV passes at the speed of the cache, which only one compiled pass would "
            f"shorten; other sets: {other}",
        )
    ]
    for peer, note in (
        ("cleanvision", "its nine checks against all of ours; CPU seconds, one process"),
        ("plain", "the same measures with Pillow, NumPy, SciPy and scikit-image"),
    ):
        if not seconds[peer]:
            continue
        ratios = [other / own for own, other in zip(seconds["ours"], seconds[peer], strict=True)]
        claims.append(
            claim(
                f"image_metrics_vs_{peer}",
                statistics.median(ratios),
                unit="ratio of images/s",
                goal=1.0,
                better="higher",
                spread=spread_of(ratios),
                runs=rounds,
                note=note,
            )
        )
    write_result(
        "image_metrics",
        claims,
        data={
            "name": "coco-person, an even sample",
            "pictures": len(paths),
            "digest": hashlib.blake2b(
                b"".join(path.read_bytes() for path in paths), digest_size=16
            ).hexdigest(),
        },
        detail={
            "images_per_second": {
                name: len(paths) / statistics.median(values)
                for name, values in seconds.items()
                if values
            },
            "decode": medians,
            "metrics": list(IMAGE_METRIC_NAMES),
            "cleanvision_checks": checks,
        },
    )


if __name__ == "__main__":
    main()
