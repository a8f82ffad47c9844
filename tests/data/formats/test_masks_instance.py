"""Object masks: what the list says of each value, what cannot overlap, and others' numbers."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mask_fixtures import labels_of, mask_set, save, save_picture
from PIL import Image

from tilth.data.formats import masks_instance
from tilth.data.formats.masks_instance import ReadOptions, WriteOptions
from tilth.errors import LabelError, PathEscapeError, SettingsError, TilthError

NUMBERS = np.array([[0, 1, 1], [300, 300, 0]], np.uint16)
HEAD = {
    "format": "tilth-masks-instance",
    "version": 1,
    "classes": [{"name": "cat", "id": 17}, {"name": "dog", "id": 3, "supercategory": "animal"}],
}
PICTURE: dict[str, Any] = {
    "picture": "a.jpg",
    "width": 3,
    "height": 2,
    "mask": "a.png",
    "instances": [
        {"id": 300, "class": "dog", "score": 0.25, "attributes": {"pose": "Left"}},
        {"id": 1, "class": "cat", "crowd": True},
    ],
}


def written(folder: Path, *pictures: dict[str, Any], head: Any = HEAD) -> Path:
    save(folder / "a.png", NUMBERS)
    lines = [json.dumps(line) for line in (head, *(pictures or (PICTURE,)))]
    (folder / "instances.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def test_a_hand_made_list_and_mask_are_read_by_the_definition(tmp_path: Path) -> None:
    folder = written(tmp_path)
    assert masks_instance.recognises(folder)
    dataset, report = masks_instance.read(folder)
    assert not report.problems
    assert [(c.name, c.origin_id, c.supercategory) for c in dataset.categories] == [
        ("cat", 17, ""),
        ("dog", 3, "animal"),
    ]
    (one, one_mask), (other, other_mask) = labels_of(dataset, "a.jpg")
    assert (one, other) == ("cat", "dog")
    np.testing.assert_array_equal(one_mask, NUMBERS == 1)
    np.testing.assert_array_equal(other_mask, NUMBERS == 300)
    labels = dataset.annotations
    assert labels.is_crowd.tolist() == [True, False]
    np.testing.assert_array_equal(labels.score, np.array([np.nan, 0.25], np.float32))
    assert json.loads(labels.attributes[1] or b"") == {"pose": "Left"}


def overlapping() -> Any:
    under, top = np.ones((4, 4), np.bool_), np.zeros((4, 4), np.bool_)
    top[1:3, 1:3] = True
    return mask_set([(0, top), (0, under)], ["cat"], score=np.array([0.5, np.nan], np.float32))


def test_of_objects_that_overlap_one_is_seen_and_every_pair_reported(tmp_path: Path) -> None:
    report = masks_instance.write(overlapping(), tmp_path / "out")
    (problem,) = report.problems
    assert (problem.kind, problem.action) == ("masks that overlap", "the smaller one is seen")
    assert problem.examples == ("label 1 over label 2: 4 pixels",)
    with Image.open(tmp_path / "out/a.png") as picture:
        assert picture.mode.startswith("I;16")
        assert sorted(np.bincount(np.array(picture).ravel()).tolist()) == [0, 4, 12]


def test_a_mask_for_each_object_keeps_what_overlaps(tmp_path: Path) -> None:
    dataset = overlapping()
    options = WriteOptions(layout="objects")
    report = masks_instance.write(dataset, tmp_path / "out", options=options)
    assert not report.problems
    pixels = np.array(Image.open(tmp_path / "out/a__1.png"))
    assert (pixels.dtype, sorted({*pixels.ravel().tolist()})) == (np.uint8, [0, 255])
    again, report = masks_instance.read(tmp_path / "out")
    assert not report.problems
    assert again.annotations.area.tolist() == [4, 16]
    np.testing.assert_array_equal(again.annotations.score, dataset.annotations.score)


def test_an_object_that_others_cover_is_left_out_and_reported() -> None:
    mask = np.eye(3, dtype=np.bool_)
    fitted, report = masks_instance.adapt(mask_set([(0, mask), (0, mask)], ["cat"]))
    assert len(fitted.annotations) == 1
    assert report.problems[-1].examples == ("label 1",)


def test_list_and_pixels_that_disagree_are_reported_one_by_one(tmp_path: Path) -> None:
    instances = [{"id": 1, "class": "cat"}, {"id": 7, "class": "cat"}, {"id": 1, "class": "dog"}]
    folder = written(
        tmp_path,
        {**PICTURE, "instances": instances},
        {"picture": "b.jpg", "mask": "b.png", "instances": [{"id": 1, "class": "cat"}]},
        {"picture": "c.jpg", "instances": [{"id": 1, "class": "cat"}]},
        {"picture": "d.jpg", "width": 5, "height": 4},
    )
    save(folder / "e.png", NUMBERS)
    dataset, report = masks_instance.read(folder)
    assert {problem.kind: problem.examples for problem in report.problems} == {
        "mask that is not there": ("instances.jsonl:3: b.png",),
        "object without a mask": ("instances.jsonl:4: object 1",),
        "mask that the list does not name": ("e.png",),
        "object without a pixel": ("a.png: object 7", "a.png: object 1"),
        "value that the list does not name": ("a.png: value 300",),
    }
    assert [name for name, _ in labels_of(dataset, "a.jpg")] == ["cat"]
    assert dataset.media.width.tolist() == [3, 0, 0, 5], "an empty picture keeps its size"


def test_a_mask_of_another_size_than_the_list_or_its_picture_is_left_out(tmp_path: Path) -> None:
    folder = written(tmp_path, {**PICTURE, "width": 9})
    dataset, report = masks_instance.read(folder)
    assert len(dataset.annotations) == 0
    assert report.problems[0].examples == ("a.png: 3 x 2, picture 9 x 2",)
    save_picture(tmp_path / "a.jpg", 3, 2)
    dataset, report = masks_instance.read(folder)
    assert len(dataset.annotations) == 2, "the picture that is there counts more than the list"


def test_an_unknown_class_is_an_error_with_file_and_line(tmp_path: Path) -> None:
    folder = written(tmp_path, {**PICTURE, "instances": [{"id": 1, "class": "cow"}]})
    with pytest.raises(LabelError, match="class 'cow'") as caught:
        masks_instance.read(folder)
    assert (caught.value.where or "").endswith("instances.jsonl:2")
    _, report = masks_instance.read(folder, on_unknown="skip")
    assert report.problems[0].examples == ("instances.jsonl:2: 'cow'",)


def test_names_and_masks_cannot_leave_their_folder(tmp_path: Path) -> None:
    inside = tmp_path / "masks"
    save(tmp_path / "secret.png", NUMBERS)
    folder = written(inside, {**PICTURE, "mask": "../secret.png"})
    dataset, report = masks_instance.read(folder)
    assert len(dataset.annotations) == 0
    assert "mask that is not there" in [problem.kind for problem in report.problems]
    (inside / "a.png").unlink()
    (inside / "a.png").symlink_to(tmp_path / "secret.png")
    dataset, report = masks_instance.read(written_list(inside, PICTURE))
    assert len(dataset.annotations) == 0
    assert "link that leaves the folder" in [problem.kind for problem in report.problems]
    with pytest.raises(PathEscapeError):
        masks_instance.read(written_list(inside, {**PICTURE, "picture": "../../etc/passwd"}))


def written_list(folder: Path, picture: dict[str, Any]) -> Path:
    text = f"{json.dumps(HEAD)}\n{json.dumps(picture)}\n"
    (folder / "instances.jsonl").write_text(text)
    return folder


@pytest.mark.parametrize(
    "line",
    [
        '{"picture": 7}',
        '{"picture": "a.jpg", "width": -1}',
        '{"picture": "a.jpg", "width": ' + "9" * 5000 + "}",
        '{"picture": "a.jpg", "instances": [{"id": 0, "class": "cat"}]}',
        '{"picture": "a.jpg", "instances": [{"id": 1}]}',
        '{"picture": "a.jpg", "instances": [{"id": 1, "class": "cat", "score": NaN}]}',
        "[" * 5000,
        '{"picture": "a.jpg"',
        "\x00",
    ],
)
def test_a_line_that_cannot_be_read_is_an_error_with_its_number(tmp_path: Path, line: str) -> None:
    save(tmp_path / "a.png", NUMBERS)
    (tmp_path / "instances.jsonl").write_text(f"{json.dumps(HEAD)}\n\n{line}\n")
    with pytest.raises(LabelError, match="a line that cannot be read") as caught:
        masks_instance.read(tmp_path)
    assert (caught.value.where or "").endswith("instances.jsonl:3")


@pytest.mark.parametrize(
    "head",
    [
        {"format": "other", "version": 1, "classes": []},
        {**HEAD, "version": 2},
        {**HEAD, "classes": [{"name": "a", "id": 1}, {"name": "a", "id": 2}]},
        {**HEAD, "classes": [{"name": "a", "id": 1}, {"name": "b", "id": 1}]},
        {**HEAD, "classes": [{"name": "", "id": 1}]},
        [],
    ],
)
def test_a_first_line_of_another_kind_is_refused(tmp_path: Path, head: Any) -> None:
    with pytest.raises(LabelError) as caught:
        masks_instance.read(written(tmp_path, head=head))
    assert (caught.value.where or "").endswith("instances.jsonl:1")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 300), text=st.binary(max_size=12))
def test_a_spoilt_list_ends_in_a_result_or_an_error_of_ours(
    tmp_path: Path, at: int, text: bytes
) -> None:
    folder = written(tmp_path)
    whole = (folder / "instances.jsonl").read_bytes()
    (folder / "instances.jsonl").write_bytes(whole[:at] + text + whole[at + len(text) :])
    try:
        dataset, _ = masks_instance.read(folder, on_unknown="skip")
    except TilthError:
        return
    assert np.isfinite(dataset.annotations.boxes_xyxy).all()


def foreign(folder: Path, numbers: np.ndarray, name: str = "x_mask.png") -> Path:
    save(folder / f"masks/{name}", numbers)
    save_picture(folder / "images/x.jpg", numbers.shape[1], numbers.shape[0])
    return folder / "masks"


def test_numbers_up_to_255_are_objects_of_one_class(tmp_path: Path) -> None:
    folder = foreign(tmp_path, np.array([[0, 2, 255]], np.uint8))
    dataset, report = masks_instance.read(folder)
    assert dataset.media.uri == [f"{tmp_path}/images/x.jpg"]
    assert [name for name, _ in labels_of(dataset, "x.jpg")] == ["object", "object"]
    assert "numbers: objects, as none is above 255" in report.notes
    with pytest.raises(SettingsError, match="of one class"):
        masks_instance.read(folder, options=ReadOptions(classes="a,b"))


def test_255_of_an_indexed_picture_is_void_unless_it_is_said_not_to_be(tmp_path: Path) -> None:
    folder = foreign(tmp_path, np.array([[0]], np.uint8))
    save(folder / "x_mask.png", np.array([[1, 255]], np.uint8), palette=np.zeros((256, 3)))
    save_picture(tmp_path / "images/x.jpg", 2, 1)
    dataset, report = masks_instance.read(folder)
    assert len(dataset.annotations) == 1
    assert report.problems[0].examples == ("x_mask.png: 1 pixels",)
    dataset, _ = masks_instance.read(folder, options=ReadOptions(ignore="none"))
    assert len(dataset.annotations) == 2
    dataset, _ = masks_instance.read(folder, options=ReadOptions(ignore="1"))
    assert dataset.annotations.boxes_xyxy.tolist() == [[1, 0, 2, 1]]
    with pytest.raises(SettingsError, match="is no number"):
        masks_instance.read(folder, options=ReadOptions(ignore="x" * 999))


def test_larger_numbers_are_asked_about_and_read_as_kitti_and_cityscapes_define_them(
    tmp_path: Path,
) -> None:
    """26 is a car. KITTI: class * 256 + object, object 0 a group; Cityscapes: * 1000, or alone."""
    kitti = np.array([[0, 26 * 256 + 1, 26 * 256 + 2, 26 * 256, 7 * 256]], np.uint16)
    folder = foreign(tmp_path / "kitti", kitti, "x.png")
    with pytest.raises(LabelError, match="class and object") as caught:
        masks_instance.read(folder)
    assert "numbers=values, kitti or cityscapes" in (caught.value.fix or "")
    dataset, _ = masks_instance.read(folder, options=ReadOptions(numbers="kitti"))
    found = [name for name, _ in labels_of(dataset, "x.jpg")]
    assert found == ["road", "car", "car", "car"]
    assert dataset.annotations.is_crowd.tolist() == [False, True, False, False]
    assert dataset.categories[25].supercategory == "vehicle"
    listed = ReadOptions(numbers="kitti", classes=",".join(f"c{number}" for number in range(30)))
    dataset, _ = masks_instance.read(folder, options=listed)
    assert [name for name, _ in labels_of(dataset, "x.jpg")] == ["c7", "c26", "c26", "c26"]
    assert dataset.annotations.is_crowd.tolist() == [True, True, False, False]

    city = np.array([[0, 26000, 26001, 26, 7]], np.uint16)
    folder = foreign(tmp_path / "city", city, "x_instanceIds.png")
    save(folder / "x_labelIds.png", city)
    assert masks_instance.recognises(folder)
    dataset, report = masks_instance.read(folder)
    assert [name for name, _ in labels_of(dataset, "x.jpg")] == ["road", "car", "car", "car"]
    assert dataset.annotations.is_crowd.tolist() == [False, True, False, False]
    assert any("class * 1000 + object" in note for note in report.notes)


def test_a_number_of_no_class_is_an_error_with_its_file(tmp_path: Path) -> None:
    folder = foreign(tmp_path, np.array([[26001, 65535]], np.uint16), "x_instanceIds.png")
    with pytest.raises(LabelError, match="a number of no class") as caught:
        masks_instance.read(folder)
    assert (caught.value.where or "").endswith("x_instanceIds.png: 65535")
    dataset, report = masks_instance.read(folder, on_unknown="skip")
    assert len(dataset.annotations) == 1
    assert report.problems[0].kind == "number of no class"


def test_colours_are_no_numbers(tmp_path: Path) -> None:
    folder = foreign(tmp_path, np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(LabelError, match="mask of colours"):
        masks_instance.read(folder)


def test_penn_fudan_has_the_pedestrians_that_its_own_annotations_count(shared_data: Path) -> None:
    root = shared_data / "penn-fudan"
    options = ReadOptions(classes=str(root / "none.txt"))
    with pytest.raises(SettingsError, match="not there"):
        masks_instance.read(root / "masks", options=options)
    dataset, report = masks_instance.read(root / "masks")
    assert not report.problems
    assert len(dataset.media) == 144
    for row, uri in enumerate(dataset.media.uri):
        text = (root / f"annotations/{Path(uri).stem}.txt").read_text()
        assert Path(uri).is_file()
        rows = dataset.rows_of(row)
        assert rows.stop - rows.start == text.count("Bounding box for object"), uri


def test_memory_is_that_of_a_few_pictures_not_of_all(tmp_path: Path) -> None:
    numbers = np.zeros((1000, 1000), np.uint16)
    numbers[100:900, 100:900] = 5
    for at in range(24):
        save(tmp_path / f"m{at}.png", numbers)
    tracemalloc.start()
    try:
        dataset, _ = masks_instance.read(tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(dataset.annotations) == 24
    assert peak < 12 * numbers.nbytes, "four threads, a few copies each; all would be 24 and more"
