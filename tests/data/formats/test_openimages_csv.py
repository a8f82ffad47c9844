"""Open Images tables: x0, x1, y0, y1 as shares, flags that may be unknown, ids with their words."""

from __future__ import annotations

import contextlib
import csv as standard_csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.data.dataset import Dataset
from tilth.data.formats import openimages_csv
from tilth.data.formats._columns import annotation_columns, media_columns
from tilth.data.images import write_jpeg
from tilth.data.problems import LabelReport
from tilth.data.records import Category, Geometry, Split
from tilth.errors import DataError, EmptyDatasetError, LabelError, PathEscapeError, TilthError

HEADER = (
    "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,"
    "IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside\n"
)
# Four pictures in the manner of the download page's own example.
BOXES = (
    HEADER
    + "0001eeaf,xclick,/m/0cmf2,1,0.025,0.9625,0.07,0.8,0,0,0,0,0\n"
    + "000595fe,xclick,/m/02xwb,1,0.45,0.6,0.2,0.5,0,0,1,0,0\n"
    + "00075905,xclick,/m/04yx4,1,0.02,0.32,0.1,0.66,-1,0,0,1,-1\n"
    + "000a1249,activemil,/m/0cmf2,0.5,0.5,1,0,0.75,1,1,0,0,0\n"
)
WORDS = "/m/0cmf2,Airplane\n/m/04yx4,Man\n/m/02xwb,Fruit\n/m/0k4j,Car\n"
SIZES = {"0001eeaf": (400, 200), "000595fe": (100, 50), "00075905": (50, 100), "000a1249": (80, 80)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The pictures of the example, all of them black."""
    for key, (width, height) in SIZES.items():
        write_jpeg(tmp_path / f"{key}.jpg", np.zeros((height, width, 3), np.uint8))
    return tmp_path


def written(folder: Path, text: str | bytes, name: str = "boxes.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def problems(report: LabelReport) -> dict[str, tuple[int, tuple[str, ...]]]:
    return {problem.kind: (problem.count, problem.examples) for problem in report.problems}


def rows_of(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(standard_csv.reader(stream))


def attributes(dataset: Dataset) -> list[dict[str, Any]]:
    return [json.loads(entry or b"{}") for entry in dataset.annotations.attributes]


def small(
    boxes: list[list[float]], *, names: tuple[str, ...] = ("cat",), width: int = 100, **columns: Any
) -> Dataset:
    media = media_columns(["/d/a.jpg"], width=[width], height=[50])
    rows = {"media_index": [0] * len(boxes), "category_index": [0] * len(boxes), **columns}
    annotations = annotation_columns(
        media, boxes_xyxy=boxes, report=LabelReport(where=""), place=str, **rows
    )
    categories = tuple(Category(name=name, origin_id=at) for at, name in enumerate(names))
    return Dataset(categories=categories, media=media, annotations=annotations)


def test_corners_are_shares_with_both_x_before_both_y(folder: Path) -> None:
    dataset, report = openimages_csv.read(written(folder, BOXES))
    np.testing.assert_allclose(
        dataset.annotations.boxes_xyxy,
        [[10, 14, 385, 160], [45, 10, 60, 25], [1, 10, 16, 66], [40, 0, 80, 60]],
        atol=1e-9,
    )
    assert dataset.media.width.tolist() == [400, 100, 50, 80], "from the headers of the pictures"
    assert [Path(uri).name for uri in dataset.media.uri] == [f"{key}.jpg" for key in SIZES]
    assert report.problems == ()
    assert "columns that were not kept: Source" in report.notes


def test_group_is_crowd_flags_are_attributes_and_minus_one_is_not_known(folder: Path) -> None:
    dataset, _ = openimages_csv.read(written(folder, BOXES))
    assert dataset.annotations.is_crowd.tolist() == [False, True, False, False]
    none = {"occluded": False, "truncated": False, "depiction": False, "inside": False}
    assert attributes(dataset) == [
        none,
        none,
        {"truncated": False, "depiction": True},
        {**none, "occluded": True, "truncated": True},
    ]


def test_the_confidence_of_a_drawn_box_is_no_score(folder: Path) -> None:
    dataset, _ = openimages_csv.read(written(folder, BOXES))
    np.testing.assert_array_equal(dataset.annotations.score, np.float32([np.nan] * 3 + [0.5]))


@pytest.mark.parametrize("name", ["boxes-class-descriptions.csv", "class-descriptions-boxable.csv",
                                  "oidv7-class-descriptions-boxable.csv"])  # fmt: skip
@pytest.mark.parametrize("header", ["", "LabelName,DisplayName\n"])
def test_words_of_the_ids_lie_beside(folder: Path, name: str, header: str) -> None:
    written(folder, header + WORDS, name)
    dataset, report = openimages_csv.read(written(folder, BOXES))
    assert [c.name for c in dataset.categories] == ["Airplane", "Man", "Fruit", "Car"]
    assert dataset.annotations.category_index.tolist() == [0, 2, 1, 0]
    assert f"classes: from {name}" in report.notes


def test_without_words_the_ids_are_the_names(folder: Path) -> None:
    dataset, report = openimages_csv.read(written(folder, BOXES))
    assert [c.name for c in dataset.categories] == ["/m/02xwb", "/m/04yx4", "/m/0cmf2"]
    assert "classes: the names in the file, sorted" in report.notes


def test_ids_go_out_again_with_their_words(folder: Path) -> None:
    words = written(folder, WORDS, "words.csv")
    options = openimages_csv.ReadOptions(classes=str(words))
    dataset, _ = openimages_csv.read(written(folder, BOXES), options=options)
    out = folder / "out" / "o.csv"
    write_options = openimages_csv.WriteOptions(classes=str(words))
    openimages_csv.write(dataset, out, media_root=folder, options=write_options)
    assert [row[2] for row in rows_of(out)[1:]] == ["/m/0cmf2", "/m/02xwb", "/m/04yx4", "/m/0cmf2"]
    assert rows_of(out.with_name("o-class-descriptions.csv"))[2] == ["/m/04yx4", "Man"]
    back, _ = openimages_csv.read(out, media_root=folder)
    assert back.categories == dataset.categories


def test_one_word_of_two_ids_is_told_apart(folder: Path) -> None:
    written(folder, WORDS + "/m/x,Man\n", "boxes-class-descriptions.csv")
    dataset, _ = openimages_csv.read(written(folder, BOXES))
    names = [category.name for category in dataset.categories]
    assert names == ["Airplane", "Man (/m/04yx4)", "Fruit", "Car", "Man (/m/x)"]


def test_an_id_without_a_word_stops_or_is_skipped(folder: Path) -> None:
    written(folder, WORDS.replace("/m/02xwb,Fruit\n", ""), "boxes-class-descriptions.csv")
    path = written(folder, BOXES)
    with pytest.raises(LabelError, match="/m/02xwb") as caught:
        openimages_csv.read(path)
    assert "boxes.csv:3" in str(caught.value)
    dataset, report = openimages_csv.read(path, on_unknown="skip")
    assert (len(dataset.media), len(dataset.annotations)) == (4, 3)
    assert problems(report) == {"label of an unknown class": (1, ("boxes.csv:3",))}


def test_labels_of_pictures_and_the_ones_that_say_no(folder: Path) -> None:
    text = "ImageID,Source,LabelName,Confidence\n"
    text += "0001eeaf,verification,/m/0cmf2,1\n0001eeaf,verification,/m/04yx4,0\n"
    text += "000595fe,machine,/m/0cmf2,0.75\n"
    path = written(folder, text, "human-imagelabels.csv")
    assert openimages_csv.recognises(path)
    dataset, report = openimages_csv.read(path)
    labels = dataset.annotations
    assert labels.geometry.tolist() == [Geometry.LABEL, Geometry.LABEL]
    assert labels.boxes_xyxy.tolist() == [[0, 0, 400, 200], [0, 0, 100, 50]]
    np.testing.assert_array_equal(labels.score, np.float32([np.nan, 0.75]))
    kind = "class that was looked for and is not in the picture (confidence 0)"
    assert problems(report) == {kind: (1, ("human-imagelabels.csv:3",))}
    assert [c.name for c in dataset.categories] == ["/m/0cmf2"]


def test_masks_are_refused_with_a_reason(folder: Path) -> None:
    header = "MaskPath,ImageID,LabelName,BoxID,BoxXMin,BoxXMax,BoxYMin,BoxYMax,PredictedIoU,Clicks"
    with pytest.raises(LabelError) as caught:
        openimages_csv.read(written(folder, header + "\n"))
    assert "masks are not read" in (caught.value.fix or "")


def test_negatives_and_splits_come_from_a_list_of_pictures(folder: Path) -> None:
    listed = "ImageID,Subset,OriginalURL\nffff,test,http://x\n0001eeaf,train,http://y\n"
    images = written(folder, listed, "image_ids.csv")
    options = openimages_csv.ReadOptions(images=str(images))
    dataset, report = openimages_csv.read(written(folder, BOXES), options=options)
    assert [Path(uri).stem for uri in dataset.media.uri][:2] == ["ffff", "0001eeaf"]
    assert dataset.media.split.tolist()[:3] == [Split.TEST, Split.TRAIN, Split.NONE]
    assert (len(dataset.media), len(dataset.annotations)) == (5, 4)
    assert list(problems(report)) == ["picture whose size cannot be read"]
    with pytest.raises(LabelError, match="not there"):
        openimages_csv.read(
            folder / "boxes.csv", options=openimages_csv.ReadOptions(images="none.csv")
        )


def test_pictures_are_found_in_folders_and_with_other_suffixes(tmp_path: Path) -> None:
    for name in ("train_00/0001eeaf.png", "000595fe.JPEG", "00075905.jpg"):
        write_jpeg(tmp_path / name, np.zeros((10, 20, 3), np.uint8))
    dataset, report = openimages_csv.read(written(tmp_path, BOXES))
    names = [Path(uri).relative_to(tmp_path).as_posix() for uri in dataset.media.uri]
    assert names == ["train_00/0001eeaf.png", "000595fe.JPEG", "00075905.jpg", "000a1249.jpg"]
    assert problems(report)["box in shares of a picture of unknown size"] == (1, ("boxes.csv:5",))


BAD_ROWS = [
    ("0001eeaf,x,/m/0cmf2,1,0.1,0.2,0.1,0.2,7,0,0,0,0", "IsOccluded that is not 1, 0 or -1"),
    ("0001eeaf,x,/m/0cmf2,1,0.1,0.2,0.1,0.2,yes,0,0,0,0", "IsOccluded that is not a number"),
    ("0001eeaf,x,/m/0cmf2,1,0.2,0.2,0.1,0.2,0,0,0,0,0", "box without area"),
    ("0001eeaf,x,/m/0cmf2,1,,0.2,0.1,0.2,0,0,0,0,0", "box with a number that is not finite"),
    ("0001eeaf,x,/m/0cmf2,1,0.1,0.2,0.1,0.2", "row that does not have 13 cells"),
    ("0001eeaf,x,/m/0cmf2,1,0.1,1.5,0.1,0.2,0,0,0,0,0", "box that reaches outside its picture"),
    (",x,/m/0cmf2,1,0.1,0.2,0.1,0.2,0,0,0,0,0", "row without a picture"),
]


@pytest.mark.parametrize(("row", "kind"), BAD_ROWS, ids=[kind for _, kind in BAD_ROWS])
def test_a_bad_row_is_named(folder: Path, row: str, kind: str) -> None:
    dataset, report = openimages_csv.read(written(folder, BOXES + row + "\n"))
    assert problems(report) == {kind: (1, ("boxes.csv:6",))}
    assert len(dataset.annotations) >= 4


@pytest.mark.parametrize("key", ["../x", "/etc/x", "a\\b"])
def test_an_id_that_leaves_the_folder_is_refused(folder: Path, key: str) -> None:
    path = written(folder, HEADER + f"{key},x,/m/0cmf2,1,0.1,0.2,0.1,0.2,0,0,0,0,0\n")
    with pytest.raises(PathEscapeError):
        openimages_csv.read(path)


@pytest.mark.parametrize("text", ["", "a,b\n", HEADER, "ImageID,LabelName,XMin\n"])
def test_what_is_no_such_table_is_said_to_be_none(tmp_path: Path, text: str) -> None:
    with pytest.raises((LabelError, EmptyDatasetError)) as caught:
        openimages_csv.read(written(tmp_path, text))
    assert "boxes.csv" in str(caught.value)


def test_rows_out_by_hand(tmp_path: Path) -> None:
    dataset = small(
        [[10, 5, 60, 45], [0, 0, 100, 50]],
        score=[0.25, np.nan],
        is_crowd=[False, True],
        attributes=[b'{"occluded":true,"inside":false}', None],
    )
    openimages_csv.write(dataset, tmp_path / "o.csv")
    assert rows_of(tmp_path / "o.csv") == [
        HEADER.strip().split(","),
        ["a", "machine", "cat", "0.25", "0.1", "0.6", "0.1", "0.9", "1", "-1", "0", "-1", "0"],
        ["a", "verification", "cat", "1", "0", "1", "0", "1", "-1", "-1", "1", "-1", "-1"],
    ]
    assert rows_of(tmp_path / "o-images.csv")[1] == ["a", "", "100", "50", "a.jpg"]


def test_what_a_flag_cannot_say_is_reported(tmp_path: Path) -> None:
    dataset = small(
        [[1, 2, 3, 4]] * 3,
        score=[1, 0.5, 0],
        attributes=[b'{"occluded":2,"truncated":0.25}', b'{"occluded":3,"pose":"Left"}', None],
        geometry=[Geometry.BOX, Geometry.BOX, Geometry.LABEL],
    )
    fitted, report = openimages_csv.adapt(dataset)
    assert attributes(fitted) == [{"occluded": True, "truncated": True}, {}]
    assert {kind: count for kind, (count, _) in problems(report).items()} == {
        "attribute 'pose'": 1,
        "score of exactly 1": 1,
        "attribute 'occluded' that is more than yes or no": 2,
        "attribute 'truncated' that is more than yes or no": 1,
        "label of a whole picture with a score of 0, which says that the class is not there": 1,
    }


def test_a_picture_of_unknown_size_has_no_shares(tmp_path: Path) -> None:
    report = openimages_csv.write(small([[1, 2, 3, 4]], width=0), tmp_path / "o.csv")
    assert problems(report) == {"box in a picture of unknown size": (1, ("label 1",))}


def test_two_pictures_of_one_id_are_refused(tmp_path: Path) -> None:
    dataset = small([[1, 2, 3, 4]])
    media = media_columns(["/d/a.jpg", "/d/a.png"], width=[9, 9], height=[9, 9])
    twice = Dataset(categories=dataset.categories, media=media, annotations=dataset.annotations)
    with pytest.raises(DataError, match="share one"):
        openimages_csv.write(twice, tmp_path / "o.csv")


@given(
    numbers=st.tuples(*[st.floats(0, 9e3)] * 2, *[st.floats(1e-2, 9e3)] * 2),
    width=st.integers(1, 20_000),
    name=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1),
)
def test_boxes_come_back_to_a_millionth_of_a_pixel(
    numbers: tuple[float, ...], width: int, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    x0, y0, w, h = numbers
    dataset = small([[x0, y0, x0 + w, y0 + h]], width=width, names=(name, "'=other"))
    path = tmp_path_factory.mktemp("oi") / "o.csv"
    openimages_csv.write(dataset, path)
    back, _ = openimages_csv.read(path, media_root=Path("/d"))
    boxes = dataset.annotations.boxes_xyxy
    np.testing.assert_allclose(back.annotations.boxes_xyxy, boxes, rtol=0, atol=1e-6)
    assert back.categories == dataset.categories


@given(
    data=st.data(),
    target=st.sampled_from(
        ["o.csv", "o-images.csv", "o-class-descriptions.csv", "o-imagelabels.csv"]
    ),
)
def test_spoilt_files_end_in_a_result_or_an_error_of_ours(
    data: st.DataObject, target: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    openimages_csv.write(
        small([[1, 2, 30, 40]] * 2, geometry=[Geometry.BOX, Geometry.LABEL]), folder / "o.csv"
    )
    text = (folder / target).read_bytes()
    at, cut = data.draw(st.integers(0, len(text))), data.draw(st.integers(0, 3))
    nasty = [b"\0", b"9" * 400, b"nan", b"../../x", b'"', b"\xff\xfe", b"\r", b",", b"-1e999"]
    middle = data.draw(st.sampled_from(nasty) | st.binary(max_size=4))
    (folder / target).write_bytes(text[:at] + middle + text[at + cut :])
    assert openimages_csv.recognises(folder / "o.csv") in (True, False)
    with contextlib.suppress(TilthError):
        dataset, _ = openimages_csv.read(folder / "o.csv", on_unknown="skip")
        assert np.isfinite(dataset.annotations.boxes_xyxy).all()
        assert all(uri.startswith(f"{folder}/") for uri in dataset.media.uri)
