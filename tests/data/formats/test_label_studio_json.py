"""Label Studio: percents to pixels, brushes bit by bit, whose labels count, videos, names."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_sets import small_dataset

from tilth.data import rle
from tilth.data.dataset import Dataset
from tilth.data.formats import label_studio_json as label_studio
from tilth.data.formats._label_studio_brush import decode_brush, encode_brush
from tilth.data.images import write_jpeg
from tilth.data.problems import LabelReport
from tilth.data.records import Geometry, ReviewState, Source
from tilth.errors import DataError, EmptyDatasetError, LabelError, PathEscapeError, TilthError

W, H = 200, 100


def result(kind: str, value: dict[str, Any], **fields: Any) -> dict[str, Any]:
    own = {"type": kind, "from_name": "label", "to_name": "image", "id": None}
    return own | {"original_width": W, "original_height": H, "value": value} | fields


def box(
    x: float, y: float, w: float, h: float, label: str = "cat", **fields: Any
) -> dict[str, Any]:
    value = {"x": x, "y": y, "width": w, "height": h, "rotation": fields.pop("rotation", 0)}
    return result("rectanglelabels", value | {"rectanglelabels": [label]}, **fields)


def task(*results: Any, image: str = "a.jpg", **fields: Any) -> dict[str, Any]:
    said = [{"id": 7, "completed_by": 1, "was_cancelled": False, "result": list(results)}]
    return {"id": 1, "data": {"image": image}, "annotations": said, "predictions": []} | fields


def put(folder: Path, *tasks: Any) -> Path:
    path = folder / "export.json"
    path.write_text(json.dumps(list(tasks)))
    return path


def read(path: Path, **options: Any) -> tuple[Dataset, LabelReport]:
    return label_studio.read(path, options=label_studio.ReadOptions(**options))


# --- shapes -------------------------------------------------------------------------------------


def test_percents_are_of_width_and_of_height(tmp_path: Path) -> None:
    dataset, report = read(put(tmp_path, task(box(10, 20, 30, 50))))
    assert dataset.annotations.boxes_xyxy.tolist() == [[20, 20, 80, 70]]
    assert dataset.annotations.geometry.tolist() == [Geometry.BOX]
    assert dataset.annotations.area.tolist() == [60 * 50]
    assert (dataset.media.width[0], dataset.media.height[0]) == (W, H)
    assert dataset.media.uri == [f"{tmp_path}/a.jpg"]
    assert report.problems == ()


def test_a_turned_box_turns_about_its_corner_in_pixels(tmp_path: Path) -> None:
    """A quarter turn clockwise: the width points down, the height points to the left."""
    dataset, _ = read(put(tmp_path, task(box(50, 20, 10, 30, rotation=90))))
    labels = dataset.annotations
    corners = np.array(json.loads(labels.segmentation[0] or b"")[0]).reshape(-1, 2)
    np.testing.assert_allclose(corners, [[100, 20], [100, 40], [70, 40], [70, 20]], atol=1e-9)
    np.testing.assert_allclose(labels.boxes_xyxy, [[70, 20, 100, 40]], atol=1e-9)
    assert labels.area[0] == pytest.approx(20 * 30)
    whole, _ = read(put(tmp_path, task(box(50, 20, 10, 30, rotation=360))))
    assert whole.annotations.geometry.tolist() == [Geometry.BOX]


def test_polygon(tmp_path: Path) -> None:
    value = {"points": [[0, 0], [50, 0], [50, 100.0]], "polygonlabels": ["cat"], "closed": True}
    dataset, _ = read(put(tmp_path, task(result("polygonlabels", value))))
    labels = dataset.annotations
    assert json.loads(labels.segmentation[0] or b"") == [[0, 0, 100, 0, 100, 100]]
    assert labels.area.tolist() == [5000]


def test_ellipse_becomes_a_polygon(tmp_path: Path) -> None:
    value = {"x": 50, "y": 50, "radiusX": 10, "radiusY": 30, "ellipselabels": ["cat"]}
    turned = value | {"rotation": 90}
    path = put(tmp_path, task(result("ellipselabels", value), result("ellipselabels", turned)))
    dataset, _ = read(path)
    labels = dataset.annotations
    np.testing.assert_allclose(labels.boxes_xyxy, [[80, 20, 120, 80], [70, 30, 130, 70]], atol=1e-6)
    np.testing.assert_allclose(labels.area, math.pi * 20 * 30, rtol=0.005)


def test_brush_in_a_file(tmp_path: Path) -> None:
    mask = np.zeros((H, W), np.bool_)
    mask[10:20, 30:50] = True
    value = {"format": "rle", "rle": encode_brush(mask), "brushlabels": ["cat"]}
    dataset, _ = read(put(tmp_path, task(result("brushlabels", value))))
    labels = dataset.annotations
    assert labels.boxes_xyxy.tolist() == [[30, 10, 50, 20]]
    assert labels.area.tolist() == [200]
    counts, height, width = rle.from_json(labels.segmentation[0] or b"")
    assert np.array_equal(rle.decode(counts, height, width), mask)


def test_labels_beside_a_shape_of_the_same_region(tmp_path: Path) -> None:
    """<Rectangle> and <Labels> apart, and answers that belong to one region."""
    shape = {"x": 10, "y": 20, "width": 30, "height": 50, "rotation": 0}
    results = [
        result("rectangle", shape, id="r1"),
        result("labels", shape | {"labels": ["cat"]}, id="r1"),
        result("choices", shape | {"choices": ["yes"]}, id="r1", from_name="occluded"),
        result("textarea", shape | {"text": ["a", "b"]}, id="r1", from_name="note"),
        result("choices", {"choices": ["sunny"]}, id="r2", from_name="weather"),
        box(0, 0, 10, 10, "dog", id="r3", meta={"text": ["seen"]}),
    ]
    dataset, report = read(put(tmp_path, task(*results)))
    labels = dataset.annotations
    names = [dataset.categories[at].name for at in labels.category_index]
    assert names == ["cat", "sunny", "dog"]
    assert labels.geometry.tolist() == [Geometry.BOX, Geometry.LABEL, Geometry.BOX]
    assert json.loads(labels.attributes[0] or b"") == {"occluded": "yes", "note": ["a", "b"]}
    assert json.loads(labels.attributes[2] or b"") == {"text": ["seen"]}
    assert report.problems == ()


def test_several_classes_of_one_region_are_a_label_each(tmp_path: Path) -> None:
    both = box(0, 0, 10, 10)
    both["value"]["rectanglelabels"] = ["cat", "dog"]
    choices = result("choices", {"choices": ["x", "y"]})
    dataset, report = read(put(tmp_path, task(both, choices)))
    assert len(dataset.annotations) == 4
    assert [(p.kind, p.count) for p in report.problems] == [("region of several classes", 1)]


def test_what_cannot_be_used_is_reported_with_its_place(tmp_path: Path) -> None:
    nameless = box(0, 0, 10, 10)
    nameless["value"]["rectanglelabels"] = []
    results = [
        result("keypointlabels", {"x": 1, "y": 1, "keypointlabels": ["cat"]}),
        result("relation", {}),
        nameless,
        box(0, 0, 0, 10),
        result("rectanglelabels", {"x": 0, "rectanglelabels": ["cat"]}),
        result("polygonlabels", {"points": [[0, 0], [1, 1]], "polygonlabels": ["cat"]}),
        result("brushlabels", {"rle": [0, 0], "brushlabels": ["cat"]}),
        result("ellipselabels", {"x": 1, "y": 1, "ellipselabels": ["cat"]}),
        box(0, 0, 10, 10, original_width=None, original_height=None),
        box(0, 0, 10, 10, image_rotation=90),
    ]
    dataset, report = read(put(tmp_path, task(*results)))
    assert len(dataset.annotations) == 2
    assert {p.kind: p.examples[0] for p in report.problems} == {
        f"result of type '{kind}', which has no area": f"task 1: annotation 7, result[{at}]"
        for at, kind in enumerate(["keypointlabels", "relation"])
    } | {
        "region without a class": "task 1: annotation 7, result[2]",
        "box without area": "task 1: annotation 7, result[3]",
        "rectangle without x, y, width and height": "task 1: annotation 7, result[4]",
        "polygon of fewer than 3 points": "task 1: annotation 7, result[5]",
        "a brush mask that breaks off": "task 1: annotation 7, result[6]",
        "ellipse without a centre and two radii": "task 1: annotation 7, result[7]",
        "picture that was turned in the tool": "task 1: annotation 7",
    }


def test_the_size_comes_from_the_task_or_the_picture_where_no_result_says_it(
    tmp_path: Path,
) -> None:
    unsized = box(10, 10, 10, 10, original_width=None, original_height=None)
    write_jpeg(tmp_path / "a.jpg", np.zeros((50, 400, 3), np.uint8))
    said = task(unsized, image="b.jpg")
    said["data"] |= {"width": 1000, "height": 10}
    dataset, report = read(put(tmp_path, task(unsized), said, task(unsized, image="gone.jpg")))
    assert dataset.annotations.boxes_xyxy.tolist() == [[40, 5, 80, 10], [100, 1, 200, 2]]
    assert report.problems[0].kind == "region in percent of a picture of unknown size"


# --- the brush code -----------------------------------------------------------------------------


def bits(*parts: tuple[int, int]) -> list[int]:
    """Bytes of numbers with their widths in bits."""
    text = "".join(f"{value:0{width}b}" for value, width in parts)
    text += "0" * (-len(text) % 8)
    return [int(text[at : at + 8], 2) for at in range(0, len(text), 8)]


HEAD = ((8, 32), (7, 5), (2, 4), (3, 4), (7, 4), (15, 4))  # 8 bytes: two pixels


def test_brush_decodes_an_example_worked_out_by_hand() -> None:
    """Three literals, a run of four, one literal: alpha is the 4th and the 8th byte."""
    literals = ((0, 1), (0, 2), (2, 3), (9, 8), (8, 8), (7, 8))
    run = ((1, 1), (1, 2), (3, 4), (0, 8))
    last = ((0, 1), (2, 2), (0, 8), (255, 8))
    assert decode_brush(bits(*HEAD, *literals, *run, *last), 1, 2).tolist() == [[False, True]]
    assert decode_brush(bits(*HEAD, *literals, *run, *last), 2, 1).tolist() == [[False], [True]]


def plain_decoder(code: list[int]) -> list[int]:
    """Bit by bit, as the definition reads."""
    text, at = "".join(f"{byte:08b}" for byte in code), 0

    def take(count: int) -> int:
        nonlocal at
        at += count
        return int(text[at - count : at], 2)

    count, word, sizes = take(32), take(5) + 1, [take(4) + 1 for _ in range(4)]
    out: list[int] = []
    while len(out) < count:
        is_run = take(1)
        length = take(sizes[take(2)]) + 1
        out += [take(word)] * length if is_run else [take(word) for _ in range(length)]
    return out


masks_of_any_size = st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**31)).map(
    lambda t: np.random.default_rng(t[2]).random((t[0], t[1])) < (t[2] % 4) / 3
)


@given(mask=masks_of_any_size)
def test_any_mask_survives_a_brush(mask: Any) -> None:
    assert np.array_equal(decode_brush(encode_brush(mask), *mask.shape), mask)


@given(mask=masks_of_any_size)
def test_brush_matches_a_plain_decoder(mask: Any) -> None:
    words = np.array(plain_decoder(encode_brush(mask))).reshape(*mask.shape, 4)
    assert np.array_equal(words, np.repeat(mask[:, :, None] * 255, 4, axis=2))


def test_runs_longer_than_sixteen_bits_are_split() -> None:
    mask = np.ones((300, 400), np.bool_)
    code = encode_brush(mask)
    assert len(code) < 60
    assert decode_brush(code, 300, 400).all()


BAD_CODES: dict[str, list[Any]] = {
    "breaks off": bits(*HEAD, (1, 1), (0, 2)),
    "another size": bits((2**32 - 1, 32), *HEAD[1:]),
    "goes on beyond": bits(*HEAD, (1, 1), (3, 2), (65535, 16), (1, 8)),
    "not bytes": [0, 256],
    "words are no bytes": bits((8, 32), (31, 5), *HEAD[2:]),
}


@pytest.mark.parametrize(("message", "code"), BAD_CODES.items())
def test_a_code_that_is_none_is_refused(message: str, code: list[int]) -> None:
    with pytest.raises(DataError, match=message):
        decode_brush(code, 1, 2)


@given(code=st.lists(st.integers(0, 255), max_size=60), prefix=st.booleans())
def test_any_code_ends_in_a_mask_or_an_error(code: list[int], prefix: bool) -> None:
    try:
        mask = decode_brush(bits(*HEAD)[:-1] + code if prefix else code, 1, 2)
    except DataError:
        return
    assert mask.shape == (1, 2)


# --- who said it --------------------------------------------------------------------------------


def annotation(key: int, who: Any, *results: Any, **fields: Any) -> dict[str, Any]:
    return {"id": key, "completed_by": who, "result": list(results)} | fields


SEVERAL = task(
    annotations=[
        annotation(1, 5, box(0, 0, 10, 10, "cat")),
        annotation(2, {"id": 6, "email": "a@b.c"}, box(0, 0, 20, 10, "cat"), ground_truth=True),
        annotation(3, 7, box(0, 0, 30, 10, "cat"), was_cancelled=True),
    ],
    predictions=[
        {
            "model_version": "v1",
            "score": 0.5,
            "result": [box(0, 0, 40, 10), box(0, 0, 50, 10, score=0.25)],
        }
    ],
)


def widths(dataset: Dataset) -> list[float]:
    boxes = dataset.annotations.boxes_xyxy
    return (boxes[:, 2] - boxes[:, 0]).tolist()


def test_all_annotators_are_kept_and_named(tmp_path: Path) -> None:
    dataset, report = read(put(tmp_path, SEVERAL))
    labels = dataset.annotations
    assert widths(dataset) == [20, 40, 80, 100]
    said = [json.loads(text or b"{}").get("annotator") for text in labels.attributes]
    assert said == [5, "a@b.c", None, None]
    assert [(p.kind, p.examples) for p in report.problems] == [
        ("annotation that was cancelled (the task was skipped)", ("task 1: annotation 3",))
    ]
    assert report.notes[:2] == [
        "2 annotations and 1 predictions",
        "1 tasks have several annotations: all are read, with 'annotator' as an attribute "
        "(--option annotators=first, last or ground_truth takes one)",
    ]


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"annotators": "first"}, [20, 80, 100]),
        ({"annotators": "last"}, [40, 80, 100]),
        ({"annotators": "ground_truth"}, [40, 80, 100]),
        ({"predictions": "none"}, [20, 40]),
        ({"predictions": "unlabelled"}, [20, 40]),
        ({"predictions": "none", "annotators": "last"}, [40]),
    ],
)
def test_an_option_says_whose_labels_count(
    options: dict[str, Any], wanted: list[float], tmp_path: Path
) -> None:
    assert widths(read(put(tmp_path, SEVERAL), **options)[0]) == wanted


def test_one_annotation_names_nobody(tmp_path: Path) -> None:
    dataset, _ = read(put(tmp_path, SEVERAL), annotators="first", predictions="none")
    assert list(dataset.annotations.attributes) == [None]


def test_predictions_are_a_models_and_keep_their_scores(tmp_path: Path) -> None:
    labels = read(put(tmp_path, SEVERAL))[0].annotations
    assert labels.source.tolist() == [Source.HUMAN] * 2 + [Source.MODEL] * 2
    np.testing.assert_array_equal(labels.score, np.array([np.nan, np.nan, 0.5, 0.25], np.float32))


def test_the_old_name_of_annotations_is_read(tmp_path: Path) -> None:
    old = task(annotations=None, completions=[annotation(1, None, box(0, 0, 10, 10))])
    assert len(read(put(tmp_path, old))[0].annotations) == 1


# --- JSON_MIN -----------------------------------------------------------------------------------


def test_json_min_is_read(tmp_path: Path) -> None:
    value = {"x": 10, "y": 20, "width": 30, "height": 50, "rotation": 0}
    first: dict[str, Any] = {
        "image": "/data/local-files/?d=sub/a.jpg",
        "id": 1,
        "label": [value | {"rectanglelabels": ["cat"], "original_width": W, "original_height": H}],
        "weather_choice": "sunny",
        "tags": {"choices": ["x", "y"]},
        "annotator": 1,
        "annotation_id": 1,
        "created_at": "2024-01-01T00:00:00Z",
        "lead_time": 1.5,
    }
    second = first | {"annotation_id": 2, "label": first["label"] * 2, "tags": "none"}
    path = put(tmp_path, first, second)
    assert label_studio.recognises(path)
    dataset, report = read(path)
    assert dataset.media.uri == [f"{tmp_path}/sub/a.jpg"]
    names = [dataset.categories[at].name for at in dataset.annotations.category_index]
    assert names == ["cat", "sunny", "x", "y", "cat", "cat", "sunny"]
    assert dataset.annotations.boxes_xyxy[0].tolist() == [20, 20, 80, 70]
    assert any("JSON_MIN" in note for note in report.notes)


# --- pictures -----------------------------------------------------------------------------------

NAMES = {
    "a.jpg": "{root}/a.jpg",
    "sub\\a.jpg": "{root}/sub/a.jpg",
    "/data/local-files/?d=sub/a%20b%26.jpg": "{root}/sub/a b&.jpg",
    "http://localhost:8080/data/local-files/?d=sub%5Ca.jpg": "{root}/sub/a.jpg",
    "/data/upload/3/0a1b2c3d-there.jpg": "{root}/there.jpg",
    "/data/upload/3/0a1b2c3d-gone.jpg": "{root}/0a1b2c3d-gone.jpg",
    "s3://bucket/a b.jpg": "s3://bucket/a b.jpg",
    "https://host/a.jpg?x=1": "https://host/a.jpg?x=1",
    "/tasks/3/resolve/?fileuri=" + base64.b64encode(b"s3://b/a.jpg").decode(): "s3://b/a.jpg",
}


@pytest.mark.parametrize(("name", "wanted"), NAMES.items())
def test_pictures_are_found_behind_their_names(name: str, wanted: str, tmp_path: Path) -> None:
    (tmp_path / "there.jpg").write_bytes(b"")
    dataset, _ = read(put(tmp_path, task(image=name)))
    assert dataset.media.uri == [wanted.format(root=tmp_path)]


@pytest.mark.parametrize(
    "name",
    [
        "../a.jpg",
        "/etc/passwd",
        "/data/local-files/?d=../../etc/passwd",
        "/data/local-files/?d=",
        "/data/local-files/?d=..%2F..%2Fetc%2Fpasswd",
        "/data/upload/1/../../..",
        "/tasks/1/resolve/?fileuri=Li4vLi4v",
        "C:\\a.jpg",
    ],
)
def test_names_stay_in_their_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(PathEscapeError):
        read(put(tmp_path, task(image=name)))


def test_the_field_of_the_picture_is_found_or_named(tmp_path: Path) -> None:
    other = task(box(0, 0, 10, 10)) | {"data": {"note": "hello", "scan": "a.png"}}
    assert read(put(tmp_path, other))[0].media.uri == [f"{tmp_path}/a.png"]
    odd = task(box(0, 0, 10, 10)) | {"data": {"note": "hello", "scan": "a"}}
    dataset, report = read(put(tmp_path, odd, task()))
    assert dataset.media.uri == [f"{tmp_path}/a.jpg"]
    assert report.problems[0].kind == "task that names no picture"
    assert read(put(tmp_path, odd), data_key="scan")[0].media.uri == [f"{tmp_path}/a"]


def test_tasks_of_one_picture_are_one_medium(tmp_path: Path) -> None:
    dataset, _ = read(put(tmp_path, task(), task(box(0, 0, 10, 10)), task(box(0, 0, 20, 10))))
    assert dataset.media.width.tolist() == [W]
    assert dataset.annotations.media_index.tolist() == [0, 0]


# --- videos -------------------------------------------------------------------------------------


def keyframe(frame: int, x: float, **fields: Any) -> dict[str, Any]:
    return {"frame": frame, "x": x, "y": 10, "width": 10, "height": 20, "rotation": 0} | fields


def video(*keys: dict[str, Any], frames: int = 10, **fields: Any) -> dict[str, Any]:
    value = {"framesCount": frames, "sequence": list(keys), "labels": ["man"]}
    found = task(result("videorectangle", value, id="t1", **fields))
    return found | {"data": {"video": "clip.mp4"}}


def frames_of(dataset: Dataset) -> dict[str, list[float]]:
    lefts = dataset.annotations.boxes_xyxy[:, 0]
    names = [dataset.media.uri[at].rpartition("/")[2] for at in dataset.annotations.media_index]
    return {name: [left] for name, left in zip(names, lefts.tolist(), strict=True)}


def test_boxes_move_between_key_frames_and_end_where_they_are_switched_off(tmp_path: Path) -> None:
    """Frames 1, 3 and 6 there are 0, 2 and 5 here; the one switched off is still seen."""
    keys = [keyframe(1, 0), keyframe(3, 20), keyframe(6, 20, enabled=False), keyframe(9, 40)]
    dataset, report = read(put(tmp_path, video(*keys)))
    assert frames_of(dataset) == {
        "clip.mp4#frame=0": [0],
        "clip.mp4#frame=1": [20],
        "clip.mp4#frame=2": [40],
        "clip.mp4#frame=3": [40],
        "clip.mp4#frame=4": [40],
        "clip.mp4#frame=5": [40],
        "clip.mp4#frame=8": [80],
        "clip.mp4#frame=9": [80],
    }
    attributes = [json.loads(text or b"") for text in dataset.annotations.attributes]
    assert {a["track_id"] for a in attributes} == {"t1"}
    assert [a["keyframe"] for a in attributes] == [
        True,
        False,
        True,
        False,
        False,
        True,
        True,
        False,
    ]
    assert dataset.media.width.tolist() == [W] * 8
    assert report.problems == ()


def test_key_frames_alone_are_read_when_asked(tmp_path: Path) -> None:
    dataset, _ = read(put(tmp_path, video(keyframe(1, 0), keyframe(5, 20))), frames="keyframes")
    assert frames_of(dataset) == {"clip.mp4#frame=0": [0], "clip.mp4#frame=4": [40]}


BAD_VIDEOS: dict[str, dict[str, Any]] = {
    "unknown size": video(keyframe(1, 0), original_width=None),
    "more frames": video(keyframe(1, 0), frames=10**9),
    "without key frames": video(),
    "turned box": video(keyframe(1, 0, rotation=30)),
    "in a video": task(box(0, 0, 10, 10)) | {"data": {"video": "clip.mp4"}},
}


@pytest.mark.parametrize(("kind", "bad"), BAD_VIDEOS.items())
def test_what_cannot_be_read_of_a_video_is_reported(
    kind: str, bad: dict[str, Any], tmp_path: Path
) -> None:
    dataset, report = read(put(tmp_path, bad, task()))
    assert len(dataset.annotations) == 0
    assert kind in report.problems[0].kind


def test_the_size_of_a_video_comes_from_its_file(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        for _ in range(4):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 64, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    unsized = video(keyframe(1, 50), original_width=None, original_height=None)
    dataset, _ = read(put(tmp_path, unsized))
    assert frames_of(dataset) == {f"clip.mp4#frame={at}": [32] for at in range(4)}


# --- files that are none ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [b"", b"{}", b"[1]", b"[[]]", b"\xff\xfe", b"[" * 100_000, b'[{"data":' + b"[" * 5000],
)
def test_a_file_that_is_none_is_refused(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "export.json").write_bytes(text)
    with pytest.raises((LabelError, EmptyDatasetError)):
        label_studio.read(tmp_path / "export.json")


def test_no_tasks_are_said(tmp_path: Path) -> None:
    with pytest.raises(EmptyDatasetError):
        read(put(tmp_path))
    with pytest.raises(LabelError, match="cannot be read"):
        read(tmp_path / "missing.json")


def test_a_task_that_is_none_is_reported_and_the_others_are_read(tmp_path: Path) -> None:
    bad = [
        {"data": []},
        task(box(0, 0, 10, 10, original_width=-1)),
        task(result("rectanglelabels", {"x": "1"})),
        task(result("brushlabels", {"rle": [0.5]})),
    ]
    dataset, report = read(put(tmp_path, task(), *bad))
    assert len(dataset.media) == 1
    assert (report.problems[0].kind, report.problems[0].count) == ("task that cannot be read", 4)
    assert report.problems[0].examples[0].startswith("[1]: ")


def test_an_unknown_label_is_an_error_or_left_out(tmp_path: Path) -> None:
    path = put(tmp_path, task(box(0, 0, 10, 10, "dog"), box(0, 0, 10, 10, "cat")))
    with pytest.raises(LabelError, match="'dog'") as caught:
        read(path, classes="cat,bird")
    assert "task 1: annotation 7, result[0]" in (caught.value.where or "")
    options = label_studio.ReadOptions(classes="bird,cat")
    dataset, report = label_studio.read(path, on_unknown="skip", options=options)
    assert dataset.annotations.category_index.tolist() == [1]
    assert report.problems[0].kind == "label of an unknown class"


def test_recognises_only_its_own(tmp_path: Path) -> None:
    assert label_studio.recognises(put(tmp_path, SEVERAL))
    for text in ('{"annotations": []}', '[{"image_id": 1, "bbox": []}]', "[]", ""):
        (tmp_path / "other.json").write_text(text)
        assert not label_studio.recognises(tmp_path / "other.json")
    assert not label_studio.recognises(tmp_path)
    assert not label_studio.recognises(tmp_path / "missing.json")
    assert not label_studio.recognises(Path("\0.json"))


FUZZED = json.dumps(
    [
        SEVERAL,
        video(keyframe(1, 0), keyframe(3, 20, enabled=False)),
        task(
            result(
                "brushlabels", {"rle": encode_brush(np.eye(4, dtype=bool)), "brushlabels": ["x"]}
            )
            | {"original_width": 4, "original_height": 4},
            result("polygonlabels", {"points": [[0, 0], [9, 0], [9, 9]], "polygonlabels": ["y"]}),
            image="/data/local-files/?d=b.jpg",
        ),
    ]
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
    path = tmp_path / "export.json"
    path.write_bytes(text)
    try:
        dataset, _ = label_studio.read(path)
    except TilthError:
        return
    assert np.isfinite(dataset.annotations.boxes_xyxy).all()
    local = [uri for uri in dataset.media.uri if "://" not in uri]
    assert all(uri.startswith(f"{tmp_path}/") for uri in local)


# --- writing ------------------------------------------------------------------------------------


def test_a_written_task_reads_as_label_studio_defines_it(tmp_path: Path) -> None:
    dataset = small_dataset(2, prefix=f"{tmp_path}/")
    labels = dataset.annotations
    source = np.array([Source.HUMAN, Source.MODEL, Source.SYNTHETIC], np.uint8)
    dataset = dataclasses.replace(dataset, annotations=dataclasses.replace(labels, source=source))
    label_studio.write(dataset, tmp_path / "out.json", media_root=tmp_path)
    first, second = json.loads((tmp_path / "out.json").read_text())
    assert first["data"] == {
        "image": "/data/local-files/?d=pictures/000.jpg",
        "width": 100,
        "height": 80,
    }
    human, synthetic = first["annotations"][0]["result"]
    assert human == {
        "id": "1",
        "type": "rectanglelabels",
        "from_name": "label",
        "to_name": "image",
        "original_width": 100,
        "original_height": 80,
        "image_rotation": 0,
        "value": {
            "x": 0.25,
            "y": 0.625,
            "width": 20.125,
            "height": 37.5,
            "rotation": 0,
            "rectanglelabels": ["person"],
        },
        "score": 0.5,
        "meta": {"tilth": {"attributes": {"occluded": True}}},
    }
    assert synthetic["meta"] == {"tilth": {"source": "synthetic", "crowd": True}}
    assert plain_decoder(synthetic["value"]["rle"])[3::4].count(255) == 20
    (guess,) = first["predictions"]
    assert guess["model_version"] == "tilth"
    assert guess["result"][0]["value"]["points"] == [[1.5, 2.5], [10, 2.5], [10.25, 15]]
    assert (second["annotations"], second["predictions"]) == ([], [])


def test_annotators_come_back_as_annotations_of_their_own(tmp_path: Path) -> None:
    dataset, _ = read(put(tmp_path, SEVERAL))
    label_studio.write(dataset, tmp_path / "out.json", media_root=tmp_path)
    (written,) = json.loads((tmp_path / "out.json").read_text())
    assert [entry["completed_by"] for entry in written["annotations"]] == [5, "a@b.c"]
    back, _ = read(tmp_path / "out.json")
    assert back.annotations.attributes == dataset.annotations.attributes
    assert widths(back) == widths(dataset)


def test_review_comes_back(tmp_path: Path) -> None:
    dataset = small_dataset(2)
    state = np.array([ReviewState.ACCEPTED, ReviewState.REJECTED, 0], np.uint8)
    labels = dataclasses.replace(dataset.annotations, review_state=state)
    label_studio.write(dataclasses.replace(dataset, annotations=labels), tmp_path / "out.json")
    assert read(tmp_path / "out.json")[0].annotations.review_state.tolist() == state.tolist()


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_boxes_come_back_within_a_thousand_millionth_of_a_pixel(
    data: st.DataObject, tmp_path: Path
) -> None:
    size = data.draw(st.tuples(st.integers(1, 20_000), st.integers(1, 20_000)))
    x0, y0 = (data.draw(st.floats(0, side * 0.9)) for side in size)
    x1 = data.draw(st.floats(x0 + 0.01, x0 + size[0]))
    y1 = data.draw(st.floats(y0 + 0.01, y0 + size[1]))
    dataset = small_dataset(2, 1)
    media = dataclasses.replace(
        dataset.media, width=np.full(2, size[0], np.int32), height=np.full(2, size[1], np.int32)
    )
    boxes = np.array([[x0, y0, x1, y1]])
    labels = dataclasses.replace(dataset.annotations, boxes_xyxy=boxes)
    dataset = dataclasses.replace(dataset, media=media, annotations=labels)
    label_studio.write(dataset, tmp_path / "out.json")
    back, _ = read(tmp_path / "out.json")
    np.testing.assert_allclose(back.annotations.boxes_xyxy, boxes, rtol=0, atol=2e-9)


def test_shapes_of_unknown_size_are_left_out_and_reported(tmp_path: Path) -> None:
    write_jpeg(tmp_path / "pictures" / "000.jpg", np.zeros((80, 100, 3), np.uint8))
    dataset = small_dataset(3, prefix=f"{tmp_path}/")
    media = dataclasses.replace(dataset.media, width=np.zeros(3, np.int32))
    fitted, report = label_studio.adapt(dataclasses.replace(dataset, media=media))
    assert fitted.media.width.tolist() == [100, 0, 0]
    assert len(fitted.annotations) == 4  # the mask has its own size
    assert [(p.kind, p.count) for p in report.problems if "unknown size" in p.kind] == [
        ("shape in a picture of unknown size, of which there is no percent", 2)
    ]


def test_a_prefix_can_be_chosen(tmp_path: Path) -> None:
    options = label_studio.WriteOptions(prefix="s3://bucket/")
    dataset = small_dataset(2, prefix=f"{tmp_path}/")
    label_studio.write(dataset, tmp_path / "out.json", media_root=tmp_path, options=options)
    back, _ = read(tmp_path / "out.json")
    assert back.media.uri[0] == "s3://bucket/pictures/000.jpg"
