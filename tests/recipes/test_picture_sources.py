"""Every way of naming pictures ends in the same pictures, and a wrong name is said at once."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import fsspec
import numpy as np
import pytest

from tilth.data.images import write_jpeg
from tilth.errors import EmptyDatasetError, MediaError, SettingsError
from tilth.recipes.picture_sources import FrameReader, picture_sources

GREY = np.full((24, 32, 3), 90, np.uint8)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("b.jpg", "a.jpg", "deep/c.JPG"):
        write_jpeg(tmp_path / "photos" / name, GREY)
    (tmp_path / "photos" / "notes.txt").write_text("no picture")
    return tmp_path / "photos"


def write_clip(path: Path, count: int = 7) -> None:
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 25)
        for number in range(count):
            picture = np.full((64, 64, 3), 30 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def names(found):
    return [Path(source.name).name for source in found]


def test_a_folder_is_searched_to_the_bottom_by_name(photos: Path) -> None:
    assert names(picture_sources([str(photos)])) == ["a.jpg", "b.jpg", "c.JPG"]


def test_files_keep_the_order_in_which_they_are_named(photos: Path) -> None:
    found = picture_sources([str(photos / "b.jpg"), str(photos / "a.jpg")])
    assert names(found) == ["b.jpg", "a.jpg"]


def test_a_pattern_is_expanded(photos: Path) -> None:
    assert names(picture_sources([f"{photos}/*.jpg"])) == ["a.jpg", "b.jpg"]
    assert names(picture_sources([f"{photos}/**/*"])) == ["a.jpg", "b.jpg", "c.JPG"]
    with pytest.raises(MediaError, match="pattern"):
        picture_sources([f"{photos}/*.png"])


def test_brackets_in_a_real_name_are_no_pattern(photos: Path) -> None:
    write_jpeg(photos / "shot[1].jpg", GREY)
    assert names(picture_sources([str(photos / "shot[1].jpg")])) == ["shot[1].jpg"]


def test_a_dash_reads_names_from_lines(photos: Path) -> None:
    lines = [f"{photos}/b.jpg\n", "\n", f"{photos}/deep\n"]
    assert names(picture_sources(["-"], lines=lines)) == ["b.jpg", "c.JPG"]


def test_a_url_is_fetched_and_its_keys_are_not_shown(photos: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/bucket/far.jpg", (photos / "a.jpg").read_bytes())
    (found,) = picture_sources(["memory://bucket/far.jpg"])
    assert found.name == "memory://bucket/far.jpg"
    assert found.path.read_bytes() == (photos / "a.jpg").read_bytes()
    with pytest.raises(MediaError, match="cannot be fetched"):
        picture_sources(["memory://bucket/nowhere.jpg"])


def test_of_a_video_every_so_many_frames(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4")
    found = picture_sources([str(tmp_path / "clip.mp4")], every=3)
    assert [source.frame for source in found] == [0, 3, 6]
    assert found[1].name == f"{tmp_path}/clip.mp4#frame=3"
    assert found[1].stem == "clip-000003"
    frames = FrameReader()
    shown = [int(frames.read(source).mean()) for source in found]
    frames.close()
    assert shown == pytest.approx([0, 90, 180], abs=6)
    with pytest.raises(SettingsError):
        picture_sources([str(tmp_path / "clip.mp4")], every=0)


def test_a_broken_video_is_named(tmp_path: Path) -> None:
    pytest.importorskip("av")
    (tmp_path / "clip.mp4").write_bytes(b"no video")
    with pytest.raises(MediaError) as caught:
        picture_sources([str(tmp_path / "clip.mp4")])
    assert "clip.mp4" in str(caught.value)


def test_what_is_missing_or_empty_is_said(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no such picture") as caught:
        picture_sources([str(tmp_path / "nowhere.jpg")])
    assert caught.value.where == str(tmp_path / "nowhere.jpg")
    (tmp_path / "empty").mkdir()
    with pytest.raises(EmptyDatasetError, match="no picture"):
        picture_sources([str(tmp_path / "empty")])
    with pytest.raises(EmptyDatasetError, match="no picture"):
        picture_sources(["-"], lines=["\n"])
