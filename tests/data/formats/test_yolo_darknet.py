"""Darknet's labels: shares of the picture, where label files are sought, what Darknet skips."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from any_dataset import datasets, write_pictures
from hypothesis import given
from hypothesis import strategies as st

from tilth.data.dataset import Dataset
from tilth.data.formats import yolo_darknet
from tilth.data.formats._columns import annotation_columns, media_columns
from tilth.data.formats._yolo_rows import boxes_of, shares_of
from tilth.data.formats.yolo_darknet import ReadOptions, WriteOptions
from tilth.data.images import write_jpeg
from tilth.data.problems import LabelReport
from tilth.data.records import Category, Split
from tilth.errors import (
    DataError,
    EmptyDatasetError,
    LabelError,
    PathEscapeError,
    TilthError,
)

WIDTH, HEIGHT = 200, 100


def darknet_set(
    root: Path,
    pictures: Mapping[str, str | None],
    *,
    rule: str = "",
    names: str = "cat\ntraffic light\n",
    prefix: str = "",
) -> Path:
    """A set with pictures and (unless None) labels; ``rule`` is the folder that labels are in."""
    lines = []
    for name, text in pictures.items():
        picture = root / name
        picture.parent.mkdir(parents=True, exist_ok=True)
        write_jpeg(picture, np.zeros((HEIGHT, WIDTH, 3), np.uint8))
        label = picture.with_suffix(".txt") if not rule else root / rule / f"{picture.stem}.txt"
        if text is not None:
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text(text)
        lines.append(prefix + name)
    (root / "train.txt").write_text("\n".join(lines) + "\n")
    (root / "obj.names").write_text(names)
    (root / "obj.data").write_text("classes= 2\ntrain  = train.txt\nnames = obj.names\n")
    return root


def boxes_px(dataset: Dataset) -> list[list[float]]:
    return dataset.annotations.boxes_xyxy.tolist()


def small(
    boxes: list[list[float]], *, uris: tuple[str, ...] = ("/p/a.jpg",), width: int = WIDTH
) -> Dataset:
    media = media_columns(uris, width=[width] * len(uris), height=[HEIGHT] * len(uris))
    annotations = annotation_columns(
        media,
        media_index=np.zeros(len(boxes)),
        category_index=np.zeros(len(boxes)),
        boxes_xyxy=np.reshape(boxes, (-1, 4)),
        report=LabelReport(where="test"),
        place=str,
    )
    categories = (Category(name="cat", origin_id=0), Category(name="traffic light", origin_id=1))
    return Dataset(categories=categories, media=media, annotations=annotations)


def kinds(report: LabelReport) -> dict[str, tuple[str, ...]]:
    return {problem.kind: problem.examples for problem in report.problems}


def test_reads_centre_and_size_as_shares(tmp_path: Path) -> None:
    # Centre (50, 40), size 20 x 10 in a picture of 200 x 100.
    path = darknet_set(tmp_path, {"obj/a.jpg": "1 0.25 0.4 0.1 0.1\n", "obj/b.jpg": ""})
    dataset, report = yolo_darknet.read(path)
    assert boxes_px(dataset) == [[40, 35, 60, 45]]
    assert [c.name for c in dataset.categories] == ["cat", "traffic light"]
    assert dataset.annotations.category_index.tolist() == [1]
    assert dataset.media.split.tolist() == [Split.TRAIN, Split.TRAIN]
    assert dataset.media.width.tolist() == [WIDTH, WIDTH]
    assert report.problems == ()


@pytest.mark.parametrize(
    ("picture", "rule"),
    [
        ("obj/a.jpg", ""),
        ("VOC2007/JPEGImages/a.jpg", "VOC2007/labels"),
        ("coco/images/train2017/a.jpg", "coco/labels/train2017"),
        ("coco/images/val2014/a.jpg", "coco/labels/val2014"),
        ("mine/images/a.jpg", "mine/labels"),  # the first darknet, and those after it
    ],
)
def test_labels_are_where_darknet_seeks_them(tmp_path: Path, picture: str, rule: str) -> None:
    path = darknet_set(tmp_path, {picture: "0 0.5 0.5 0.5 0.5\n"}, rule=rule)
    dataset, report = yolo_darknet.read(path)
    assert boxes_px(dataset) == [[50, 25, 150, 75]]
    assert any("1 of 1 found" in note for note in report.notes)


@pytest.mark.parametrize("prefix", ["data/", "/home/somebody/darknet/data/", "./", "C:/darknet/"])
def test_paths_of_another_machine_lose_their_front(tmp_path: Path, prefix: str) -> None:
    files = {"obj/a.jpg": "0 0.5 0.5 0.5 0.5\n", "obj/b.jpg": ""}
    dataset, _ = yolo_darknet.read(darknet_set(tmp_path, files, prefix=prefix))
    assert dataset.media.uri == [str(tmp_path / "obj/a.jpg"), str(tmp_path / "obj/b.jpg")]
    assert len(dataset.annotations) == 1


def test_backslashes_are_folders(tmp_path: Path) -> None:
    path = darknet_set(tmp_path, {"obj/a.jpg": "0 0.5 0.5 0.5 0.5\n"})
    (path / "train.txt").write_bytes(b"data\\obj\\a.jpg\r\n")
    dataset, _ = yolo_darknet.read(path)
    assert dataset.media.uri == [str(tmp_path / "obj/a.jpg")]
    assert len(dataset.annotations) == 1


def test_a_missing_file_is_no_objects_and_reported_and_an_empty_one_is_not(tmp_path: Path) -> None:
    files = {"obj/a.jpg": "0 0.5 0.5 0.5 0.5\n", "obj/b.jpg": "", "obj/c.jpg": None}
    dataset, report = yolo_darknet.read(darknet_set(tmp_path, files))
    assert np.diff(dataset.offsets).tolist() == [1, 0, 0]
    assert kinds(report) == {"picture without a label file": ("obj/c.jpg",)}


def test_a_label_file_of_no_picture_is_reported(tmp_path: Path) -> None:
    path = darknet_set(tmp_path, {"obj/a.jpg": "0 0.5 0.5 0.5 0.5\n"})
    (path / "obj" / "left.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    _, report = yolo_darknet.read(path)
    assert kinds(report) == {"label file of no picture in the lists": ("obj/left.txt",)}


def test_malformed_rows_are_reported_with_file_and_line(tmp_path: Path) -> None:
    text = "0 0.5 0.5 0.5 0.5\n0 0.5 x 0.5 0.5\n\n0 0.5\n0.5 1 1 1 1\n-1 1 1 1 1\n0 nan 1 1 1\n"
    path = darknet_set(tmp_path, {"obj/a.jpg": text + "0 0.5 0.5 0.1 0.1 0.9\n1 0.5 0.5 0.5 0.5"})
    dataset, report = yolo_darknet.read(path)
    assert dataset.annotations.category_index.tolist() == [0, 1]
    places = tuple(f"obj/a.txt:{line}" for line in (2, 4, 5, 6, 7))
    assert kinds(report) == {
        "row that is not a class and four or more numbers": places,
        "row with more than five numbers": ("obj/a.txt:8",),
    }
    assert "Darknet reads nothing after it" in report.problems[0].action


def test_what_darknet_skips_or_cuts_is_kept_and_reported(tmp_path: Path) -> None:
    text = "0 0 0.5 0.1 0.1\n0 1 1 0.1 0.1\n0 1.01 0.5 0.1 0.1\n0 0.5 0.5 1.5 0.1\n"
    dataset, report = yolo_darknet.read(darknet_set(tmp_path, {"obj/a.jpg": text}))
    assert len(dataset.annotations) == 4
    assert dataset.annotations.boxes_xyxy[3].tolist() == [-50, 45, 250, 55]
    found = kinds(report)
    assert found["box whose centre is outside its picture"] == ("obj/a.txt:1", "obj/a.txt:3")
    assert found["box that is larger than its picture"] == ("obj/a.txt:4",)
    assert len(found["box that reaches outside its picture"]) == 4


def test_a_class_outside_the_names_is_an_error_with_its_place(tmp_path: Path) -> None:
    text = "0 0.5 0.5 0.5 0.5\n2 0.5 0.5 0.5 0.5\n"
    path = darknet_set(tmp_path, {"obj/a.jpg": text})
    with pytest.raises(LabelError, match=r"class 2 is not among the 2 of obj\.names") as caught:
        yolo_darknet.read(path)
    assert (caught.value.where or "").startswith("obj/a.txt:2")
    assert "--on-unknown skip" in (caught.value.fix or "")
    dataset, report = yolo_darknet.read(path, on_unknown="skip")
    assert len(dataset.annotations) == 1
    assert kinds(report) == {"label of an unknown class": ("obj/a.txt:2",)}


def test_labels_of_voc_label_py_get_their_pixel_back(tmp_path: Path) -> None:
    """VOC's 1-based inclusive 10 .. 20 is edges 9 .. 20; the script halves and subtracts."""
    xmin, xmax, ymin, ymax = 10, 20, 31, 60
    numbers = (
        ((xmin + xmax) / 2 - 1) / WIDTH,
        ((ymin + ymax) / 2 - 1) / HEIGHT,
        (xmax - xmin) / WIDTH,
        (ymax - ymin) / HEIGHT,
    )
    path = darknet_set(tmp_path, {"obj/a.jpg": "0 " + " ".join(map(str, numbers)) + "\n"})
    dataset, _ = yolo_darknet.read(path, options=ReadOptions(origin="voc_label"))
    assert boxes_px(dataset) == [[9, 30, 20, 60]]
    dataset, _ = yolo_darknet.read(path)
    assert boxes_px(dataset) == [[9, 30, 19, 59]]


def test_sizes_that_are_given_need_no_pictures(tmp_path: Path) -> None:
    path = darknet_set(tmp_path, {"obj/a.jpg": "0 0.5 0.5 0.5 0.5\n"})
    (path / "obj" / "a.jpg").unlink()
    dataset, report = yolo_darknet.read(path, options=ReadOptions(width=64, height=32))
    assert boxes_px(dataset) == [[16, 8, 48, 24]]
    assert report.problems == ()
    dataset, report = yolo_darknet.read(path)
    assert kinds(report) == {
        "picture whose size cannot be read": (str(tmp_path / "obj/a.jpg"),),
        "label in a picture of unknown size": ("obj/a.txt:1",),
    }
    assert len(dataset.media) == 1


def test_train_and_valid_are_splits_and_a_list_twice_counts_once(tmp_path: Path) -> None:
    path = darknet_set(tmp_path, {"obj/a.jpg": "", "obj/b.jpg": "", "obj/c.jpg": ""})
    (path / "train.txt").write_text("obj/a.jpg\nobj/b.jpg\nobj/a.jpg\n")
    (path / "valid.txt").write_text("obj/c.jpg\nobj/b.jpg\n")
    data = path / "obj.data"
    data.write_text(data.read_text() + "valid = data/valid.txt\n")
    dataset, report = yolo_darknet.read(data)
    assert dataset.media.split.tolist() == [Split.TRAIN, Split.TRAIN, Split.VAL]
    twice = ("train.txt: obj/a.jpg", "valid.txt: obj/b.jpg")
    assert kinds(report) == {"picture that is listed twice": twice}
    data.write_text(data.read_text().replace("data/valid.txt", "train.txt"))
    dataset, report = yolo_darknet.read(data)
    assert dataset.media.split.tolist() == [Split.TRAIN, Split.TRAIN]


def test_shares_are_written_so_that_pixels_come_back(tmp_path: Path) -> None:
    """Six decimals would be 0.005 px off in a picture of this size; nothing is clipped."""
    box = [1234.5678901, 10.000001, 9999.3, 99.125]
    dataset = small([box, [-2.5, -1, 3, 7]], width=9_999)
    report = yolo_darknet.write(dataset, tmp_path / "out", media_root=Path("/p"))
    assert report.problems == ()
    options = ReadOptions(width=9_999, height=HEIGHT)
    back, _ = yolo_darknet.read(tmp_path / "out", options=options)
    assert np.abs(back.annotations.boxes_xyxy - [box, [-2.5, -1, 3, 7]]).max() < 1e-9


@given(
    st.lists(
        st.tuples(*[st.integers(0, 4 * 10**4)] * 2, *[st.integers(1, 10**4)] * 2), max_size=20
    ),
    st.integers(1, 10**4),
    st.integers(1, 10**4),
)
def test_quarter_pixels_come_back_exactly(
    quarters: list[tuple[int, int, int, int]], width: int, height: int
) -> None:
    boxes = np.array([[x, y, x + w, y + h] for x, y, w, h in quarters]).reshape(-1, 4) / 4
    sides = np.full(len(boxes), width), np.full(len(boxes), height)
    assert np.array_equal(boxes_of(shares_of(boxes, *sides), *sides), boxes)


def test_writes_what_darknet_reads(tmp_path: Path) -> None:
    uris = ("/p/a b.jpg", "/p/JPEGImages/c.png")
    report = yolo_darknet.write(small([[50, 25, 150, 75]], uris=uris), tmp_path / "out")
    out = tmp_path / "out"
    assert (out / "obj/a b.txt").read_text() == "0 0.5 0.5 0.5 0.5\n"
    assert (out / "obj/labels/c.txt").read_text() == ""  # where Darknet looks: not JPEGImages
    assert (out / "train.txt").read_text() == "obj/a b.jpg\nobj/JPEGImages/c.png\n"
    assert (out / "obj.names").read_text() == "cat\ntraffic light\n"
    assert (out / "obj.data").read_text().splitlines() == [
        "classes = 2",
        "train = train.txt",
        "names = obj.names",
        "backup = backup/",
    ]
    assert report.problems == ()
    assert any("no split are listed in train.txt" in note for note in report.notes)


@pytest.mark.parametrize("how", ["link", "copy"])
def test_pictures_can_lie_beside_their_labels(tmp_path: Path, how: str) -> None:
    picture = tmp_path / "pictures" / "a.jpg"
    picture.parent.mkdir()
    write_jpeg(picture, np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    dataset = small([[50, 25, 150, 75]], uris=(str(picture), str(picture.with_name("gone.jpg"))))
    options = WriteOptions(pictures=how)  # type: ignore[arg-type]
    report = yolo_darknet.write(dataset, tmp_path / "out", options=options)
    assert (tmp_path / "out/obj/a.jpg").is_symlink() == (how == "link")
    assert kinds(report) == {"picture that is no local file": (str(picture.with_name("gone.jpg")),)}
    back, _ = yolo_darknet.read(tmp_path / "out")
    assert back.media.uri[0] == str(tmp_path / "out/obj/a.jpg")
    assert boxes_px(back) == [[50, 25, 150, 75]]


def test_what_a_shell_or_darknets_suffixes_would_trip_over_is_noted() -> None:
    uris = ("/p/a;rm -rf.jpg", "/p/b.webp")
    _, report = yolo_darknet.adapt(small([], uris=uris))
    assert any("hands the names" in note for note in report.notes)
    assert any("b.webp" in note for note in report.notes)


def test_sizes_that_a_data_set_lacks_are_read_or_its_labels_reported(tmp_path: Path) -> None:
    write_jpeg(tmp_path / "a.jpg", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    dataset = small([[50, 25, 150, 75]], uris=(str(tmp_path / "a.jpg"),), width=0)
    _, report = yolo_darknet.adapt(dataset)
    assert report.problems == ()
    _, report = yolo_darknet.adapt(small([[50, 25, 150, 75]], width=0))
    assert "label in a picture of unknown size" in kinds(report)


def test_two_pictures_of_one_label_file_are_refused(tmp_path: Path) -> None:
    for uris in (("/p/a.jpg", "/p/a.png"), ("/p/labels/a.jpg", "/p/JPEGImages/a.jpg")):
        with pytest.raises(DataError, match="share one label file"):
            yolo_darknet.write(small([], uris=uris), tmp_path / "out")


def test_a_name_that_a_list_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a list cannot hold"):
        yolo_darknet.write(small([], uris=("/p/a\nb.jpg",)), tmp_path / "out")


@pytest.mark.parametrize("line", ["../../../../etc/passwd.jpg", "obj/../../x.jpg", "a\0.jpg"])
def test_a_listed_path_cannot_leave_its_folder(tmp_path: Path, line: str) -> None:
    path = darknet_set(tmp_path / "set", {"obj/a.jpg": ""})
    (path / "train.txt").write_text(f"obj/a.jpg\n{line}\n")
    with pytest.raises(PathEscapeError):
        yolo_darknet.read(path)


def test_a_file_that_is_named_outside_the_folder_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret.names").write_text("a\nb\n")
    path = darknet_set(tmp_path / "set", {"obj/a.jpg": ""})
    (path / "obj.data").write_text("train = train.txt\nnames = ../secret.names\n")
    with pytest.raises(LabelError, match="is not there"):
        yolo_darknet.read(path)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ("names = obj.names\n", EmptyDatasetError),
        ("train = train.txt\n", LabelError),
        ("train = gone.txt\nnames = obj.names\n", LabelError),
        ("", LabelError),
    ],
)
def test_a_set_that_lacks_a_part_is_an_error(
    tmp_path: Path, data: str, error: type[TilthError]
) -> None:
    path = darknet_set(tmp_path, {"obj/a.jpg": ""})
    (path / "obj.data").write_text(data)
    with pytest.raises(error):
        yolo_darknet.read(path)


def test_a_number_of_classes_that_is_wrong_is_reported(tmp_path: Path) -> None:
    path = darknet_set(tmp_path, {"obj/a.jpg": ""}, names="a\nb\nc\n")
    _, report = yolo_darknet.read(path)
    assert "number of classes that is not that of the names" in kinds(report)


@pytest.mark.parametrize(
    "nasty", [b"\0" * 99, b"9" * 5000, b"\xff\xfe0\x00", b"0 1e999 1 1 1", b"0 " * 10**5]
)
def test_hostile_labels_end_in_a_report(tmp_path: Path, nasty: bytes) -> None:
    path = darknet_set(tmp_path, {"obj/a.jpg": "0 0.5 0.5 0.5 0.5\n", "obj/b.jpg": ""})
    (path / "obj" / "b.txt").write_bytes(nasty)
    dataset, report = yolo_darknet.read(path, on_unknown="skip")
    assert len(dataset.annotations) == 1
    assert [problem.examples for problem in report.problems] == [("obj/b.txt:1",)]


def test_recognises_a_data_file_and_its_folder(tmp_path: Path) -> None:
    path = darknet_set(tmp_path, {"obj/a.jpg": ""})
    assert yolo_darknet.recognises(path)
    assert yolo_darknet.recognises(path / "obj.data")
    assert not yolo_darknet.recognises(path / "obj")
    assert not yolo_darknet.recognises(path / "train.txt")
    (path / "obj.data").write_bytes(b"\xff\0")
    assert not yolo_darknet.recognises(path)


@given(data=st.data())
def test_a_plain_reader_finds_the_same_boxes(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Darknet's own loop, in Python: five numbers at a time until they end."""
    root = tmp_path_factory.mktemp("darknet")
    drawn = data.draw(datasets(root / "p", yolo_darknet.HOLDS, max_media=2))
    write_pictures(drawn)
    yolo_darknet.write(drawn, root / "out", media_root=root / "p")
    lists = [root / "out" / f"{name}.txt" for name in ("train", "valid", "test")]
    listed = [line for one in lists if one.exists() for line in one.read_text().splitlines()]
    assert len(listed) == len(drawn.media)
    for row, uri in enumerate(drawn.media.uri):
        name = str(Path(uri).relative_to(root / "p"))
        assert f"obj/{name}" in listed
        words = (root / "out/obj" / name).with_suffix(".txt").read_text().split()
        numbers = np.array(words, np.float64).reshape(-1, 5)
        size = np.array([drawn.media.width[row], drawn.media.height[row]] * 2)
        low = numbers[:, 1:3] - numbers[:, 3:5] / 2
        edges = np.concatenate([low, low + numbers[:, 3:5]], axis=1) * size
        rows = drawn.rows_of(row)
        assert np.allclose(edges, drawn.annotations.boxes_xyxy[rows], atol=1e-9)
        assert numbers[:, 0].tolist() == drawn.annotations.category_index[rows].tolist()
