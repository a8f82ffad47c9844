"""How each tool that `formats.py` compares reads and writes the set; and the floors beneath them.

A function gets the set, the label files (as Tilth wrote them) and an empty folder, arranges what
the tool insists on (untimed), and gives back what is to be timed, and what makes its result
countable (untimed again): an array of boxes, or None for an export.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from label_set import LabelSet

Timed = tuple[Callable[[], Any], Callable[[Any], Any]]

TARGETS = {
    "coco": "labels.json",
    "csv": "labels.csv",
    "cvat_xml": "labels.xml",
    "kitti": "labels",
    "label_studio_json": "labels.json",
    "labelme": "labels",
    "openimages_csv": "labels.csv",
    "pascal": "labels",
    "tilth": "labels",
    "yolo_darknet": "labels",
    "yolo_keras": "labels.txt",
    "yolo_ultralytics": "labels",
}
"""Format -> the name of its file or folder."""


def nothing(_: Any) -> None:
    """An export is not counted by its boxes."""


# --- Tilth ---------------------------------------------------------------------------------------


def tilth_import(name: str, given: LabelSet, files: Path, scratch: Path) -> Timed:
    module = tilth_format(name)
    read = partial(module.read, files / TARGETS[name], media_root=given.pictures)
    return read, lambda result: result[0].annotations.boxes_xyxy


def tilth_export(name: str, given: LabelSet, files: Path, scratch: Path) -> Timed:
    module, dataset = tilth_format(name), tilth_dataset(given)
    target = scratch / TARGETS[name]
    return partial(module.write, dataset, target, media_root=given.pictures), nothing


def tilth_format(name: str) -> Any:
    import pandas  # noqa: F401  where it is installed, pyarrow imports it for its first array

    from tilth.data.formats import load_format

    return load_format(name)


def tilth_dataset(given: LabelSet) -> Any:
    from tilth.data.dataset import AnnotationColumns, Dataset, MediaColumns
    from tilth.data.ragged import RaggedBytes
    from tilth.data.records import Category, Geometry

    n, m = len(given.names), len(given.media_index)
    boxes = given.boxes_xyxy
    return Dataset(
        categories=tuple(Category(name=c, origin_id=i) for i, c in enumerate(given.classes)),
        media=MediaColumns(
            id=np.arange(1, n + 1),
            uri=[f"{given.pictures.resolve().as_posix()}/{name}" for name in given.names],
            width=given.width.astype(np.int32),
            height=given.height.astype(np.int32),
            split=np.full(n, -1, np.int8),
            parent_id=np.full(n, -1, np.int64),
        ),
        annotations=AnnotationColumns(
            id=np.arange(1, m + 1),
            media_index=given.media_index,
            category_index=given.category,
            boxes_xyxy=boxes,
            area=(boxes[:, 2:] - boxes[:, :2]).prod(axis=1),
            is_crowd=np.zeros(m, np.bool_),
            score=np.full(m, np.nan, np.float32),
            source=np.zeros(m, np.uint8),
            review_state=np.zeros(m, np.uint8),
            geometry=np.full(m, Geometry.BOX, np.uint8),
            segmentation=RaggedBytes.empty(m),
            attributes=RaggedBytes.empty(m),
        ),
    )


# --- labelformat ---------------------------------------------------------------------------------


def labelformat_import(name: str, given: LabelSet, files: Path, scratch: Path) -> Timed:
    from labelformat import formats

    source, names = files / TARGETS[name], ",".join(given.classes)
    pictures = str(given.pictures.resolve())
    if name == "yolo_ultralytics":
        arrange_ultralytics(given, source, scratch)
    make = {
        "coco": lambda: formats.COCOObjectDetectionInput(source),
        "cvat_xml": lambda: formats.CVATObjectDetectionInput(source),
        "kitti": lambda: formats.KittiObjectDetectionInput(source / "label_2", names, pictures),
        "pascal": lambda: formats.PascalVOCObjectDetectionInput(source / "Annotations", names),
        "yolo_ultralytics": lambda: formats.YOLOv8ObjectDetectionInput(
            scratch / "data.yaml", "train"
        ),
    }[name]

    def boxes(labels: Any) -> Any:
        return np.array(
            [(o.box.xmin, o.box.ymin, o.box.xmax, o.box.ymax) for i in labels for o in i.objects]
        )

    return lambda: list(make().get_labels()), boxes


def labelformat_export(name: str, given: LabelSet, files: Path, scratch: Path) -> Timed:
    from labelformat import formats

    source, target = labelformat_labels(given), scratch / TARGETS[name]
    make = {
        "coco": lambda: formats.COCOObjectDetectionOutput(target),
        "cvat_xml": lambda: formats.CVATObjectDetectionOutput(scratch / "cvat"),
        "kitti": lambda: formats.KittiObjectDetectionOutput(target),
        "pascal": lambda: formats.PascalVOCObjectDetectionOutput(target),
        "yolo_ultralytics": lambda: formats.YOLOv8ObjectDetectionOutput(
            target / "data.yaml", "train"
        ),
    }[name]
    return lambda: make().save(source), nothing


def labelformat_labels(given: LabelSet) -> Any:
    from labelformat.model.bounding_box import BoundingBox
    from labelformat.model.category import Category
    from labelformat.model.image import Image
    from labelformat.model.object_detection import (
        ImageObjectDetection,
        ObjectDetectionInput,
        SingleObjectDetection,
    )

    categories = [Category(id=at, name=name) for at, name in enumerate(given.classes)]
    offsets, boxes = given.offsets.tolist(), given.boxes_xyxy.tolist()
    labels = [
        ImageObjectDetection(
            image=Image(id=at, filename=name, width=int(width), height=int(height)),
            objects=[
                SingleObjectDetection(
                    category=categories[given.category[row]], box=BoundingBox(*boxes[row])
                )
                for row in range(offsets[at], offsets[at + 1])
            ],
        )
        for at, (name, width, height) in enumerate(
            zip(given.names, given.width, given.height, strict=True)
        )
    ]

    class InMemory(ObjectDetectionInput):
        @staticmethod
        def add_cli_arguments(parser: Any) -> None: ...

        def get_categories(self) -> Any:
            return categories

        def get_images(self) -> Any:
            return [label.image for label in labels]

        def get_labels(self) -> Any:
            return labels

    return InMemory()


def arrange_ultralytics(given: LabelSet, source: Path, scratch: Path) -> None:
    """The usual layout: images/train beside labels/train, and a data.yaml that names them."""
    labels = next(folder for folder, _, names in os.walk(source / "labels") if names)
    for kind, folder in (("images", given.pictures), ("labels", Path(labels))):
        (scratch / kind).mkdir()
        (scratch / kind / "train").symlink_to(folder)
    names = "\n".join(f"  {at}: {name}" for at, name in enumerate(given.classes))
    text = f"path: .\ntrain: images/train\nval: images/train\nnames:\n{names}\n"
    (scratch / "data.yaml").write_text(text)


# --- supervision ---------------------------------------------------------------------------------


def supervision_import(name: str, given: LabelSet, files: Path, scratch: Path) -> Timed:
    from supervision import DetectionDataset

    source, pictures = files / TARGETS[name], str(given.pictures)
    if name == "yolo_ultralytics":
        arrange_ultralytics(given, source, scratch)
    read = {
        "coco": lambda: DetectionDataset.from_coco(pictures, str(source)),
        "labelme": lambda: DetectionDataset.from_labelme(pictures, str(source)),
        "pascal": lambda: DetectionDataset.from_pascal_voc(pictures, str(source / "Annotations")),
        "yolo_ultralytics": lambda: DetectionDataset.from_yolo(
            pictures, str(scratch / "labels" / "train"), str(scratch / "data.yaml")
        ),
    }[name]
    return read, lambda found: np.concatenate([d.xyxy for d in found.annotations.values()])


def supervision_export(name: str, given: LabelSet, files: Path, scratch: Path) -> Timed:
    dataset, target = supervision_dataset(given), scratch / TARGETS[name]
    write = {
        "coco": lambda: dataset.as_coco(annotations_path=str(target)),
        "labelme": lambda: dataset.as_labelme(annotations_directory_path=str(target)),
        "pascal": lambda: dataset.as_pascal_voc(annotations_directory_path=str(target)),
        "yolo_ultralytics": lambda: dataset.as_yolo(
            annotations_directory_path=str(target), data_yaml_path=str(scratch / "data.yaml")
        ),
    }[name]
    return write, nothing


def supervision_dataset(given: LabelSet) -> Any:
    from supervision import DetectionDataset, Detections

    offsets = given.offsets.tolist()
    paths = [str(given.pictures / name) for name in given.names]
    annotations = {
        path: Detections(
            xyxy=given.boxes_xyxy[offsets[at] : offsets[at + 1]].astype(np.float32),
            class_id=given.category[offsets[at] : offsets[at + 1]].astype(int),
        )
        for at, path in enumerate(paths)
    }
    return DetectionDataset(classes=given.classes, images=paths, annotations=annotations)


# --- Datumaro ------------------------------------------------------------------------------------

DATUMARO_NAMES = {
    "coco": "coco_instances",
    "cvat_xml": "cvat",
    "kitti": "kitti_detection",
    "openimages_csv": "open_images",
    "pascal": "voc_detection",
    "yolo_darknet": "yolo",
    "yolo_ultralytics": "yolo",
}


def datumaro_import(name: str, given: LabelSet, files: Path, scratch: Path) -> Timed:
    from datumaro.components.dataset import Dataset

    DATUMARO_LAYOUTS[name](given, files / TARGETS[name], scratch)

    def read() -> Any:
        return list(Dataset.import_from(str(scratch), DATUMARO_NAMES[name]))

    def boxes(items: Any) -> Any:
        found = [label.points for item in items for label in item.annotations if is_box(label)]
        return np.array(found)

    return read, boxes


def is_box(label: Any) -> bool:
    return type(label).__name__ == "Bbox"


def datumaro_coco(given: LabelSet, source: Path, scratch: Path) -> None:
    (scratch / "annotations").mkdir()
    (scratch / "annotations" / "instances_train.json").symlink_to(source)
    (scratch / "images").mkdir()
    (scratch / "images" / "train").symlink_to(given.pictures)


def datumaro_cvat(given: LabelSet, source: Path, scratch: Path) -> None:
    (scratch / "annotations.xml").symlink_to(source)
    (scratch / "images").symlink_to(given.pictures)


def datumaro_kitti(given: LabelSet, source: Path, scratch: Path) -> None:
    (scratch / "train").mkdir()
    (scratch / "train" / "label_2").symlink_to(source / "label_2")
    (scratch / "train" / "image_2").symlink_to(given.pictures)


def datumaro_open_images(given: LabelSet, source: Path, scratch: Path) -> None:
    folder = scratch / "annotations"
    folder.mkdir()
    (folder / "train-annotations-bbox.csv").symlink_to(source)
    classes = source.with_name(f"{source.stem}-class-descriptions.csv")
    lines = classes.read_text().splitlines()[1:]  # theirs has no header
    (folder / "class-descriptions.csv").write_text("\n".join(lines) + "\n")
    (scratch / "images").mkdir()
    (scratch / "images" / "train").symlink_to(given.pictures)


def datumaro_voc(given: LabelSet, source: Path, scratch: Path) -> None:
    (scratch / "Annotations").symlink_to(source / "Annotations")
    (scratch / "JPEGImages").symlink_to(given.pictures)
    (scratch / "ImageSets" / "Main").mkdir(parents=True)
    stems = "\n".join(Path(name).stem for name in given.names)
    (scratch / "ImageSets" / "Main" / "train.txt").write_text(stems + "\n")
    (scratch / "labelmap.txt").write_text("".join(f"{name}:::\n" for name in given.classes))


def datumaro_darknet(given: LabelSet, source: Path, scratch: Path) -> None:
    """Pictures and labels in one folder, as it insists on; both as hard links."""
    folder = scratch / "obj_train_data"
    folder.mkdir()
    texts = {path.name: path for path in source.rglob("0*.txt")}
    for name in given.names:
        os.link(given.pictures / name, folder / name)
        text = texts[f"{Path(name).stem}.txt"]
        os.link(text, folder / text.name)
    (scratch / "obj.names").write_text("\n".join(given.classes) + "\n")
    listed = "\n".join(f"data/obj_train_data/{name}" for name in given.names)
    (scratch / "train.txt").write_text(listed + "\n")
    text = f"classes = {len(given.classes)}\ntrain = data/train.txt\nnames = data/obj.names\n"
    (scratch / "obj.data").write_text(text)


DATUMARO_LAYOUTS: dict[str, Callable[[LabelSet, Path, Path], None]] = {
    "coco": datumaro_coco,
    "cvat_xml": datumaro_cvat,
    "kitti": datumaro_kitti,
    "openimages_csv": datumaro_open_images,
    "pascal": datumaro_voc,
    "yolo_darknet": datumaro_darknet,
    "yolo_ultralytics": arrange_ultralytics,
}


def datumaro_export(name: str, given: LabelSet, files: Path, scratch: Path) -> Timed:
    dataset, target = datumaro_dataset(given), str(scratch / "labels")
    theirs = "yolo_ultralytics" if name == "yolo_ultralytics" else DATUMARO_NAMES[name]
    return partial(dataset.export, target, theirs, save_media=False), nothing


def datumaro_dataset(given: LabelSet) -> Any:
    from datumaro.components.annotation import AnnotationType, Bbox, LabelCategories
    from datumaro.components.dataset import Dataset
    from datumaro.components.dataset_base import DatasetItem
    from datumaro.components.media import Image

    offsets, boxes = given.offsets.tolist(), given.boxes_xyxy.tolist()

    def label(row: int) -> Any:
        x0, y0, x1, y1 = boxes[row]
        return Bbox(x0, y0, x1 - x0, y1 - y0, label=int(given.category[row]), id=row, group=row)

    def items() -> Iterator[Any]:
        for at, name in enumerate(given.names):
            path, size = str(given.pictures / name), (int(given.height[at]), int(given.width[at]))
            yield DatasetItem(
                id=Path(name).stem,
                subset="val" if at == 0 else "train",  # Ultralytics' exporter insists on both
                media=Image.from_file(path=path, size=size),
                annotations=[label(row) for row in range(offsets[at], offsets[at + 1])],
                attributes={"id": at + 1},
            )

    categories = {AnnotationType.label: LabelCategories.from_iterable(given.classes)}
    return Dataset.from_iterable(list(items()), categories=categories)


# --- the floors ----------------------------------------------------------------------------------


def floor_import(name: str, given: LabelSet, files: Path, scratch: Path) -> Timed:
    """The bare parser over the files, and nothing done with what it finds."""
    import msgspec
    import pandas  # noqa: F401  as for Tilth
    from lxml import etree
    from pyarrow import csv, parquet

    paths = sorted(str(path) for path in files.rglob("*") if path.is_file())

    def each(parse: Callable[[bytes], Any]) -> Callable[[], None]:
        def run() -> None:
            for path in paths:
                with open(path, "rb", buffering=0) as stream:
                    parse(stream.read())

        return run

    def columns() -> None:
        for path in paths:
            csv.read_csv(path)

    def tables() -> None:
        for path in paths:
            if path.endswith(".parquet"):
                parquet.read_table(path)

    parsers: dict[str, Callable[[], None]] = {
        "coco": each(msgspec.json.decode),
        "csv": columns,
        "cvat_xml": each(etree.fromstring),
        "label_studio_json": each(msgspec.json.decode),
        "labelme": each(lambda text: text[:1] == b"{" and msgspec.json.decode(text)),
        "openimages_csv": columns,
        "pascal": each(lambda text: text[:1] == b"<" and etree.fromstring(text)),
        "tilth": tables,
    }
    return parsers.get(name, each(bytes.split)), nothing


def floor_export(name: str, given: LabelSet, files: Path, scratch: Path) -> Timed:
    """The same bytes into as many new files."""
    paths = [path for path in files.rglob("*") if path.is_file()]
    texts = [(str(scratch / f"{at:07d}"), path.read_bytes()) for at, path in enumerate(paths)]

    def run() -> None:
        for path, text in texts:
            with open(path, "xb", buffering=0) as stream:
                stream.write(text)

    return run, nothing


Tool = Callable[[str, LabelSet, Path, Path], Timed]

TOOLS: dict[str, dict[str, Tool]] = {
    "tilth": {"import": tilth_import, "export": tilth_export},
    "labelformat": {"import": labelformat_import, "export": labelformat_export},
    "supervision": {"import": supervision_import, "export": supervision_export},
    "datumaro": {"import": datumaro_import, "export": datumaro_export},
    "floor": {"import": floor_import, "export": floor_export},
}

KNOWN = {
    "tilth": frozenset(TARGETS),
    "labelformat": frozenset({"coco", "cvat_xml", "kitti", "pascal", "yolo_ultralytics"}),
    "supervision": frozenset({"coco", "labelme", "pascal", "yolo_ultralytics"}),
    "datumaro": frozenset(DATUMARO_NAMES),
    "floor": frozenset(TARGETS),
}
"""Tool -> the formats that it knows."""
