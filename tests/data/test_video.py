"""Frames are the right ones: by index, by time, in any order, at constant and varying rate."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from videos import number_of, write_video

from tilth.data.video import Video, frame_uri, split_frame
from tilth.errors import DataError, MediaError

HIDDEN = {"auto-alt-ref": "1", "lag-in-frames": "16"}  # frames that are decoded and never shown
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "mpeg4": (".mp4", {"codec": "mpeg4"}),
    "b-frames": (".mp4", {"codec": "libx264", "b_frames": 3}),
    "one key frame": (".mp4", {"codec": "libx264", "key_every": 999}),
    "open groups": (
        ".mp4",
        {
            "codec": "libx264",
            "b_frames": 3,
            "options": {"x264-params": "open-gop=1:keyint=12:min-keyint=12"},
        },
    ),
    "varying rate": (".mp4", {"codec": "libx264", "b_frames": 2, "steps": [1, 3, 2, 7]}),
    "begins late": (".mp4", {"codec": "libx264", "b_frames": 2, "first": 40}),
    "vp8": (".webm", {"codec": "libvpx", "options": HIDDEN}),
    "vp9": (".webm", {"codec": "libvpx-vp9", "options": HIDDEN}),
    "no times of showing": (".avi", {"codec": "mpeg4", "b_frames": 2}),
    "transport stream": (".ts", {"codec": "libx264", "b_frames": 3}),
    "program stream": (".mpg", {"codec": "mpeg2video", "b_frames": 2}),
    "matroska": (".mkv", {"codec": "libx264", "b_frames": 3}),
}


@pytest.fixture(params=list(KINDS))
def video(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    suffix, choices = KINDS[request.param]
    path = tmp_path / f"clip{suffix}"
    write_video(path, 60, **choices)
    return path


def test_every_frame_is_the_right_one_in_any_order(video: Path) -> None:
    with Video(video) as clip:
        assert (clip.num_frames, clip.width, clip.height) == (60, 128, 32)
        order = list(range(60)) * 2
        random.Random(0).shuffle(order)
        assert [number_of(clip.read_frame(index)) for index in order] == order


def test_frames_in_order_are_decoded_once(video: Path) -> None:
    with Video(video) as clip:
        jumps = []
        original = clip._jump_before
        clip._jump_before = lambda index: jumps.append(index) or original(index)  # type: ignore[method-assign,func-returns-value]
        assert [number_of(image) for image in clip.frames(range(60))] == list(range(60))
        assert jumps == [0]


def test_frames_beside_a_key_frame_do_not_cost_the_whole_file(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 200, codec="libx264", b_frames=3)
    with Video(tmp_path / "a.mp4") as clip:
        clip._restart = lambda _: pytest.fail("from the start of the file")  # type: ignore[method-assign]
        for index in reversed(range(200)):
            assert number_of(clip.read_frame(index)) == index


def test_what_an_edit_list_cuts_away_is_not_counted(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 60, codec="libx264", first=-5)
    with Video(tmp_path / "a.mp4") as clip:
        assert clip.num_frames == 55
        for index in (54, 0, 20, 3, 1):
            assert number_of(clip.read_frame(index)) == index + 5


def test_times_and_indices_agree(video: Path) -> None:
    with Video(video) as clip:
        times = [clip.time_of(index) for index in range(60)]
        assert times[0] == 0
        assert times == sorted(times)
        assert [clip.index_at(time) for time in times] == list(range(60))
        assert clip.index_at(times[7] + 1e-4) == 7
        assert clip.index_at(-5) == 0
        assert clip.index_at(1e6) == 59


@pytest.mark.parametrize("suffix", [".avi", ".mp4", ".mkv"])
def test_a_time_means_the_frame_shown_then_however_coarse_the_clock(
    suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"a{suffix}"
    write_video(path, 60)
    with Video(path) as clip:
        for index in range(60):
            assert clip.index_at(round(index / 30, 3)) == index
            assert clip.index_at((index + 0.6) / 30) == index


def test_a_varying_rate_is_kept(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 4, codec="libx264", steps=[1, 3, 2])
    with Video(tmp_path / "a.mp4") as clip:
        times = [clip.time_of(index) for index in range(4)]
    assert times == pytest.approx([0, 1 / 30, 4 / 30, 6 / 30], abs=1e-3)


@pytest.mark.parametrize("index", [-1, 60, 10**9])
def test_a_frame_outside_is_refused(index: int, tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 60)
    with Video(tmp_path / "a.mp4") as clip, pytest.raises(MediaError, match="does not have"):
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


def test_a_frame_that_the_decoder_patched_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    write_video(path, 60, codec="mpeg4", is_noisy=True)
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux() if packet.size]
    data, hurt = bytearray(path.read_bytes()), packets[31]
    middle = hurt.pos + hurt.size // 2
    data[middle : middle + 20] = random.Random(1).randbytes(20)
    path.write_bytes(data)
    with Video(path) as clip:
        clip.read_frame(30)
        for index in (31, 32, 35):
            with pytest.raises(MediaError, match="cannot be decoded") as caught:
                clip.read_frame(index)
            assert f"#frame={index}" in (caught.value.where or "")
        clip.read_frame(36)  # a key frame


@pytest.mark.parametrize(
    "playlist",
    [
        "ffconcat version 1.0\nfile secret.mp4\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nsecret.ts\n#EXT-X-ENDLIST\n",
    ],
)
def test_a_playlist_opens_no_other_file(playlist: str, tmp_path: Path) -> None:
    write_video(tmp_path / "secret.mp4", 3)
    write_video(tmp_path / "secret.ts", 3, codec="libx264")
    (tmp_path / "clip.mp4").write_text(playlist)
    with pytest.raises(MediaError, match="not a video"):
        Video(tmp_path / "clip.mp4")


def test_a_sound_file_has_no_frames(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(MediaError, match="without a picture track"):
        Video(tmp_path / "a.mkv")


def test_addresses_of_frames() -> None:
    assert split_frame(frame_uri("a b.mp4", 7)) == ("a b.mp4", 7)
    assert split_frame("s3://b/a.mp4#t=1.5") == ("s3://b/a.mp4", 1.5)
    assert split_frame("a#b.jpg") == ("a#b.jpg", None)
    with pytest.raises(DataError, match="whole number"):
        split_frame("a.mp4#frame=1.5")
