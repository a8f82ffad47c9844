"""Tilth's own format: everything comes back, and a folder that was changed is refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from any_dataset import datasets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_sets import small_dataset

from tilth.data.dataset import AnnotationColumns, Dataset
from tilth.data.formats import tilth
from tilth.data.problems import LabelReport
from tilth.data.records import Split
from tilth.errors import (
    DataError,
    EmptyDatasetError,
    LabelError,
    PathEscapeError,
    SettingsError,
    TilthError,
)

ROOT = Path("/pictures")
STORAGES = ("parquet", "jsonl")
every_storage = pytest.mark.parametrize("storage", STORAGES)


def options(storage: str) -> tilth.WriteOptions:
    return tilth.WriteOptions(storage=storage)  # type: ignore[arg-type]


def full_dataset() -> Dataset:
    """A value that is not the default in every column."""
    dataset = small_dataset(prefix=f"{ROOT}/")
    media, labels = dataset.media, dataset.annotations
    media = dataclasses.replace(
        media,
        uri=[*media.uri[:2], "s3://bucket/a b.jpg#t=0.5", f"{ROOT}/clip.mp4#frame=12"],
        split=np.array([0, 1, 2, -1], np.int8),
        parent_id=np.array([-1, 100, -1, 110]),
        attributes=[b'{"license":3}', None, b'{"a":[1,\n2]}', None],
    )
    labels = dataclasses.replace(
        labels,
        source=np.arange(9, dtype=np.uint8) % 3,
        review_state=np.arange(9, dtype=np.uint8) % 4,
        area=np.where(np.arange(9) == 4, np.nan, labels.area),
        boxes_xyxy=labels.boxes_xyxy + 1 / 3,
    )
    return dataclasses.replace(dataset, media=media, annotations=labels)


def plain(column: Any) -> Any:
    """JSON as what it says: a line break between two values is not kept in JSON lines."""
    return [json.loads(item) if isinstance(item, bytes) else item for item in column]


def assert_same(ours: Dataset, theirs: Dataset) -> None:
    """Equal to the last bit, and of one type; NaN is NaN."""
    assert ours.categories == theirs.categories
    for one, other in ((ours.media, theirs.media), (ours.annotations, theirs.annotations)):
        for field in dataclasses.fields(one):
            a, b = getattr(one, field.name), getattr(other, field.name)
            if isinstance(a, np.ndarray):
                assert a.dtype == b.dtype, field.name
                assert np.array_equal(a, b, equal_nan=a.dtype.kind == "f"), field.name
            elif len(a) and len(b):
                assert plain(a) == plain(b), field.name
            else:  # media without further fields
                assert not any([*a, *b]), field.name


@every_storage
def test_every_column_comes_back_to_the_last_bit(storage: str, tmp_path: Path) -> None:
    dataset = full_dataset()
    tilth.write(dataset, tmp_path / "set", media_root=ROOT, options=options(storage))
    back, report = tilth.read(tmp_path / "set", media_root=ROOT)
    assert_same(dataset, back)
    assert report.problems == ()
    assert report.notes == []
    assert (report.num_media, report.num_annotations) == (4, 9)


@every_storage
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_data_set_comes_back(storage: str, data: st.DataObject, tmp_path: Path) -> None:
    dataset = data.draw(datasets(ROOT))
    folder = Path(tempfile.mkdtemp(dir=tmp_path)) / "set"
    tilth.write(dataset, folder, media_root=ROOT, options=options(storage))
    assert_same(dataset, tilth.read(folder, media_root=ROOT)[0])


@every_storage
def test_no_annotations_come_back_as_none(storage: str, tmp_path: Path) -> None:
    dataset = small_dataset(prefix=f"{ROOT}/").keep_annotations(np.zeros(9, np.bool_))
    tilth.write(dataset, tmp_path / "set", media_root=ROOT, options=options(storage))
    back, _ = tilth.read(tmp_path / "set", media_root=ROOT)
    assert len(back.annotations) == 0
    assert_same(dataset, back)


def test_several_row_groups_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tilth.data.formats._tilth_parquet._ROWS_A_GROUP", 2)
    monkeypatch.setattr("tilth.data.formats._tilth_lines._BLOCK_ROWS", 2)
    dataset = full_dataset()
    for storage in STORAGES:
        tilth.write(dataset, tmp_path / storage, media_root=ROOT, options=options(storage))
        assert_same(dataset, tilth.read(tmp_path / storage, media_root=ROOT)[0])
    assert pq.ParquetFile(tmp_path / "parquet" / "annotations.parquet").num_row_groups == 5


@every_storage
def test_writing_twice_gives_the_same_bytes(storage: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        tilth.write(full_dataset(), tmp_path / name, media_root=ROOT, options=options(storage))
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name


def test_names_are_relative_and_urls_in_full(tmp_path: Path) -> None:
    tilth.write(full_dataset(), tmp_path / "set", media_root=ROOT, options=options("jsonl"))
    lines = (tmp_path / "set" / "media.jsonl").read_text().splitlines()
    names = [json.loads(line)["uri"] for line in lines]
    assert names == [
        "pictures/000.jpg",
        "pictures/001.jpg",
        "s3://bucket/a b.jpg#t=0.5",
        "clip.mp4#frame=12",
    ]
    back, _ = tilth.read(tmp_path / "set")
    assert back.media.uri[0] == f"{(tmp_path / 'set').as_posix()}/pictures/000.jpg"


def test_a_line_reads_as_the_page_says(tmp_path: Path) -> None:
    tilth.write(small_dataset(), tmp_path / "set", options=options("jsonl"))
    lines = (tmp_path / "set" / "annotations.jsonl").read_text().splitlines()
    assert json.loads(lines[0]) == {
        "id": 1,
        "media_index": 0,
        "category_index": 0,
        "box_xyxy": [0.25, 0.5, 20.375, 30.5],
        "area": 603.75,
        "is_crowd": False,
        "score": 0.5,
        "source": 0,
        "review_state": 0,
        "geometry": 1,
        "attributes": {"occluded": True},
    }
    assert "score" not in json.loads(lines[1])  # not NaN, which is no JSON
    head = json.loads((tmp_path / "set" / "dataset.json").read_text())
    assert head["codes"]["geometry"] == {"label": 0, "box": 1, "polygon": 2, "rle": 3}
    tilth.write(small_dataset(), tmp_path / "p", options=options("parquet"))
    assert pq.read_table(tmp_path / "p" / "annotations.parquet")["score"].null_count == 4


# --- what was changed after it was written -----------------------------------------------------


def written(folder: Path, storage: str = "parquet") -> Path:
    tilth.write(small_dataset(), folder, options=options(storage))
    return folder


def rewrite(folder: Path, file: str, text: bytes) -> None:
    """Put another table into the folder, with the right digest, as an attacker would."""
    (folder / file).write_bytes(text)
    head = json.loads((folder / "dataset.json").read_text())
    head["files"][file]["blake2b"] = hashlib.blake2b(text, digest_size=32).hexdigest()
    (folder / "dataset.json").write_text(json.dumps(head))


@every_storage
def test_a_changed_table_is_refused_by_its_digest(storage: str, tmp_path: Path) -> None:
    folder = written(tmp_path / "set", storage)
    path = folder / f"annotations.{storage}"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(LabelError, match="not the one that was written") as caught:
        tilth.read(folder)
    assert "digest" in (caught.value.expected or "")
    path.write_bytes(bytes(data[:-10]))
    with pytest.raises(LabelError, match="not the one that was written"):
        tilth.read(folder)


@pytest.mark.parametrize("name", ["media.parquet", "dataset.json"])
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    folder = written(tmp_path / "set")
    (folder / name).unlink()
    with pytest.raises(LabelError) as caught:
        tilth.read(folder)
    assert name in (caught.value.where or "")


def test_a_later_second_number_is_read_with_a_note(tmp_path: Path) -> None:
    folder = written(tmp_path / "set")
    table = pq.read_table(folder / "annotations.parquet")
    later = pa.BufferOutputStream()
    pq.write_table(table.append_column("depth_m", pa.array([1.5] * 9)), later)
    rewrite(folder, "annotations.parquet", later.getvalue().to_pybytes())
    head = json.loads((folder / "dataset.json").read_text())
    head |= {"version": "1.7", "weather": "fine"}
    (folder / "dataset.json").write_text(json.dumps(head))
    back, report = tilth.read(folder)
    assert len(back.annotations) == 9
    assert report.notes == ["version 1.7: what it adds to 1.0 was not read"]


@pytest.mark.parametrize("version", ["2.0", "0.9"])
def test_a_later_first_number_is_refused(version: str, tmp_path: Path) -> None:
    folder = written(tmp_path / "set")
    text = (folder / "dataset.json").read_text().replace('"1.0"', f'"{version}"')
    (folder / "dataset.json").write_text(text.replace('"storage"', '"stored"'))
    with pytest.raises(LabelError, match="of a version") as caught:
        tilth.read(folder)
    assert caught.value.got == version


@pytest.mark.parametrize("version", ["", "1", "1.x", "9" * 5000, "1.0\n", "-1.0"])
def test_a_version_that_is_none_is_refused(version: str, tmp_path: Path) -> None:
    folder = written(tmp_path / "set")
    head = json.loads((folder / "dataset.json").read_text()) | {"version": version}
    (folder / "dataset.json").write_text(json.dumps(head))
    with pytest.raises(LabelError, match="not the head"):
        tilth.read(folder)


BAD_LINES: dict[str, dict[str, Any]] = {
    "a code without a meaning": {"geometry": 9},
    "no record of this table": {"box_xyxy": [0, 0, "1", 1]},
    "among the 3": {"category_index": 3},
}


@pytest.mark.parametrize(("message", "change"), BAD_LINES.items())
def test_a_line_that_is_not_right_is_refused(
    message: str, change: dict[str, Any], tmp_path: Path
) -> None:
    folder = written(tmp_path / "set", "jsonl")
    lines = (folder / "annotations.jsonl").read_bytes().splitlines()
    lines[4] = json.dumps(json.loads(lines[4]) | change).encode()
    rewrite(folder, "annotations.jsonl", b"\n".join(lines) + b"\n")
    with pytest.raises(LabelError, match=message) as caught:
        tilth.read(folder)
    assert "annotations" in (caught.value.where or "")
    if message.startswith("no record"):
        assert (caught.value.where or "").endswith("annotations.jsonl:5")


def test_labels_that_cannot_be_used_are_reported(tmp_path: Path) -> None:
    folder = written(tmp_path / "set", "jsonl")
    changes: list[dict[str, Any]] = [
        {"box_xyxy": [1, 1, 1, 5]},
        {"box_xyxy": [-1e308, 0, 1e308, 1e308]},
        {"media_index": 4},
        {"media_index": -1},
        {"category_index": 7},
    ]
    lines = (folder / "annotations.jsonl").read_bytes().splitlines()
    for at, change in enumerate(changes):
        lines[at] = json.dumps(json.loads(lines[at]) | change).encode()
    rewrite(folder, "annotations.jsonl", b"\n".join(lines) + b"\n")
    back, report = tilth.read(folder, on_unknown="skip")
    assert len(back.annotations) == 4
    counts = {problem.kind: problem.count for problem in report.problems}
    assert counts == {
        "box without area": 1,
        "box with a number that is not finite": 1,
        "label of a picture that the file does not have": 2,
        "label of an unknown category": 1,
    }
    assert report.problems[0].examples[0].startswith("set/annotations: annotation")


def test_rows_in_any_order_are_sorted_by_picture(tmp_path: Path) -> None:
    folder = written(tmp_path / "set", "jsonl")
    lines = (folder / "annotations.jsonl").read_bytes().splitlines()
    rewrite(folder, "annotations.jsonl", b"\n".join(lines[::-1]) + b"\n")
    back, _ = tilth.read(folder)
    assert back.annotations.media_index.tolist() == sorted(back.annotations.media_index.tolist())
    assert sorted(back.annotations.id.tolist()) == small_dataset().annotations.id.tolist()


def test_a_column_that_is_missing_or_null_is_refused(tmp_path: Path) -> None:
    folder = written(tmp_path / "set")
    table = pq.read_table(folder / "media.parquet")
    for changed, message in (
        (table.drop_columns("width"), "no column 'width'"),
        (table.set_column(2, "width", pa.nulls(4, pa.int32())), "a null in the column 'width'"),
        (table.set_column(2, "width", pa.array(["a"] * 4)), "cannot be read"),
    ):
        stream = pa.BufferOutputStream()
        pq.write_table(changed, stream)
        rewrite(folder, "media.parquet", stream.getvalue().to_pybytes())
        with pytest.raises(LabelError, match=message):
            tilth.read(folder)


def test_a_table_that_unpacks_without_bound_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = written(tmp_path / "set")
    monkeypatch.setattr("tilth.data.formats._tilth_parquet._MAX_BYTES", 100)
    with pytest.raises(LabelError, match="beyond the size"):
        tilth.read(folder)


def test_names_and_links_stay_in_their_folder(tmp_path: Path) -> None:
    folder = written(tmp_path / "set", "jsonl")
    text = (folder / "media.jsonl").read_bytes()
    rewrite(folder, "media.jsonl", text.replace(b"pictures/000.jpg", b"../../etc/passwd"))
    with pytest.raises(PathEscapeError):
        tilth.read(folder)
    rewrite(folder, "media.jsonl", text)
    shutil.move(folder / "media.jsonl", tmp_path / "elsewhere.jsonl")
    os.symlink(tmp_path / "elsewhere.jsonl", folder / "media.jsonl")
    with pytest.raises(PathEscapeError, match="leaves its folder"):
        tilth.read(folder)


def test_a_box_without_numbers_is_not_written(tmp_path: Path) -> None:
    dataset = small_dataset()
    boxes = dataset.annotations.boxes_xyxy.copy()
    boxes[3, 2] = np.inf
    labels: AnnotationColumns = dataclasses.replace(dataset.annotations, boxes_xyxy=boxes)
    with pytest.raises(DataError, match="not finite"):
        tilth.write(dataclasses.replace(dataset, annotations=labels), tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_a_folder_is_replaced_only_when_asked(tmp_path: Path) -> None:
    folder = written(tmp_path / "set")
    with pytest.raises(SettingsError, match="there already"):
        written(folder)
    tilth.write(full_dataset(), folder, media_root=ROOT, replace=True)
    back, _ = tilth.read(folder)
    assert back.media.split.tolist() == [Split.TRAIN, Split.VAL, Split.TEST, Split.NONE]


def test_no_media_is_said(tmp_path: Path) -> None:
    dataset = small_dataset().take(np.empty(0, np.int64))
    tilth.write(dataset, tmp_path / "set")
    with pytest.raises(EmptyDatasetError):
        tilth.read(tmp_path / "set")


def test_recognises_only_its_own(tmp_path: Path) -> None:
    assert tilth.recognises(written(tmp_path / "set"))
    other = tmp_path / "other"
    other.mkdir()
    assert not tilth.recognises(other)
    (other / "dataset.json").write_text('{"format": "other"}')
    assert not tilth.recognises(other)
    assert not tilth.recognises(tmp_path / "set" / "dataset.json")
    assert not tilth.recognises(Path("\0"))


@every_storage
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_spoilt_table_with_a_right_digest_ends_in_a_result_or_an_error(
    storage: str, data: st.DataObject, tmp_path: Path
) -> None:
    folder = written(Path(tempfile.mkdtemp(dir=tmp_path)) / "set", storage)
    file = data.draw(st.sampled_from([f"media.{storage}", f"annotations.{storage}"]))
    text = bytearray((folder / file).read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    rewrite(folder, file, bytes(text[: data.draw(st.integers(0, 2 * len(text)))]))
    report = LabelReport(where=str(folder))
    try:
        back, _ = tilth.read(folder, on_unknown="skip", report=report)
    except TilthError:
        return
    assert np.isfinite(back.annotations.boxes_xyxy).all()
    assert (back.annotations.media_index < len(back.media)).all()
