"""COCO labels into a fresh catalogue and one query, against the tools that people load COCO with.

The files are made here, of the size of COCO's own: val2017 (5,000 pictures, 36,781 objects) and
train2017 (118,287 pictures, 860,001 objects), with polygons of COCO's typical length. Each tool
runs in its own fresh process; the clock starts after its imports, with the file in the page cache.
The query is the same for all: the boxes of one category, counted by picture.

    python benchmarks/coco_import.py --peer-python /path/to/python-with-datumaro
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CATEGORY = 18
SIZES = {"val2017": (5_000, 36_781), "train2017": (118_287, 860_001)}

Measured = dict[str, Any]


def make_coco_file(path: Path, num_images: int, num_annotations: int, seed: int = 0) -> None:
    """A COCO instances file with COCO's proportions: about 500 bytes an object, 1 % crowds."""
    import numpy as np

    rng = np.random.default_rng(seed)
    category_ids = [i for i in range(1, 91) if i % 9 != 3]  # 80 of 90, with gaps as in COCO
    with path.open("w", encoding="ascii") as stream:
        stream.write('{"info": {"year": 2017}, "licenses": [{"id": 1, "name": "by"}], "images": [')
        sizes = rng.integers(333, 641, size=(num_images, 2))
        image_ids = np.sort(rng.choice(600_000, num_images, replace=False))
        for i, (key, (width, height)) in enumerate(zip(image_ids, sizes, strict=True)):
            image = {
                "license": 1,
                "file_name": f"{key:012d}.jpg",
                "coco_url": f"http://images.cocodataset.org/x/{key:012d}.jpg",
                "height": int(height),
                "width": int(width),
                "date_captured": "2013-11-14 17:02:52",
                "flickr_url": f"http://farm7.staticflickr.com/6116/{key:010d}_z.jpg",
                "id": int(key),
            }
            stream.write(("," if i else "") + json.dumps(image))
        stream.write('], "annotations": [')
        owners = rng.integers(0, num_images, num_annotations)
        for i, owner in enumerate(owners.tolist()):
            annotation = _annotation(rng, int(image_ids[owner]), sizes[owner], category_ids)
            annotation["id"] = i + 1
            stream.write(("," if i else "") + json.dumps(annotation))
        categories = [{"supercategory": "x", "id": i, "name": f"class {i}"} for i in category_ids]
        stream.write(f'], "categories": {json.dumps(categories)}}}')


def _annotation(rng: Any, image_id: int, size: Any, category_ids: list[int]) -> dict[str, Any]:
    import numpy as np

    width, height = size.tolist()
    w, h = np.round(rng.uniform(2, [width / 2, height / 2]), 2).tolist()
    x, y = round(rng.uniform(0, width - w), 2), round(rng.uniform(0, height - h), 2)
    crowd = rng.random() < 0.01
    if crowd:
        runs = rng.integers(1, 400, 120).tolist()
        segmentation: Any = {"counts": [*runs, width * height - sum(runs)], "size": [height, width]}
    else:  # COCO's polygons: a median of 19 vertices, a long tail, a tenth in two parts
        parts = 2 if rng.random() < 0.1 else 1
        vertices = np.clip(rng.lognormal(2.92, 0.6, parts), 4, 300).astype(int)
        segmentation = [np.round(_outline(rng, x, y, w, h, n), 2).tolist() for n in vertices]
    return {
        "segmentation": segmentation,
        "area": round(w * h * 0.6, 4),
        "iscrowd": int(crowd),
        "image_id": image_id,
        "bbox": [x, y, w, h],
        "category_id": int(rng.choice(category_ids)),
        "id": 0,
    }


def _outline(rng: Any, x: float, y: float, w: float, h: float, vertices: int) -> Any:
    import numpy as np

    angle = np.sort(rng.uniform(0, 2 * np.pi, vertices))
    radius = rng.uniform(0.3, 0.5, vertices)
    points = np.stack(
        [x + w / 2 + w * radius * np.cos(angle), y + h / 2 + h * radius * np.sin(angle)], axis=1
    )
    return points.ravel()


# --- the tools; each function runs alone in its process and returns the seconds of its stages ---


def run_tilth(path: Path, scratch: Path) -> Measured:
    import alembic.command  # noqa: F401  imports are not timed, nor are these two, which wait
    import numpy.ma  # noqa: F401  for the first new catalogue and for the first np.unique

    from tilth.data.catalogue import Catalogue
    from tilth.data.formats import coco

    start = time.perf_counter()
    catalogue = Catalogue.create(f"sqlite:///{scratch / 'tilth.db'}")
    created = time.perf_counter()
    dataset, _ = coco.read(path)
    read = time.perf_counter()
    catalogue.import_dataset(dataset)
    imported = time.perf_counter()
    media, boxes = catalogue.category_boxes(f"class {CATEGORY}")
    answer = _answer(media.tolist(), boxes[:, :2].tolist())
    done = time.perf_counter()
    return {
        "total_s": done - start,
        "stages_s": {
            "create the catalogue": created - start,
            "read the file": read - created,
            "write the catalogue": imported - read,
            "query": done - imported,
        },
        "answer": answer,
    }


def run_tilth_version(path: Path, scratch: Path) -> Measured:
    """Reopen a version that was made before: arrays and the query, without the label file."""
    from tilth.data.catalogue import Catalogue

    start = time.perf_counter()
    catalogue = Catalogue.open(f"sqlite:///{scratch / 'tilth.db'}")
    dataset = catalogue.read(version="benchmark")
    row = next(i for i, c in enumerate(dataset.categories) if c.origin_id == CATEGORY)
    labels = dataset.annotations
    chosen = labels.category_index == row
    media = dataset.media.id[labels.media_index[chosen]]
    answer = _answer(media.tolist(), labels.boxes_xyxy[chosen, :2].tolist())
    return {"total_s": time.perf_counter() - start, "answer": answer}


def run_pycocotools(path: Path, scratch: Path) -> Measured:
    from pycocotools.coco import COCO

    start = time.perf_counter()
    coco = COCO(str(path))
    rows = coco.loadAnns(coco.getAnnIds(catIds=[CATEGORY]))
    answer = _answer([row["image_id"] for row in rows], [row["bbox"][:2] for row in rows])
    return {"total_s": time.perf_counter() - start, "answer": answer}


def run_datumaro(path: Path, scratch: Path) -> Measured:
    from datumaro.components.annotation import AnnotationType
    from datumaro.components.dataset import Dataset

    folder = scratch / "annotations"  # the layout that it insists on
    folder.mkdir()
    (folder / "instances_val.json").symlink_to(path)
    (scratch / "images").mkdir()  # it looks for one; the pictures themselves may be missing
    start = time.perf_counter()
    dataset = Dataset.import_from(str(scratch), "coco_instances")
    names = dataset.categories()[AnnotationType.label]
    wanted = names.find(f"class {CATEGORY}")[0]
    found = []
    for item in dataset:
        for label in item.annotations:
            if getattr(label, "label", None) == wanted and hasattr(label, "get_bbox"):
                found.append((int(item.attributes["id"]), label.get_bbox()[:2], label.group))
    # A polygon of two parts is two annotations of one group there.
    answer = _answer([row[0] for row in found], [row[1] for row in found])
    answer["objects"] = len({(row[0], row[2]) for row in found})
    return {"total_s": time.perf_counter() - start, "answer": answer}


def run_fiftyone(path: Path, scratch: Path) -> Measured:
    import fiftyone as fo
    from fiftyone import ViewField

    start = time.perf_counter()
    dataset = fo.Dataset.from_dir(
        dataset_type=fo.types.COCODetectionDataset,
        data_path=str(scratch),
        labels_path=str(path),
        include_id=True,
    )
    view = dataset.filter_labels("ground_truth", ViewField("label") == f"class {CATEGORY}")
    objects = view.count("ground_truth.detections")
    return {"total_s": time.perf_counter() - start, "answer": {"objects": objects}}


def run_orjson(path: Path, scratch: Path) -> Measured:
    """The floor: the file as Python objects, and nothing done with them."""
    import orjson

    start = time.perf_counter()
    parsed = orjson.loads(path.read_bytes())
    return {"total_s": time.perf_counter() - start, "answer": {"all": len(parsed["annotations"])}}


TOOLS: dict[str, Callable[[Path, Path], Measured]] = {
    "tilth": run_tilth,
    "tilth, version reopened": run_tilth_version,
    "pycocotools": run_pycocotools,
    "datumaro": run_datumaro,
    "fiftyone": run_fiftyone,
    "orjson": run_orjson,
}


def _answer(image_ids: list[int], corners: list[Any]) -> dict[str, Any]:
    """Objects by picture, reduced to what tools can be compared by."""
    by_image: dict[int, int] = {}
    for image_id in image_ids:
        by_image[image_id] = by_image.get(image_id, 0) + 1
    return {
        "objects": len(image_ids),
        "images": len(by_image),
        "most": max(by_image.values(), default=0),
        "corner_sum": round(sum(corner[0] + corner[1] for corner in corners)),
    }


# --- running them ------------------------------------------------------------------------------


def measure(tool: str, path: Path, scratch: Path, python: str) -> Measured:
    """One run of a tool in a fresh process; ``error`` instead of times where it does not run."""
    command = [python, __file__, "--worker", tool, str(path), str(scratch)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3600)
    if done.returncode:
        lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
        return {"error": lines[-1][:300] if lines else f"exit code {done.returncode}"}
    return json.loads(done.stdout.strip().splitlines()[-1])


def worker(tool: str, path: Path, scratch: Path) -> None:
    before = time.process_time()
    measured = TOOLS[tool](path, scratch)
    measured["cpu_with_imports_s"] = time.process_time() - before
    measured["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps(measured))


def keep_version(path: Path, folder: Path) -> None:
    """The catalogue that `run_tilth_version` reopens."""
    from tilth.data.catalogue import Catalogue
    from tilth.data.formats import coco

    catalogue = Catalogue.create(f"sqlite:///{folder / 'tilth.db'}")
    catalogue.import_dataset(coco.read(path)[0])
    catalogue.create_version("benchmark")


def run_size(
    name: str, path: Path, pythons: dict[str, str | None], repeats: int
) -> dict[str, list[Measured]]:
    """All tools on one file, interleaved, so that a busy minute hits them alike."""
    runs: dict[str, list[Measured]] = {tool: [] for tool in pythons}
    with tempfile.TemporaryDirectory() as version_folder:
        subprocess.run(
            [sys.executable, __file__, "--keep-version", str(path), version_folder], check=True
        )
        path.read_bytes()
        for repeat in range(repeats):
            for tool, python in pythons.items():
                if any("error" in run for run in runs[tool]):
                    continue
                if python is None or not Path(python).exists():
                    runs[tool].append({"error": "no interpreter with it was given"})
                    continue
                with tempfile.TemporaryDirectory() as scratch:
                    reopened = tool == "tilth, version reopened"
                    folder = Path(version_folder if reopened else scratch)
                    runs[tool].append(measure(tool, path, folder, python))
                print(f"{name} {repeat} {tool}: {_shown(runs[tool][-1])}", flush=True)
    return runs


def _shown(run: Measured) -> str:
    return run.get("error") or f"{run['total_s']:.3f} s, {run['peak_gb']:.2f} GB, {run['answer']}"


def _times(runs: list[Measured]) -> list[float]:
    return [run["total_s"] for run in runs if "total_s" in run]


def _ratios(ours: list[Measured], theirs: list[Measured]) -> list[float]:
    return [a / b for a, b in zip(_times(ours), _times(theirs), strict=False)]


def _reasons(runs: dict[str, list[Measured]], tools: list[str]) -> str:
    reasons = [f"{tool} ({runs[tool][-1]['error'].partition(': ')[2][:60]})" for tool in tools]
    return ", ".join(reasons) or "none"


def _summary(runs: dict[str, list[Measured]]) -> dict[str, Any]:
    summary: dict[str, Any] = {}
    for tool, measured in runs.items():
        if "error" in measured[-1]:
            summary[tool] = {"did_not_run": measured[-1]["error"]}
            continue
        times = _times(measured)
        summary[tool] = {
            "median_s": round(statistics.median(times), 4),
            "spread_s": [round(min(times), 4), round(max(times), 4)],
            "median_cpu_with_imports_s": round(
                statistics.median(run["cpu_with_imports_s"] for run in measured), 4
            ),
            "peak_gb": round(max(run["peak_gb"] for run in measured), 3),
            "answer": measured[-1]["answer"],
        }
        if "stages_s" in measured[-1]:
            summary[tool]["stages_s"] = {
                stage: round(statistics.median(run["stages_s"][stage] for run in measured), 4)
                for stage in measured[-1]["stages_s"]
            }
    return summary


def check_answers(runs: dict[str, list[Measured]]) -> None:
    """All tools must have counted the same objects, or the times compare nothing."""
    counted = {
        tool: measured[-1]["answer"]["objects"]
        for tool, measured in runs.items()
        if "objects" in measured[-1].get("answer", {})
    }
    if len(set(counted.values())) != 1:
        raise SystemExit(f"the tools disagree: {counted}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--keep-version", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--peer-python", help="an interpreter with datumaro and pycocotools")
    parser.add_argument("--fiftyone-python", help="an interpreter with fiftyone")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--large-repeats", type=int, default=3)
    args = parser.parse_args()
    if args.worker:
        tool, path, scratch = args.worker
        worker(tool, Path(path), Path(scratch))
        return
    if args.keep_version:
        keep_version(*map(Path, args.keep_version))
        return
    pythons = {
        "tilth": sys.executable,
        "pycocotools": args.peer_python or sys.executable,
        "datumaro": args.peer_python,
        "fiftyone": args.fiftyone_python,
        "orjson": sys.executable,
        "tilth, version reopened": sys.executable,
    }
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, repeats in (("val2017", args.repeats), ("train2017", args.large_repeats)):
            path = Path(folder) / f"{name}.json"
            make_coco_file(path, *SIZES[name])
            print(f"{name}: {path.stat().st_size / 1e6:.1f} MB", flush=True)
            results[name] = run_size(name, path, pythons, repeats)
            results[name]["file"] = [{"mb": round(path.stat().st_size / 1e6, 1)}]
            check_answers({k: v for k, v in results[name].items() if k != "file"})
            path.unlink()
    report(results)


def report(results: dict[str, dict[str, list[Measured]]]) -> None:
    from evidence import claim, write_result

    megabytes = {name: runs.pop("file")[0]["mb"] for name, runs in results.items()}
    small, large = results["val2017"], results["train2017"]
    ours = small["tilth"]
    peers = [t for t in ("pycocotools", "datumaro", "fiftyone") if _times(small[t])]
    fastest = min(peers, key=lambda tool: statistics.median(_times(small[tool])))
    missing = [t for t in ("pycocotools", "datumaro", "fiftyone") if not _times(small[t])]
    against_peer, against_json = _ratios(ours, small[fastest]), _ratios(ours, small["orjson"])
    peaks = [run["peak_gb"] for run in large["tilth"]]
    timed = "clock inside the process, after imports; creating the catalogue included"
    write_result(
        "coco_import",
        [
            claim(
                "coco_import_vs_fastest_peer",
                statistics.median(against_peer),
                unit="time ratio",
                goal=1.0,
                spread=[min(against_peer), max(against_peer)],
                runs=len(against_peer),
                note=f"fastest peer: {fastest}; not run: {_reasons(small, missing)}; {timed}",
            ),
            claim(
                "coco_import_vs_json_parse",
                statistics.median(against_json),
                unit="time ratio",
                goal=3.0,
                spread=[min(against_json), max(against_json)],
                runs=len(against_json),
                note=f"orjson.loads of the same file, garbage collector as Python sets it; {timed}",
            ),
            claim(
                "coco_import_large_peak_gb",
                max(peaks),
                unit="GB (GiB) resident",
                goal=1.5,
                spread=[min(peaks), max(peaks)],
                runs=len(peaks),
                note=f"whole process, a {megabytes['train2017']:.0f} MB file of 860,001 objects",
            ),
        ],
        data={"name": "made by this script, seed 0", "file_mb": megabytes, "sizes": SIZES},
        detail={name: _summary(runs) for name, runs in results.items()},
    )


if __name__ == "__main__":
    main()
