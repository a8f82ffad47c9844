"""The records of our INNOTESCUS_JSON, version 1, and their JSON Schema."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw

__all__ = ["Document", "Head", "Medium", "Object", "medium_name", "schema_text"]

_PIXELS = Meta(ge=0, le=2**31 - 1, description="pixels; 0 where not known")
_METADATA = Meta(description="free fields", extra_json_schema={"type": "object"})
_PART = {"type": "array", "items": {"type": "number"}}
_SHAPE = Meta(
    description="polygons [[x0, y0, x1, y1, ...], ...] in pixels, or a mask as COCO's run lengths",
    extra_json_schema={
        "oneOf": [
            {"type": "array", "items": _PART},
            {"type": "object", "required": ["size", "counts"]},
        ]
    },
)
_BOX = Meta(description="pixel edges x0, y0, x1, y1, from the top left")
_FRAME = Meta(ge=0, le=10**12 - 1, description="of the video `name`, counted from 0")

TaskType = Literal["CLASSIFICATION", "OBJECT_DETECTION", "SEGMENTATION", "INSTANCE_SEGMENTATION"]
DataType = Literal["IMAGE", "VIDEO"]
ShapeType = Literal["LABEL", "BOX", "POLYGON", "RLE"]
SourceName = Literal["HUMAN", "MODEL", "SYNTHETIC"]
StateName = Literal["UNREVIEWED", "ACCEPTED", "CORRECTED", "REJECTED"]
SplitName = Literal["", "TRAIN", "VAL", "TEST"]


class Class(msgspec.Struct, forbid_unknown_fields=True):
    """A class of objects, in the order of the list."""

    id: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
    name: str
    supercategory: str = ""


class Object(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """One label: of the whole medium (type LABEL), or of an object in it."""

    label: str = msgspec.field(name="class")
    type: ShapeType
    box: Annotated[tuple[float, float, float, float], _BOX] | None = None
    shape: Annotated[Raw, _SHAPE] = msgspec.field(default_factory=Raw)
    area: float | None = None
    is_crowd: bool = False
    score: float | None = None
    source: SourceName = "HUMAN"
    review_state: StateName = "UNREVIEWED"
    metadata: Annotated[Raw, _METADATA] = msgspec.field(default_factory=Raw)


class Medium(msgspec.Struct, forbid_unknown_fields=True):
    """A picture, or one frame of a video, with its labels; it may have none."""

    name: Annotated[str, Meta(min_length=1)]
    objects: list[Object]
    frame: Annotated[int, _FRAME] | None = None
    width: Annotated[int, _PIXELS] = 0
    height: Annotated[int, _PIXELS] = 0
    split: SplitName = ""
    metadata: Annotated[Raw, _METADATA] = msgspec.field(default_factory=Raw)


class Head(msgspec.Struct):
    """What says that a file is ours."""

    format: str = ""
    version: int = 0


class Document(msgspec.Struct, forbid_unknown_fields=True):
    """A whole file, its media still as text."""

    format: Literal["INNOTESCUS_JSON"]
    version: Literal[1]
    task_type: TaskType
    data_type: DataType
    classes: list[Class]
    media: list[Raw]
    project_name: str = ""
    dataset_name: str = ""
    task_name: str = ""
    task_description: str = ""


def medium_name(medium: Medium) -> str:
    """As the catalogue calls it: ``clip.mp4#frame=12`` for a frame."""
    return medium.name if medium.frame is None else f"{medium.name}#frame={medium.frame}"


def schema_text() -> str:
    """The JSON Schema that lies beside the format as `innotescus_json.schema.json`."""
    (_, medium), shared = msgspec.json.schema_components(
        (Document, Medium), ref_template="#/$defs/{name}"
    )
    fields: dict[str, Any] = shared.pop("Document")
    fields["properties"]["media"] = {"type": "array", "items": medium}
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "INNOTESCUS_JSON, as Tilth defines it, version 1",
        **{name: value for name, value in fields.items() if name != "title"},
        "$defs": shared,
    }
    return json.dumps(schema, indent=2) + "\n"
