"""Frames are the right ones: by index, by time, in any order, at constant and varying rate."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

pytest.importorskip("av")

from videos import number_of, write_video

from tilth.data.video import Video, frame_uri, split_frame
from tilth.errors import DataError, MediaError

KINDS = {
    "mpeg4": {"codec": "mpeg4"},
    "b-frames": {"codec": "libx264", "b_frames": 3},
    "one key frame": {"codec": "libx264", "key_every": 999},
    "vp9": {"codec": "libvpx-vp9"},
    "varying rate": {"codec": "libx264", "b_frames": 2, "steps": [1, 3, 2, 7]},
}
SUFFIX = {"vp9": ".webm"}


@pytest.fixture(params=list(KINDS))
def video(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"clip{SUFFIX.get(request.param, '.mp4')}"
    write_video(path, 60, **KINDS[request.param])
    return path


def test_every_frame_is_the_right_one_in_any_order(video: Path) -> None:
    with Video(video) as clip:
        assert (clip.num_frames, clip.width, clip.height) == (60, 128, 32)
        order = list(range(60)) * 2
        random.Random(0).shuffle(order)
        assert [number_of(clip.read_frame(index)) for index in order] == order


def test_frames_in_order_are_decoded_once(video: Path) -> None:
    with Video(video) as clip:
        seeks = []
        original = clip._seek
        clip._seek = lambda index: (seeks.append(index), original(index))[1]  # type: ignore[method-assign]
        assert [number_of(image) for image in clip.frames(range(60))] == list(range(60))
        assert seeks == [0]


def test_times_and_indices_agree(video: Path) -> None:
    with Video(video) as clip:
        times = [clip.time_of(index) for index in range(60)]
        assert times[0] == 0
        assert times == sorted(times)
        assert [clip.index_at(time) for time in times] == list(range(60))
        assert clip.index_at(times[7] + 1e-4) == 7
        assert clip.index_at(-5) == 0
        assert clip.index_at(1e6) == 59


def test_a_varying_rate_is_kept(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 4, codec="libx264", steps=[1, 3, 2])
    with Video(tmp_path / "a.mp4") as clip:
        times = [clip.time_of(index) for index in range(4)]
    assert times == pytest.approx([0, 1 / 30, 4 / 30, 6 / 30], abs=1e-3)


@pytest.mark.parametrize("index", [-1, 60, 10**9])
def test_a_frame_outside_is_refused(index: int, tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 60)
    with Video(tmp_path / "a.mp4") as clip, pytest.raises(DataError, match="does not have"):
        clip.read_frame(index)


@pytest.mark.parametrize("content", [b"", b"no video", bytes(5000)])
def test_what_is_no_video_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(MediaError):
        Video(path)
    with pytest.raises(MediaError, match="not there"):
        Video(tmp_path / "none.mp4")


def test_a_broken_stretch_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    write_video(path, 60, codec="mpeg4")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with Video(path) as clip:
        assert 0 < clip.num_frames < 60
        assert number_of(clip.read_frame(3)) == 3


def test_a_sound_file_has_no_frames(tmp_path: Path) -> None:
    import av
    import numpy as np

    with av.open(str(tmp_path / "a.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(MediaError, match="without a picture track"):
        Video(tmp_path / "a.wav")


def test_addresses_of_frames() -> None:
    assert split_frame(frame_uri("a b.mp4", 7)) == ("a b.mp4", 7)
    assert split_frame("s3://b/a.mp4#t=1.5") == ("s3://b/a.mp4", 1.5)
    assert split_frame("a#b.jpg") == ("a#b.jpg", None)
    with pytest.raises(DataError, match="whole number"):
        split_frame("a.mp4#frame=1.5")
