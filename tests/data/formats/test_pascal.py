"""Pascal VOC in and out: the origin by evidence, every trap of the format, two ways that agree."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from any_dataset import comparable, datasets
from hypothesis import given, settings
from hypothesis import strategies as st
from labelformat.formats.pascalvoc import PascalVOCObjectDetectionInput
from small_sets import small_dataset
from supervision.dataset.formats.pascal_voc import detections_from_xml_obj
from voc_texts import BOMB, DEVKIT, OUTSIDE, attributes, kinds, names, voc_object, voc_text, written

from tilth.data.checks import check_dataset
from tilth.data.formats import pascal
from tilth.data.images import write_jpeg
from tilth.data.records import Split
from tilth.errors import (
    DataError,
    LabelError,
    PathEscapeError,
    SettingsError,
    StorageError,
    TilthError,
)


def test_the_development_kits_example(tmp_path: Path) -> None:
    written(tmp_path, {"Annotations/000005.xml": DEVKIT, "ImageSets/Main/val.txt": "000005\n"})
    dataset, report = pascal.read(tmp_path)
    assert report.problems == ()
    assert list(dataset.media.uri) == [f"{tmp_path}/JPEGImages/000005.jpg"]
    assert (dataset.media.width.tolist(), dataset.media.height.tolist()) == ([500], [375])
    assert dataset.media.split.tolist() == [Split.VAL]
    assert [c.name for c in dataset.categories] == ["chair", "person"]
    # Pixels 263..500 and 211..339, both inside, counted from 1: edges 262..500 and 210..339.
    assert dataset.annotations.boxes_xyxy.tolist() == [[262, 210, 500, 339], [0, 0, 1, 375]]
    assert attributes(dataset) == [
        {"pose": "Rear", "difficult": True},
        {"truncated": True, "occluded": True},
    ]
    assert not dataset.annotations.is_crowd.any(), "difficult is no crowd"
    assert [note for note in report.notes if "origin" in note] == [
        "origin voc1 (pixels from 1, both ends inside): only whole numbers, the smallest is 1,"
        " and 2 of 2 boxes end at xmax = width or ymax = height"
    ]


@pytest.mark.parametrize(
    ("boxes", "origin", "evidence"),
    [
        ([(1, 2, 100, 40)], "voc1", "1 of 1 boxes end at xmax = width"),
        ([(1, 2, 30, 80)], "voc1", "ymax = height"),
        ([(1, 2, 30, 40)], "zero", "no box ends at xmax = width"),
        ([(0, 2, 100, 40)], "zero", "the smallest corner is 0"),
        ([(1, 2, 100, 40), (1, 2, 30.5, 4)], "zero", "1 of 2 boxes have corners that are no whole"),
        ([], "zero", "there is no box to tell by"),
    ],
)
def test_auto_decides_on_evidence_and_says_so(
    tmp_path: Path, boxes: list[Any], origin: str, evidence: str
) -> None:
    written(tmp_path, {"a.xml": voc_text(*[voc_object(box=box) for box in boxes])})
    dataset, report = pascal.read(tmp_path)
    assert any(note.startswith(f"origin {origin}") and evidence in note for note in report.notes)
    shift = 1 if origin == "voc1" else 0
    expected = [[x0 - shift, y0 - shift, x1, y1] for x0, y0, x1, y1 in boxes]
    assert dataset.annotations.boxes_xyxy.tolist() == expected


@pytest.mark.parametrize(("origin", "x0"), [("voc1", 9.0), ("zero", 10.0)])
def test_a_given_origin_is_taken(tmp_path: Path, origin: Any, x0: float) -> None:
    written(tmp_path, {"a.xml": voc_text(voc_object(box=(10, 10, 20, 20)))})
    dataset, report = pascal.read(tmp_path, options=pascal.ReadOptions(origin=origin))
    assert dataset.annotations.boxes_xyxy.tolist() == [[x0, x0, 20, 20]]
    assert f"{origin} (" in str(report)
    assert "as given" in str(report)


def test_our_labelmap_states_the_origin_against_the_evidence(tmp_path: Path) -> None:
    """Boxes from 0 that look as if from 1 come back where they were."""
    written(tmp_path, {"in/a.xml": voc_text(voc_object(box=(1, 1, 100, 40)))})
    dataset, _ = pascal.read(tmp_path / "in", options=pascal.ReadOptions(origin="zero"))
    for origin in ("zero", "voc1"):
        target = tmp_path / origin
        pascal.write(dataset, target, options=pascal.WriteOptions(origin=origin))
        back, report = pascal.read(target)
        assert back.annotations.boxes_xyxy.tolist() == [[1, 1, 100, 40]]
        assert any("labelmap.txt says so" in note for note in report.notes)
    assert "<xmin>2</xmin>" in (tmp_path / "voc1/Annotations/a.xml").read_text()


def test_a_single_pixel_is_a_box_from_1_and_none_from_0(tmp_path: Path) -> None:
    boxes = [voc_object(box=(5, 5, 5, 5)), voc_object(box=(1, 1, 100, 9))]
    written(tmp_path, {"a.xml": voc_text(*boxes)})
    dataset, report = pascal.read(tmp_path)
    assert dataset.annotations.boxes_xyxy.tolist() == [[4, 4, 5, 5], [0, 0, 100, 9]]
    assert kinds(report) == {"box whose corners are one pixel": 1}
    assert report.problems[0].examples == ("a.xml:2",)
    dataset, report = pascal.read(tmp_path, options=pascal.ReadOptions(origin="zero"))
    assert len(dataset.annotations) == 1
    assert kinds(report) == {"box without area": 1}


def test_whole_pixels_are_written_from_1_and_rounding_is_reported(tmp_path: Path) -> None:
    written(tmp_path, {"in/a.xml": voc_text(voc_object(box=(10.5, 10, 20.25, 20)))})
    dataset, _ = pascal.read(tmp_path / "in")
    options = pascal.WriteOptions(origin="voc1")
    fitted, report = pascal.adapt(dataset, options=options)
    assert kinds(report) == {"box that is not on whole pixels": 1}
    pascal.write(dataset, tmp_path / "out", options=options)
    text = (tmp_path / "out/Annotations/a.xml").read_text()
    assert "<xmin>12</xmin>" in text, "edge 10.5 rounds to 11, which is pixel 12"
    back, _ = pascal.read(tmp_path / "out")
    assert back.annotations.boxes_xyxy.tolist() == fitted.annotations.boxes_xyxy.tolist()


TRAPS: list[tuple[str, str, dict[str, int], int]] = [
    ("no box", "<object><name>cat</name></object>", {"object without a box of four numbers": 1}, 1),
    ("no name", voc_object(name=" "), {"object without a name": 1}, 1),
    ("words", voc_object(box=("a", 1, 2, 3)), {"object without a box of four numbers": 1}, 1),
    ("underscore", voc_object(box=("1_0", 1, 22, 33)),
     {"object without a box of four numbers": 1}, 1),
    ("three", voc_object().replace("<xmax>30</xmax>", ""),
     {"object without a box of four numbers": 1}, 1),
    ("NaN", voc_object(box=("nan", 1, 2, 3)), {"box with a number that is not finite": 1}, 1),
    ("infinite", voc_object(box=(1, 1, "1e999", 3)),
     {"box with a number that is not finite": 1}, 1),
    ("huge", voc_object(box=(1, 1, "9" * 5000, 3)), {"box with a number that is not finite": 1}, 1),
    ("inside out", voc_object(box=(30, 1, 10, 3)), {"box without area": 1}, 1),
    ("outside", voc_object(box=(1, 1, 101, 3)), {"box that reaches outside its picture": 1}, 2),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "found", "left"), [t[1:] for t in TRAPS], ids=[t[0] for t in TRAPS]
)
def test_what_cannot_be_used_is_named_by_file_and_line(
    tmp_path: Path, text: str, found: dict[str, int], left: int
) -> None:
    written(tmp_path, {"sub/a.xml": voc_text(voc_object(box=(0, 1, 9, 9)), text)})
    dataset, report = pascal.read(tmp_path)
    assert kinds(report) == found
    assert report.problems[0].examples == ("sub/a.xml:3",)
    assert len(dataset.annotations) == left


def test_flags_say_what_is_set_and_extensions_have_the_last_word(tmp_path: Path) -> None:
    more = (
        "<occluded>0</occluded><score>0.5</score><actions><running>1</running></actions>"
        "<attributes><attribute><name>truncated</name><value>0.37</value></attribute>"
        "<attribute><name>plate</name><value>007</value></attribute></attributes>"
    )
    written(tmp_path, {"a.xml": voc_text(voc_object(more=more))})
    dataset, _ = pascal.read(tmp_path)
    assert attributes(dataset) == [
        {"score": 0.5, "actions": {"running": 1}, "truncated": 0.37, "plate": "007"}
    ]
    pascal.write(dataset, tmp_path / "out")
    text = (tmp_path / "out/Annotations/a.xml").read_text()
    assert "<truncated>1</truncated>" in text, "for readers that know 0 and 1 only"
    assert attributes(pascal.read(tmp_path / "out")[0]) == attributes(dataset)


def test_false_that_somebody_meant_survives(tmp_path: Path) -> None:
    dataset = small_dataset()
    said = [b'{"difficult":false,"occluded":true,"pose":"Unspecified","truncated":"true"}'] * 9
    boxes = replace(dataset.annotations, attributes=said, geometry=np.ones(9, np.uint8))
    pascal.write(replace(dataset, annotations=boxes), tmp_path / "out")
    back, _ = pascal.read(tmp_path / "out")
    assert attributes(back) == [json.loads(said[0])] * 9


def test_parts_keep_their_boxes_in_either_origin(tmp_path: Path) -> None:
    part = (
        "<part><name>head</name><bndbox><xmin>3</xmin><ymin>4</ymin>"
        "<xmax>10</xmax><ymax>12</ymax></bndbox></part>"
    )
    written(tmp_path, {"in/a.xml": voc_text(voc_object(box=(1, 2, 100, 40), more=part))})
    dataset, _ = pascal.read(tmp_path / "in")
    assert attributes(dataset) == [{"parts": [{"name": "head", "box": [2, 3, 10, 12]}]}]
    for origin in ("zero", "voc1"):
        target = tmp_path / origin
        pascal.write(dataset, target, options=pascal.WriteOptions(origin=origin))
        assert attributes(pascal.read(target)[0]) == attributes(dataset)
    assert "<part>" in (tmp_path / "voc1/Annotations/a.xml").read_text()


def test_classes_in_order_from_a_labelmap_and_unknown_ones(tmp_path: Path) -> None:
    labelmap = (
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\nzebra:128,0,0::\ncat:0,128,0::\n"
    )
    text = voc_text(voc_object("cat"), voc_object("dog"))
    written(tmp_path, {"Annotations/a.xml": text, "labelmap.txt": labelmap})
    with pytest.raises(LabelError, match="'dog' is not in the list") as caught:
        pascal.read(tmp_path)
    assert caught.value.where == "Annotations/a.xml:3"
    assert "zebra, cat" in (caught.value.expected or "")
    dataset, report = pascal.read(tmp_path, on_unknown="skip")
    assert [c.name for c in dataset.categories] == ["zebra", "cat"], "background is no class"
    assert dataset.annotations.category_index.tolist() == [1]
    assert kinds(report) == {"label of an unknown class": 1}
    given, report = pascal.read(tmp_path, options=pascal.ReadOptions(classes="dog,cat"))
    assert given.annotations.category_index.tolist() == [1, 0]


def test_classes_without_a_list_are_sorted_and_a_plain_list_is_found(tmp_path: Path) -> None:
    text = voc_text(voc_object("cat"), voc_object("bird"))
    written(tmp_path, {"a.xml": text})
    dataset, report = pascal.read(tmp_path)
    assert [(c.name, c.origin_id) for c in dataset.categories] == [("bird", 0), ("cat", 1)]
    assert "classes: those of the objects, in the order of their names" in report.notes
    written(tmp_path, {"classes.txt": "cat\nbird\n"})
    assert [c.name for c in pascal.read(tmp_path)[0].categories] == ["cat", "bird"]


def test_nested_folders_and_several_years(tmp_path: Path) -> None:
    text = voc_text(voc_object())
    written(
        tmp_path,
        {
            "VOC2007/Annotations/a.xml": text,
            "VOC2012/Annotations/day/a.xml": text,
            "VOC2012/JPEGImages/day/a.jpg": b"",
            "VOC2012/ImageSets/Main/train.txt": "day/a\n",
            "VOC2007/ImageSets/Main/trainval.txt": "a\n",
        },
    )
    dataset, report = pascal.read(tmp_path)
    assert names(dataset, tmp_path) == ["VOC2007/JPEGImages/a.jpg", "VOC2012/JPEGImages/day/a.jpg"]
    assert dataset.media.split.tolist() == [Split.TRAIN, Split.TRAIN]
    assert any("trainval.txt" in note for note in report.notes)
    elsewhere, _ = pascal.read(tmp_path / "VOC2012", media_root=tmp_path / "pictures")
    assert names(elsewhere, tmp_path) == ["pictures/day/a.jpg"]
    single, _ = pascal.read(tmp_path / "VOC2012/Annotations/day/a.xml")
    assert len(single.annotations) == 1


def test_splits_with_flags_spaces_and_strangers(tmp_path: Path) -> None:
    text = voc_text(voc_object())
    files = {f"Annotations/{name}.xml": text for name in ("a", "b 1", "c")}
    lists = {
        "ImageSets/Main/train.txt": "a  1\nb 1\nnowhere -1\n",
        "ImageSets/Main/val.txt": "c -1\r\na\n",
    }
    written(tmp_path, {**files, **lists})
    dataset, report = pascal.read(tmp_path)
    assert dataset.media.split.tolist() == [Split.TRAIN, Split.TRAIN, Split.VAL]
    found = {problem.kind: problem.examples for problem in report.problems}
    assert found["picture of a split without an XML file"] == ("train.txt:3: nowhere -1",)
    assert found["picture in two splits"] == ("val.txt:2: a",)


@pytest.mark.parametrize(
    ("filename", "there", "taken", "reported"),
    [
        ("a.png", [], "a.png", ""),
        ("a", ["a.png"], "a.png", ""),
        ("a", [], "a", ""),
        ("b.jpg", [], "a.jpg", "filename that is not the XML file's name"),
        ("b.jpg", ["b.jpg"], "b.jpg", "filename that is not the XML file's name"),
        ("b.png", ["a.png", "b.png"], "a.png", "filename that is not the XML file's name"),
        ("", ["a.png"], "a.png", "XML file without a filename"),
        ("", [], "a.jpg", "XML file without a filename"),
        ("/home/x/a.jpg", [], "a.jpg", "filename with a folder in it"),
        ("C:\\pictures\\a.jpg", [], "a.jpg", "filename with a folder in it"),
        ("../../../etc/passwd", [], "a.jpg", "filename with a folder in it"),
    ],
)
def test_the_picture_of_a_file(
    tmp_path: Path, filename: str, there: list[str], taken: str, reported: str
) -> None:
    files: dict[str, str | bytes] = {f"JPEGImages/{name}": b"" for name in there}
    written(tmp_path, {**files, "Annotations/a.xml": voc_text(voc_object(), filename=filename)})
    dataset, report = pascal.read(tmp_path)
    assert names(dataset, tmp_path) == [f"JPEGImages/{taken}"]
    assert (reported in kinds(report)) if reported else not kinds(report)


def test_two_files_about_one_picture_are_joined(tmp_path: Path) -> None:
    one, other = voc_text(voc_object()), voc_text(voc_object(), filename="a.jpg")
    written(
        tmp_path, {"Annotations/a.xml": one, "Annotations/b.xml": other, "JPEGImages/a.jpg": ""}
    )
    dataset, report = pascal.read(tmp_path)
    assert names(dataset, tmp_path) == ["JPEGImages/a.jpg"]
    assert dataset.annotations.media_index.tolist() == [0, 0]
    assert kinds(report)["picture that two XML files are about"] == 1


@pytest.mark.parametrize("width", ["-5", "abc", "9" * 5000, "3e2", "99999999999"])
def test_a_size_that_is_no_size_is_not_known(tmp_path: Path, width: str) -> None:
    written(tmp_path, {"a.xml": voc_text(voc_object(), width=width)})
    dataset, report = pascal.read(tmp_path)
    assert dataset.media.width.tolist() == [0]
    assert kinds(report) == {"size that is no number of pixels": 1}


def test_sizes_that_disagree_are_found_by_check(tmp_path: Path) -> None:
    written(tmp_path, {"a.xml": voc_text(voc_object())})
    write_jpeg(tmp_path / "a.jpg", np.zeros((80, 90, 3), np.uint8))
    dataset, _ = pascal.read(tmp_path)
    (finding,) = check_dataset(dataset, media_path=Path)
    assert finding.detail == "labels say 100 x 80, the file is 90 x 80"


HOSTILE: dict[str, bytes] = {
    "bomb": BOMB.encode(),
    "external": OUTSIDE.encode(),
    "bomb in UTF-16": BOMB.replace('"1.0"', '"1.0" encoding="UTF-16"').encode("utf-16"),
    "deep": b"<annotation>" + b"<a>" * 100_000,
    "NUL": b"<annotation>\0</annotation>",
    "not UTF-8": b"<annotation><filename>\xff\xfe</filename></annotation>",
    "empty": b"",
    "half": voc_text(voc_object()).encode()[:100],
    "another root": b"<annotations/>",
    "undefined entity": b"<annotation><filename>&what;</filename></annotation>",
}


@pytest.mark.parametrize("name", list(HOSTILE))
def test_a_hostile_file_is_left_out_and_the_others_are_read(tmp_path: Path, name: str) -> None:
    written(
        tmp_path,
        {"bad.xml": HOSTILE[name], "good.xml": voc_text(voc_object(), filename="good.jpg")},
    )
    dataset, report = pascal.read(tmp_path)
    assert names(dataset, tmp_path) == ["good.jpg"]
    (problem,) = report.problems
    assert problem.action == "file left out"
    assert problem.examples[0].startswith("bad.xml")
    assert "root:" not in str(report)
    with pytest.raises(LabelError):
        pascal.read(tmp_path / "bad.xml")


def test_a_document_type_is_refused_by_name(tmp_path: Path) -> None:
    written(tmp_path, {"a.xml": BOMB})
    with pytest.raises(LabelError, match="DOCTYPE"):
        pascal.read(tmp_path)


def test_links_and_pipes_lead_nowhere(tmp_path: Path) -> None:
    written(tmp_path, {"outside/x.xml": voc_text(voc_object()), "in/a.xml": voc_text(voc_object())})
    (tmp_path / "in/link.xml").symlink_to(tmp_path / "outside/x.xml")
    (tmp_path / "in/folder").symlink_to(tmp_path / "outside")
    dataset, report = pascal.read(tmp_path / "in")
    assert names(dataset, tmp_path) == ["in/a.jpg"]
    assert sum(kinds(report).values()) == 2


def test_a_folder_without_xml_and_a_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="no XML files"):
        pascal.read(tmp_path)
    with pytest.raises(TilthError):
        pascal.read(tmp_path / "nothing.xml")


def test_it_is_recognised_by_its_first_elements(tmp_path: Path) -> None:
    written(tmp_path / "voc", {"Annotations/a.xml": DEVKIT})
    written(tmp_path / "cvat", {"a.xml": "<annotations><version>1.1</version></annotations>"})
    assert pascal.recognises(tmp_path / "voc")
    assert pascal.recognises(tmp_path / "voc/Annotations/a.xml")
    for other in (tmp_path / "cvat", tmp_path / "cvat/a.xml", tmp_path / "none", Path("\0")):
        assert not pascal.recognises(other)


def test_written_text_is_as_tools_write_it(tmp_path: Path) -> None:
    written(tmp_path, {"in/Annotations/000005.xml": DEVKIT})
    dataset, _ = pascal.read(tmp_path / "in")
    pascal.write(dataset, tmp_path / "out", options=pascal.WriteOptions(origin="voc1"))
    ours = (tmp_path / "out/Annotations/000005.xml").read_text()
    theirs = DEVKIT.replace("VOC2007</folder>", "JPEGImages</folder>")
    start, end = theirs.index("\t<source>"), theirs.index("\t<size>")
    theirs = (
        theirs[:start]
        + "\t<source>\n\t\t<database>Unknown</database>\n\t</source>\n"
        + theirs[end:]
    )
    assert ours == theirs


def test_names_are_escaped(tmp_path: Path) -> None:
    dataset = small_dataset(prefix="/p/")
    odd = ['x & y <z> "q"', "größe", "100%r"]
    categories = tuple(replace(c, name=n) for c, n in zip(dataset.categories, odd, strict=True))
    uris = [f"/p/pictures/&<{row}>'%d.jpg" for row in range(4)]
    dataset = replace(dataset, categories=categories, media=replace(dataset.media, uri=uris))
    pascal.write(dataset, tmp_path / "out", media_root=Path("/p"))
    back, report = pascal.read(tmp_path / "out", media_root=Path("/p"))
    assert [c.name for c in back.categories] == odd
    assert sorted(back.media.uri) == sorted(uris)
    assert not [p for p in report.problems if "filename" in p.kind]


@pytest.mark.parametrize("name", ["a\nb", " a", "a\x01b", "a\ufffe"])
def test_a_class_that_has_no_place_is_refused(tmp_path: Path, name: str) -> None:
    dataset = small_dataset()
    categories = (replace(dataset.categories[0], name=name), *dataset.categories[1:])
    with pytest.raises(DataError):
        pascal.write(replace(dataset, categories=categories), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_pictures_of_one_name_are_refused_and_frames_are_not(tmp_path: Path) -> None:
    dataset = small_dataset()
    same = replace(dataset.media, uri=["a.jpg", "a.png", "b.jpg", "c.jpg"])
    with pytest.raises(DataError, match="share one label file"):
        pascal.write(replace(dataset, media=same), tmp_path / "out")
    frames = replace(dataset.media, uri=[f"/p/clip.mp4#frame={row}" for row in range(4)])
    pascal.write(replace(dataset, media=frames), tmp_path / "out", media_root=Path("/p"))
    back, _ = pascal.read(tmp_path / "out", media_root=Path("/p"))
    assert list(back.media.uri) == list(frames.uri)


def test_a_folder_that_is_there_is_replaced_only_when_asked(tmp_path: Path) -> None:
    pascal.write(small_dataset(), tmp_path / "out")
    with pytest.raises(SettingsError):
        pascal.write(small_dataset(), tmp_path / "out")
    pascal.write(small_dataset(num_media=2), tmp_path / "out", replace=True)
    assert len(list((tmp_path / "out").rglob("*.xml"))) == 2


def test_a_disk_that_fills_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pascal.os, "write", fail)
    with pytest.raises(StorageError):
        pascal.write(small_dataset(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_picture_outside_the_folder_is_refused(tmp_path: Path) -> None:
    dataset = small_dataset(prefix="/elsewhere/")
    with pytest.raises(PathEscapeError):
        pascal.write(dataset, tmp_path / "out", media_root=tmp_path)


def test_labelformat_and_supervision_read_the_same_boxes(tmp_path: Path) -> None:
    from xml.etree import ElementTree

    dataset = small_dataset(prefix="/p/")
    options = pascal.WriteOptions(origin="voc1")
    fitted, _ = pascal.adapt(dataset, options=options)
    pascal.write(dataset, tmp_path / "voc1", options=options)
    boxes = fitted.annotations.boxes_xyxy[fitted.rows_of(0)]
    root = ElementTree.parse(tmp_path / "voc1/Annotations/000.xml").getroot()
    detections, _ = detections_from_xml_obj(root, [], (100, 80))
    np.testing.assert_allclose(detections.xyxy, boxes)
    pascal.write(dataset, tmp_path / "zero")
    reader = PascalVOCObjectDetectionInput(
        tmp_path / "zero/Annotations", ",".join(c.name for c in dataset.categories)
    )
    theirs = {label.image.filename: label for label in reader.get_labels()}
    found = [(o.box.xmin, o.box.ymin, o.box.xmax, o.box.ymax) for o in theirs["000.jpg"].objects]
    kept, _ = pascal.adapt(dataset)
    np.testing.assert_allclose(found, kept.annotations.boxes_xyxy[kept.rows_of(0)], atol=1e-6)


@settings(max_examples=25)
@given(data=st.data())
def test_what_is_written_comes_back(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    folder = tmp_path_factory.mktemp("voc")
    dataset = data.draw(datasets(Path("/drawn")))
    for origin in ("zero", "voc1"):
        options = pascal.WriteOptions(origin=origin)
        fitted, _ = pascal.adapt(dataset, options=options)
        pascal.write(dataset, folder / origin, media_root=Path("/drawn"), options=options)
        back, _ = pascal.read(folder / origin, media_root=Path("/drawn"))
        assert comparable(back, Path("/drawn")) == comparable(fitted, Path("/drawn"))


def test_blood_cells(shared_data: Path) -> None:
    dataset, report = pascal.read(shared_data / "formats/bccd")
    counts = np.bincount(dataset.annotations.category_index)
    found = dict(zip([c.name for c in dataset.categories], counts.tolist(), strict=True))
    assert (len(dataset.media), len(dataset.annotations)) == (364, 4888)
    assert found == {"RBC": 4155, "WBC": 372, "Platelets": 361}
    places = next(p.examples for p in report.problems)
    assert [place.rpartition(":")[0] for place in places] == [
        "Annotations/BloodImage_00338.xml",
        "Annotations/BloodImage_00343.xml",
    ]
    dataset, report = pascal.read(
        shared_data / "formats/bccd", options=pascal.ReadOptions(origin="zero")
    )
    assert len(dataset.annotations) == 4886
    assert kinds(report) == {"box without area": 2}


def test_raccoons(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "formats/raccoon"
    dataset, report = pascal.read(folder)
    assert (len(dataset.media), len(dataset.annotations)) == (200, 217)
    assert report.problems == ()
    assert dataset.media.uri[0].startswith(f"{folder.resolve()}/images/")
    pascal.write(dataset, tmp_path / "out", options=pascal.WriteOptions(origin="voc1"))
    back, _ = pascal.read(tmp_path / "out")
    np.testing.assert_array_equal(back.annotations.boxes_xyxy, dataset.annotations.boxes_xyxy)
