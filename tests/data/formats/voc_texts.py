"""Pascal VOC files for tests: by hand, from the definition, and hostile ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tilth.data.dataset import Dataset
from tilth.data.problems import LabelReport

__all__ = [
    "BOMB",
    "DEVKIT",
    "OUTSIDE",
    "attributes",
    "kinds",
    "names",
    "voc_object",
    "voc_text",
    "written",
]


def voc_object(name: str = "cat", box: tuple[Any, ...] = (1, 2, 30, 40), more: str = "") -> str:
    corners = "".join(
        f"<{tag}>{value}</{tag}>"
        for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    return (
        f"<object><name>{name}</name><pose>Unspecified</pose><truncated>0</truncated>"
        f"<difficult>0</difficult>{more}<bndbox>{corners}</bndbox></object>"
    )


def voc_text(*objects: str, filename: str = "a.jpg", width: Any = 100, height: Any = 80) -> str:
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    name = f"<filename>{filename}</filename>" if filename else ""
    return f"<annotation>{name}{size}\n{chr(10).join(objects)}\n</annotation>"


def written(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def kinds(report: LabelReport) -> dict[str, int]:
    return {problem.kind: problem.count for problem in report.problems}


def attributes(dataset: Dataset) -> list[Any]:
    return [json.loads(text or b"{}") for text in dataset.annotations.attributes]


def names(dataset: Dataset, root: Path) -> list[str]:
    return [Path(uri).relative_to(root.resolve()).as_posix() for uri in dataset.media.uri]


# The example of the development kit's documentation, by hand: VOC2007, 000005 shortened.
DEVKIT = """<annotation>
	<folder>VOC2007</folder>
	<filename>000005.jpg</filename>
	<source>
		<database>The VOC2007 Database</database>
		<annotation>PASCAL VOC2007</annotation>
		<image>flickr</image>
	</source>
	<size>
		<width>500</width>
		<height>375</height>
		<depth>3</depth>
	</size>
	<segmented>0</segmented>
	<object>
		<name>chair</name>
		<pose>Rear</pose>
		<truncated>0</truncated>
		<difficult>1</difficult>
		<bndbox>
			<xmin>263</xmin>
			<ymin>211</ymin>
			<xmax>500</xmax>
			<ymax>339</ymax>
		</bndbox>
	</object>
	<object>
		<name>person</name>
		<pose>Unspecified</pose>
		<truncated>1</truncated>
		<occluded>1</occluded>
		<difficult>0</difficult>
		<bndbox>
			<xmin>1</xmin>
			<ymin>1</ymin>
			<xmax>1</xmax>
			<ymax>375</ymax>
		</bndbox>
	</object>
</annotation>
"""

BOMB = (
    '<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;">'
    "]><annotation><filename>&b;</filename></annotation>"
)
OUTSIDE = (
    '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    "<annotation><filename>&x;</filename></annotation>"
)
