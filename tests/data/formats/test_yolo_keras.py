"""keras-yolo3's text: its grammar, its rounding, its white space, its list of classes."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.data import atomic
from tilth.data.dataset import Dataset
from tilth.data.formats import yolo_keras
from tilth.data.formats._columns import annotation_columns, media_columns
from tilth.data.formats._whole_pixels import half_away_from_zero
from tilth.data.images import write_jpeg
from tilth.data.problems import LabelReport
from tilth.data.records import Category
from tilth.errors import (
    DataError,
    EmptyDatasetError,
    LabelError,
    PathEscapeError,
    SettingsError,
    StorageError,
    TilthError,
)

# The README's own example, and a picture without objects.
TEXT = """\
path/to/img1.jpg 50,100,150,200,0 30,50,200,120,3
path/to/img2.jpg 120,300,250,600,2
path/to/img3.jpg
"""
NO_SIZES = yolo_keras.ReadOptions(sizes=False)


def written(folder: Path, text: str | bytes, classes: str | None = "a\nb\nc\nd\n") -> Path:
    path = folder / "train.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    if classes is not None:
        (folder / "classes.txt").write_text(classes)
    return path


def problems(report: LabelReport) -> dict[str, tuple[int, tuple[str, ...]]]:
    return {problem.kind: (problem.count, problem.examples) for problem in report.problems}


def small(
    boxes: Sequence[Sequence[float]], uris: Sequence[str] = ("/d/a.jpg",), **columns: Any
) -> Dataset:
    media = media_columns(uris, width=[100] * len(uris), height=[100] * len(uris))
    rows = {"media_index": [0] * len(boxes), "category_index": [0] * len(boxes), **columns}
    annotations = annotation_columns(
        media, boxes_xyxy=boxes, report=LabelReport(where=""), place=str, **rows
    )
    categories = (Category(name="cat", origin_id=0), Category(name="traffic light", origin_id=1))
    return Dataset(categories=categories, media=media, annotations=annotations)


def theirs(line: str) -> tuple[str, list[list[int]]]:
    """A line as keras-yolo3 takes it apart: by white space, then by commas."""
    words = line.split()
    return words[0], [list(map(int, box.split(","))) for box in words[1:]]


def test_the_grammar_of_the_definition(tmp_path: Path) -> None:
    path = written(tmp_path, TEXT)
    assert yolo_keras.recognises(path)
    dataset, report = yolo_keras.read(path, options=NO_SIZES)
    labels = dataset.annotations
    assert labels.boxes_xyxy.tolist() == [
        [50, 100, 150, 200],
        [30, 50, 200, 120],
        [120, 300, 250, 600],
    ]
    assert labels.category_index.tolist() == [0, 3, 2]
    assert labels.media_index.tolist() == [0, 0, 1]
    assert [Path(uri).name for uri in dataset.media.uri] == ["img1.jpg", "img2.jpg", "img3.jpg"]
    assert [category.name for category in dataset.categories] == ["a", "b", "c", "d"]
    assert (report.problems, report.notes) == ((), ["classes: from classes.txt"])


def test_sizes_are_in_the_headers_of_the_pictures(tmp_path: Path) -> None:
    path = written(tmp_path, TEXT)
    for at in (1, 2):
        write_jpeg(tmp_path / f"path/to/img{at}.jpg", np.zeros((at * 300, 400, 3), np.uint8))
    dataset, report = yolo_keras.read(path)
    assert dataset.media.height.tolist() == [300, 600, 0]
    count, places = problems(report)["picture whose size cannot be read"]
    assert (count, Path(places[0]).name) == (1, "img3.jpg")
    assert len(dataset.annotations) == 3, "the boxes need no size"


@pytest.mark.parametrize(
    "text",
    [TEXT.replace("\n", "\r\n"), TEXT.replace(" ", "   "), TEXT.replace(" ", "\t"),
     TEXT.replace("\n", " \n\n"), "\ufeff" + TEXT, TEXT.rstrip("\n")],
    ids=["CRLF", "several spaces", "tabs", "spaces at the end, empty lines", "mark", "no end"],
)  # fmt: skip
def test_white_space_divides_however_much_there_is(tmp_path: Path, text: str) -> None:
    wanted, _ = yolo_keras.read(written(tmp_path, TEXT), options=NO_SIZES)
    dataset, report = yolo_keras.read(written(tmp_path, text), options=NO_SIZES)
    np.testing.assert_array_equal(dataset.annotations.boxes_xyxy, wanted.annotations.boxes_xyxy)
    assert dataset.media.uri == wanted.media.uri
    assert report.problems == ()


def test_without_a_list_classes_are_their_numbers(tmp_path: Path) -> None:
    dataset, report = yolo_keras.read(written(tmp_path, TEXT, None), options=NO_SIZES)
    assert [c.name for c in dataset.categories] == ["0", "1", "2", "3"]
    assert report.notes == ["classes: their numbers, as no classes.txt lies beside the file"]
    huge = written(tmp_path, "a.jpg 1,2,3,4,999999999999999999 1,2,3,4,7\n", None)
    dataset, _ = yolo_keras.read(huge, options=NO_SIZES)
    assert [c.origin_id for c in dataset.categories] == [7, 999999999999999999]


def test_classes_may_be_given(tmp_path: Path) -> None:
    path = written(tmp_path, TEXT, "only one\n")
    options = yolo_keras.ReadOptions(classes="w,x,y,z", sizes=False)
    dataset, _ = yolo_keras.read(path, options=options)
    assert [c.name for c in dataset.categories] == ["w", "x", "y", "z"]
    with pytest.raises(SettingsError, match="not there"):
        yolo_keras.read(path, options=yolo_keras.ReadOptions(classes="none.txt"))


@pytest.mark.parametrize("classes", ["a\n\nb\nc\n", "a\nb\na\nd\n", "\n\n"])
def test_a_list_with_a_gap_or_a_name_twice_is_refused(tmp_path: Path, classes: str) -> None:
    with pytest.raises(LabelError, match=r"stands twice|without a name|outside the 0") as caught:
        yolo_keras.read(written(tmp_path, TEXT, classes))
    assert caught.value.where


def test_a_class_beyond_the_list_stops_or_is_skipped(tmp_path: Path) -> None:
    path = written(tmp_path, TEXT, "a\nb\nc\n")
    with pytest.raises(LabelError, match="class 3 is outside the 3 classes") as caught:
        yolo_keras.read(path)
    assert "train.txt:1" in str(caught.value)
    assert "--on-unknown skip" in (caught.value.fix or "")
    dataset, report = yolo_keras.read(path, on_unknown="skip", options=NO_SIZES)
    assert (len(dataset.media), len(dataset.annotations)) == (3, 2)
    assert problems(report) == {"label of an unknown class": (1, ("train.txt:1",))}


NO_BOX = "box that is not x0,y0,x1,y1,class in whole numbers"
BAD_BOXES = [
    *[(word, NO_BOX) for word in (
        "1,2,3,4", "1,2,3,4,5,6", "1,2,3,x,0", "1,2,3,4,0.5", "1;2;3;4;0", "1,2,3,,0", ",,,,",
        '"1,2,3,4,0"', "0x1,2,3,4,0", "1,2,3,4," + "9" * 40, "1_0,2,30,4,0",
    )],
    ("1,2,3,4,-1", "label of an unknown class"),
    ("nan,2,3,4,0", "box with a number that is not finite"),
    ("1,2,inf,4,0", "box with a number that is not finite"),
    ("1,2,3," + "9" * 5000 + ",0", "box with a number that is not finite"),
    ("5,2,3,4,0", "box without area"),
]  # fmt: skip


@pytest.mark.parametrize("more", ["", " x"], ids=["alone", "with another"])
@pytest.mark.parametrize(("word", "kind"), BAD_BOXES, ids=[word[:14] for word, _ in BAD_BOXES])
def test_a_bad_box_is_named_by_its_line_and_its_neighbours_stay(
    tmp_path: Path, word: str, kind: str, more: str
) -> None:
    """It is called the same whether or not another one sends the file the slower way."""
    path = written(
        tmp_path, f"a.jpg 1,2,30,40,0\n\nb.jpg 5,6,7,8,1 {word} 9,9,19,19,2\nc.jpg{more}\n"
    )
    dataset, report = yolo_keras.read(path, on_unknown="skip", options=NO_SIZES)
    expected = {kind: ["train.txt:3"]}
    if more:
        expected.setdefault(NO_BOX, []).append("train.txt:4")
    assert {each: list(places) for each, (_, places) in problems(report).items()} == expected
    assert dataset.annotations.category_index.tolist() == [0, 1, 2]
    assert dataset.annotations.media_index.tolist() == [0, 1, 1]


def test_fractions_of_other_writers_are_read(tmp_path: Path) -> None:
    dataset, report = yolo_keras.read(
        written(tmp_path, "a.jpg 1.5,2,30.25,40,0\n"), options=NO_SIZES
    )
    assert dataset.annotations.boxes_xyxy.tolist() == [[1.5, 2, 30.25, 40]]
    assert report.problems == ()


def test_boxes_without_area_are_left_out_by_their_line(tmp_path: Path) -> None:
    path = written(tmp_path, "a.jpg 1,2,30,40,0\nb.jpg 5,6,5,8,1\nc.jpg 9,9,1,1,1\n")
    dataset, report = yolo_keras.read(path, options=NO_SIZES)
    assert problems(report) == {"box without area": (2, ("train.txt:2", "train.txt:3"))}
    assert (len(dataset.media), len(dataset.annotations)) == (3, 1)


def test_a_picture_on_two_lines_has_the_boxes_of_both(tmp_path: Path) -> None:
    path = written(tmp_path, "a.jpg 1,2,3,4,0\nb.jpg\n./a.jpg 5,6,7,8,1\n")
    dataset, report = yolo_keras.read(path, options=NO_SIZES)
    assert dataset.annotations.media_index.tolist() == [0, 0]
    assert problems(report) == {"picture on several lines": (1, ("train.txt:3",))}


@pytest.mark.parametrize("name", ["../x.jpg", "/etc/x.jpg", "C:/x.jpg", "a\\b.jpg", "%2e%2e/x.jpg"])
def test_a_path_that_leaves_the_folder_is_refused_with_its_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(PathEscapeError) as caught:
        yolo_keras.read(written(tmp_path, f"a.jpg\n{name} 1,2,3,4,0\n"))
    assert caught.value.where == "train.txt:2"


@pytest.mark.parametrize("text", ["", "\n \n", "\ufeff"])
def test_a_file_without_pictures_is_empty(tmp_path: Path, text: str) -> None:
    with pytest.raises(EmptyDatasetError):
        yolo_keras.read(written(tmp_path, text))


@pytest.mark.parametrize(
    "text", ["0 0.5 0.5 0.1 0.1\n", "Car 0.0 0 0 1 2 3 4\n", "a.jpg\n", "a\nb\n"]
)
def test_lines_of_other_formats_are_not_recognised(tmp_path: Path, text: str) -> None:
    assert not yolo_keras.recognises(written(tmp_path, text))


# Out


def test_corners_are_rounded_half_away_from_zero(tmp_path: Path) -> None:
    boxes = [[0.5, 1.5, 2.5, 3.49], [-0.5, -1.5, 4.2, 6], [7.2, 7.2, 7.4, 9], [99.6, 1, 100, 2]]
    report = yolo_keras.write(small(boxes), tmp_path / "o.txt")
    name, rows = theirs((tmp_path / "o.txt").read_text())
    assert name == "a.jpg"
    assert rows == [[1, 2, 3, 3, 0], [-1, -2, 4, 6, 0], [7, 7, 8, 9, 0], [99, 1, 100, 2, 0]]
    assert {kind: count for kind, (count, _) in problems(report).items()} == {
        "box that is not on whole pixels": 2,
        "box that rounding would close": 2,
    }
    (note,) = report.notes
    assert note == "rounding to whole pixels moved edges by up to 0.6 px"


@given(st.integers(-(2**40), 2**40), st.sampled_from([-0.5, -0.25, 0.0, 0.25, 0.5]))
def test_rounding_is_that_of_schools(whole: int, part: float) -> None:
    value = whole + part
    expected = int(abs(value) + 0.5) * (1 if value >= 0 else -1)
    assert half_away_from_zero(np.array([value])).tolist() == [expected]


def test_spaces_are_escaped_or_refused(tmp_path: Path) -> None:
    names = ["with space.jpg", "plain.jpg", "100%.jpg", "a%20b.jpg", "nb\u00a0sp.jpg"]
    dataset = small([[1, 2, 3, 4]], uris=[f"/d/{name}" for name in names])
    path = tmp_path / "o.txt"
    report = yolo_keras.write(dataset, path, media_root=Path("/d"))
    lines = [theirs(line)[0] for line in path.read_text().splitlines()]
    assert lines == ["with%20space.jpg", "plain.jpg", "100%.jpg", "a%2520b.jpg", "nb%C2%A0sp.jpg"]
    assert any("3 paths with white space" in note for note in report.notes)
    back, _ = yolo_keras.read(path, media_root=Path("/d"), options=NO_SIZES)
    assert back.media.uri == dataset.media.uri
    with pytest.raises(DataError, match="white space"):
        yolo_keras.adapt(dataset, options=yolo_keras.WriteOptions(spaces="refuse"))
    folder = small([[1, 2, 3, 4]], uris=["/d/two words/a.jpg"])
    with pytest.raises(DataError, match="white space"):
        yolo_keras.write(folder, path, media_root=Path("/d"),
                         options=yolo_keras.WriteOptions(spaces="refuse"))  # fmt: skip


def test_a_picture_that_is_really_called_so_is_not_decoded(tmp_path: Path) -> None:
    write_jpeg(tmp_path / "a%20b.jpg", np.zeros((9, 9, 3), np.uint8))
    path = written(tmp_path, "a%20b.jpg 1,2,3,4,0\nc%20d.jpg 1,2,3,4,0\n")
    names = [Path(uri).name for uri in yolo_keras.read(path)[0].media.uri]
    assert names == ["a%20b.jpg", "c d.jpg"]
    literal = yolo_keras.ReadOptions(spaces="literal")
    names = [Path(uri).name for uri in yolo_keras.read(path, options=literal)[0].media.uri]
    assert names == ["a%20b.jpg", "c%20d.jpg"]


def test_what_the_trainer_leaves_out_is_said(tmp_path: Path) -> None:
    dataset = small([[at, 1, at + 2, 9] for at in range(21)])
    report = yolo_keras.write(dataset, tmp_path / "o.txt")
    assert len(theirs((tmp_path / "o.txt").read_text())[1]) == 21
    assert any("1 pictures have more than 20 boxes" in note for note in report.notes)
    assert report.problems == ()


@pytest.mark.parametrize("name", ["two\nlines", " led by a space", ""])
def test_a_class_that_a_list_cannot_hold_is_refused(tmp_path: Path, name: str) -> None:
    dataset = small([[1, 2, 3, 4]])
    bad = Dataset(
        categories=(Category(name=name, origin_id=0), *dataset.categories[1:]),
        media=dataset.media,
        annotations=dataset.annotations,
    )
    with pytest.raises(DataError, match="one name a line"):
        yolo_keras.write(bad, tmp_path / "o.txt")
    assert list(tmp_path.iterdir()) == []


@given(
    boxes=st.lists(st.tuples(*[st.integers(0, 5000)] * 2, *[st.integers(1, 5000)] * 2), max_size=5),
    name=st.text(st.characters(exclude_characters="/\\\0", exclude_categories=["Cs"]), min_size=1),
)
def test_whole_boxes_and_any_name_come_back(
    boxes: list[tuple[int, ...]], name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("keras") / "o.txt"
    corners = [[x, y, x + w, y + h] for x, y, w, h in boxes]
    uris = [f"/d/x{name}.jpg", "/d/negative.jpg"]
    dataset = small(corners or np.zeros((0, 4)).tolist(), uris=uris)
    yolo_keras.write(dataset, path, media_root=Path("/d"))
    lines = path.read_text().split("\n")
    assert len(lines) == 3
    assert theirs(lines[0])[1] == [[*box, 0] for box in corners]
    back, _ = yolo_keras.read(path, media_root=Path("/d"), options=NO_SIZES)
    assert back.media.uri == uris
    assert back.categories == dataset.categories
    np.testing.assert_array_equal(back.annotations.boxes_xyxy, dataset.annotations.boxes_xyxy)


@given(data=st.data())
def test_spoilt_files_end_in_a_result_or_an_error_of_ours(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    text = TEXT.encode()
    at, cut = data.draw(st.integers(0, len(text))), data.draw(st.integers(0, 3))
    nasty = [b"\0", b"9" * 400, b"nan", b"../../x", b'"', b"\xff\xfe", b"\r", b",", b"%2f%2e%2e"]
    middle = data.draw(st.sampled_from(nasty) | st.binary(max_size=30))
    path = written(folder, text[:at] + middle + text[at + cut :])
    assert yolo_keras.recognises(path) in (True, False)
    with contextlib.suppress(TilthError):
        dataset, _ = yolo_keras.read(path, on_unknown="skip")
        assert np.isfinite(dataset.annotations.boxes_xyxy).all()
        assert all(uri.startswith(f"{folder}/") for uri in dataset.media.uri)


def test_a_disk_that_fills_leaves_both_files_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "o.txt"
    yolo_keras.write(small([[1, 2, 3, 4]]), path)
    before = {each.name: each.read_bytes() for each in tmp_path.iterdir()}

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", fail)
    with pytest.raises(StorageError, match="unchanged"):
        yolo_keras.write(small([[5, 6, 7, 8]]), path)
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == before
