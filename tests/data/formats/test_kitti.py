"""KITTI labels: fifteen columns from the right, regions to ignore, names of several words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from any_dataset import comparable, datasets, write_pictures
from hypothesis import given
from hypothesis import strategies as st

from tilth.data.dataset import Dataset
from tilth.data.formats import kitti
from tilth.data.formats._columns import annotation_columns, media_columns
from tilth.data.formats._kitti_classes import type_of
from tilth.data.images import write_jpeg
from tilth.data.problems import LabelReport
from tilth.data.records import Category
from tilth.errors import DataError, EmptyDatasetError, LabelError, SettingsError, TilthError

CAR = "Car 0.37 2 -1.57 614.24 181.78 727.31 284.77 1.57 1.73 4.15 1.00 1.75 13.22 -1.62"
DONT_CARE = "DontCare -1 -1 -10 503.89 169.71 590.61 190.13 -1 -1 -1 -1000 -1000 -1000 -10"
REST_2D = "-1 -1 -1 -1000 -1000 -1000 -10"


def labels(tmp_path: Path, **files: str) -> Path:
    folder = tmp_path / "training" / "label_2"
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    return tmp_path


def attributes_of(dataset: Dataset) -> list[dict[str, object]]:
    return [json.loads(text or b"{}") for text in dataset.annotations.attributes]


def small(names: list[str], *, attributes: Sequence[bytes | None] | None = None) -> Dataset:
    """One picture of 100 x 80 with one box a class."""
    media = media_columns(["/pictures/a.png"], width=[100], height=[80])
    count = len(names)
    annotations = annotation_columns(
        media,
        media_index=np.zeros(count),
        category_index=np.arange(count),
        boxes_xyxy=[[1.5, 2, 30.25, 40 + i] for i in range(count)],
        report=LabelReport(where="test"),
        place=str,
        attributes=attributes,
    )
    categories = tuple(Category(name=name, origin_id=at) for at, name in enumerate(names))
    return Dataset(categories=categories, media=media, annotations=annotations)


def rows_of(folder: Path) -> list[list[str]]:
    text = (folder / "label_2" / "a.txt").read_text(encoding="utf-8")
    return [line.split(" ") for line in text.splitlines()]


def test_reads_the_devkits_columns(tmp_path: Path) -> None:
    path = labels(tmp_path, **{"000001": f"{CAR}\n{DONT_CARE}\n", "000002": ""})
    dataset, report = kitti.read(path)
    assert [c.name for c in dataset.categories] == ["Car", "DontCare"]
    assert dataset.annotations.boxes_xyxy[0].tolist() == [614.24, 181.78, 727.31, 284.77]
    assert attributes_of(dataset)[0] == {
        "truncated": 0.37,
        "occluded": 2,
        "alpha": -1.57,
        "dimensions": [1.57, 1.73, 4.15],
        "location": [1.0, 1.75, 13.22],
        "rotation_y": -1.62,
    }
    assert report.problems == ()


def test_a_region_to_ignore_is_a_crowd_and_says_nothing_else(tmp_path: Path) -> None:
    dataset, _ = kitti.read(labels(tmp_path, a=f"{CAR}\n{DONT_CARE}\n"))
    assert dataset.annotations.is_crowd.tolist() == [False, True]
    assert attributes_of(dataset)[1] == {}


def test_an_empty_file_is_a_picture_without_objects(tmp_path: Path) -> None:
    dataset, _ = kitti.read(labels(tmp_path, a=f"{CAR}\n", b="", c="\n\n"))
    assert np.diff(dataset.offsets).tolist() == [1, 0, 0]
    assert [Path(uri).name for uri in dataset.media.uri] == ["a.png", "b.png", "c.png"]


def test_the_file_of_a_name_with_dots_is_named_by_all_but_its_suffix(tmp_path: Path) -> None:
    path = labels(tmp_path, **{"cam.left.01": f"{CAR}\n", "cam.right.01": ""})
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in ("cam.left.01.jpeg", "cam.right.01.jpeg", "other.jpeg"):
        write_jpeg(pictures / name, np.zeros((30, 40, 3), np.uint8))
    dataset, _ = kitti.read(path, media_root=pictures)
    names = [Path(uri).name for uri in dataset.media.uri]
    assert names == ["cam.left.01.jpeg", "cam.right.01.jpeg"]
    assert dataset.media.width.tolist() == [40, 40]


@pytest.mark.parametrize(
    ("line", "name", "score"),
    [
        (f"Car 0.00 0 -10 1 2 3 4 {REST_2D}", "Car", None),
        (f"Car 0.00 0 -10 1 2 3 4 {REST_2D} 0.93", "Car", 0.93),
        (f"traffic light 0.00 0 -10 1 2 3 4 {REST_2D}", "traffic light", None),
        (f"traffic light 0.00 0 -10 1 2 3 4 {REST_2D} 0.5", "traffic light", 0.5),
        (f"person 2 0.00 0 -10 1 2 3 4 {REST_2D}", "person 2", None),
        (f"a b c 1 -1 -1 -10 1 2 3 4 {REST_2D} 0.5", "a b c 1", 0.5),
        (f"10 0.00 0 -10 1 2 3 4 {REST_2D}", "10", None),
    ],
)
def test_counts_columns_from_the_right(
    tmp_path: Path, line: str, name: str, score: float | None
) -> None:
    dataset, report = kitti.read(labels(tmp_path, a=line + "\n"))
    assert [c.name for c in dataset.categories] == [name]
    assert dataset.annotations.boxes_xyxy.tolist() == [[1, 2, 3, 4]]
    found = float(dataset.annotations.score[0])
    assert (np.isnan(found) and score is None) or found == pytest.approx(score)
    assert report.problems == ()


def test_where_both_readings_make_sense_the_classes_or_an_option_decide(tmp_path: Path) -> None:
    line = f"lane 1 0 0 0 5 7 20 30 {REST_2D}"  # 'lane 1', or truncated 1 and a score
    path = labels(tmp_path, a=line + "\n")
    dataset, report = kitti.read(path)
    assert [c.name for c in dataset.categories] == ["lane"]
    assert any("read as well with a score" in note for note in report.notes)
    for options in (kitti.ReadOptions(columns="15"), kitti.ReadOptions(classes="lane 1,car")):
        dataset, report = kitti.read(path, options=options)
        assert dataset.categories[dataset.annotations.category_index[0]].name == "lane 1"
        assert dataset.annotations.boxes_xyxy.tolist() == [[5, 7, 20, 30]]
        assert not any("read as well" in note for note in report.notes)


def test_zeros_that_fill_a_row_say_nothing(tmp_path: Path) -> None:
    zeros = "0 0 0 0 0 0 0"
    text = (
        f"Car 0.00 0 0.00 1 2 3 4 {zeros}\n"  # TAO
        f"Car 0.00 0 -10 1 2 3 4 {REST_2D}\n"  # panlabel
        f"Car -1 -1 -10 1 2 3 4 {REST_2D}\n"  # labelformat
        f"Car 0.25 3 -10 1 2 3 4 {REST_2D}\n"
        "Car 0.00 0 0.00 1 2 3 4 1.5 1.6 4 0 0 9 0\n"
    )
    dataset, _ = kitti.read(labels(tmp_path, a=text))
    assert attributes_of(dataset) == [
        {},
        {},
        {},
        {"truncated": 0.25, "occluded": 3},
        {
            "truncated": 0.0,
            "occluded": 0,
            "alpha": 0.0,
            "dimensions": [1.5, 1.6, 4.0],
            "location": [0.0, 0.0, 9.0],
            "rotation_y": 0.0,
        },
    ]


def test_reports_what_cannot_be_read_with_file_and_line(tmp_path: Path) -> None:
    nan = CAR.replace("614.24", "nan")
    path = labels(tmp_path, a=f"{CAR}\nCar 0 0\n\n{nan}\n", b=CAR.replace("0.37 2", "1.5 7") + "\n")
    dataset, report = kitti.read(path)
    problems = {problem.kind: problem.examples for problem in report.problems}
    assert problems["row that is not 15 KITTI columns, or 16 with a score"] == (
        "a.txt:2",
        "a.txt:4",
    )
    assert problems["truncated that is no share from 0 to 1"] == ("b.txt:1",)
    assert problems["occluded that is not 0, 1, 2 or 3"] == ("b.txt:1",)
    assert len(dataset.annotations) == 2


def test_a_type_outside_the_list_is_an_error_with_its_place(tmp_path: Path) -> None:
    path = labels(tmp_path, a=f"{CAR}\n{DONT_CARE}\n", b=CAR.replace("Car", "Van") + "\n")
    options = kitti.ReadOptions(classes="Pedestrian,Car")
    with pytest.raises(LabelError, match="'Van' is not in the list") as caught:
        kitti.read(path, options=options)
    assert caught.value.where == "b.txt:1"
    dataset, report = kitti.read(path, options=options, on_unknown="skip")
    assert [c.name for c in dataset.categories] == ["Pedestrian", "Car", "DontCare"]
    assert dataset.annotations.category_index.tolist() == [1, 2]
    assert [p.examples for p in report.problems] == [("b.txt:1",)]


def test_tracking_labels_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="tracking"):
        kitti.read(labels(tmp_path, a=f"0 1 {CAR}\n1 1 {CAR}\n"))


def test_no_label_files_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EmptyDatasetError):
        kitti.read(tmp_path)


@pytest.mark.parametrize(
    ("fill", "before", "after"),
    [
        ("panlabel", ["0", "0", "-10"], ["-1"] * 3 + ["-1000"] * 3 + ["-10"]),
        ("tao", ["0", "0", "0"], ["0"] * 7),
        ("labelformat", ["-1", "-1", "-10"], ["-1"] * 3 + ["-1000"] * 3 + ["-10"]),
    ],
)
def test_what_is_not_known_is_filled_as_asked(
    tmp_path: Path, fill: str, before: list[str], after: list[str]
) -> None:
    options = kitti.WriteOptions(fill=fill)  # type: ignore[arg-type]
    kitti.write(small(["car"]), tmp_path / "out", options=options)
    row = ["car", *before, "1.5", "2", "30.25", "40", *after]
    assert rows_of(tmp_path / "out") == [row]
    back, report = kitti.read(tmp_path / "out")
    assert attributes_of(back) == [{}]
    assert report.problems == ()


def test_names_of_several_words_come_back_and_are_one_word_in_the_file(tmp_path: Path) -> None:
    names = ["traffic light", "100% sure", "größe", "a\u00a0b"]
    report = kitti.write(small(names), tmp_path / "out")
    types = [row[0] for row in rows_of(tmp_path / "out")]
    assert types == ["traffic%20light", "100%25%20sure", "größe", "a%C2%A0b"]
    assert all(len(row) == 15 for row in rows_of(tmp_path / "out"))
    back, _ = kitti.read(tmp_path / "out")
    assert [c.name for c in back.categories] == names
    assert report.problems == ()
    assert any("traffic%20light" in note for note in report.notes)


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1), unique=True, max_size=5))
def test_the_escape_of_names_is_one_to_one_and_one_word(names: list[str]) -> None:
    types = [type_of(name) for name in names]
    assert len(set(types)) == len(names)
    assert all(len(word.split()) == 1 for word in types)


def test_a_class_without_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="without a name"):
        kitti.write(small([""]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_truth_values_become_numbers_and_nonsense_is_reported(tmp_path: Path) -> None:
    given_attributes = [
        b'{"truncated":true,"occluded":true}',
        b'{"occluded":false}',
        b'{"truncated":"half","occluded":9,"dimensions":[1,2]}',
        b'{"alpha":-10}',
    ]
    dataset = small(list("abcd"), attributes=given_attributes)
    fitted, report = kitti.adapt(dataset)
    assert attributes_of(fitted) == [{"truncated": 1.0, "occluded": 1}, {}, {}, {}]
    kinds = {problem.kind: problem.count for problem in report.problems}
    assert kinds == {
        "attribute 'truncated' that KITTI has no number for": 1,
        "attribute 'occluded' that KITTI has no number for": 1,
        "attribute 'dimensions' that KITTI has no number for": 1,
        "attribute with the number that stands for 'not known'": 1,
    }
    assert any("0 or false in 1 labels" in note for note in report.notes)


def test_a_real_row_survives_both_ways(tmp_path: Path) -> None:
    first, _ = kitti.read(labels(tmp_path, a=f"{CAR}\n{DONT_CARE}\n{CAR} 0.875\n"))
    report = kitti.write(first, tmp_path / "out")
    back, _ = kitti.read(tmp_path / "out")
    root = Path(first.media.uri[0]).parent
    assert comparable(first, root) == comparable(back, Path(back.media.uri[0]).parent)
    assert report.problems == ()
    numbers = [[float(word) for word in row[1:]] for row in rows_of(tmp_path / "out")]
    assert numbers[0] == [float(word) for word in CAR.split()[1:]]
    assert numbers[1] == [0, 0, -10, *map(float, DONT_CARE.split()[4:])]
    assert len(numbers[2]) == 15


def test_two_pictures_of_one_stem_are_refused(tmp_path: Path) -> None:
    media = media_columns(["/p/a.png", "/p/a.jpg"])
    empty = small([]).annotations
    dataset = Dataset(categories=(), media=media, annotations=empty)
    with pytest.raises(DataError, match="share one label file"):
        kitti.write(dataset, tmp_path / "out")


def test_a_folder_that_holds_something_is_kept_unless_told(tmp_path: Path) -> None:
    kitti.write(small(["a"]), tmp_path / "out")
    with pytest.raises(SettingsError):
        kitti.write(small(["b"]), tmp_path / "out")
    assert rows_of(tmp_path / "out")[0][0] == "a"
    kitti.write(small(["b"]), tmp_path / "out", replace=True)
    assert rows_of(tmp_path / "out")[0][0] == "b"


def test_recognises_its_rows_and_nothing_else(tmp_path: Path) -> None:
    assert kitti.recognises(labels(tmp_path / "k", a=CAR + "\n"))
    assert kitti.recognises(tmp_path / "k" / "training" / "label_2")
    assert not kitti.recognises(labels(tmp_path / "y", a="0 0.5 0.5 0.1 0.1\n"))
    outline = "0 " + "0.5 " * 20  # of an Ultralytics set
    assert not kitti.recognises(labels(tmp_path / "u", a=outline + "\n"))
    assert not kitti.recognises(tmp_path / "absent")
    assert not kitti.recognises(Path(__file__))


def test_links_out_of_the_folder_are_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text(CAR + "\n")
    path = labels(tmp_path / "set", a=CAR + "\n")
    (path / "training" / "label_2" / "b.txt").symlink_to(secret)
    (path / "training" / "label_2" / "loop").symlink_to(path / "training" / "label_2")
    dataset, report = kitti.read(path)
    assert len(dataset.media) == 1
    assert [(p.kind, p.examples) for p in report.problems] == [
        ("link that leaves the folder", ("b.txt",))
    ]


@pytest.mark.parametrize(
    "nasty",
    [
        b"\0" * 50,
        b"\xff\xfe" + CAR.encode(),
        b"Car " + b"9" * 5000 + b" 0" * 13,
        b"Car 0 0 -10 1e308 -1e308 1e308 1e308 " + REST_2D.encode(),
        b"x " * 40_000,
        b"9 " * 16,
        ("Größe ".encode("latin-1") + CAR.encode()[4:]),
    ],
)
def test_hostile_rows_end_in_a_result_or_an_error_of_ours(tmp_path: Path, nasty: bytes) -> None:
    path = labels(tmp_path, a=CAR + "\n")
    (path / "training" / "label_2" / "b.txt").write_bytes(nasty)
    try:
        dataset, report = kitti.read(path)
    except TilthError:
        return
    assert np.isfinite(dataset.annotations.boxes_xyxy).all()
    assert len(dataset.annotations) == 1 or not report.problems


@pytest.mark.parametrize("text", [b"[]", b'{"classes":[{"type":"a"}]}', b"\xff", b"[" * 5000])
def test_a_list_of_classes_that_is_none_is_an_error(tmp_path: Path, text: bytes) -> None:
    path = labels(tmp_path, a=CAR + "\n")
    (path / "classes.json").write_bytes(text)
    with pytest.raises(LabelError, match="list of classes"):
        kitti.read(path)


@given(data=st.data())
def test_agrees_with_labelformat_on_boxes(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Both ways; without scores, which it takes for a part of the class name."""
    from labelformat.formats.kitti import KittiObjectDetectionInput, KittiObjectDetectionOutput

    root = tmp_path_factory.mktemp("kitti")
    drawn = data.draw(datasets(root / "images", replace(kitti.HOLDS, scores=False), max_media=2))
    write_pictures(drawn)
    kitti.write(drawn, root / "ours", media_root=root / "images")
    types = ",".join(type_of(c.name) for c in drawn.categories)
    if "a,b" in types:  # their list of names has commas between them
        return
    theirs = KittiObjectDetectionInput(root / "ours/label_2", types, "../../images")
    boxes = {
        image.image.filename: [
            [b.box.xmin, b.box.ymin, b.box.xmax, b.box.ymax] for b in image.objects
        ]
        for image in theirs.get_labels()
        if "/" not in image.image.filename
    }
    for row, uri in enumerate(drawn.media.uri):
        if Path(uri).name in boxes and Path(uri).parent == root / "images":
            expected = drawn.annotations.boxes_xyxy[drawn.rows_of(row)]
            assert np.allclose(np.reshape(boxes[Path(uri).name], (-1, 4)), expected, atol=1e-9)
    KittiObjectDetectionOutput(root / "theirs").save(theirs)
    back, _ = kitti.read(root / "theirs", media_root=root / "images")
    assert attributes_of(back) == [{}] * len(back.annotations)
