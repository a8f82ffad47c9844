"""What is found is written down as asked, and a broken picture costs itself alone."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from bright_detector import bright_detector, picture_with

from tilth.data.formats import load_format
from tilth.data.images import read_image, write_jpeg
from tilth.errors import MediaError, SettingsError
from tilth.recipes.detector_inference import InferenceSettings, infer
from tilth.recipes.usable_detector import Detector, for_inference

BOXES = [(8, 10, 28, 30), (40, 36, 56, 60)]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    write_jpeg(folder / "two.jpg", picture_with(BOXES))
    write_jpeg(folder / "red.jpg", picture_with([(16, 16, 32, 48)], red=True))
    write_jpeg(folder / "wide.jpg", picture_with([(80, 10, 120, 50)], width=128))
    write_jpeg(folder / "dark.jpg", picture_with([]))
    return folder


def look(sources: list[Path], **choices: object) -> dict:
    return infer(bright_detector(), [str(each) for each in sources], InferenceSettings(**choices))


def by_name(found: dict) -> dict[str, list]:
    return {Path(each["picture"]).name: each["objects"] for each in found["pictures"]}


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_every_picture_is_looked_at_once(photos: Path, batch_size: int) -> None:
    found = look([photos], batch_size=batch_size)
    objects = by_name(found)
    assert list(objects) == ["dark.jpg", "red.jpg", "two.jpg", "wide.jpg"]
    assert found["objects"] == 4
    assert objects["dark.jpg"] == []
    (red,) = objects["red.jpg"]
    assert red["class"] == "red"
    assert red["box_xyxy"] == pytest.approx([16, 16, 32, 48], abs=1)
    boxes = sorted(each["box_xyxy"] for each in objects["two.jpg"])
    np.testing.assert_allclose(boxes, BOXES, atol=1)
    assert objects["wide.jpg"][0]["box_xyxy"] == pytest.approx([80, 10, 120, 50], abs=3)
    assert found["failed"] == []


def test_a_stretched_picture_gives_the_same_boxes(photos: Path) -> None:
    found = infer(bright_detector(resize="stretch"), [str(photos / "wide.jpg")])
    (wide,) = by_name(found)["wide.jpg"]
    assert wide["box_xyxy"] == pytest.approx([80, 10, 120, 50], abs=2)


def test_the_surest_comes_first(tmp_path: Path) -> None:
    image = picture_with([(8, 8, 20, 20)])
    image[40:56, 40:56] = 200
    cv2.imwrite(str(tmp_path / "a.png"), image)
    (objects,) = by_name(look([tmp_path / "a.png"])).values()
    assert objects[0]["box_xyxy"] == [8, 8, 20, 20]
    assert objects[0]["score"] > objects[1]["score"]
    assert len(by_name(look([tmp_path / "a.png"], score_threshold=0.9))["a.png"]) == 1


def test_copies_are_drawn_beside_each_other_and_never_over_the_pictures(
    photos: Path, tmp_path: Path
) -> None:
    twin = tmp_path / "elsewhere" / "two.jpg"
    write_jpeg(twin, picture_with(BOXES))
    before = (photos / "two.jpg").read_bytes()
    look([photos / "two.jpg", twin], draw=tmp_path / "drawn")
    assert {path.name for path in (tmp_path / "drawn").iterdir()} == {"two.jpg", "two-2.jpg"}
    assert (photos / "two.jpg").read_bytes() == before
    drawn = read_image(tmp_path / "drawn" / "two.jpg").astype(int)
    assert np.abs(drawn - read_image(photos / "two.jpg")).max() > 60
    with pytest.raises(SettingsError, match="replace the pictures"):
        look([photos], draw=photos)
    assert (photos / "two.jpg").read_bytes() == before


def test_labels_keep_the_scores_where_the_format_holds_them(photos: Path, tmp_path: Path) -> None:
    look([photos], labels=tmp_path / "found.json")
    dataset, _ = load_format("coco").read(tmp_path / "found.json")
    assert [category.name for category in dataset.categories] == ["white", "red"]
    assert len(dataset.media) == 4
    assert len(dataset.annotations) == 4
    assert (dataset.annotations.score > 0.8).all()
    look(
        [photos],
        labels=tmp_path / "yolo",
        labels_format="yolo_ultralytics",
        labels_options=("confidence=true",),
    )
    yolo, _ = load_format("yolo_ultralytics").read(tmp_path / "yolo", media_root=photos)
    assert sorted(yolo.annotations.score.tolist()) == pytest.approx(
        sorted(dataset.annotations.score.tolist()), abs=1e-4
    )
    look([photos], labels=tmp_path / "kitti", labels_format="kitti")
    kitti, _ = load_format("kitti").read(tmp_path / "kitti", media_root=photos)
    assert len(kitti.annotations) == 4
    with pytest.raises(SettingsError, match="unknown label format"):
        look([photos], labels=tmp_path / "x", labels_format="yolo")


def test_a_line_is_written_for_every_picture(photos: Path, tmp_path: Path) -> None:
    found = look([photos], lines=tmp_path / "found.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "found.jsonl").read_text().splitlines()]
    assert lines == found["pictures"]


def test_a_broken_picture_is_listed_and_the_others_are_found(photos: Path) -> None:
    (photos / "empty.jpg").write_bytes(b"")
    whole = (photos / "two.jpg").read_bytes()
    (photos / "short.jpg").write_bytes(whole[:-40])
    found = look([photos])
    assert [Path(each["picture"]).name for each in found["failed"]] == ["empty.jpg", "short.jpg"]
    assert found["failed"][0]["got"] == "an empty file"
    assert "truncated" in found["failed"][1]["message"]
    assert found["objects"] == 4
    with pytest.raises(MediaError):
        look([photos], is_strict=True)


def test_frames_of_a_video_are_named_by_their_number(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for number in range(5):
            image = picture_with([(4 + 8 * number, 16, 20 + 8 * number, 40)])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    found = look([tmp_path / "clip.mp4"], every=2, draw=tmp_path / "drawn")
    lefts = [each["objects"][0]["box_xyxy"][0] for each in found["pictures"]]
    assert lefts == pytest.approx([4, 20, 36], abs=2)
    assert [each["picture"].rpartition("#")[2] for each in found["pictures"]] == [
        *("frame=0", "frame=2", "frame=4")
    ]
    drawn = sorted(path.name for path in (tmp_path / "drawn").iterdir())
    assert drawn == ["clip-000000.jpg", "clip-000002.jpg", "clip-000004.jpg"]


def test_tiles_find_what_is_small_in_a_large_picture(tmp_path: Path) -> None:
    small = [(700, 500, 706, 506), (100, 90, 106, 96)]
    image = picture_with(small, width=800, height=600)
    cv2.imwrite(str(tmp_path / "large.png"), image)
    assert look([tmp_path / "large.png"])["objects"] == 0
    found = look([tmp_path / "large.png"], tile=128)
    assert found["objects"] == 2


def test_a_picture_of_twelve_thousand_pixels_is_looked_at(tmp_path: Path) -> None:
    image = np.full((12_000, 12_000, 3), 20, np.uint8)
    image[3000:6000, 9000:11_000] = 240
    cv2.imwrite(str(tmp_path / "huge.jpg"), image)
    found = look([tmp_path / "huge.jpg"])
    (only,) = found["pictures"][0]["objects"]
    assert only["box_xyxy"] == pytest.approx([9000, 3000, 11_000, 6000], abs=200)
    assert (found["pictures"][0]["width"], found["pictures"][0]["height"]) == (12_000, 12_000)


def test_the_network_runs_in_the_precision_that_is_asked_for(photos: Path, monkeypatch) -> None:
    asked = []

    def recorded(detector: Detector, *, precision: str) -> Detector:
        asked.append(precision)
        return for_inference(detector)

    monkeypatch.setattr("tilth.recipes.detector_inference.for_inference", recorded)
    look([photos], precision="bfloat16")
    assert asked == ["bfloat16"]
