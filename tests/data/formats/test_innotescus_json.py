"""Our INNOTESCUS_JSON: the names that are public, a schema, and nothing that is lost."""

from __future__ import annotations

import json
import typing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from any_dataset import comparable, datasets
from hypothesis import given, settings
from hypothesis import strategies as st
from small_sets import small_dataset

from tilth.data.dataset import Dataset
from tilth.data.formats import FORMATS, _innotescus_records, innotescus_json, load_format
from tilth.data.problems import LabelReport
from tilth.data.records import Geometry, ReviewState, Source, Split, TaskKind
from tilth.errors import EmptyDatasetError, LabelError, PathEscapeError, TilthError

SCHEMA = Path(innotescus_json.__file__).with_name("innotescus_json.schema.json")


def document(*objects: dict[str, Any], **changes: Any) -> dict[str, Any]:
    medium = {"name": "a.jpg", "width": 10, "height": 8, "objects": list(objects)}
    return {
        "format": "INNOTESCUS_JSON",
        "version": 1,
        "task_type": "OBJECT_DETECTION",
        "data_type": "IMAGE",
        "classes": [{"id": 3, "name": "cat"}, {"id": 1, "name": "dog", "supercategory": "pet"}],
        "media": [medium],
        **changes,
    }


def box(**changes: Any) -> dict[str, Any]:
    return {"class": "cat", "type": "BOX", "box": [1, 2, 3.5, 4], **changes}


def read_document(folder: Path, content: Any, **options: Any) -> tuple[Dataset, LabelReport]:
    path = folder / "labels.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return innotescus_json.read(path, **options)


def kinds(report: LabelReport) -> dict[str, int]:
    return {problem.kind: problem.count for problem in report.problems}


def test_the_schema_beside_the_module_is_that_of_the_records() -> None:
    assert SCHEMA.read_text() == _innotescus_records.schema_text()
    schema = json.loads(SCHEMA.read_text())
    assert schema["properties"]["version"] == {"enum": [1]}
    assert set(schema["$defs"]) == {"Class", "Medium", "Object"}


@pytest.mark.parametrize(
    ("name", "kind", "without"),
    [
        ("TaskType", TaskKind, set()),
        ("ShapeType", Geometry, set()),
        ("SourceName", Source, set()),
        ("StateName", ReviewState, set()),
        ("SplitName", Split, {"NONE"}),
    ],
)
def test_the_words_are_those_of_the_records(name: str, kind: Any, without: set[str]) -> None:
    words = set(typing.get_args(getattr(_innotescus_records, name))) - {""}
    assert words == {member.name for member in kind} - without


def test_a_file_by_hand(tmp_path: Path) -> None:
    mask = {"size": [8, 10], "counts": [8, 8, 64]}
    objects = [
        box(score=0.25, source="MODEL", review_state="ACCEPTED", metadata={"occluded": True}),
        box(**{"class": "dog"}, type="RLE", box=[1, 0, 2, 8], shape=mask, area=8, is_crowd=True),
        box(type="POLYGON", box=[0, 0, 4, 4], shape=[[0, 0, 4, 0, 0, 4]], area=8.0),
        {"class": "dog", "type": "LABEL"},
    ]
    content = document(*objects, task_name="pets", project_name="home")
    content["media"][0] |= {"split": "VAL", "metadata": {"camera": 3}}
    content["media"].append({"name": "clip.mp4", "frame": 12, "objects": []})
    dataset, report = read_document(tmp_path, content)
    assert report.problems == ()
    assert report.notes == ["fields of the file itself were not kept: project_name, task_name"]
    assert list(dataset.media.uri) == [f"{tmp_path}/a.jpg", f"{tmp_path}/clip.mp4#frame=12"]
    assert dataset.media.split.tolist() == [Split.VAL, Split.NONE]
    assert [json.loads(text or b"null") for text in dataset.media.attributes] == [
        {"camera": 3},
        None,
    ]
    assert [(c.origin_id, c.name, c.supercategory) for c in dataset.categories] == [
        (3, "cat", ""),
        (1, "dog", "pet"),
    ]
    labels = dataset.annotations
    assert labels.geometry.tolist() == [
        Geometry.BOX,
        Geometry.RLE,
        Geometry.POLYGON,
        Geometry.LABEL,
    ]
    assert labels.boxes_xyxy.tolist() == [[1, 2, 3.5, 4], [1, 0, 2, 8], [0, 0, 4, 4], [0, 0, 10, 8]]
    assert labels.area.tolist() == [5, 8, 8, 80]
    assert labels.is_crowd.tolist() == [False, True, False, False]
    np.testing.assert_array_equal(labels.score, np.array([0.25, np.nan, np.nan, np.nan], "f4"))
    assert labels.source.tolist() == [Source.MODEL, 0, 0, 0]
    assert labels.review_state.tolist() == [ReviewState.ACCEPTED, 0, 0, 0]
    assert json.loads(labels.attributes[0] or b"") == {"occluded": True}
    assert json.loads(labels.segmentation[1] or b"") == mask


def test_what_is_written_follows_the_schema(tmp_path: Path) -> None:
    """Field by field: every object has the required fields of its definition, and no other."""
    dataset = small_dataset(prefix="/p/")
    uris = [*dataset.media.uri[:3], "/p/clip.mp4#frame=7"]
    options = innotescus_json.WriteOptions(task_name="t", dataset_name="d")
    target = tmp_path / "out.json"
    innotescus_json.write(
        replace(dataset, media=replace(dataset.media, uri=uris)),
        target,
        media_root=Path("/p"),
        options=options,
    )
    content, schema = json.loads(target.read_text()), json.loads(SCHEMA.read_text())
    follows(content, schema)
    for medium in content["media"]:
        follows(medium, schema["$defs"]["Medium"])
        for each in medium["objects"]:
            follows(each, schema["$defs"]["Object"])
    assert content["media"][3] == {
        "name": "clip.mp4", "frame": 7, "width": 100, "height": 80, "objects": [],
    }  # fmt: skip
    assert (content["data_type"], content["task_type"]) == ("VIDEO", "INSTANCE_SEGMENTATION")
    assert (content["task_name"], content["dataset_name"]) == ("t", "d")


def follows(value: dict[str, Any], definition: dict[str, Any]) -> None:
    assert set(definition["required"]) <= set(value) <= set(definition["properties"])


WRONG: list[tuple[str, Any, str]] = [
    ("another format", document(format="COCO"), "that this version of Tilth reads"),
    ("a later version", document(version=2), "that this version of Tilth reads"),
    ("no format", {"images": []}, "that this version of Tilth reads"),
    ("a list", [1], "not an INNOTESCUS_JSON file"),
    ("no JSON", "{", "not an INNOTESCUS_JSON file"),
    ("not UTF-8", '{"format":"\udcff"}', "not an INNOTESCUS_JSON file"),
    ("NaN", json.dumps(document(box(score=float("nan")))), "not an INNOTESCUS_JSON file"),
    ("an unknown field", document(colour="red"), "not an INNOTESCUS_JSON file"),
    ("an unknown type", document(task_type="DREAMS"), "not an INNOTESCUS_JSON file"),
    ("two classes", document(classes=[{"id": 1, "name": "a"}] * 2), "two classes with one name"),
    ("one id", document(classes=[{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]), "with one id"),
    ("field of an object", document(box(colour=1)), "does not follow the schema"),
    ("three numbers", document(box(box=[1, 2, 3])), "does not follow the schema"),
    ("a huge size", document(media=[{"name": "a", "width": 2**31, "objects": []}]), "the schema"),
    ("huge integer", '{"format":' + "9" * 5000 + "}", "not an INNOTESCUS_JSON file"),
    ("deep", '{"format":' + "[" * 100_000, "not an INNOTESCUS_JSON file"),
]


@pytest.mark.parametrize(("content", "message"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_what_is_no_such_file_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "labels.json"
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(LabelError, match=message) as caught:
        innotescus_json.read(path)
    assert str(path) in (caught.value.where or "")


def test_the_place_of_a_fault_is_said(tmp_path: Path) -> None:
    content = document(box(), box(type="CIRCLE"))
    with pytest.raises(LabelError) as caught:
        read_document(tmp_path, content)
    assert (caught.value.where or "").endswith("media[0]")
    assert "objects[1].type" in (caught.value.got or "")


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        (box(box=[3, 2, 1, 4]), "box without area"),
        (box(box=None), "box without area"),
        (box(box=[1, 2, 1e308, 1e308]), "box with a number that is not finite"),
        (box(type="POLYGON", shape={"size": [1, 1], "counts": []}), "shape that is not what"),
        (box(type="RLE"), "shape that is not what"),
        (box(shape=[[1, 2, 3, 4, 5, 6]]), "shape that is not what"),
    ],
)
def test_an_object_that_cannot_be_used_is_left_out_by_place(
    tmp_path: Path, bad: Any, kind: str
) -> None:
    dataset, report = read_document(tmp_path, document(box(), bad))
    (problem,) = [problem for problem in report.problems if problem.action == "left out"]
    assert problem.kind.startswith(kind)
    assert problem.examples == (f"{tmp_path}/labels.json: media[0].objects[1]",)
    assert len(dataset.annotations) == 1


def test_an_unknown_class_stops_or_is_left_out(tmp_path: Path) -> None:
    content = document(box(), box(**{"class": "cow"}))
    with pytest.raises(LabelError, match="'cow' is not among") as caught:
        read_document(tmp_path, content)
    assert (caught.value.where or "").endswith("media[0].objects[1]")
    dataset, report = read_document(tmp_path, content, on_unknown="skip")
    assert len(dataset.annotations) == 1
    assert kinds(report) == {"label of an unknown class": 1}


def test_no_media_a_missing_file_and_names_that_leave(tmp_path: Path) -> None:
    with pytest.raises(EmptyDatasetError):
        read_document(tmp_path, document(media=[]))
    with pytest.raises(LabelError, match="cannot be read"):
        innotescus_json.read(tmp_path / "none.json")
    with pytest.raises(PathEscapeError):
        read_document(tmp_path, document(media=[{"name": "../../etc/passwd", "objects": []}]))


def test_it_is_recognised_and_by_no_other_format(tmp_path: Path) -> None:
    innotescus_json.write(small_dataset(), tmp_path / "a.json")
    found = [name for name in FORMATS if load_format(name).recognises(tmp_path / "a.json")]
    assert found == ["innotescus_json"]
    (tmp_path / "b.json").write_text('{"images": []}')
    for other in (tmp_path / "b.json", tmp_path, Path("\0")):
        assert not innotescus_json.recognises(other)


def test_writing_costs_nothing_but_parents(tmp_path: Path) -> None:
    dataset = small_dataset()
    assert innotescus_json.write(dataset, tmp_path / "a.json").problems == ()
    parents = np.array([-1, 100, -1, -1])
    report = innotescus_json.write(
        replace(dataset, media=replace(dataset.media, parent_id=parents)), tmp_path / "a.json"
    )
    assert kinds(report) == {"parent of a derived picture": 1}


@settings(max_examples=40)
@given(data=st.data())
def test_a_round_trip_keeps_everything(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "round.json"
    dataset = data.draw(datasets(Path("/drawn")))
    innotescus_json.write(dataset, path, media_root=Path("/drawn"))
    back, report = innotescus_json.read(path, media_root=Path("/drawn"))
    assert report.problems == ()
    assert comparable(back, Path("/drawn")) == comparable(dataset, Path("/drawn"))
    assert back.categories == dataset.categories
    assert back.media.split.tolist() == dataset.media.split.tolist()
    np.testing.assert_array_equal(back.annotations.boxes_xyxy, dataset.annotations.boxes_xyxy)
    np.testing.assert_array_equal(back.annotations.area, dataset.annotations.area)


@settings(max_examples=150)
@given(data=st.data())
def test_any_bytes_end_in_a_result_or_an_error_of_ours(
    tmp_path_factory: pytest.TempPathFactory, data: Any
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.json"
    text = json.dumps(document(box(metadata={"a": [1]}), box(type="POLYGON", shape=[[0, 0, 1, 1]])))
    at = data.draw(st.integers(0, len(text)))
    junk = data.draw(st.one_of(st.binary(max_size=6), st.sampled_from([b"9" * 5000, b"[" * 3000])))
    path.write_bytes(text[:at].encode() + junk + text[at + data.draw(st.integers(0, 9)) :].encode())
    try:
        dataset, _ = innotescus_json.read(path, on_unknown="skip")
    except TilthError:
        return
    assert np.isfinite(dataset.annotations.boxes_xyxy).all()
    assert all("://" in uri or uri.startswith(f"{path.parent}/") for uri in dataset.media.uri)
