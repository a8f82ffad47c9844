"""CVAT XML in and out: images, and tracks of a video, by CVAT's own words and numbers."""

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
from labelformat.formats.cvat import CVATObjectDetectionInput
from small_sets import small_dataset

from tilth.data import rle
from tilth.data.dataset import Dataset
from tilth.data.formats import _cvat_images, cvat_xml
from tilth.data.formats._cvat_images import scan_stretch
from tilth.data.formats._cvat_records import CvatRecords, read_image
from tilth.data.formats._xml_files import parse_xml
from tilth.data.problems import LabelReport
from tilth.data.ragged import RaggedBytes
from tilth.data.records import Geometry, Source, Split
from tilth.errors import (
    EmptyDatasetError,
    LabelError,
    PathEscapeError,
    SettingsError,
    TilthError,
)

LABELS = "".join(f"<label><name>{name}</name><attributes/></label>" for name in ("dog", "cat"))


def images(*texts: str, labels: str = LABELS, version: str = "<version>1.1</version>") -> str:
    meta = f"<meta><task><labels>{labels}</labels></task></meta>"
    declaration = '<?xml version="1.0" encoding="utf-8"?>'
    return (
        f"{declaration}\n<annotations>{version}\n{meta}\n" + "\n".join(texts) + "\n</annotations>"
    )


def image(*shapes: str, name: str = "a.jpg", more: str = "") -> str:
    head = f'<image id="0" name="{name}"{more} width="10" height="8">'
    return "\n".join([head, *shapes, "</image>"])


def box(corners: str = "1.50 2.00 5.00 7.25", label: str = "cat", more: str = "") -> str:
    names = ("xtl", "ytl", "xbr", "ybr")
    places = " ".join(f'{n}="{v}"' for n, v in zip(names, corners.split(), strict=True))
    return f'<box label="{label}" source="manual" occluded="0" {places} z_order="0"{more}>\n</box>'


def read_text(folder: Path, text: str | bytes, **options: Any) -> tuple[Dataset, LabelReport]:
    path = folder / "labels.xml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return cvat_xml.read(path, **options)


def kinds(report: LabelReport) -> dict[str, int]:
    return {problem.kind: problem.count for problem in report.problems}


def attributes(dataset: Dataset) -> list[Any]:
    return [json.loads(text or b"{}") for text in dataset.annotations.attributes]


# As CVAT's manual shows it ("CVAT for image"), shortened.
MANUAL = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta>
    <task>
      <id>4</id>
      <name>segmentation</name>
      <size>27</size>
      <labels>
        <label><name>s1</name><color>#ff0000</color><attributes></attributes></label>
        <label><name>s2</name><color>#00ff00</color>
          <attributes>
            <attribute><name>age</name><mutable>True</mutable></attribute>
            <attribute><name>plate</name><mutable>False</mutable></attribute>
          </attributes>
        </label>
      </labels>
    </task>
    <dumped>2018-09-26 14:51:58.000000+03:00</dumped>
  </meta>
  <image id="3" name="filename000.jpg" width="1600" height="1200">
    <box label="s2" source="auto" occluded="1" xtl="1020.0" ytl="644.1" xbr="1084.6" ybr="1197.0"
         z_order="2" group_id="4">
      <attribute name="age">10</attribute>
      <attribute name="plate">007</attribute>
    </box>
    <polygon label="s1" source="manual" occluded="0" z_order="0"
             points="561.30,916.23;561.30,842.77;554.72,761.63">
    </polygon>
    <tag label="s2" source="manual"><attribute name="age">3</attribute></tag>
  </image>
  <image id="4" name="sub/filename001.jpg" subset="Validation" width="1600" height="1200">
  </image>
</annotations>
"""


def test_the_manuals_example(tmp_path: Path) -> None:
    dataset, report = read_text(tmp_path, MANUAL)
    assert report.problems == ()
    assert [c.name for c in dataset.categories] == ["s1", "s2"]
    assert list(dataset.media.uri) == [
        f"{tmp_path}/filename000.jpg",
        f"{tmp_path}/sub/filename001.jpg",
    ]
    assert dataset.media.split.tolist() == [Split.NONE, Split.VAL]
    labels = dataset.annotations
    assert labels.geometry.tolist() == [Geometry.BOX, Geometry.POLYGON, Geometry.LABEL]
    assert labels.boxes_xyxy.tolist() == [
        [1020.0, 644.1, 1084.6, 1197.0],
        [554.72, 761.63, 561.30, 916.23],
        [0, 0, 1600, 1200],
    ]
    assert attributes(dataset) == [
        {"occluded": True, "z_order": 2, "group_id": 4, "age": 10, "plate": "007"},
        {},
        {"age": 3},
    ]
    assert labels.source.tolist() == [Source.MODEL, Source.HUMAN, Source.HUMAN]
    polygon = [[561.30, 916.23, 561.30, 842.77, 554.72, 761.63]]
    assert json.loads(labels.segmentation[1] or b"") == polygon
    # Half of base 73.46 (upright) times height 6.58.
    assert labels.area[1] == pytest.approx(73.46 * 6.58 / 2)


def test_a_mask_goes_row_by_row_through_its_rectangle(tmp_path: Path) -> None:
    """By hand: 2 zeros, 2 ones, 1 zero, 1 one in 3 x 2 pixels at (4, 5)."""
    shape = (
        '<mask label="cat" occluded="0" rle="2, 2, 1, 1" left="4" top="5" width="3" height="2"/>'
    )
    dataset, report = read_text(tmp_path, images(image(shape)))
    assert report.problems == ()
    counts, height, width = rle.from_json(dataset.annotations.segmentation[0] or b"")
    expected = np.zeros((8, 10), np.bool_)
    expected[5, 6] = expected[6, 4] = expected[6, 6] = True
    np.testing.assert_array_equal(rle.decode(counts, height, width), expected)
    assert dataset.annotations.boxes_xyxy.tolist() == [[4, 5, 7, 7]]
    assert dataset.annotations.area.tolist() == [3]
    cvat_xml.write(dataset, tmp_path / "out.xml")
    text = 'rle="2, 2, 1, 1" left="4" top="5" width="3" height="2"'
    assert text in (tmp_path / "out.xml").read_text()


@pytest.mark.parametrize(
    "fields",
    [
        'rle="1, 5" left="8" top="0" width="3" height="2"',  # beyond the right border
        'rle="1, 6" left="0" top="0" width="3" height="2"',  # seven pixels of six
        'rle="6" left="0" top="0" width="3" height="2"',  # no pixel
        'rle="0,1" left="0" top="0" width="1000000000" height="1000000000"',
        f'rle="0,{"9" * 5000}" left="0" top="0" width="3" height="2"',
        'rle="a,b" left="0" top="0" width="3" height="2"',
        'rle="0,6" left="-1" top="0" width="3" height="2"',
        'left="0" top="0" width="3" height="2"',
    ],
)
def test_a_mask_that_cannot_be_is_reported(tmp_path: Path, fields: str) -> None:
    dataset, report = read_text(tmp_path, images(image(f'<mask label="cat" {fields}/>', box())))
    assert kinds(report) == {"mask that cannot be read": 1}
    assert len(dataset.annotations) == 1


def test_a_box_that_is_turned_becomes_a_polygon(tmp_path: Path) -> None:
    """A quarter turn of 4 x 2 about (5, 4) is 2 x 4; 90 degrees clockwise, as y points down."""
    dataset, report = read_text(tmp_path, images(image(box("3 3 7 5", more=' rotation="90"'))))
    assert kinds(report) == {"box that is turned": 1}
    labels = dataset.annotations
    assert labels.geometry.tolist() == [Geometry.POLYGON]
    np.testing.assert_allclose(labels.boxes_xyxy, [[4, 2, 6, 6]], atol=1e-9)
    corners = json.loads(labels.segmentation[0] or b"")[0]
    np.testing.assert_allclose(corners[:2], [6, 2], atol=1e-9)  # the top left goes to the top right
    assert labels.area[0] == pytest.approx(8)


def test_what_has_no_place_is_reported_by_line(tmp_path: Path) -> None:
    shapes = [
        box(),
        '<polyline label="cat" points="1,1;2,2"/>',
        '<points label="cat" points="1,1"/>',
        '<cuboid label="cat" xtl1="1"/>',
        '<skeleton label="cat"><points label="x" points="1,1"/></skeleton>',
        '<ellipse label="cat" cx="5" cy="4" rx="2" ry="1"/>',
        '<hologram label="cat"/>',
    ]
    dataset, report = read_text(tmp_path, images(image(*shapes)))
    found = {problem.kind: problem.examples[0].rpartition(":")[2] for problem in report.problems}
    assert found == {
        "polyline": "7",
        "points": "8",
        "cuboid": "9",
        "skeleton": "10",
        "ellipse": "11",
        "element of an image that is not known": "12",
    }
    labels = dataset.annotations
    assert labels.geometry.tolist() == [Geometry.BOX, Geometry.POLYGON]
    np.testing.assert_allclose(labels.boxes_xyxy[1], [3, 3, 7, 5], atol=1e-9)
    assert labels.area[1] == pytest.approx(2 * np.pi, rel=0.05)


BAD_BOXES = [
    ("5 2 5 7", "box without area"),
    ("nan 2 5 7", "box with a number that is not finite"),
    ("1 2 1e999 7", "box with a number that is not finite"),
    ("x 2 5 7", "box that cannot be read"),
    ("1_0 2 50 7", "box that cannot be read"),
    ("1 2 11 7", "box that reaches outside its picture"),
]


@pytest.mark.parametrize(("corners", "kind"), BAD_BOXES)
@pytest.mark.parametrize("slow", [False, True])
def test_boxes_that_cannot_be_used_are_named_by_line(
    tmp_path: Path, corners: str, kind: str, slow: bool
) -> None:
    text = images(image(box()), image(box(), box(corners), name="b.jpg"))
    text = text.replace("<version>", "<!-- slow --><version>") if slow else text
    _, report = read_text(tmp_path, text)
    assert kinds(report) == {kind: 1}
    assert report.problems[0].examples[0].startswith(("labels.xml:11", f"{tmp_path}/labels.xml:11"))


@pytest.mark.parametrize("points", ["", "1,1;2,2", "1,1;2,2;3", "1,1;2,x;3,3", "1,1;nan,2;3,3"])
def test_a_polygon_needs_three_corners(tmp_path: Path, points: str) -> None:
    _, report = read_text(tmp_path, images(image(f'<polygon label="cat" points="{points}"/>')))
    assert kinds(report) == {"polygon that cannot be read": 1}


def test_an_unknown_class_stops_or_is_left_out(tmp_path: Path) -> None:
    text = images(image(box(), box(label="cow")))
    with pytest.raises(LabelError, match="'cow' is not among") as caught:
        read_text(tmp_path, text)
    assert caught.value.where == f"{tmp_path}/labels.xml:7"
    dataset, report = read_text(tmp_path, text, on_unknown="skip")
    assert len(dataset.annotations) == 1
    assert kinds(report) == {"label of an unknown class": 1}
    options = cvat_xml.ReadOptions(classes="cow,cat")
    assert read_text(tmp_path, text, options=options)[0].annotations.category_index.tolist() == [
        1,
        0,
    ]


def test_without_a_list_classes_are_sorted(tmp_path: Path) -> None:
    text = images(image(box(label="b"), box(label="a")), labels="")
    dataset, report = read_text(tmp_path, text)
    assert [c.name for c in dataset.categories] == ["a", "b"]
    assert report.notes == ["classes: the file lists none; those of the labels, by name"]


def test_subsets(tmp_path: Path) -> None:
    names = ["Train", "validation", "Test", "default", "holdout"]
    each = [image(box(), name=f"{n}.jpg", more=f' subset="{n}"') for n in names]
    dataset, report = read_text(tmp_path, images(*each))
    found = [Split(code).name for code in dataset.media.split]
    assert found == ["TRAIN", "VAL", "TEST", "NONE", "NONE"]
    assert kinds(report) == {"subset that is no train, val or test": 1}


# --- tracks ---------------------------------------------------------------------------------


def track(*shapes: str, number: str = "7", label: str = "dog") -> str:
    return (
        f'<track id="{number}" label="{label}" source="manual">\n'
        + "\n".join(shapes)
        + "\n</track>"
    )


def key(frame: int, corners: str, more: str = "", inside: str = "") -> str:
    names = ("xtl", "ytl", "xbr", "ybr")
    places = " ".join(f'{n}="{v}"' for n, v in zip(names, corners.split(), strict=True))
    state = f'frame="{frame}" keyframe="1"'
    flags = more or 'outside="0" occluded="0"'
    return f'<box {state} {flags} {places} z_order="0">{inside}</box>'


def video(*tracks: str, size: str = "8", more: str = "", source: str = "clip.mp4") -> str:
    meta = (
        f"<meta><task><size>{size}</size><mode>interpolation</mode>{more}<labels>{LABELS}</labels>"
        "<original_size><width>100</width><height>80</height></original_size>"
        f"<source>{source}</source></task></meta>"
    )
    return f"<annotations><version>1.1</version>{meta}{''.join(tracks)}</annotations>"


def test_a_track_is_in_every_frame_in_which_it_can_be_seen(tmp_path: Path) -> None:
    """By hand: moves by 2 px a frame from 1 to 4, is away in 5, is back in 6 and stays."""
    text = video(
        track(
            key(1, "0 0 10 10", inside='<attribute name="state">calm</attribute>'),
            key(4, "6 3 16 13", 'outside="0" occluded="1"'),
            key(5, "6 3 16 13", 'outside="1" occluded="0"'),
            key(6, "50 50 60 60"),
        )
    )
    dataset, report = read_text(tmp_path, text)
    assert report.problems == ()
    assert list(dataset.media.uri) == [f"{tmp_path}/clip.mp4#frame={at}" for at in range(8)]
    assert (set(dataset.media.width.tolist()), set(dataset.media.height.tolist())) == ({100}, {80})
    labels = dataset.annotations
    assert labels.media_index.tolist() == [1, 2, 3, 4, 6, 7]
    np.testing.assert_allclose(labels.boxes_xyxy[:4, 0], [0, 2, 4, 6])
    np.testing.assert_allclose(labels.boxes_xyxy[:4, 3], [10, 11, 12, 13])
    assert labels.boxes_xyxy[5].tolist() == [50, 50, 60, 60]
    assert [a["keyframe"] for a in attributes(dataset)] == [True, False, False, True, True, False]
    assert attributes(dataset)[1] == {"state": "calm", "track_id": 7, "keyframe": False}
    assert attributes(dataset)[3] == {"occluded": True, "track_id": 7, "keyframe": True}


def test_only_labelled_frames_when_asked(tmp_path: Path) -> None:
    text = video(track(key(2, "0 0 9 9"), key(3, "0 0 9 9", 'outside="1" occluded="0"')))
    options = cvat_xml.ReadOptions(frames="labelled")
    dataset, _ = read_text(tmp_path, text, options=options)
    assert list(dataset.media.uri) == [f"{tmp_path}/clip.mp4#frame=2"]


def test_frames_at_steps_are_those_of_the_video(tmp_path: Path) -> None:
    more = "<start_frame>10</start_frame><stop_frame>22</stop_frame>"
    more += "<frame_filter>step=4</frame_filter>"
    text = video(track(key(10, "0 0 9 9"), key(18, "4 0 13 9")), size="4", more=more)
    dataset, _ = read_text(tmp_path, text)
    frames = [int(uri.rpartition("=")[2]) for uri in dataset.media.uri]
    assert frames == [10, 14, 18, 22]
    assert dataset.annotations.boxes_xyxy[:, 0].tolist() == [0, 2, 4, 4]


def test_a_shape_in_no_frame_is_reported_and_a_polygon_moves(tmp_path: Path) -> None:
    polygon = '<polygon frame="{}" outside="0" occluded="0" keyframe="1" points="{}"/>'
    moving = track(polygon.format(0, "0,0;4,0;0,4"), polygon.format(2, "2,0;6,0;2,4"))
    more = polygon.format(2, "2,0;6,0;2,4;1,1")
    changing = track(polygon.format(0, "0,0;4,0;0,4"), more, number="8")
    late = track(key(99, "0 0 1 1"), number="9")
    dataset, report = read_text(tmp_path, video(moving, changing, late, size="3"))
    assert kinds(report) == {
        "track whose shapes have different numbers of corners": 1,
        "shape in a frame that was not labelled": 1,
    }
    middle = dataset.rows_of(1)
    assert json.loads(dataset.annotations.segmentation[middle.start] or b"") == [[1, 0, 5, 0, 1, 4]]
    assert dataset.annotations.area[middle].tolist() == [8]


@pytest.mark.parametrize("size", ["9" * 5000, "1000000000", "-3", "x", ""])
def test_an_absurd_number_of_frames_is_not_believed(tmp_path: Path, size: str) -> None:
    text = video(track(key(3, "0 0 9 9"), key(5, "0 0 9 9")), size=size)
    dataset, _ = read_text(tmp_path, text)
    assert len(dataset.media) == 3
    assert dataset.annotations.media_index.tolist() == [0, 1, 2]


def test_many_long_tracks_are_no_way_to_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tilth.data.formats._cvat_whole.MAX_LABELS", 1000)
    tracks = [track(key(0, "0 0 9 9"), number=str(at)) for at in range(12)]
    with pytest.raises(LabelError, match="more labels than a video has"):
        read_text(tmp_path, video(*tracks, size="100"))


def frames_of(dataset: Dataset, numbers: list[int], fields: list[dict[str, Any]]) -> Dataset:
    """Boxes of frames instead of pictures."""
    labels = dataset.annotations
    count = len(labels)
    return replace(
        dataset,
        media=replace(dataset.media, uri=[f"/v/clip.mp4#frame={n}" for n in numbers]),
        annotations=replace(
            labels,
            category_index=np.zeros(count, np.int64),
            geometry=np.full(count, Geometry.BOX, np.uint8),
            segmentation=RaggedBytes.empty(count),
            is_crowd=np.zeros(count, np.bool_),
            score=np.full(count, np.nan, np.float32),
            attributes=[json.dumps(each).encode() for each in fields],
        ),
    )


def test_frames_with_tracks_are_written_as_a_video(tmp_path: Path) -> None:
    fields = [{"track_id": track, "mood": "calm"} for _ in range(3) for track in (4, 5)]
    dataset = frames_of(small_dataset(4, 2), [10, 12, 14, 16], fields)
    fitted, report = cvat_xml.adapt(dataset)
    assert "label that does not lie between key frames" in kinds(report)
    cvat_xml.write(dataset, tmp_path / "v.xml", media_root=Path("/v"))
    text = (tmp_path / "v.xml").read_text()
    assert '<track id="4" label="person"' in text
    assert "<frame_filter>step=2</frame_filter>" in text
    assert 'frame="16" outside="1"' in text, "not seen in the last frame"
    back, report = cvat_xml.read(tmp_path / "v.xml", media_root=Path("/v"))
    assert report.problems == ()
    assert comparable(back, Path("/v"))["pictures"] == comparable(fitted, Path("/v"))["pictures"]
    _, again = cvat_xml.adapt(back)
    assert again.problems == ()


@settings(max_examples=40)
@given(data=st.data())
def test_tracks_come_back(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    """Objects that come and go, change what they are said to be, and move as they like."""
    count = data.draw(st.integers(2, 7))
    start, step = data.draw(st.integers(0, 5)), data.draw(st.integers(1, 3))
    rows = []
    for number in range(data.draw(st.integers(1, 3))):
        for frame in range(count):
            if data.draw(st.integers(0, 3)):
                x = data.draw(st.sampled_from([frame, 2 * frame, 3, 40 - frame**2]))
                mood = data.draw(st.sampled_from(["calm", "calm", "wild"]))
                rows.append((frame, x, {"mood": mood, "track_id": number}))
    rows.sort(key=lambda row: row[0])
    dataset = frames_of(small_dataset(2, max(len(rows), 1)), [0, 1], [{}] * max(len(rows), 1))
    labels = dataset.annotations
    kept = np.zeros(len(labels), np.bool_)
    kept[: len(rows)] = True
    media = small_dataset(count, 0).media
    uris = [f"/v/clip.mp4#frame={start + at * step}" for at in range(count)]
    x = np.array([row[1] for row in rows] + [0] * (len(labels) - len(rows)), np.float64)
    dataset = replace(
        dataset,
        media=replace(media, uri=uris),
        annotations=replace(
            labels,
            media_index=np.array([row[0] for row in rows] + [0] * (len(labels) - len(rows))),
            boxes_xyxy=np.stack([x, x * 0, x + 9, x * 0 + 9.5], axis=1),
            attributes=[json.dumps(row[2]).encode() for row in rows] or [None],
        ),
    ).keep_annotations(kept)
    path = tmp_path_factory.mktemp("cvat") / "v.xml"
    fitted, _ = cvat_xml.adapt(dataset, options=cvat_xml.WriteOptions(layout="video"))
    cvat_xml.write(dataset, path, media_root=Path("/v"))
    back, _ = cvat_xml.read(path, media_root=Path("/v"))
    assert comparable(back, Path("/v"))["pictures"] == comparable(fitted, Path("/v"))["pictures"]


@pytest.mark.parametrize(
    ("numbers", "fields", "reason"),
    [
        ([0, 1, 2, 3], {}, "no track_id"),
        ([0, 1, 2, 3], {"track_id": 1}, "twice in one frame"),
        ([0, 1, 3, 9], {"track_id": 1}, "equal steps"),
    ],
)
def test_what_is_no_video_is_written_as_images(
    tmp_path: Path, numbers: list[int], fields: dict[str, Any], reason: str
) -> None:
    dataset = frames_of(small_dataset(4, 2), numbers, [fields] * 6)
    cvat_xml.write(dataset, tmp_path / "i.xml", media_root=Path("/v"))
    back, _ = cvat_xml.read(tmp_path / "i.xml", media_root=Path("/v"))
    assert list(back.media.uri) == list(dataset.media.uri)
    assert attributes(back) == attributes(dataset)
    with pytest.raises(SettingsError, match="no video with tracks") as caught:
        cvat_xml.adapt(dataset, options=cvat_xml.WriteOptions(layout="video"))
    assert reason in (caught.value.got or "")


# --- hostile files ---------------------------------------------------------------------------

BOMB = '<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;&b;">]>'


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"<annotations>",
        b"<annotation/>",
        b"\0" * 100,
        images(image(box())).replace("<annotations>", f"{BOMB}<annotations>").encode(),
        images(image(box(label="&c;"))).encode(),
        b"<annotations>" + b"<a>" * 100_000,
        images(image(box())).encode()[:-30],
        images(image(box())).replace("<annotations>", f"{BOMB}<annotations>").encode("utf-16"),
        b"<annotations>\xff\xfe</annotations>",
    ],
)
def test_what_is_no_cvat_file_is_refused(tmp_path: Path, text: bytes) -> None:
    with pytest.raises(LabelError):
        read_text(tmp_path, text)


def test_a_file_without_pictures_and_a_missing_one(tmp_path: Path) -> None:
    with pytest.raises(EmptyDatasetError):
        read_text(tmp_path, images())
    with pytest.raises(LabelError, match="cannot be read"):
        cvat_xml.read(tmp_path / "none.xml")


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "", "C:\\a.jpg"])
def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(PathEscapeError):
        read_text(tmp_path, images(image(box(), name=name)))
    with pytest.raises(PathEscapeError):
        read_text(tmp_path, video(track(key(0, "0 0 1 1")), source="../../x.mp4"))


def test_it_is_recognised_by_its_root(tmp_path: Path) -> None:
    for text in (MANUAL, video(track(key(0, "0 0 1 1")))):
        (tmp_path / "a.xml").write_text(text)
        assert cvat_xml.recognises(tmp_path / "a.xml")
    (tmp_path / "b.xml").write_text("<annotation><filename>a</filename></annotation>")
    for other in (tmp_path / "b.xml", tmp_path, tmp_path / "none.xml", Path("\0")):
        assert not cvat_xml.recognises(other)


@settings(max_examples=150)
@given(data=st.data())
def test_any_bytes_end_in_a_result_or_an_error_of_ours(
    tmp_path_factory: pytest.TempPathFactory, data: Any
) -> None:
    valid = [MANUAL, video(track(key(0, "0 0 9 9"), key(3, "1 1 9 9"))), images(image(box()))]
    text = data.draw(st.sampled_from(valid)).encode()
    at = data.draw(st.integers(0, len(text)))
    junk = data.draw(st.one_of(st.binary(max_size=6), st.sampled_from([b"9" * 5000, b"<image>"])))
    spoilt = text[:at] + junk + text[at + data.draw(st.integers(0, 9)) :]
    folder = tmp_path_factory.getbasetemp()
    try:
        dataset, _ = read_text(folder, spoilt, on_unknown="skip")
    except TilthError:
        return
    assert np.isfinite(dataset.annotations.boxes_xyxy).all()
    assert all(uri.startswith(f"{folder}/") for uri in dataset.media.uri)


# --- two ways that must agree ----------------------------------------------------------------


def plain(records: CvatRecords) -> dict[str, Any]:
    fields = dict(vars(records))
    fields["box"] = records.boxes().tolist()
    return {n: repr(v) for n, v in fields.items() if n not in ("line", "stretch")}


def test_scanning_and_parsing_give_the_same_records() -> None:
    """Of stretches that the scanner takes, which are many."""
    scanned_stretches = 0
    fields = ["", "", ' z_order="3"', ' group_id="2"', ' z_order="0" group_id="x"', ' rotation="5"']
    entries = [
        "",
        "",
        "",
        '<attribute name="a">1</attribute>',
        '<attribute name="">x</attribute>',
        "<b/>",
    ]
    labels = ["cat", "größe", "a&amp;b", "a'b", "", "a  b"]

    @settings(max_examples=300)
    @given(data=st.data())
    def agree(data: Any) -> None:
        nonlocal scanned_stretches
        texts = []
        for at in range(data.draw(st.integers(1, 3))):
            boxes = [
                box(
                    data.draw(st.sampled_from(["1 2 3 4", "1.5 2 3 4.25"] * 9 + ["1e3 2 3 x"])),
                    data.draw(st.sampled_from(labels)),
                ).replace(' z_order="0">\n', data.draw(st.sampled_from(fields)) + ">\n")
                for _ in range(data.draw(st.integers(0, 3)))
            ]
            ends = [data.draw(st.sampled_from(entries)) + "</box>" for _ in boxes]
            boxes = [b.replace("</box>", end) for b, end in zip(boxes, ends, strict=True)]
            more = data.draw(st.sampled_from(["", ' subset="Train"', ' task_id="3"', ' x="1"']))
            texts.append(image(*boxes, name=f"{at} é.jpg", more=more))
        stretch = "\n".join(texts).encode()
        scanned = scan_stretch(stretch, 0)
        if scanned is None:
            return
        scanned_stretches += 1
        parsed, report = CvatRecords(), LabelReport(where="x")
        for element in parse_xml(b"<a>" + stretch + b"</a>", "x"):
            read_image(element, 0, parsed, report)
        assert plain(scanned) == plain(parsed)
        assert report.problems == ()

    agree()
    assert scanned_stretches > 50


@pytest.mark.parametrize("size", [300, 1000])
def test_where_a_file_is_cut_makes_no_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    each = [image(box(), box("0 0 1 1"), name=f"{at}.jpg") for at in range(20)]
    each[7] = image('<polygon label="cat" points="1,1;5,1;1,5"/>', box("5 5 5 5"), name="7.jpg")
    whole, report = read_text(tmp_path, images(*each))
    monkeypatch.setattr(_cvat_images, "_STRETCH_BYTES", size)
    cut, other = read_text(tmp_path, images(*each))
    assert comparable(cut, tmp_path) == comparable(whole, tmp_path)
    assert cut.annotations.geometry.tolist().count(Geometry.POLYGON) == 1
    assert [str(p) for p in report.problems] == [str(p) for p in other.problems]


# --- writing ---------------------------------------------------------------------------------


def test_labelformat_reads_the_same_boxes(tmp_path: Path) -> None:
    dataset = small_dataset(prefix="/p/")
    boxes = replace(dataset.annotations, geometry=np.full(9, Geometry.BOX, np.uint8))
    dataset = replace(dataset, annotations=boxes)
    cvat_xml.write(dataset, tmp_path / "a.xml", media_root=Path("/p"))
    theirs = list(CVATObjectDetectionInput(tmp_path / "a.xml").get_labels())
    assert [label.image.filename for label in theirs] == [f"pictures/{i:03d}.jpg" for i in range(4)]
    found = [
        (o.category.name, o.box.xmin, o.box.ymin, o.box.xmax, o.box.ymax)
        for label in theirs
        for o in label.objects
    ]
    names = [dataset.categories[row].name for row in boxes.category_index]
    pairs = zip(names, boxes.boxes_xyxy.tolist(), strict=True)
    ours = [(name, *corners) for name, corners in pairs]
    assert found == ours


def test_attributes_are_declared_and_keep_their_types(tmp_path: Path) -> None:
    dataset = small_dataset(2, 3)
    said = [
        {"occluded": True, "z_order": -2, "group_id": 3, "n": 1.5, "a&b": "x<y>"},
        {"occluded": False, "z_order": 0, "group_id": "x", "list": [1, "a"]},
        {"occluded": 2, "text": " two  words\n", "number": "12", "none": None},
    ]
    texts = [json.dumps(each).encode() for each in said]
    dataset = replace(dataset, annotations=replace(dataset.annotations, attributes=texts))
    cvat_xml.write(dataset, tmp_path / "a.xml")
    text = (tmp_path / "a.xml").read_text()
    assert "<name>a&amp;b</name>" in text
    assert 'occluded="1"' in text
    assert attributes(cvat_xml.read(tmp_path / "a.xml")[0]) == said


def test_several_parts_become_a_mask_or_a_box(tmp_path: Path) -> None:
    dataset = small_dataset(2, 1)
    parts = b"[[1.0,1.0,9.0,1.0,1.0,9.0],[20.0,20.0,30.0,20.0,30.0,30.0]]"
    labels = replace(
        dataset.annotations, geometry=np.array([Geometry.POLYGON], np.uint8), segmentation=[parts]
    )
    dataset = replace(dataset, annotations=labels)
    fitted, report = cvat_xml.adapt(dataset)
    assert fitted.annotations.geometry.tolist() == [Geometry.RLE]
    actions = {problem.kind: problem.action for problem in report.problems}
    assert actions["polygon of several parts"] == "becomes a mask"
    unsized = replace(dataset.media, width=np.zeros(2, np.int32))
    fitted, _ = cvat_xml.adapt(replace(dataset, media=unsized))
    assert fitted.annotations.geometry.tolist() == [Geometry.BOX]


@settings(max_examples=25)
@given(data=st.data())
def test_what_is_written_comes_back(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "round.xml"
    dataset = data.draw(datasets(Path("/drawn")))
    fitted, _ = cvat_xml.adapt(dataset)
    cvat_xml.write(dataset, path, media_root=Path("/drawn"))
    back, report = cvat_xml.read(path, media_root=Path("/drawn"))
    assert comparable(back, Path("/drawn")) == comparable(fitted, Path("/drawn"))
    assert report.problems == ()
