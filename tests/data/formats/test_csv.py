"""CSV labels: each convention by its definition, told apart by evidence, bad rows by their line."""

from __future__ import annotations

import contextlib
import csv as standard_csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from lxml import etree

from tilth.data import atomic
from tilth.data.dataset import Dataset
from tilth.data.formats import csv, openimages_csv
from tilth.data.formats._columns import annotation_columns, media_columns
from tilth.data.images import write_jpeg
from tilth.data.problems import LabelReport
from tilth.data.records import Category, Geometry, Split
from tilth.errors import (
    DataError,
    EmptyDatasetError,
    LabelError,
    PathEscapeError,
    SettingsError,
    StorageError,
    TilthError,
)

RETINANET = """\
imgs/001.jpg,837,346,981,456,cow
imgs/002.jpg,215,312,279,391,cat
imgs/002.jpg,22,5,89,84,bird
imgs/003.jpg,,,,,
"""
VOTT = '''\
"image","xmin","ymin","xmax","ymax","label"
"a, b.jpg",10.5,20.25,30,40.125,"traffic ""light"""
"c.jpg",0,0,5,5,"dog"
'''
TFOD = "filename,width,height,class,xmin,ymin,xmax,ymax\n"
AUTOML = """\
TRAIN,folder/image1.png,car,0.1,0.1,,,0.3,0.3,,
TRAIN,folder/image1.png,bike,.7,.6,,,.8,.9,,
UNASSIGNED,folder/im2.png,car,0.1,0.1,0.2,0.1,0.2,0.3,0.1,0.3
TEST,folder/im3.png,,,,,,,,,
"""
OURS = (
    "image,width,height,split,class,x0,y0,x1,y1,score,crowd,attributes\n"
    'a.jpg,100,80,train,dog,1.5,2,10.25,12,0.25,1,"{""truncated"":0.5,""note"":""x""}"\n'
    "a.jpg,100,80,train,cat,,,,,,,\n"
    "b.jpg,50,40,val,__image__,,,,,,,\n"
)


def written(folder: Path, text: str | bytes, name: str = "labels.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def found(dataset: Dataset) -> list[tuple[str, str, list[float]]]:
    """Picture, class and corners of each label."""
    labels = dataset.annotations
    return [
        (Path(dataset.media.uri[media]).name, dataset.categories[category].name, box)
        for media, category, box in zip(
            labels.media_index.tolist(),
            labels.category_index.tolist(),
            labels.boxes_xyxy.round(9).tolist(),
            strict=True,
        )
    ]


def problems(report: LabelReport) -> dict[str, tuple[int, tuple[str, ...]]]:
    return {problem.kind: (problem.count, problem.examples) for problem in report.problems}


def noted(report: LabelReport, word: str) -> str:
    (note,) = [note for note in report.notes if note.startswith(word)]
    return note


def small(
    boxes: Sequence[Sequence[float]],
    *,
    names: Sequence[str] = ("cat",),
    uris: Sequence[str] = ("/d/a.jpg",),
    size: int = 100,
    **columns: Any,
) -> Dataset:
    """All boxes of class 0 in the first picture, unless said otherwise."""
    media = media_columns(uris, width=[size] * len(uris), height=[size] * len(uris))
    rows = {"media_index": [0] * len(boxes), "category_index": [0] * len(boxes), **columns}
    annotations = annotation_columns(
        media, boxes_xyxy=boxes, report=LabelReport(where=""), place=str, **rows
    )
    categories = tuple(Category(name=name, origin_id=at) for at, name in enumerate(names))
    return Dataset(categories=categories, media=media, annotations=annotations)


# Conventions, by their definitions


def test_keras_retinanet_has_no_header_and_empty_cells_for_negatives(tmp_path: Path) -> None:
    dataset, report = csv.read(written(tmp_path, RETINANET))
    assert found(dataset) == [
        ("001.jpg", "cow", [837, 346, 981, 456]),
        ("002.jpg", "cat", [215, 312, 279, 391]),
        ("002.jpg", "bird", [22, 5, 89, 84]),
    ]
    assert [Path(uri).name for uri in dataset.media.uri] == ["001.jpg", "002.jpg", "003.jpg"]
    assert [category.name for category in dataset.categories] == ["bird", "cat", "cow"]
    assert "retinanet (no header" in noted(report, "convention")
    assert report.problems == ()


def test_vott_is_quoted_and_in_pixels(tmp_path: Path) -> None:
    dataset, report = csv.read(written(tmp_path, VOTT))
    assert found(dataset) == [
        ("a, b.jpg", 'traffic "light"', [10.5, 20.25, 30, 40.125]),
        ("c.jpg", "dog", [0, 0, 5, 5]),
    ]
    assert "vott" in noted(report, "convention")
    assert not [note for note in report.notes if note.startswith("coordinates")]


def test_the_same_header_with_pixels_and_with_shares(tmp_path: Path) -> None:
    pixels = written(tmp_path, TFOD + "a.jpg,200,100,dog,10,20,110,90\n")
    shares = written(tmp_path, TFOD + "a.jpg,200,100,dog,0.05,0.2,0.55,0.9\n", "shares.csv")
    expected = [("a.jpg", "dog", [10, 20, 110, 90])]
    for path, word in ((pixels, "pixels (up to 110)"), (shares, "none above 0.9")):
        dataset, report = csv.read(path)
        assert found(dataset) == expected
        assert word in noted(report, "coordinates"), "the evidence is said"
        assert dataset.media.width.tolist() == [200]
    forced, _ = csv.read(shares, options=csv.ReadOptions(coordinates="pixels"))
    assert found(forced) == [("a.jpg", "dog", [0.05, 0.2, 0.55, 0.9])]


@pytest.mark.parametrize(
    "rows",
    ["a.jpg,200,100,dog,0,0,1,1\n", "a.jpg,200,100,dog,0.1,0.1,1.5,0.9\n",
     "a.jpg,200,100,dog,0.1,0.1,0.5,0.9\n" * 9 + "a.jpg,200,100,dog,1,1,150,90\n"],
)  # fmt: skip
def test_units_that_fit_both_readings_are_not_guessed(tmp_path: Path, rows: str) -> None:
    path = written(tmp_path, TFOD + rows)
    with pytest.raises(LabelError, match="pixels or in shares") as caught:
        csv.read(path)
    assert "--option coordinates=pixels" in (caught.value.fix or "")
    csv.read(path, options=csv.ReadOptions(coordinates="normalised"))


def test_our_own_keeps_scores_crowds_attributes_splits_and_negatives(tmp_path: Path) -> None:
    dataset, report = csv.read(written(tmp_path, OURS))
    labels = dataset.annotations
    assert found(dataset) == [
        ("a.jpg", "dog", [1.5, 2, 10.25, 12]),
        ("a.jpg", "cat", [0, 0, 100, 80]),
    ]
    assert labels.geometry.tolist() == [Geometry.BOX, Geometry.LABEL]
    assert labels.is_crowd.tolist() == [True, False]
    np.testing.assert_array_equal(labels.score, np.array([0.25, np.nan], np.float32))
    assert json.loads(labels.attributes[0] or b"") == {"truncated": 0.5, "note": "x"}
    assert dataset.media.split.tolist() == [Split.TRAIN, Split.VAL]
    assert dataset.media.height.tolist() == [80, 40]
    assert report.problems == ()


def test_automl_gives_two_or_four_vertices_as_shares(tmp_path: Path) -> None:
    for name in ("image1", "im2"):
        write_jpeg(tmp_path / "folder" / f"{name}.png", np.zeros((50, 200, 3), np.uint8))
    dataset, report = csv.read(written(tmp_path, AUTOML))
    assert found(dataset) == [
        ("image1.png", "car", [20, 5, 60, 15]),
        ("image1.png", "bike", [140, 30, 160, 45]),
        ("im2.png", "car", [20, 5, 40, 15]),
    ]
    assert dataset.media.split.tolist() == [Split.TRAIN, Split.NONE, Split.TEST]
    kind = "picture whose size cannot be read"
    assert list(problems(report)) == [kind], "im3.png is not there, and has no box that needs it"
    without_use = "\n".join(line.partition(",")[2] for line in AUTOML.splitlines())
    again, _ = csv.read(written(tmp_path, without_use, "second.csv"))
    assert found(again) == found(dataset)


def test_a_share_of_a_picture_that_is_not_there_is_left_out_by_its_line(tmp_path: Path) -> None:
    dataset, report = csv.read(written(tmp_path, AUTOML))
    assert (len(dataset.media), len(dataset.annotations)) == (3, 0)
    count, places = problems(report)["box in shares of a picture of unknown size"]
    assert (count, places) == (3, ("labels.csv:1", "labels.csv:2", "labels.csv:3"))


HEADERS = [
    ("image_name,x,y,w,h,label", "a.jpg,10,20,30,40,dog", [10, 20, 40, 60]),
    ("path,class,cx,cy,w,h", "a.jpg,dog,25,40,30,40", [10, 20, 40, 60]),
    ("Image Path;Class Name;X-Min;X-Max;Y-Min;Y-Max", "a.jpg;dog;10;40;20;60", [10, 20, 40, 60]),
    ("label_name,bbox_x,bbox_y,bbox_width,bbox_height,image_name,image_width,image_height",
     "dog,10,20,30,40,a.jpg,640,480", [10, 20, 40, 60]),
    ("img,left,top,right,bottom,category", "a.jpg,10,20,40,60,dog", [10, 20, 40, 60]),
    ("img,left,top,width,height,category", "a.jpg,10,20,30,40,dog", [10, 20, 40, 60]),
    ("image_id,x1,y1,x2,y2,class_name", "a.jpg,10,20,40,60,dog", [10, 20, 40, 60]),
    ("filename,width,height,class,x_center,y_center,w,h", "a.jpg,640,480,dog,25,40,30,40",
     [10, 20, 40, 60]),
]  # fmt: skip


@pytest.mark.parametrize(("header", "row", "box"), HEADERS, ids=[each[0] for each in HEADERS])
def test_a_header_names_its_columns(
    tmp_path: Path, header: str, row: str, box: list[float]
) -> None:
    path = written(tmp_path, f"{header}\n{row}\n")
    assert csv.recognises(path)
    dataset, _ = csv.read(path)
    assert found(dataset) == [("a.jpg", "dog", box)]
    has_size = "640" in row
    assert dataset.media.width.tolist() == [640 if has_size else 0]


def test_makesense_rows_have_the_class_first(tmp_path: Path) -> None:
    dataset, report = csv.read(written(tmp_path, "dog,10,20,30,40,a.jpg,640,480\n"))
    assert found(dataset) == [("a.jpg", "dog", [10, 20, 40, 60])]
    assert dataset.media.height.tolist() == [480]
    assert "makesense" in noted(report, "convention")


def test_a_table_of_picture_and_class_is_of_labels_of_pictures(tmp_path: Path) -> None:
    dataset, _ = csv.read(written(tmp_path, "filename,label,split\na.jpg,dog,train\nb.jpg,,test\n"))
    assert dataset.annotations.geometry.tolist() == [Geometry.LABEL]
    assert dataset.media.split.tolist() == [Split.TRAIN, Split.TEST]


def test_attributes_that_formats_share_may_be_columns_and_others_are_named(tmp_path: Path) -> None:
    text = "image,label,xmin,ymin,xmax,ymax,difficult,occluded,pose,mood\n"
    text += "a.jpg,dog,1,2,13,14,true,2,Left,glad\na.jpg,dog,1,2,13,14,,,,\n"
    dataset, report = csv.read(written(tmp_path, text))
    labels = dataset.annotations
    expected = {"difficult": True, "occluded": 2, "pose": "Left"}
    assert json.loads(labels.attributes[0] or b"") == expected
    assert labels.attributes[1] is None
    assert "columns that were not kept: mood" in report.notes


@pytest.mark.parametrize(
    ("text", "columns"),
    [("who,what,a,b,c,d\na.jpg,dog,10,20,40,60\n", "path=who,class=what,x0=a,y0=b,x1=c,y1=d"),
     ("a.jpg,10,40,20,60,dog\n", "path=1,class=6,x0=2,x1=3,y0=4,y1=5"),
     ("a.jpg,dog,10,20,30,40\n", "path=1,class=2,x=3,y=4,w=5,h=6"),
     ("who,what,a,b,c,d\na.jpg,dog,25,40,30,40\n", "path=who,class=what,cx=a,cy=b,w=c,h=d")],
)  # fmt: skip
def test_columns_may_be_told(tmp_path: Path, text: str, columns: str) -> None:
    dataset, _ = csv.read(written(tmp_path, text), options=csv.ReadOptions(columns=columns))
    assert found(dataset) == [("a.jpg", "dog", [10, 20, 40, 60])]


@pytest.mark.parametrize(
    ("columns", "error"),
    [("path=who,klass=what", SettingsError), ("x0=a", SettingsError), ("path", SettingsError),
     ("path=who,class=nothing", LabelError), ("path=who,class=99", LabelError)],
)  # fmt: skip
def test_columns_told_wrongly_are_refused(
    tmp_path: Path, columns: str, error: type[TilthError]
) -> None:
    path = written(tmp_path, "who,what,a\na.jpg,dog,1\n")
    with pytest.raises(error):
        csv.read(path, options=csv.ReadOptions(columns=columns))


@pytest.mark.parametrize(
    "text", ["a,b,c\n1,2,3\n", "img,x1,x2,y1,y2,cls\na.jpg,1,2,3,4,dog\n", "x"]
)
def test_columns_that_nobody_knows_are_asked_for(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, text)
    assert not csv.recognises(path)
    with pytest.raises(LabelError, match="not known") as caught:
        csv.read(path)
    assert "--option columns=" in (caught.value.fix or "")
    assert caught.value.where == f"{path}:1"


def test_open_images_is_sent_to_its_own_format(tmp_path: Path) -> None:
    path = written(tmp_path, "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax\n")
    assert not csv.recognises(path)
    assert openimages_csv.recognises(path)
    with pytest.raises(LabelError) as caught:
        csv.read(path)
    assert caught.value.fix == "pass --format openimages_csv"


def test_a_dialect_that_was_named_must_fit(tmp_path: Path) -> None:
    path = written(tmp_path, VOTT)
    with pytest.raises(LabelError):
        csv.read(path, options=csv.ReadOptions(dialect="retinanet"))
    assert len(csv.read(path, options=csv.ReadOptions(dialect="vott"))[0].annotations) == 2


# Counted from 0 or from 1


def test_boxes_of_pascal_voc_are_known_by_their_evidence(tmp_path: Path) -> None:
    rows = "a.jpg,200,100,dog,1,11,200,90\na.jpg,200,100,dog,50,60,70,80\n"
    path = written(tmp_path, TFOD + rows)
    dataset, report = csv.read(path)
    assert found(dataset)[0] == ("a.jpg", "dog", [0, 10, 200, 90])
    note = noted(report, "origin")
    assert "Pascal VOC" in note
    assert "1 boxes end at width or height" in note
    zero, _ = csv.read(path, options=csv.ReadOptions(origin="zero"))
    assert found(zero)[0] == ("a.jpg", "dog", [1, 11, 200, 90])


@pytest.mark.parametrize(
    "row",
    ["a.jpg,200,100,dog,0,11,200,90", "a.jpg,200,100,dog,1.5,11,200,90",
     "a.jpg,200,100,dog,1,11,199,90"],
    ids=["a zero", "a fraction", "nothing at the border"],
)  # fmt: skip
def test_without_all_of_the_evidence_boxes_count_from_zero(tmp_path: Path, row: str) -> None:
    dataset, report = csv.read(written(tmp_path, TFOD + row + "\n"))
    x0 = float(row.split(",")[4])
    assert dataset.annotations.boxes_xyxy[0, 0] == x0
    assert "counted from 0" in noted(report, "origin")


def test_retinanet_counts_from_zero_unless_told(tmp_path: Path) -> None:
    path = written(tmp_path, RETINANET)
    told, _ = csv.read(path, options=csv.ReadOptions(origin="voc1"))
    assert found(told)[0] == ("001.jpg", "cow", [836, 345, 981, 456])


def test_real_raccoons_are_those_of_their_xml(shared_data: Path) -> None:
    folder = shared_data / "formats" / "raccoon"
    dataset, report = csv.read(folder / "data" / "raccoon_labels.csv")
    assert (len(dataset.media), len(dataset.annotations)) == (200, 217)
    assert [category.name for category in dataset.categories] == ["raccoon"]
    assert report.problems == ()
    ours = {(name, *box) for name, _, box in found(dataset)}
    theirs = set()
    for path in (folder / "annotations").glob("*.xml"):
        root = etree.parse(path).getroot()
        for box in root.iter("bndbox"):
            x0, y0, x1, y1 = (
                float(box.findtext(n) or "") for n in ("xmin", "ymin", "xmax", "ymax")
            )
            theirs.add((root.findtext("filename"), x0 - 1, y0 - 1, x1, y1))
    names = {name for name, *_ in theirs}
    assert len(names) >= 190
    assert {row for row in ours if row[0] in names} == {row for row in theirs if row[0] in
                                                        {name for name, *_ in ours}}  # fmt: skip
    parts = [csv.read(folder / "data" / f"{part}_labels.csv")[0] for part in ("train", "test")]
    assert sum(len(part.annotations) for part in parts) == 217


# The file itself: delimiters, encodings, lines


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_delimiters_are_recognised(tmp_path: Path, delimiter: str) -> None:
    text = RETINANET.replace(",", delimiter)
    assert len(csv.read(written(tmp_path, text))[0].annotations) == 3


def test_decimal_commas_come_with_semicolons(tmp_path: Path) -> None:
    text = "image;xmin;ymin;xmax;ymax;label\na.jpg;1,5;2;30,25;40;dog\nb.jpg;;;;;\n"
    dataset, _ = csv.read(written(tmp_path, text))
    assert found(dataset) == [("a.jpg", "dog", [1.5, 2, 30.25, 40])]
    bad = written(tmp_path, text + "c.jpg;1,5;x;3,5;4;dog\n", "bad.csv")
    dataset, report = csv.read(bad)
    assert found(dataset) == [("a.jpg", "dog", [1.5, 2, 30.25, 40])]
    assert problems(report) == {"box with a cell that is not a number": (1, ("bad.csv:4",))}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks_say_the_encoding(tmp_path: Path, encoding: str) -> None:
    path = written(tmp_path, VOTT.replace("dog", "größe").encode(encoding))
    assert found(csv.read(path)[0])[1] == ("c.jpg", "größe", [0, 0, 5, 5])


def test_other_encodings_are_named(tmp_path: Path) -> None:
    path = written(tmp_path, VOTT.replace("dog", "größe").encode("cp1252"))
    with pytest.raises(LabelError, match="not utf-8") as caught:
        csv.read(path)
    assert "--option encoding=" in (caught.value.fix or "")
    dataset, _ = csv.read(path, options=csv.ReadOptions(encoding="cp1252"))
    assert found(dataset)[1][1] == "größe"
    with pytest.raises(SettingsError, match="no encoding"):
        csv.read(path, options=csv.ReadOptions(encoding="klingon"))


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("tolerant", [False, True])
def test_lines_are_counted_as_an_editor_does(tmp_path: Path, newline: str, tolerant: bool) -> None:
    lines = [
        "image,xmin,ymin,xmax,ymax,label",
        "",
        '"two',
        'lines.jpg",1,2,3,4,"a',
        "",
        'b"',
        "c.jpg,5,5,5,9,dog",  # line 7: no width
        "",
        'd 5" pipe.jpg,1,2,3,4,dog',
        "e.jpg,nan,2,3,4,dog",  # line 10
    ]
    if tolerant:
        lines += ["f.jpg,1,2", "g.jpg,x,2,3,4,dog"]  # lines 11 and 12
    dataset, report = csv.read(written(tmp_path, newline.join(lines) + newline))
    expected = {
        "box without area": (1, ("labels.csv:7",)),
        "box with a number that is not finite": (1, ("labels.csv:10",)),
    }
    if tolerant:
        expected["row that does not have 6 cells"] = (1, ("labels.csv:11",))
        expected["box with a cell that is not a number"] = (1, ("labels.csv:12",))
    assert problems(report) == expected
    assert len(dataset.annotations) == 2
    assert dataset.media.uri[0].endswith(f"two{newline}lines.jpg")


@pytest.mark.parametrize("name", ["NA", "null", "nan", "None", "10", "1e5", "true", "#N/A"])
def test_a_class_may_look_like_no_value(tmp_path: Path, name: str) -> None:
    dataset, report = csv.read(written(tmp_path, f"a.jpg,1,2,3,4,{name}\n"))
    assert [category.name for category in dataset.categories] == [name]
    assert report.problems == ()


def test_a_cell_longer_than_a_block_is_read(tmp_path: Path) -> None:
    note = json.dumps({"note": "x" * 9_000_000}).replace('"', '""')
    text = OURS.splitlines()[0] + f'\na.jpg,9,9,,dog,1,2,3,4,,,"{note}"\n'
    dataset, report = csv.read(written(tmp_path, text))
    assert len(dataset.annotations.attributes[0] or b"") > 9_000_000
    assert report.problems == ()


# Bad rows


BAD_ROWS = [
    ("b.jpg,1,2,,4,dog", "box of which a number is missing"),
    ("b.jpg,1,2,3,4,", "box without a class"),
    ("b.jpg,,,,,dog", "label without a box"),
    (",1,2,3,4,dog", "row without a picture"),
    ("b.jpg,1,2,x,4,dog", "box with a cell that is not a number"),
    ("b.jpg,1,2,1_0,4,dog", "box with a cell that is not a number"),
    ("b.jpg,1,2,inf,4,dog", "box with a number that is not finite"),
    ("b.jpg,1,2," + "9" * 5000 + ",4,dog", "box with a number that is not finite"),
    ("b.jpg,5,2,1,4,dog", "box without area"),
    ("b.jpg,1,2,3,4", "row that does not have 6 cells"),
    ("b.jpg,-1,2,3,4,dog", "box that reaches outside its picture"),
]


@pytest.mark.parametrize(("row", "kind"), BAD_ROWS, ids=[row[:24] for row, _ in BAD_ROWS])
def test_a_bad_row_is_named_and_its_neighbours_stay(tmp_path: Path, row: str, kind: str) -> None:
    path = written(tmp_path, f"a.jpg,1,2,30,40,dog\n{row}\nc.jpg,1,2,30,40,dog\n")
    dataset, report = csv.read(path)
    assert problems(report) == {kind: (1, ("labels.csv:2",))}
    names = [name for name, _, _ in found(dataset)]
    assert {"a.jpg", "c.jpg"} <= set(names)
    with pytest.raises(LabelError, match=kind):
        report.raise_if_any()


def test_sizes_and_splits_that_disagree_keep_the_first(tmp_path: Path) -> None:
    header = OURS.splitlines()[0]
    rows = ["a.jpg,100,80,train,dog,1,2,3,4,,,", "a.jpg,100,81,test,dog,1,2,3,4,,,",
            "b.jpg,10.5,80,holdout,dog,1,2,3,4,x,,[]"]  # fmt: skip
    dataset, report = csv.read(written(tmp_path, "\n".join([header, *rows]) + "\n"))
    assert dataset.media.height.tolist() == [80, 80]
    assert dataset.media.width.tolist() == [100, 0]
    assert dataset.media.split.tolist() == [Split.TRAIN, Split.NONE]
    assert problems(report) == {
        "picture whose rows give different sizes": (1, ("labels.csv:3",)),
        "picture whose rows name different splits": (1, ("labels.csv:3",)),
        "size of a picture that is not a whole number of pixels": (1, ("labels.csv:4",)),
        "word that is no split (train, val, test)": (1, ("labels.csv:4",)),
        "score that is not a number": (1, ("labels.csv:4",)),
        "attributes that are not a JSON object": (1, ("labels.csv:4",)),
    }


@pytest.mark.parametrize("given", ["cat,bird", "classes.txt", "classes.csv"])
def test_a_class_outside_the_list_stops_or_is_skipped(tmp_path: Path, given: str) -> None:
    written(tmp_path, "cat\nbird\n", "classes.txt")
    written(tmp_path, "cat,7\nbird,2\n", "classes.csv")
    path = written(tmp_path, RETINANET)
    options = csv.ReadOptions(classes=given if "," in given else str(tmp_path / given))
    with pytest.raises(LabelError, match="'cow'") as caught:
        csv.read(path, options=options)
    assert "labels.csv:1" in str(caught.value)
    assert "--on-unknown skip" in (caught.value.fix or "")
    dataset, report = csv.read(path, options=options, on_unknown="skip")
    assert [c.name for c in dataset.categories] == ["cat", "bird"]
    assert [c.origin_id for c in dataset.categories] == ([7, 2] if "csv" in given else [0, 1])
    assert problems(report) == {"label of an unknown class": (1, ("labels.csv:1",))}
    assert len(dataset.media) == 3


@pytest.mark.parametrize("name", ["../x.jpg", "/etc/x.jpg", "C:/x.jpg", "a\\b.jpg", "a/../../b"])
def test_a_name_that_leaves_the_folder_is_refused_with_its_line(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, f"a.jpg,1,2,3,4,dog\n{name},1,2,3,4,dog\n")
    with pytest.raises(PathEscapeError) as caught:
        csv.read(path)
    assert caught.value.where == "labels.csv:2"


@pytest.mark.parametrize("text", ["", "\n\n", OURS.splitlines()[0] + "\n", "\0\0\0", '"'])
def test_a_file_without_pictures_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises((EmptyDatasetError, LabelError)) as caught:
        csv.read(written(tmp_path, text))
    assert "labels.csv" in str(caught.value)


def test_spellings_of_one_path_are_one_picture(tmp_path: Path) -> None:
    dataset, _ = csv.read(written(tmp_path, "./a/b.jpg,1,2,3,4,x\na//b.jpg,1,2,3,4,x\n"))
    assert dataset.media.uri == [f"{tmp_path}/a/b.jpg"]
    assert len(dataset.annotations) == 2


CASES = {"retinanet": RETINANET, "vott": VOTT, "automl": AUTOML, "ours": OURS,
         "tfod": TFOD + "a.jpg,200,100,dog,1,11,200,90\n"}  # fmt: skip
NASTY = [b"\0", b"9" * 400, b"nan", b"../../x", b'"', b"\xff\xfe", b"\r", b";", b",", b"[" * 500]


@pytest.mark.parametrize("case", CASES)
@given(data=st.data())
def test_spoilt_files_end_in_a_result_or_an_error_of_ours(
    case: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = CASES[case].encode()
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 3))
        text = (
            text[:at] + data.draw(st.sampled_from(NASTY) | st.binary(max_size=3)) + text[at + cut :]
        )
    path = written(tmp_path_factory.mktemp("fuzz"), text)
    assert csv.recognises(path) in (True, False)
    try:
        dataset, _ = csv.read(path, on_unknown="skip")
    except TilthError:
        return
    assert np.isfinite(dataset.annotations.boxes_xyxy).all()
    assert all(uri.startswith(f"{path.parent}/") for uri in dataset.media.uri)


@given(data=st.binary(max_size=80))
@example(data=b"\xff\xfe\x00")
@example(data=b"a.jpg,1,2,3,4,x\n" + b'"' * 3)
def test_any_bytes_end_in_a_result_or_an_error_of_ours(
    data: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = written(tmp_path_factory.mktemp("fuzz"), data)
    assert csv.recognises(path) in (True, False)
    with contextlib.suppress(TilthError):
        assert csv.read(path)[1].num_media > 0


# Out


def rows_of(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(standard_csv.reader(stream))


def test_retinanet_out_is_whole_pixels_half_away_from_zero(tmp_path: Path) -> None:
    dataset = small([[0.5, 1.5, 2.5, 3.49], [7.2, 7.2, 7.4, 9]], uris=["/d/a.jpg", "/d/b.jpg"])
    path = tmp_path / "o.csv"
    report = csv.write(dataset, path, options=csv.WriteOptions(dialect="retinanet"))
    assert rows_of(path) == [
        ["a.jpg", "1", "2", "3", "3", "cat"],
        ["a.jpg", "7", "7", "8", "9", "cat"],
        ["b.jpg", "", "", "", "", ""],
    ]
    assert rows_of(csv.classes_path(path)) == [["cat", "0"]]
    kinds = {problem.kind: problem.action for problem in report.problems}
    assert kinds == {
        "box that is not on whole pixels": "rounded",
        "box that rounding would close": "made one pixel wide",
    }
    assert "up to 0.6 px" in noted(report, "rounding")


@pytest.mark.parametrize("dialect", ["tilth", "retinanet", "vott", "tfod", "automl"])
@pytest.mark.parametrize("delimiter", ["comma", "semicolon", "tab"])
def test_every_dialect_comes_back(tmp_path: Path, dialect: Any, delimiter: Any) -> None:
    dataset = small(
        [[1, 2, 30, 40], [50, 60, 70, 99]], names=["größe; x, 1", "b"], uris=["/d/ä b.jpg"]
    )
    path = tmp_path / "o.csv"
    options = csv.WriteOptions(dialect=dialect, delimiter=delimiter)
    fitted, _ = csv.adapt(dataset, options=options)
    csv.write(dataset, path, options=options)
    if dialect == "automl":
        write_jpeg(tmp_path / "ä b.jpg", np.zeros((100, 100, 3), np.uint8))
    assert csv.recognises(path)
    back, report = csv.read(path)
    assert f"convention: {dialect}" in noted(report, "convention")
    assert found(back) == found(fitted)
    assert back.categories == fitted.categories, "the unused one too"


def test_shares_and_one_based_boxes_out_come_back(tmp_path: Path) -> None:
    dataset = small([[0, 9, 100, 90], [50, 60, 70, 99]])
    shares = csv.WriteOptions(dialect="tfod", coordinates="normalised")
    csv.write(dataset, tmp_path / "s.csv", options=shares)
    assert rows_of(tmp_path / "s.csv")[1][4:] == ["0", "0.09", "1", "0.9"]
    one = csv.WriteOptions(dialect="tfod", origin="voc1")
    csv.write(dataset, tmp_path / "o.csv", options=one)
    assert rows_of(tmp_path / "o.csv")[1][4:] == ["1", "10", "100", "90"]
    for name in ("s.csv", "o.csv"):
        assert found(csv.read(tmp_path / name)[0]) == found(dataset)


def test_a_picture_of_unknown_size_has_no_shares(tmp_path: Path) -> None:
    dataset = small([[1, 2, 3, 4]], size=0)
    report = csv.write(dataset, tmp_path / "o.csv", options=csv.WriteOptions(dialect="automl"))
    assert problems(report) == {"box in a picture of unknown size": (1, ("label 1",))}


def test_pandas_reads_our_own(tmp_path: Path) -> None:
    dataset, _ = csv.read(written(tmp_path, OURS))
    csv.write(dataset, tmp_path / "o.csv")
    frame = pd.read_csv(tmp_path / "o.csv")
    assert frame["class"].tolist() == ["dog", "cat", "__image__"]
    assert frame["x0"].tolist()[0] == 1.5
    assert json.loads(frame["attributes"][0]) == {"truncated": 0.5, "note": "x"}


FORMULAS = ["=1+1", "+x", "-x", "@x", "'=x", "''=x", "'plain", "\tx", "plain", "=HYPERLINK(1)"]


@pytest.mark.parametrize("spreadsheet", [False, True])
def test_formulas_are_neutralised_and_read_back(tmp_path: Path, spreadsheet: bool) -> None:
    uris = [f"/d/{name}.jpg" for name in FORMULAS]
    rows = list(range(len(FORMULAS)))
    dataset = small([[1, 2, 3, 4]] * len(rows), names=FORMULAS, uris=uris, media_index=rows,
                    category_index=rows)  # fmt: skip
    path = tmp_path / "o.csv"
    csv.write(dataset, path, options=csv.WriteOptions(spreadsheet=spreadsheet))
    cells = [cell for row in rows_of(path) for cell in (row[0], row[4])]
    run = [cell for cell in cells if cell[:1] in tuple("=+-@\t")]
    assert bool(run) is not spreadsheet
    assert found(csv.read(path)[0]) == found(dataset)


@given(
    name=st.text(st.characters(exclude_characters="/\\\0", exclude_categories=["Cs"]), min_size=1),
    numbers=st.tuples(*[st.floats(0, 1e5)] * 2, *[st.floats(1e-3, 1e5)] * 2),
    score=st.none() | st.floats(0, 1, width=32),
    spreadsheet=st.booleans(),
    delimiter=st.sampled_from(["comma", "semicolon", "tab"]),
)
@example(name="\r", numbers=(0.1, 0.2, 1, 1), score=None, spreadsheet=True, delimiter="tab")
@example(name=' "', numbers=(0.1, 1 / 3, 1, 1), score=0.1, spreadsheet=False, delimiter="comma")
def test_any_name_and_number_survives(
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    numbers: tuple[float, ...],
    score: float | None,
    spreadsheet: bool,
    delimiter: Any,
) -> None:
    folder = tmp_path_factory.mktemp("csv")
    x0, y0, width, height = numbers
    dataset = small(
        [[x0, y0, x0 + width, y0 + height]],
        names=[name, f"{name} 2"],
        uris=[f"/d/x{name}.jpg", "/d/negative.jpg"],
        score=[np.nan if score is None else score],
    )
    options = csv.WriteOptions(spreadsheet=spreadsheet, delimiter=delimiter)
    csv.write(dataset, folder / "o.csv", media_root=Path("/d"), options=options)
    back, report = csv.read(folder / "o.csv", media_root=Path("/d"))
    assert back.media.uri == dataset.media.uri
    assert back.categories == dataset.categories
    np.testing.assert_array_equal(back.annotations.boxes_xyxy, dataset.annotations.boxes_xyxy)
    np.testing.assert_array_equal(back.annotations.score, dataset.annotations.score)
    assert [p.kind for p in report.problems if "outside" not in p.kind] == []


def test_the_class_that_marks_negatives_is_no_class() -> None:
    with pytest.raises(DataError, match="__image__"):
        csv.adapt(small([[1, 2, 3, 4]], names=["__image__"]))


def test_urls_are_kept_whole(tmp_path: Path) -> None:
    dataset = small([[1, 2, 3, 4]], uris=["s3://bucket/a.jpg", "/d/b.jpg"])
    csv.write(dataset, tmp_path / "o.csv", media_root=Path("/d"))
    back, _ = csv.read(tmp_path / "o.csv", media_root=Path("/d"))
    assert back.media.uri == ["s3://bucket/a.jpg", "/d/b.jpg"]


def test_a_disk_that_fills_leaves_both_files_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "o.csv"
    csv.write(small([[1, 2, 3, 4]]), path)
    before = {each.name: each.read_bytes() for each in tmp_path.iterdir()}

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", fail)
    with pytest.raises(StorageError, match="unchanged"):
        csv.write(small([[5, 6, 7, 8]], names=["other"]), path)
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == before
