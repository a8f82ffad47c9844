"""Label formats, one file each. To add one: write the file, add its line to `FORMATS`.

Every module has

    HOLDS                                     a `Holds`: what the format can carry
    TARGET                                    "file" or "folder": what `write` makes
    ReadOptions, WriteOptions                 frozen dataclasses; how a file is read or written
    recognises(path) -> bool                  whether this looks like one of ours (a cheap look)
    read(path, *, media_root, on_unknown, options, report) -> (Dataset, LabelReport)
    adapt(dataset, *, options) -> (Dataset, LabelReport)
    write(dataset, path, *, media_root, options) -> LabelReport     (a folder's also takes replace)

``adapt`` turns a data set into one that the format holds whole, and reports what that costs (a
polygon that becomes a box, a score that is lost). ``write`` adapts before it writes, so that
nothing is dropped in silence; who asks first calls ``adapt`` alone. The first line of a module's
docstring is what `tilth formats` prints.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from tilth.errors import SettingsError

__all__ = ["FORMATS", "load_format"]

FORMATS: dict[str, str] = {
    "coco": "tilth.data.formats.coco",
    "csv": "tilth.data.formats.csv",
    "cvat_xml": "tilth.data.formats.cvat_xml",
    "folders": "tilth.data.formats.folders",
    "innotescus_json": "tilth.data.formats.innotescus_json",
    "kitti": "tilth.data.formats.kitti",
    "label_studio_json": "tilth.data.formats.label_studio_json",
    "labelme": "tilth.data.formats.labelme",
    "masks_instance": "tilth.data.formats.masks_instance",
    "masks_per_class": "tilth.data.formats.masks_per_class",
    "masks_semantic": "tilth.data.formats.masks_semantic",
    "openimages_csv": "tilth.data.formats.openimages_csv",
    "pascal": "tilth.data.formats.pascal",
    "tilth": "tilth.data.formats.tilth",
    "yolo_darknet": "tilth.data.formats.yolo_darknet",
    "yolo_keras": "tilth.data.formats.yolo_keras",
    "yolo_ultralytics": "tilth.data.formats.yolo_ultralytics",
}


def load_format(name: str) -> ModuleType:
    """The module that reads and writes the format.

    Raises:
        SettingsError: no format of that name.
    """
    if name not in FORMATS:
        raise SettingsError("unknown label format", expected=", ".join(FORMATS), got=name)
    return importlib.import_module(FORMATS[name])
