"""LabelMe: every shape by its definition, paths that stay inside, what goes beyond its fields."""

from __future__ import annotations

import base64
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from small_sets import small_dataset

from tilth.data import masks, rle
from tilth.data.dataset import Dataset
from tilth.data.formats import labelme
from tilth.data.problems import LabelReport
from tilth.data.records import Geometry
from tilth.errors import DataError, EmptyDatasetError, LabelError, PathEscapeError, TilthError

H, W = 60, 80


def shape(kind: str, points: list[Any], label: str = "cat", **fields: Any) -> dict[str, Any]:
    own: dict[str, Any] = {"group_id": None, "description": "", "flags": {}, "mask": None}
    return {"label": label, "points": points, "shape_type": kind} | own | fields


def file(*shapes: dict[str, Any], **fields: Any) -> dict[str, Any]:
    own: dict[str, Any] = {"version": "5.5.0", "flags": {}, "imagePath": "a.jpg", "imageData": None}
    return own | {"shapes": list(shapes), "imageHeight": H, "imageWidth": W} | fields


def put(folder: Path, name: str, content: Any) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, bytes) else json.dumps(content, indent=2).encode()
    path.write_bytes(text)
    return folder


def read(folder: Path, **options: Any) -> tuple[Dataset, LabelReport]:
    return labelme.read(folder, options=labelme.ReadOptions(**options))


def png(mask: Any, mode: str = "L") -> str:
    stream = io.BytesIO()
    Image.fromarray(np.array(mask, np.uint8)).convert(mode).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


# --- shapes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "points",
    [
        [[10, 20], [30.5, 50]],
        [[30.5, 50], [10, 20]],
        [[10, 50], [30.5, 20]],
        [[30.5, 20], [10, 50]],
        [[10, 20], [30.5, 20], [30.5, 50], [10, 50]],
    ],
)
def test_rectangle_has_its_corners_in_any_order(points: Any, tmp_path: Path) -> None:
    dataset, report = read(put(tmp_path, "a.json", file(shape("rectangle", points))))
    assert dataset.annotations.boxes_xyxy.tolist() == [[10, 20, 30.5, 50]]
    assert dataset.annotations.geometry.tolist() == [Geometry.BOX]
    assert dataset.annotations.area.tolist() == [20.5 * 30]
    assert report.problems == ()


def test_polygon_keeps_its_points_and_has_its_area(tmp_path: Path) -> None:
    points = [[10, 10], [30, 10], [30.25, 20], [10, 20]]
    dataset, _ = read(put(tmp_path, "a.json", file(shape("polygon", points))))
    labels = dataset.annotations
    assert json.loads(labels.segmentation[0] or b"") == [[10, 10, 30, 10, 30.25, 20, 10, 20]]
    assert labels.boxes_xyxy.tolist() == [[10, 10, 30.25, 20]]
    assert labels.area.tolist() == [201.25]


@pytest.mark.parametrize("kind", ["oriented_rectangle", "rectangle"])
def test_a_turned_rectangle_is_a_polygon(kind: str, tmp_path: Path) -> None:
    points = [[20, 10], [30, 20], [20, 30], [10, 20]]
    dataset, _ = read(put(tmp_path, "a.json", file(shape(kind, points))))
    assert dataset.annotations.geometry.tolist() == [Geometry.POLYGON]
    assert dataset.annotations.area.tolist() == [200]


@pytest.mark.parametrize("radius", [0.5, 3.0, 25.0])
def test_circle_becomes_a_polygon_within_a_twentieth_of_a_pixel(
    radius: float, tmp_path: Path
) -> None:
    circle = shape("circle", [[40, 30], [40 + radius * 0.6, 30 + radius * 0.8]])
    dataset, _ = read(put(tmp_path, "a.json", file(circle)))
    labels = dataset.annotations
    np.testing.assert_allclose(
        labels.boxes_xyxy, [[40 - radius, 30 - radius, 40 + radius, 30 + radius]], atol=1e-9
    )
    corners = np.array(json.loads(labels.segmentation[0] or b"")[0]).reshape(-1, 2)
    middles = (corners + np.roll(corners, -1, axis=0)) / 2
    assert (radius - np.hypot(*(middles - [40, 30]).T) <= 0.05 + 1e-9).all()
    assert abs(labels.area[0] / (np.pi * radius**2) - 1) < 0.06


def test_mask_covers_its_first_and_its_last_pixel(tmp_path: Path) -> None:
    """Two corners (3, 5) and (5, 6) are three columns and two rows."""
    crop = [[0, 1, 1], [1, 1, 0]]
    text = file(shape("mask", [[3, 5], [5, 6]], mask=png(crop)))
    dataset, report = read(put(tmp_path, "a.json", text))
    counts, height, width = rle.from_json(dataset.annotations.segmentation[0] or b"")
    mask = rle.decode(counts, height, width)
    assert mask.shape == (H, W)
    assert mask[5:7, 3:6].astype(int).tolist() == crop
    assert mask.sum() == 4 == dataset.annotations.area[0]
    assert dataset.annotations.boxes_xyxy.tolist() == [[3, 5, 6, 7]]
    assert report.problems == ()


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_mask_may_be_a_png_of_any_kind(mode: str, tmp_path: Path) -> None:
    text = file(shape("mask", [[0, 0], [1, 0]], mask=png([[0, 255]], mode)))
    dataset, _ = read(put(tmp_path, "a.json", text))
    assert dataset.annotations.boxes_xyxy.tolist() == [[1, 0, 2, 1]]


def test_shapes_without_area_are_reported_with_their_place(tmp_path: Path) -> None:
    kinds = {"point": 1, "line": 2, "linestrip": 3, "points": 2, "stroke": 1}
    shapes = [shape(kind, [[1, 1], [2, 3], [4, 5]][:n]) for kind, n in kinds.items()]
    shapes += [shape("polygon", [[1, 1], [2, 2]]), shape("rectangle", [[1, 1]])]
    shapes += [shape("circle", [[3, 3], [3, 3]]), shape("rectangle", [[1, 1], [1, 9]])]
    shapes += [shape("polygon", [])]
    dataset, report = read(put(tmp_path, "sub/a.json", file(*shapes)))
    assert len(dataset.annotations) == 0
    assert len(dataset.media) == 1
    found = {problem.kind: problem.examples for problem in report.problems}
    assert found == {
        **{
            f"shape of type '{kind}', which has no area": (f"sub/a.json: shapes[{at}]",)
            for at, kind in enumerate(kinds)
        },
        "polygon of 2 points": ("sub/a.json: shapes[5]",),
        "rectangle of 1 points": ("sub/a.json: shapes[6]",),
        "circle without a radius, or beyond all pictures": ("sub/a.json: shapes[7]",),
        "polygon of 0 points": ("sub/a.json: shapes[9]",),
        "box without area": ("sub/a.json: shapes[8]",),
    }


BAD_MASKS = {
    "mask that is not Base64": {"mask": "%%%"},
    "mask that is no PNG": {"mask": base64.b64encode(b"GIF89a").decode()},
    "mask that does not fill its box": {"mask": png([[1, 1, 1]])},
    "mask that reaches outside its picture": {"points": [[W - 1, 0], [W, 0]]},
    "mask that cannot be read": {"mask": png(np.ones((9, 9)))[:40]},
}


@pytest.mark.parametrize(("kind", "change"), BAD_MASKS.items())
def test_a_mask_that_is_none_is_reported(kind: str, change: dict[str, Any], tmp_path: Path) -> None:
    good = shape("mask", [[0, 0], [1, 0]], mask=png([[1, 1]]))
    dataset, report = read(put(tmp_path, "a.json", file(good | change, good)))
    assert len(dataset.annotations) == 1
    assert [problem.kind for problem in report.problems] == [kind]


def test_a_mask_in_a_huge_picture_costs_nothing(tmp_path: Path) -> None:
    text = file(shape("mask", [[7, 9], [8, 9]], mask=png([[1, 1]])))
    text |= {"imageHeight": 10**9, "imageWidth": 10**9}
    dataset, _ = read(put(tmp_path, "a.json", text))
    assert dataset.annotations.boxes_xyxy.tolist() == [[7, 9, 9, 10]]


def test_a_png_that_would_unpack_without_bound_is_refused(tmp_path: Path) -> None:
    data = bytearray(base64.b64decode(png([[1, 1]])))
    data[16:24] = (10**5).to_bytes(4, "big") * 2
    bomb = shape("mask", [[0, 0], [1, 0]], mask=base64.b64encode(data).decode())
    dataset, report = read(put(tmp_path, "a.json", file(bomb)))
    assert len(dataset.annotations) == 0
    assert report.problems[0].kind in ("mask that is too large", "mask that cannot be read")


# --- groups, flags, attributes ------------------------------------------------------------------

SQUARES = ([[0, 0], [10, 0], [10, 10], [0, 10]], [[20, 0], [30, 0], [30, 10], [20, 10]])


def test_groups_stay_apart_unless_they_are_to_be_joined(tmp_path: Path) -> None:
    shapes = [shape("polygon", list(square), group_id=4) for square in SQUARES]
    shapes.append(shape("polygon", list(SQUARES[0]), label="dog", group_id=4))
    put(tmp_path, "a.json", file(*shapes))
    apart, report = read(tmp_path)
    assert len(apart.annotations) == 3
    assert list(apart.annotations.attributes) == [b'{"group_id":4}'] * 3
    assert any("group_id of 3 shapes" in note for note in report.notes)
    joined, _ = read(tmp_path, groups="join")
    labels = joined.annotations
    assert [joined.categories[at].name for at in labels.category_index] == ["cat", "dog"]
    assert len(json.loads(labels.segmentation[0] or b"")) == 2
    assert labels.area.tolist() == [200, 100]
    assert labels.boxes_xyxy[0].tolist() == [0, 0, 30, 10]


def test_a_group_with_a_mask_is_joined_pixel_by_pixel(tmp_path: Path) -> None:
    shapes = [
        shape("rectangle", [[0, 0], [2, 1]], group_id=1),
        shape("mask", [[1, 0], [3, 0]], group_id=1, mask=png([[1, 1, 1]])),
    ]
    dataset, _ = read(put(tmp_path, "a.json", file(*shapes)), groups="join")
    assert dataset.annotations.geometry.tolist() == [Geometry.RLE]
    assert dataset.annotations.area.tolist() == [4]


def test_flags_that_are_set_label_the_picture(tmp_path: Path) -> None:
    text = file(flags={"sunny": True, "rainy": False, "cat": True})
    dataset, _ = read(put(tmp_path, "a.json", text))
    labels = dataset.annotations
    assert [c.name for c in dataset.categories] == ["cat", "sunny"]
    assert labels.geometry.tolist() == [Geometry.LABEL] * 2
    assert labels.boxes_xyxy.tolist() == [[0, 0, W, H]] * 2


def test_what_a_shape_says_beyond_its_label_is_kept(tmp_path: Path) -> None:
    said = shape(
        "rectangle",
        [[1, 1], [5, 5]],
        group_id=3,
        description="by hand",
        flags={"occluded": True, "truncated": False},
        score=0.5,
        attributes={"pose": "Left"},
        kie_linking=[],
        line_color=None,
    )
    dataset, _ = read(put(tmp_path, "a.json", file(said, weather={"rain": 1})))
    assert json.loads(dataset.annotations.attributes[0] or b"") == {
        "group_id": 3,
        "description": "by hand",
        "occluded": True,
        "truncated": False,
        "pose": "Left",
        "kie_linking": [],
    }
    assert dataset.annotations.score.tolist() == [0.5]
    assert json.loads(dataset.media.attributes[0] or b"") == {"weather": {"rain": 1}}


def test_files_of_the_third_version_are_read(tmp_path: Path) -> None:
    """No shape_type, no size, colours; the picture inside."""
    old = {
        "version": "3.16.7",
        "flags": {},
        "shapes": [{"label": "cat", "line_color": None, "fill_color": None, "points": SQUARES[0]}],
        "lineColor": [0, 255, 0, 128],
        "fillColor": [255, 0, 0, 128],
        "imagePath": "a.jpg",
        "imageData": "/9j/" + "A" * 999,
    }
    dataset, report = read(put(tmp_path, "a.json", old))
    assert dataset.annotations.area.tolist() == [100]
    assert dataset.media.width.tolist() == [0]
    assert not len(dataset.media.attributes)
    assert report.problems == ()


# --- classes ------------------------------------------------------------------------------------


def test_classes_come_from_the_list_beside_or_are_sorted(tmp_path: Path) -> None:
    box = [[1, 1], [5, 5]]
    put(tmp_path, "a.json", file(shape("rectangle", box, "dog"), shape("rectangle", box, "cat")))
    dataset, report = read(tmp_path)
    assert [c.name for c in dataset.categories] == ["cat", "dog"]
    assert any("sorted" in note for note in report.notes)
    (tmp_path / "labels.txt").write_text("dog\nbird\ncat\n")
    dataset, report = read(tmp_path)
    assert [c.name for c in dataset.categories] == ["dog", "bird", "cat"]
    assert [c.origin_id for c in dataset.categories] == [0, 1, 2]
    assert "classes: from labels.txt" in report.notes


def test_an_unknown_label_is_an_error_or_left_out(tmp_path: Path) -> None:
    put(tmp_path, "a.json", file(shape("rectangle", [[1, 1], [5, 5]], "dog")))
    with pytest.raises(LabelError, match="'dog'") as caught:
        read(tmp_path, classes="cat,bird")
    assert "a.json: shapes[0]" in (caught.value.where or "")
    assert "--on-unknown skip" in (caught.value.fix or "")
    options = labelme.ReadOptions(classes="cat,bird")
    dataset, report = labelme.read(tmp_path, on_unknown="skip", options=options)
    assert len(dataset.annotations) == 0
    assert report.problems[0].examples == ("a.json: shapes[0]",)


# --- paths --------------------------------------------------------------------------------------


def uri_of(folder: Path, media_root: Path | None = None) -> str:
    return labelme.read(folder, media_root=media_root)[0].media.uri[0]


def test_image_path_is_relative_to_its_file(tmp_path: Path) -> None:
    put(tmp_path / "labels", "sub/a.json", file(imagePath="a.jpg"))
    assert uri_of(tmp_path / "labels") == f"{tmp_path}/labels/sub/a.jpg"
    put(tmp_path / "labels", "sub/a.json", file(imagePath="../pics/a.jpg"))
    assert uri_of(tmp_path / "labels") == f"{tmp_path}/labels/pics/a.jpg"
    put(tmp_path / "labels", "sub/a.json", file(imagePath="../../images/sub/a.jpg"))
    assert uri_of(tmp_path / "labels", tmp_path / "images") == f"{tmp_path}/images/sub/a.jpg"
    assert uri_of(tmp_path / "labels", tmp_path) == f"{tmp_path}/images/sub/a.jpg"


def test_labels_apart_from_pictures_lie_as_the_pictures_do(tmp_path: Path) -> None:
    put(tmp_path / "labels", "sub/a.json", file(imagePath="a.jpg"))
    assert uri_of(tmp_path / "labels", tmp_path / "images") == f"{tmp_path}/images/sub/a.jpg"


def test_backslashes_of_windows_are_understood(tmp_path: Path) -> None:
    put(tmp_path, "labels/a.json", file(imagePath="..\\images\\a.jpg"))
    assert uri_of(tmp_path / "labels", tmp_path) == f"{tmp_path}/images/a.jpg"


@pytest.mark.parametrize(
    "path",
    ["../a.jpg", "/etc/passwd", "C:\\a.jpg", "a/..\\..\\b.jpg", "sub/../../a.jpg", ".", "a\0.jpg"],
)
def test_image_path_stays_inside(path: str, tmp_path: Path) -> None:
    put(tmp_path / "set", "a.json", file(imagePath=path))
    with pytest.raises(PathEscapeError) as caught:
        labelme.read(tmp_path / "set")
    assert caught.value.where == "a.json"


def test_urls_are_kept(tmp_path: Path) -> None:
    assert uri_of(put(tmp_path, "a.json", file(imagePath="s3://b/a.jpg"))) == "s3://b/a.jpg"


def test_a_link_to_a_file_outside_is_not_followed(tmp_path: Path) -> None:
    put(tmp_path / "elsewhere", "b.json", file(imagePath="b.jpg"))
    put(tmp_path / "set", "a.json", file())
    os.symlink(tmp_path / "elsewhere" / "b.json", tmp_path / "set" / "b.json")
    dataset, report = labelme.read(tmp_path / "set")
    assert len(dataset.media) == 1
    assert report.problems[0].kind == "link that leaves the folder"


def test_two_files_of_one_picture_are_one_medium(tmp_path: Path) -> None:
    box = shape("rectangle", [[1, 1], [5, 5]])
    put(tmp_path, "a.json", file(box, imageHeight=None, imageWidth=None))
    put(tmp_path, "b.json", file(box))
    dataset, report = labelme.read(tmp_path)
    assert dataset.media.width.tolist() == [W]
    assert dataset.annotations.media_index.tolist() == [0, 0]
    assert report.problems[0].kind == "picture that two label files name"


def test_a_file_without_a_picture_is_named_after_itself(tmp_path: Path) -> None:
    dataset, report = labelme.read(put(tmp_path, "sub/x.y.json", file(imagePath=None)))
    assert dataset.media.uri == [f"{tmp_path}/sub/x.y.jpg"]
    assert report.problems[0].examples == ("sub/x.y.json",)


# --- files that are none ------------------------------------------------------------------------

NOT_LABELME: list[Any] = [
    b"",
    b"\xff\xfe",
    b"{",
    b"[]",
    b"[" * 100_000,
    b'{"shapes":' + b"[" * 5000,
    b'{"shapes":[{"label":"a","points":[[1,' + b"9" * 5000 + b"]]}]}",
    b'{"shapes":[{"label":"a","points":[[1,NaN]]}]}',
    b'{"shapes":[{"label":"a","points":[[1,2]],"x":' + b"9" * 5000 + b"}]}",
    {"images": [], "annotations": []},
    file(shape("polygon", [[1, "2"]])),
    file(shape("polygon", [[1, 2, 3]])),
    file(imageHeight=-1),
    file(imageWidth=10**10),
    file({"points": []}),
]


@pytest.mark.parametrize("content", NOT_LABELME)
def test_a_file_that_is_none_is_reported_and_the_others_are_read(
    content: Any, tmp_path: Path
) -> None:
    put(tmp_path, "bad.json", content)
    with pytest.raises(EmptyDatasetError):
        labelme.read(tmp_path)
    put(tmp_path, "good.json", file())
    dataset, report = labelme.read(tmp_path)
    assert len(dataset.media) == 1
    assert [problem.kind for problem in report.problems] == ["file that is not LabelMe's JSON"]
    assert report.problems[0].examples[0].startswith("bad.json: ")


def test_no_files_are_said(tmp_path: Path) -> None:
    with pytest.raises(EmptyDatasetError):
        labelme.read(tmp_path)
    with pytest.raises(EmptyDatasetError):
        labelme.read(tmp_path / "missing")


def test_recognises_only_its_own(tmp_path: Path) -> None:
    assert labelme.recognises(put(tmp_path / "a", "x.json", file()))
    assert not labelme.recognises(put(tmp_path / "b", "x.json", {"images": []}))
    assert not labelme.recognises(tmp_path / "a" / "x.json")
    assert not labelme.recognises(tmp_path / "none")
    assert not labelme.recognises(Path("\0"))


FUZZED = json.dumps(
    file(
        shape("rectangle", [[1, 2], [30, 40]], flags={"occluded": True}),
        shape("mask", [[3, 5], [5, 6]], mask=png([[0, 1, 1], [1, 1, 0]]), part_of=1),
        shape("circle", [[9, 9], [12, 9]], group_id=1, part_of=1),
        flags={"x": True},
        flag_details=[{"label": "x", "score": 0.5}],
    )
).encode()


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_spoilt_bytes_end_in_a_result_or_an_error(data: st.DataObject, tmp_path: Path) -> None:
    text = bytearray(FUZZED)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    put(tmp_path, "a.json", bytes(text))
    try:
        dataset, _ = read(tmp_path, groups=data.draw(st.sampled_from(["keep", "join"])))
    except TilthError:
        return
    assert np.isfinite(dataset.annotations.boxes_xyxy).all()
    for geometry, shape_ in zip(
        dataset.annotations.geometry, dataset.annotations.segmentation, strict=True
    ):
        assert (shape_ is None) == (geometry in (Geometry.BOX, Geometry.LABEL))


# --- writing ------------------------------------------------------------------------------------


def test_a_written_file_reads_as_labelme_defines_it(tmp_path: Path) -> None:
    dataset = small_dataset(prefix=f"{tmp_path}/")
    labelme.write(dataset, tmp_path / "out", media_root=tmp_path)
    text = json.loads((tmp_path / "out" / "pictures" / "000.json").read_text())
    assert set(text) >= {"version", "flags", "shapes", "imagePath", "imageData"}
    assert text["imagePath"] == "../../pictures/000.jpg"
    assert (text["imageHeight"], text["imageWidth"], text["imageData"]) == (80, 100, None)
    first, second, third = text["shapes"]
    assert first["shape_type"] == "rectangle"
    assert first["points"] == [[0.25, 0.5], [20.375, 30.5]]
    assert first["flags"] == {"occluded": True}
    assert second["points"] == [[1.5, 2], [10, 2], [10.25, 12]]
    assert third["points"] == [[0, 10], [0, 29]]  # runs of 10 zeros and 20 ones, 80 rows
    crop = np.array(Image.open(io.BytesIO(base64.b64decode(third["mask"]))))
    assert crop.shape == (20, 1)
    assert crop.all()
    assert (tmp_path / "out" / "labels.txt").read_text() == "person\ntraffic light\ndog\n"


def test_supervision_reads_what_is_written(tmp_path: Path) -> None:
    load = pytest.importorskip("supervision.dataset.formats.labelme").load_labelme_annotations
    dataset = small_dataset(prefix=f"{tmp_path}/")
    keep = dataset.annotations.geometry != Geometry.RLE
    dataset = dataset.keep_annotations(keep)
    labelme.write(dataset, tmp_path / "out", media_root=tmp_path)
    classes, _, found = load(
        images_directory_path=str(tmp_path / "pictures"),
        annotations_directory_path=str(tmp_path / "out" / "pictures"),
    )
    theirs = found[f"{tmp_path}/pictures/000.jpg"]
    names = [c.name for c in dataset.categories]
    rows = dataset.rows_of(0)
    ours = [names[at] for at in dataset.annotations.category_index[rows]]
    assert [classes[at] for at in theirs.class_id] == ours
    np.testing.assert_allclose(theirs.xyxy[0], dataset.annotations.boxes_xyxy[0], atol=1e-4)
    np.testing.assert_allclose(theirs.xyxy[1], [1.5, 2, 10.25, 12], atol=1e-4)


def test_parts_of_a_polygon_share_a_group_and_come_back_as_one(tmp_path: Path) -> None:
    text = file(
        shape("polygon", list(SQUARES[0]), group_id=7),
        shape("rectangle", [[1, 1], [5, 5]], group_id=2, label="dog"),
    )
    dataset, _ = read(put(tmp_path / "in", "a.json", text))
    two = json.dumps([[value for point in square for value in point] for square in SQUARES])
    labels = dataset.annotations
    labels = type(labels)(
        **{
            name: getattr(labels, name)
            for name in labels.__dataclass_fields__
            if name != "segmentation"
        },
        segmentation=[two.encode(), None],
    )
    changed = Dataset(categories=dataset.categories, media=dataset.media, annotations=labels)
    labelme.write(changed, tmp_path / "out", media_root=tmp_path / "in")
    shapes = json.loads((tmp_path / "out" / "a.json").read_text())["shapes"]
    assert [s.get("part_of") for s in shapes] == [8, 8, None]
    assert [s["group_id"] for s in shapes] == [7, 7, 2]
    back, _ = labelme.read(tmp_path / "out", media_root=tmp_path / "in")
    assert json.loads(back.annotations.segmentation[0] or b"") == json.loads(two)
    assert back.annotations.attributes[0] == b'{"group_id":7}'


def test_scores_and_attributes_of_flags_come_back(tmp_path: Path) -> None:
    details = [
        {"label": "cat", "score": 0.25, "attributes": {"pose": "Left"}},
        {"label": "cat"},
        {"label": "gone"},
    ]
    text = file(flags={"cat": True, "dog": True, "gone": False}, flag_details=details)
    dataset, _ = read(put(tmp_path / "in", "a.json", text))
    labels = dataset.annotations
    assert labels.attributes[0] == b'{"pose":"Left"}'
    np.testing.assert_array_equal(labels.score, np.array([0.25, np.nan, np.nan], np.float32))
    labelme.write(dataset, tmp_path / "out", media_root=tmp_path / "in")
    written = json.loads((tmp_path / "out" / "a.json").read_text())
    assert written["flags"] == {"cat": True, "dog": True}
    assert written["flag_details"] == [*details[:2], {"label": "dog"}]


def test_image_data_is_written_only_when_asked(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "000.jpg").write_bytes(b"jpeg")
    dataset = small_dataset(2, prefix=f"{tmp_path}/")
    options = labelme.WriteOptions(image_data=True, image_path="beside")
    labelme.write(dataset, tmp_path / "out", media_root=tmp_path, options=options)
    texts = [
        json.loads((tmp_path / "out" / "pictures" / f"00{at}.json").read_text()) for at in (0, 1)
    ]
    assert [text["imageData"] for text in texts] == [base64.b64encode(b"jpeg").decode(), None]
    assert [text["imagePath"] for text in texts] == ["000.jpg", "001.jpg"]


def test_what_labelme_does_not_hold_is_reported() -> None:
    _, report = labelme.adapt(small_dataset())
    kinds = [problem.kind for problem in report.problems]
    assert kinds == ["crowd flag", "class number", "supercategory"]


def test_a_mask_without_pixels_is_reported(tmp_path: Path) -> None:
    dataset = small_dataset(2)
    labels = dataset.annotations
    shapes = [None, b"[[1.5,2,10,2,10.25,12]]", b'{"size":[80,100],"counts":[8000]}']
    fields = {n: getattr(labels, n) for n in labels.__dataclass_fields__}
    changed = type(labels)(**fields | {"segmentation": shapes})
    fitted, report = labelme.adapt(
        Dataset(categories=dataset.categories, media=dataset.media, annotations=changed)
    )
    assert len(fitted.annotations) == 2
    assert report.problems[-1].kind == "mask without pixels"


def test_names_that_would_be_written_outside_are_refused(tmp_path: Path) -> None:
    dataset = small_dataset(2)
    uris = ["http://host/../../a.jpg", "http://host/b.jpg"]
    media = type(dataset.media)(
        **{n: getattr(dataset.media, n) for n in dataset.media.__dataclass_fields__} | {"uri": uris}
    )
    with pytest.raises(PathEscapeError):
        labelme.write(
            Dataset(categories=dataset.categories, media=media, annotations=dataset.annotations),
            tmp_path / "out",
        )
    assert list(tmp_path.iterdir()) == []


def test_two_pictures_that_would_share_a_file_are_refused(tmp_path: Path) -> None:
    put(tmp_path / "in", "a.json", file(imagePath="a.jpg"))
    put(tmp_path / "in", "b.json", file(imagePath="a.png"))
    dataset, _ = labelme.read(tmp_path / "in")
    with pytest.raises(DataError, match="share one label file"):
        labelme.write(dataset, tmp_path / "out", media_root=tmp_path / "in")


def test_a_mask_keeps_its_pixels_through_a_file(tmp_path: Path) -> None:
    random = np.random.default_rng(0).random((H, W)) < 0.3
    counts = rle.to_text(rle.encode(random)).decode()
    text = json.dumps({"size": [H, W], "counts": counts}).encode()
    dataset = small_dataset(2)
    labels = dataset.annotations
    fields = {n: getattr(labels, n) for n in labels.__dataclass_fields__}
    changed = type(labels)(**fields | {"segmentation": [None, b"[[1.5,2,10,2,10.25,12]]", text]})
    media = {n: getattr(dataset.media, n) for n in dataset.media.__dataclass_fields__}
    media |= {"width": np.zeros(2, np.int32), "height": np.zeros(2, np.int32)}
    dataset = Dataset(
        categories=dataset.categories, media=type(dataset.media)(**media), annotations=changed
    )
    labelme.write(dataset, tmp_path / "out")
    back, _ = labelme.read(tmp_path / "out")
    found, height, width = rle.from_json(back.annotations.segmentation[2] or b"")
    assert (height, width) == (H, W)  # of the mask, where the picture's is not known
    assert np.array_equal(rle.decode(found, height, width), random)
    assert masks.rle_to_polygons(text)
