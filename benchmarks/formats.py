"""Label files in and out, against the tools that people convert labels with.

The set is made here, of the size of COCO's train2017: 118,287 pictures with 860,001 boxes. Tilth
writes it in every format; each tool then reads those same files, and writes the set (read from the
same COCO file) in the formats that it knows. Every run is a fresh process; its clock starts after
its imports and, for writing, after the set is loaded. Pictures are needed for their sizes by some
formats: each is a small JPEG of the right size, hard-linked to one of sixteen.

Importing is reading files into the tool's own records in memory. A run that is over the time limit
is stopped and counts as the limit, which makes the peer look faster than it is.

    python benchmarks/formats.py --peer-python .venv-peers/datumaro/bin/python
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

NUM_IMAGES, NUM_BOXES, NUM_CLASSES = 118_287, 860_001, 80
NUM_SIZES = 16

FORMATS = {  # format -> the file or folder that is written and read
    "coco": "coco/labels.json",
    "csv": "csv/labels.csv",
    "cvat_xml": "cvat_xml/annotations.xml",
    "innotescus_json": "innotescus_json/labels.json",
    "kitti": "kitti/labels",
    "label_studio_json": "label_studio_json/tasks.json",
    "labelme": "labelme/labels",
    "openimages_csv": "openimages_csv/labels.csv",
    "pascal": "pascal/labels",
    "tilth": "tilth/set",
    "yolo_darknet": "yolo_darknet/set",
    "yolo_keras": "yolo_keras/labels.txt",
    "yolo_ultralytics": "yolo_ultralytics/set",
}
PEERS = {  # peer -> the formats that it knows as well, under its own name
    "labelformat": {"coco": "coco", "kitti": "kitti", "pascal": "voc", "yolo_ultralytics": "yolo"},
    "supervision": {"coco": "coco", "pascal": "voc", "yolo_ultralytics": "yolo"},
    "datumaro": {"coco": "coco", "kitti": "kitti", "pascal": "voc", "yolo_darknet": "yolo"},
}

Run = dict[str, Any]


def make_set(root: Path, num_images: int) -> None:
    """Pictures, and the COCO file that everything starts from."""
    import numpy as np

    from tilth.data.images import write_jpeg

    rng = np.random.default_rng(0)
    sizes = [(int(w), int(h)) for w, h in rng.integers(333, 641, (NUM_SIZES, 2))]
    (root / "images").mkdir(parents=True)
    for number, (width, height) in enumerate(sizes):
        write_jpeg(root / f"{number}.jpg", np.full((height, width, 3), 90, np.uint8), quality=50)
    images = []
    for number in range(num_images):
        which = number % NUM_SIZES
        name = f"{number:012d}.jpg"
        os.link(root / f"{which}.jpg", root / "images" / name)
        width, height = sizes[which]
        images.append({"id": number + 1, "file_name": name, "width": width, "height": height})
    count = round(NUM_BOXES * num_images / NUM_IMAGES)
    owners = rng.integers(0, num_images, count)
    shares = np.sort(rng.uniform(0, 1, (count, 2, 2)), axis=2)
    extent = np.array(sizes)[owners % NUM_SIZES]
    low = np.floor(shares[:, :, 0] * (extent - 4))
    high = np.minimum(low + 3 + np.ceil((shares[:, :, 1] - shares[:, :, 0]) * extent), extent)
    classes = rng.integers(0, NUM_CLASSES, count)
    annotations = [
        {
            "id": number + 1,
            "image_id": owner + 1,
            "category_id": category,
            "bbox": [x, y, x1 - x, y1 - y],
            "area": (x1 - x) * (y1 - y),
            "iscrowd": 0,
            "segmentation": [],
        }
        for number, (owner, category, (x, y), (x1, y1)) in enumerate(
            zip(owners.tolist(), classes.tolist(), low.tolist(), high.tolist(), strict=True)
        )
    ]
    categories = [{"id": i, "name": f"class{i}"} for i in range(NUM_CLASSES)]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (root / "source.json").write_text(json.dumps(document))


# --- workers: each runs alone in a process, and prints seconds and peak memory -----------------


def tilth_read(name: str, root: Path, target: Path) -> Run:
    from tilth.data.formats import load_format

    module, path = load_format(name), root / FORMATS[name]
    options = {"media_root": root / "images"} if name not in IN_SET else {}
    start = time.perf_counter()
    dataset, _ = module.read(path, **options)
    return {"seconds": time.perf_counter() - start, "objects": len(dataset.annotations)}


def tilth_write(name: str, root: Path, target: Path) -> Run:
    from tilth.data.formats import coco, load_format

    module = load_format(name)
    dataset, _ = coco.read(root / "source.json", media_root=root / "images")
    options = module.WriteOptions(pictures="link") if name in IN_SET else module.WriteOptions()
    start = time.perf_counter()
    module.write(dataset, target, media_root=root / "images", options=options)
    return {"seconds": time.perf_counter() - start, "objects": len(dataset.annotations)}


IN_SET = {"yolo_ultralytics"}
"""Formats whose pictures lie in the set itself."""


def floor_read(name: str, root: Path, target: Path) -> Run:
    """Every label file opened and read, and nothing done with it."""
    path = root / FORMATS[name]
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.suffix in TEXT]
    total, start = 0, time.perf_counter()
    for file in files:
        with open(file, "rb", buffering=0) as stream:
            total += len(stream.read())
    return {"seconds": time.perf_counter() - start, "bytes": total, "files": len(files)}


TEXT = {".txt", ".xml", ".json", ".csv", ".parquet", ".yaml"}


def labelformat_input(kind: str, root: Path, path: Path) -> Any:
    from labelformat import formats

    names = ",".join(f"class{i}" for i in range(NUM_CLASSES))
    match kind:
        case "coco":
            return formats.COCOObjectDetectionInput(input_file=path)
        case "kitti":
            images = os.path.relpath(root / "images", path)
            return formats.KittiObjectDetectionInput(path, names, images)
        case "voc":
            return formats.PascalVOCObjectDetectionInput(voc_files(path), names)
        case _:
            return formats.YOLOv8ObjectDetectionInput(path / "data.yaml", "train")


def voc_files(path: Path) -> Path:
    """The folder of the XML files themselves."""
    return path / "Annotations" if (path / "Annotations").is_dir() else path


def labelformat_read(kind: str, root: Path, path: Path) -> Run:
    start = time.perf_counter()
    labels = list(labelformat_input(kind, root, path).get_labels())
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "objects": sum(len(label.objects) for label in labels)}


def labelformat_write(kind: str, root: Path, target: Path) -> Run:
    from labelformat import formats

    source = formats.COCOObjectDetectionInput(input_file=root / "source.json")
    target.mkdir(parents=True)
    writers = {
        "coco": lambda: formats.COCOObjectDetectionOutput(target / "o.json"),
        "kitti": lambda: formats.KittiObjectDetectionOutput(target),
        "voc": lambda: formats.PascalVOCObjectDetectionOutput(target),
        "yolo": lambda: formats.YOLOv8ObjectDetectionOutput(target / "data.yaml", "train"),
    }
    start = time.perf_counter()
    writers[kind]().save(label_input=source)
    return {"seconds": time.perf_counter() - start}


def supervision_read(kind: str, root: Path, path: Path) -> Run:
    import supervision as sv

    images, dataset = str(root / "images"), sv.DetectionDataset
    start = time.perf_counter()
    if kind == "coco":
        found = dataset.from_coco(images, str(path))
    elif kind == "voc":
        found = dataset.from_pascal_voc(images, str(voc_files(path)))
    else:
        labels = path / "labels" / "train"
        found = dataset.from_yolo(images, str(labels), str(path / "data.yaml"))
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "objects": sum(len(d) for d in found.annotations.values())}


def supervision_write(kind: str, root: Path, target: Path) -> Run:
    import supervision as sv

    dataset = sv.DetectionDataset.from_coco(str(root / "images"), str(root / "source.json"))
    target.mkdir(parents=True)
    start = time.perf_counter()
    if kind == "coco":
        dataset.as_coco(annotations_path=str(target / "o.json"))
    elif kind == "voc":
        dataset.as_pascal_voc(annotations_directory_path=str(target))
    else:
        dataset.as_yolo(
            annotations_directory_path=str(target), data_yaml_path=str(target / "data.yaml")
        )
    return {"seconds": time.perf_counter() - start}


def _datumaro_layout(kind: str, root: Path, path: Path, scratch: Path) -> tuple[str, str]:
    """The folders that Datumaro insists on, made of links; the folder and its name there."""
    if kind == "coco":
        (scratch / "annotations").mkdir(parents=True)
        (scratch / "annotations" / "instances_train.json").symlink_to(path)
        (scratch / "images").symlink_to(root / "images")
        return str(scratch), "coco_instances"
    if kind == "kitti":
        (scratch / "training").mkdir(parents=True)
        (scratch / "training" / "label_2").symlink_to(path)
        (scratch / "training" / "image_2").symlink_to(root / "images")
        return str(scratch), "kitti_detection"
    if kind == "voc":
        (scratch / "ImageSets" / "Main").mkdir(parents=True)
        (scratch / "Annotations").symlink_to(voc_files(path))
        (scratch / "JPEGImages").symlink_to(root / "images")
        stems = sorted(file.stem for file in voc_files(path).glob("*.xml"))
        (scratch / "ImageSets" / "Main" / "train.txt").write_text("\n".join(stems))
        names = "".join(f"class{i}:::\n" for i in range(NUM_CLASSES))
        (scratch / "labelmap.txt").write_text(f"# label:color_rgb:parts:actions\n{names}")
        return str(scratch), "voc_detection"
    return str(path), "yolo"


def datumaro_read(kind: str, root: Path, path: Path) -> Run:
    from datumaro.components.dataset import Dataset

    with tempfile.TemporaryDirectory(dir=root) as scratch:
        folder, name = _datumaro_layout(kind, root, path, Path(scratch) / "d")
        start = time.perf_counter()
        dataset = Dataset.import_from(folder, name)
        objects = sum(len(item.annotations) for item in dataset)
        return {"seconds": time.perf_counter() - start, "objects": objects}


def datumaro_write(kind: str, root: Path, target: Path) -> Run:
    from datumaro.components.dataset import Dataset

    with tempfile.TemporaryDirectory(dir=root) as scratch:
        folder, name = _datumaro_layout("coco", root, root / "source.json", Path(scratch) / "d")
        dataset = Dataset.import_from(folder, name)
        dataset.init_cache()
        names = {"coco": "coco_instances", "voc": "voc_detection", "kitti": "kitti_detection"}
        start = time.perf_counter()
        dataset.export(str(target), names.get(kind, kind), save_media=False)
        return {"seconds": time.perf_counter() - start}


WORKERS: dict[str, Callable[[str, Path, Path], Run]] = {
    "tilth-read": tilth_read,
    "tilth-write": tilth_write,
    "floor-read": floor_read,
    "labelformat-read": labelformat_read,
    "labelformat-write": labelformat_write,
    "supervision-read": supervision_read,
    "supervision-write": supervision_write,
    "datumaro-read": datumaro_read,
    "datumaro-write": datumaro_write,
}
IMPORTS = {
    "labelformat": ["labelformat.formats"],
    "supervision": ["supervision"],
    "datumaro": ["datumaro.components.dataset"],
    "tilth": [
        "tilth.data.formats.coco",
        "pyarrow.csv",
        "pyarrow.compute",
        "pyarrow.parquet",
        "yaml",
    ],
    "floor": [],
}


def worker(which: str, kind: str, root: Path, path: Path) -> None:
    for module in IMPORTS[which.partition("-")[0]]:
        __import__(module)
    run = WORKERS[which](kind, root, path)
    run["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps(run))


# --- running them ------------------------------------------------------------------------------


def measure(which: str, kind: str, root: Path, path: Path, python: str, limit_s: float) -> Run:
    """One run in a fresh process; over the limit, ``seconds`` is the limit."""
    command = [python, __file__, "--worker", which, kind, str(root), str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s)
    except subprocess.TimeoutExpired:
        return {"seconds": limit_s, "stopped": True}
    if done.returncode:
        lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
        return {"error": lines[-1][:200] if lines else f"exit code {done.returncode}"}
    return json.loads(done.stdout.strip().splitlines()[-1])


def run_format(
    name: str, root: Path, pythons: dict[str, str], limit_s: float, repeats: int
) -> dict[str, dict[str, list[Run]]]:
    """All tools that know a format, writing and reading, interleaved."""
    runs: dict[str, dict[str, list[Run]]] = {"write": {}, "read": {}}
    final = root / FORMATS[name]
    for way in ("write", "read"):
        tools = {"tilth": name} | {p: known[name] for p, known in PEERS.items() if name in known}
        for repeat in range(repeats):
            for tool, kind in tools.items():
                earlier = runs[way].setdefault(tool, [])
                if any("error" in run or "stopped" in run for run in earlier):
                    continue  # it would be the same again
                if tool not in pythons:
                    earlier.append({"error": "not installed"})
                    continue
                path = final if way == "read" else root / "scratch" / final.name
                path.parent.mkdir(parents=True, exist_ok=True)
                run = measure(f"{tool}-{way}", kind, root, path, pythons[tool], limit_s)
                earlier.append(run)
                print(f"{name} {way} {repeat} {tool}: {_shown(run)}", flush=True)
                if way == "write" and tool == "tilth" and not final.exists():
                    final.parent.mkdir(parents=True, exist_ok=True)
                    shutil.move(path, final)
                shutil.rmtree(root / "scratch", ignore_errors=True)
        if way == "read":
            runs["floor"] = {
                "open and read": [measure("floor-read", name, root, final, sys.executable, limit_s)]
            }
    shutil.rmtree(final.parent)
    return runs


def _shown(run: Run) -> str:
    if "error" in run:
        return run["error"]
    return f"{run['seconds']:.2f} s{' (stopped)' if run.get('stopped') else ''}"


def _median(runs: list[Run]) -> float:
    return statistics.median(run["seconds"] for run in runs)


def fastest_ratio(runs: dict[str, list[Run]]) -> tuple[float, str, list[float]] | None:
    """The fastest peer's time over ours, that peer, and the range; None without a peer."""
    peers = {t: r for t, r in runs.items() if t != "tilth" and r and "seconds" in r[-1]}
    if not peers or "seconds" not in runs["tilth"][-1]:
        return None
    tool = min(peers, key=lambda t: _median(peers[t]))
    ours = [run["seconds"] for run in runs["tilth"]]
    theirs = [run["seconds"] for run in peers[tool]]
    ratio = statistics.median(theirs) / statistics.median(ours)
    return ratio, tool, [min(theirs) / max(ours), max(theirs) / min(ours)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--peer-python", help="an interpreter with datumaro")
    parser.add_argument("--images", type=int, default=NUM_IMAGES)
    parser.add_argument("--formats", default=",".join(FORMATS))
    parser.add_argument("--limit", type=float, default=90.0, help="seconds for a peer's run")
    parser.add_argument("--repeats", type=int, default=2)
    args = parser.parse_args()
    if args.worker:
        which, kind, root, path = args.worker
        worker(which, kind, Path(root), Path(path))
        return
    pythons = dict.fromkeys(("tilth", "labelformat", "supervision"), sys.executable)
    if args.peer_python and Path(args.peer_python).exists():
        pythons["datumaro"] = args.peer_python
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "set"
        make_set(root, args.images)
        for name in args.formats.split(","):
            results[name] = run_format(name, root, pythons, args.limit, args.repeats)
    if args.images == NUM_IMAGES and set(results) == set(FORMATS):
        report(results, args.limit)
    for name, runs in results.items():
        for way in ("read", "write"):
            print(name, way, fastest_ratio(runs[way]))


def report(results: dict[str, Any], limit_s: float) -> None:
    from evidence import claim, write_result

    claims = []
    for way, title in (("read", "format_import"), ("write", "format_export")):
        ratios = {
            name: found
            for name, runs in results.items()
            if (found := fastest_ratio(runs[way])) is not None
        }
        worst = min(ratios, key=lambda name: ratios[name][0])
        each = ", ".join(f"{name} {r[0]:.1f} ({r[1]})" for name, r in ratios.items())
        claims.append(
            claim(
                f"{title}_vs_fastest_peer",
                ratios[worst][0],
                unit="time ratio, peer over ours",
                goal=5.0,
                better="higher",
                spread=ratios[worst][2],
                runs=len(results[worst][way]["tilth"]),
                note=f"worst: {worst}; {each}; a peer's run is stopped after {limit_s:g} s",
            )
        )
    peaks = {
        f"{name} {way}": max(run["peak_gb"] for run in runs[way]["tilth"])
        for name, runs in results.items()
        for way in ("read", "write")
    }
    worst = max(peaks, key=lambda name: peaks[name])
    claims.append(
        claim(
            "format_peak_gb",
            peaks[worst],
            unit="GB (GiB) resident",
            goal=1.5,
            runs=len(peaks),
            note=f"worst: {worst}; whole process; writing holds the set that it writes",
        )
    )
    write_result(
        "formats",
        claims,
        data={"name": "made by this script, seed 0", "images": NUM_IMAGES, "boxes": NUM_BOXES},
        detail=results,
    )


if __name__ == "__main__":
    main()
