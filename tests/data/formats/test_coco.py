"""COCO labels in and out: nothing is lost, and what cannot be used is named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools.coco import COCO
from small_sets import small_dataset

from tilth.data import atomic
from tilth.data.catalogue import Catalogue
from tilth.data.dataset import Dataset
from tilth.data.formats import _coco_records, coco
from tilth.data.problems import LabelReport
from tilth.data.records import Geometry, Source, Split
from tilth.errors import EmptyDatasetError, LabelError, PathEscapeError, StorageError

CATEGORIES = [
    {"id": 18, "name": "dog", "supercategory": "animal"},
    {"id": 3, "name": "traffic light"},
]


def label(key: Any, **changes: Any) -> dict[str, Any]:
    """An ordinary label of picture 7; a change to ``...`` takes the field away."""
    fields = {
        "id": key,
        "image_id": 7,
        "category_id": 18,
        "bbox": [10.25, 20.5, 30.1, 15.7],
        "area": 400.5,
        "iscrowd": 0,
        "segmentation": [[10.25, 20.5, 40, 20.5, 40, 36]],
        **changes,
    }
    return {name: value for name, value in fields.items() if value is not ...}


def written(folder: Path, labels: list[dict[str, Any]], **changes: Any) -> Path:
    images = [
        {"id": 7, "file_name": "a b.jpg", "width": 100, "height": 80},
        {"id": 2, "file_name": "deep/c.jpg", "width": 50, "height": 40},
    ]
    document = {"images": images, "annotations": labels, "categories": CATEGORIES, **changes}
    path = folder / "labels.json"
    path.write_text(json.dumps({k: v for k, v in document.items() if v is not ...}))
    return path


def kinds(report: LabelReport) -> dict[str, int]:
    return {problem.kind: problem.count for problem in report.problems}


def test_a_tidy_file_becomes_columns(tmp_path: Path) -> None:
    crowd = {"size": [80, 100], "counts": [100, 50, 7850]}
    text = {"size": [80, 100], "counts": "T3b1T]7"}
    path = written(
        tmp_path,
        [
            label(5, image_id=7),
            label(4, image_id=2, category_id=3, bbox=[0, 0, 50, 40], segmentation=[]),
            label(9, iscrowd=1, segmentation=crowd),
            label(1, segmentation=text, score=0.25),
        ],
    )
    dataset, report = coco.read(path)
    assert report.problems == ()
    assert (report.num_media, report.num_annotations) == (2, 4)
    assert [(c.name, c.origin_id) for c in dataset.categories] == [
        ("dog", 18),
        ("traffic light", 3),
    ]
    assert dataset.media.id.tolist() == [2, 7]
    assert list(dataset.media.uri) == [f"{tmp_path}/deep/c.jpg", f"{tmp_path}/a b.jpg"]
    labels = dataset.annotations
    assert labels.id.tolist() == [4, 5, 9, 1], "by picture, then as in the file"
    assert labels.category_index.tolist() == [1, 0, 0, 0]
    assert labels.boxes_xyxy[1].tolist() == [10.25, 20.5, 10.25 + 30.1, 20.5 + 15.7]
    assert labels.is_crowd.tolist() == [False, False, True, False]
    assert labels.geometry.tolist() == [
        Geometry.BOX,
        Geometry.POLYGON,
        Geometry.RLE,
        Geometry.RLE,
    ]
    assert labels.segmentation[0] is None
    assert json.loads(labels.segmentation[2] or b"") == crowd
    np.testing.assert_array_equal(labels.score, np.array([np.nan, np.nan, np.nan, 0.25], "f4"))
    assert labels.area.tolist() == [400.5] * 4, "the mask's, not width x height"


def test_pycocotools_reads_what_is_written(tmp_path: Path) -> None:
    dataset, _ = coco.read(written(tmp_path, [label(5), label(6, iscrowd=1)]))
    coco.write(dataset, tmp_path / "out.json", media_root=tmp_path)
    theirs = COCO(str(tmp_path / "out.json"))
    assert theirs.getCatIds() == [18, 3]
    assert theirs.getImgIds() == [2, 7]
    assert theirs.imgs[7]["file_name"] == "a b.jpg"
    assert theirs.anns[5]["bbox"] == [10.25, 20.5, 30.1, 15.7]
    assert theirs.anns[5]["area"] == 400.5
    assert theirs.anns[6]["iscrowd"] == 1
    assert theirs.annToMask(theirs.anns[5]).shape == (80, 100)


hundredths = st.integers(0, 60_000).map(lambda value: value / 100)


@given(
    boxes=st.lists(
        st.tuples(hundredths, hundredths, *[st.integers(1, 60_000).map(lambda v: v / 100)] * 2),
        max_size=6,
    ),
    name=st.text(st.characters(exclude_characters="/\\\0", exclude_categories=["Cs"]), min_size=1),
)
def test_a_file_survives_the_round_trip(
    tmp_path_factory: pytest.TempPathFactory, boxes: list[tuple[float, ...]], name: str
) -> None:
    folder = tmp_path_factory.mktemp("coco")
    image = {"id": 7, "file_name": f"x{name}.jpg", "width": 1200, "height": 1200}
    labels = [label(i, bbox=list(box)) for i, box in enumerate(boxes)]
    categories = [{"id": 18, "name": name, "supercategory": name}]
    path = written(folder, labels, images=[image], categories=categories)
    dataset, _ = coco.read(path)
    coco.write(dataset, folder / "out.json", media_root=folder)
    back = json.loads((folder / "out.json").read_text())
    assert back == {"images": [image], "annotations": labels, "categories": categories}


def test_a_catalogue_gives_back_what_a_file_said(tmp_path: Path) -> None:
    image = {"id": 7, "file_name": "a.jpg", "width": 100, "height": 80, "license": 4, "x": [1]}
    crowd = {"size": [80, 100], "counts": [100, 50, 7850]}
    labels = [label(1), label(2, iscrowd=1, segmentation=crowd, attributes={"occluded": True})]
    path = written(tmp_path, labels, images=[image])
    catalogue = Catalogue.create(f"sqlite:///{tmp_path / 'tilth.db'}")
    catalogue.import_dataset(coco.read(path)[0])
    report = coco.write(catalogue.read(), tmp_path / "out.json", media_root=tmp_path)
    assert (report.problems, report.notes) == ((), [])
    back = json.loads((tmp_path / "out.json").read_text())
    assert back["annotations"] == labels
    assert back["images"] == [image]
    assert back["categories"] == [CATEGORIES[0], {**CATEGORIES[1], "supercategory": ""}]


def test_the_writer_says_what_coco_cannot_hold(tmp_path: Path) -> None:
    dataset = small_dataset()
    labels = replace(
        dataset.annotations,
        source=np.full(9, Source.MODEL, np.uint8),
        geometry=np.where(np.arange(9) == 0, Geometry.LABEL, 1).astype(np.uint8),
    )
    media = replace(dataset.media, split=np.full(4, Split.TRAIN, np.int8))
    report = coco.write(replace(dataset, media=media, annotations=labels), tmp_path / "o.json")
    assert kinds(report) == {
        "label of a whole picture": 1,
        "source of a label that is not human": 8,
        "split": 4,
    }
    assert report.num_annotations == 8
    assert len(json.loads((tmp_path / "o.json").read_text())["annotations"]) == 8


def test_a_disk_that_fills_half_way_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "o.json"
    coco.write(small_dataset(), path)
    before = path.read_bytes()

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", fail)
    with pytest.raises(StorageError, match="unchanged"):
        coco.write(small_dataset(num_media=9), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


BAD_LABELS: list[tuple[str, dict[str, Any], str, bool]] = [
    ("box outside", {"bbox": [90, 10, 20, 10]}, "box that reaches outside its picture", True),
    ("above the top", {"bbox": [1, -2, 20, 10]}, "box that reaches outside its picture", True),
    ("no width", {"bbox": [10, 10, 0, 10]}, "box without area", False),
    ("inside out", {"bbox": [10, 10, 5, -1]}, "box without area", False),
    ("NaN", {"bbox": [float("nan"), 1, 2, 3]}, "box with a number that is not finite", False),
    ("infinite", {"bbox": [1, 1, float("inf"), 3]}, "box with a number that is not finite", False),
    ("sum is infinite", {"bbox": [1.7e308, 1, 1.7e308, 3]},
     "box with a number that is not finite", False),
    ("area is infinite", {"bbox": [1, 1, 1e200, 1e200], "area": ...},
     "box with a number that is not finite", False),
    ("lost in rounding", {"bbox": [1e20, 1, 5, 5]}, "box without area", False),
    ("three numbers", {"bbox": [1, 2, 3]}, "box that is not four numbers", True),
    ("words", {"bbox": ["1", 2, 3, 4], "segmentation": []}, "box that is not four numbers", False),
    ("no box", {"bbox": ..., "segmentation": ...}, "label without a box", False),
    ("null box", {"bbox": None, "segmentation": None}, "box that is not four numbers", False),
    ("no such picture", {"image_id": 99}, "label of a picture that the file does not have", False),
    ("no picture", {"image_id": ...}, "label without image_id or category_id", False),
    ("no category", {"category_id": None}, "label without image_id or category_id", False),
    ("string category", {"category_id": "18"}, "string as category id", True),
    ("no id", {"id": ...}, "label without an id", True),
    ("NaN in a polygon", {"segmentation": [[float("nan"), 1, 2, 3, 4, 5]]},
     "polygon with a number that is not finite", True),
]  # fmt: skip


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("changes", "kind", "kept"),
    [case[1:] for case in BAD_LABELS],
    ids=[case[0] for case in BAD_LABELS],
)
def test_a_bad_label_is_counted_and_its_neighbours_stay(
    tmp_path: Path, changes: dict[str, Any], kind: str, kept: bool
) -> None:
    path = written(tmp_path, [label(1), label(31, **changes), label(2)])
    dataset, report = coco.read(path)
    assert kinds(report) == {kind: 1}
    place = report.problems[0].examples[0]
    assert "31" in place or "annotations[1]" in place
    assert len(dataset.annotations) == (3 if kept else 2)
    assert {1, 2} <= set(dataset.annotations.id.tolist())
    with pytest.raises(LabelError) as caught:
        report.raise_if_any()
    assert kind in str(caught.value)


def test_boxes_outside_are_kept_as_they_are(tmp_path: Path) -> None:
    dataset, _ = coco.read(written(tmp_path, [label(1, bbox=[-5, 10, 200, 10])]))
    assert dataset.annotations.boxes_xyxy.tolist() == [[-5.0, 10.0, 195.0, 20.0]]


def test_a_box_that_touches_the_border_is_in_order(tmp_path: Path) -> None:
    path = written(tmp_path, [label(1, bbox=[0, 0, 100, 80]), label(2, bbox=[60.01, 1, 40, 1])])
    assert coco.read(path)[1].problems == ()


def test_ids_that_stand_twice_keep_the_first(tmp_path: Path) -> None:
    images = [
        {"id": 7, "file_name": "first.jpg", "width": 100, "height": 80},
        {"id": 7, "file_name": "second.jpg", "width": 100, "height": 80},
    ]
    labels = [label(1), label(1, bbox=[1, 1, 2, 2])]
    categories = [*CATEGORIES, {"id": 18, "name": "wolf"}]
    path = written(tmp_path, labels, images=images, categories=categories)
    dataset, report = coco.read(path)
    assert kinds(report) == {
        "category id that stands twice": 1,
        "image id that stands twice": 1,
        "annotation id that stands twice": 1,
    }
    assert dataset.media.uri[0].endswith("first.jpg")
    assert dataset.annotations.boxes_xyxy[0, 0] == 10.25
    assert [c.name for c in dataset.categories] == ["dog", "traffic light"]


def test_one_name_under_two_ids_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, [], categories=[*CATEGORIES, {"id": 4, "name": "dog"}])
    with pytest.raises(LabelError, match="one category name under two ids"):
        coco.read(path)


def test_an_unknown_category_stops_or_is_skipped(tmp_path: Path) -> None:
    path = written(tmp_path, [label(1), label(8, category_id=77)])
    with pytest.raises(LabelError, match="category 77") as caught:
        coco.read(path)
    assert "annotation 8" in str(caught.value)
    assert "--on-unknown skip" in str(caught.value)
    dataset, report = coco.read(path, on_unknown="skip")
    assert len(dataset.annotations) == 1
    assert kinds(report) == {"label of an unknown category": 1}


def test_string_ids_are_numbers_and_words_stay_together(tmp_path: Path) -> None:
    images = [{"id": "front", "file_name": "a.jpg", "width": 9, "height": 9}]
    path = written(tmp_path, [label("12", image_id="front", bbox=[1, 1, 2, 2])], images=images)
    dataset, report = coco.read(path)
    assert dataset.annotations.id.tolist() == [12]
    assert len(dataset.annotations) == 1
    assert kinds(report) == {"string as image id": 2, "string as annotation id": 1}
    assert coco.read(path)[0].media.id == dataset.media.id


def test_missing_area_is_that_of_the_mask(tmp_path: Path) -> None:
    crowd = {"size": [80, 100], "counts": [100, 50, 7850]}
    square = [[10, 10, 20, 10, 20, 20, 10, 20], [30, 10, 35, 10, 35, 20, 30, 20]]
    labels = [
        label(1, area=..., segmentation=square),
        label(2, area=..., segmentation=crowd),
        label(3, area=..., segmentation=..., bbox=[0, 0, 4, 5]),
        label(4, area=..., segmentation={"broken": 1}, bbox=[0, 0, 4, 5]),
    ]
    dataset, _ = coco.read(written(tmp_path, labels))
    assert dataset.annotations.area.tolist() == [150.0, 50.0, 20.0, 20.0]


def test_a_missing_box_is_taken_from_the_mask(tmp_path: Path) -> None:
    crowd = {"size": [80, 100], "counts": [165, 10, 7825]}  # column 2, rows 5 to 14
    labels = [label(1, bbox=...), label(2, bbox=..., segmentation=crowd)]
    dataset, report = coco.read(written(tmp_path, labels))
    assert dataset.annotations.boxes_xyxy.tolist() == [[10.25, 20.5, 40, 36], [2, 5, 3, 15]]
    assert [problem.action for problem in report.problems] == ["taken from the mask"]


@pytest.mark.parametrize("empty", [[], [[]], None, ...])
def test_no_mask_is_a_box_however_it_is_written(tmp_path: Path, empty: Any) -> None:
    dataset, report = coco.read(written(tmp_path, [label(1, segmentation=empty), label(2)]))
    assert dataset.annotations.geometry.tolist() == [Geometry.BOX, Geometry.POLYGON]
    assert dataset.annotations.segmentation[0] is None
    assert report.problems == ()


def test_hollow_and_short_masks_are_told_apart_in_one_file(tmp_path: Path) -> None:
    shapes: list[Any] = [[], [[]], [[1]], None, [7], {}, [[], []], [[8.25, 1]], ...]
    labels = [label(1), *(label(at, segmentation=shape) for at, shape in enumerate(shapes, 2))]
    labels.append(label(90, track=5))
    dataset, report = coco.read(written(tmp_path, labels))
    texts = [text and json.loads(text) for text in dataset.annotations.segmentation]
    expected = [None if shape in ([], [[]], None, {}, [[], []], ...) else shape for shape in shapes]
    assert texts == [label(1)["segmentation"], *expected, label(1)["segmentation"]]
    is_box = [geometry == Geometry.BOX for geometry in dataset.annotations.geometry.tolist()]
    assert is_box == [text is None for text in texts]
    assert [text and json.loads(text) for text in dataset.annotations.attributes] == [
        *[None] * (len(labels) - 1),
        {"track": 5},
    ]
    assert report.problems == ()


def test_blocks_of_labels_are_written_as_all_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = [..., [[1.5, 2, 9, 2, 9, 9]], []]
    labels = [
        label(at, segmentation=shapes[at % 3], **extra)
        for at, extra in enumerate([{}, {"score": 0.25}, {"a": 1}, {"a": [2], "score": 1.0}, {}])
    ]
    dataset, _ = coco.read(written(tmp_path, labels))
    coco.write(dataset, tmp_path / "whole.json")
    monkeypatch.setattr(coco, "_BLOCK", 2)
    coco.write(dataset, tmp_path / "blocks.json")
    assert (tmp_path / "blocks.json").read_bytes() == (tmp_path / "whole.json").read_bytes()
    back = json.loads((tmp_path / "blocks.json").read_text())["annotations"]
    assert back == [{**one, "segmentation": one.get("segmentation", [])} for one in labels]


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("untidy", [False, True])
def test_long_lists_of_labels_are_cut_between_records_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, indent: int | None, untidy: bool
) -> None:
    notes = ["}, {", '"}, {"', "[{", "}]", "plain"]
    labels = [label(at, note=notes[at % 5], parts=[{"a": at}, {"b": {}}, {}]) for at in range(40)]
    if untidy:
        labels[17]["id"] = "17"
    whole, _ = coco.read(written(tmp_path, labels))
    path = tmp_path / "cut.json"
    path.write_text(json.dumps(json.loads((tmp_path / "labels.json").read_text()), indent=indent))
    monkeypatch.setattr(_coco_records, "_ONE_BLOCK_BYTES", 10)
    for size in range(1, 500, 7):
        monkeypatch.setattr(_coco_records, "_PIECE_BYTES", size)
        cut, report = coco.read(path)
        assert cut.annotations.id.tolist() == whole.annotations.id.tolist()
        assert np.array_equal(cut.annotations.boxes_xyxy, whole.annotations.boxes_xyxy)
        for mine, theirs in zip(
            cut.annotations.attributes, whole.annotations.attributes, strict=True
        ):
            assert json.loads(mine or b"") == json.loads(theirs or b"")
        assert kinds(report) == ({"string as annotation id": 1} if untidy else {})


def test_fields_of_the_users_own_are_kept(tmp_path: Path) -> None:
    labels = [label(1, track=4, note='a "quote"'), label(2)]
    dataset, report = coco.read(written(tmp_path, labels))
    assert json.loads(dataset.annotations.attributes[0] or b"") == {"track": 4, "note": 'a "quote"'}
    assert dataset.annotations.attributes[1] is None
    assert report.problems == ()


def test_fields_of_the_file_itself_are_noted(tmp_path: Path) -> None:
    path = written(tmp_path, [label(1)], info={"year": 1}, licenses=[])
    _, report = coco.read(path)
    assert report.notes == ["fields of the file itself were not kept: info, licenses"]
    assert report.problems == (), "a note is no fault"


@pytest.mark.parametrize(
    "name",
    ["../x.jpg", "a/../../x.jpg", "/etc/x.jpg", "C:/x.jpg", "a\\..\\x.jpg", "a\0.jpg", "", ".."],
)
def test_a_file_name_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    images = [{"id": 7, "file_name": name, "width": 9, "height": 9}]
    with pytest.raises(PathEscapeError, match="leaves the folder"):
        coco.read(written(tmp_path, [], images=images))


def test_dots_in_names_absolute_names_inside_and_urls_are_in_order(tmp_path: Path) -> None:
    names = ["a..b.jpg", f"{tmp_path}/in.jpg", "https://example.org/../x.jpg"]
    images = [{"id": i, "file_name": n, "width": 9, "height": 9} for i, n in enumerate(names)]
    dataset, _ = coco.read(written(tmp_path, [], images=images))
    assert list(dataset.media.uri) == [f"{tmp_path}/a..b.jpg", names[1], names[2]]


@pytest.mark.parametrize("spelling", ["./a/b.jpg", "a//b.jpg", "a/./b.jpg", ".//a/././b.jpg"])
def test_spellings_of_one_path_are_one_uri(tmp_path: Path, spelling: str) -> None:
    images = [{"id": i, "file_name": name} for i, name in enumerate(["a/b.jpg", spelling])]
    dataset, _ = coco.read(written(tmp_path, [], images=images))
    assert dataset.media.uri == [f"{tmp_path}/a/b.jpg"] * 2


def test_a_set_without_labels_is_a_set_of_negatives(tmp_path: Path) -> None:
    for changes in ({}, {"annotations": ...}):
        dataset, report = coco.read(written(tmp_path, [], **changes))
        assert (len(dataset.media), len(dataset.annotations)) == (2, 0)
        assert report.problems == ()


def test_a_file_without_pictures_is_empty(tmp_path: Path) -> None:
    with pytest.raises(EmptyDatasetError):
        coco.read(written(tmp_path, [], images=[]))


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", '{"images": 4, "categories": []}', '{"images": []}', "\ud800",
     '{"images": [3], "categories": []}', '{"images": [], "annotations": {}, "categories": []}',
     '{"images": [{"id": 1, "file_name": "a"}], "annotations": [4], "categories": []}'],
)  # fmt: skip
def test_what_is_no_coco_file_is_said_to_be_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "labels.json"
    path.write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises((LabelError, EmptyDatasetError)) as caught:
        coco.read(path)
    assert str(path) in str(caught.value)


@given(data=st.binary(max_size=60))
def test_any_bytes_are_read_or_refused_in_our_words(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "labels.json"
    path.write_bytes(data)
    with pytest.raises((LabelError, EmptyDatasetError)):
        coco.read(path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=6,
)


@given(
    field=st.sampled_from(sorted(label(1))),
    value=json_values,
    where=st.sampled_from(["annotation", "image"]),
)
def test_any_value_in_any_field_is_read_or_refused_in_our_words(
    tmp_path_factory: pytest.TempPathFactory, field: str, value: Any, where: str
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    image = {"id": 7, "file_name": "a.jpg", "width": 100, "height": 80}
    if where == "annotation":
        path = written(folder, [label(1), label(2, **{field: value})])
    else:
        names = dict(
            zip(sorted(label(1)), ["id", "file_name", "width", "height"] * 2, strict=False)
        )
        path = written(folder, [label(1)], images=[image, {**image, "id": 8, names[field]: value}])
    try:
        dataset, report = coco.read(path, on_unknown="skip")
    except (LabelError, PathEscapeError):
        return
    lost = sum(p.count for p in report.problems if p.action in ("left out", "the first kept"))
    assert len(dataset.annotations) + lost >= len(json.loads(path.read_text())["annotations"])


def test_large_files_go_block_by_block_and_say_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = [label(i, note=i) if i % 5 == 0 else label(i) for i in range(1, 24)]
    labels[7]["id"] = "8"
    path = written(tmp_path, labels)
    whole, report = coco.read(path)
    monkeypatch.setattr(_coco_records, "_BLOCK", 4)
    monkeypatch.setattr(_coco_records, "_ONE_BLOCK_BYTES", 0)
    blocks, report_of_blocks = coco.read(path)
    assert_equal_columns(whole, blocks)
    assert report.problems == report_of_blocks.problems


def assert_equal_columns(ours: Dataset, theirs: Dataset) -> None:
    for name, values in vars(ours.annotations).items():
        other = getattr(theirs.annotations, name)
        if isinstance(values, np.ndarray):
            np.testing.assert_array_equal(values, other, err_msg=name)
        else:
            assert list(values) == list(other), name
