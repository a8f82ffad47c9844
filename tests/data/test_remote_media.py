"""Pictures behind URLs and frames of videos are media like any others."""

from __future__ import annotations

import io
import os
import random
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from http_server import Site, serving
from PIL import Image
from small_sets import small_dataset
from videos import number_of, write_video

from tilth.data.dataset import Dataset
from tilth.data.images import content_hash, read_image
from tilth.data.project import Project
from tilth.data.splits import split_by_parent
from tilth.data.video import Video, frame_uri
from tilth.errors import MediaError, PathEscapeError


def png(value: int, width: int = 100, height: int = 80) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), value, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def media_at(uris: list[str], *, sized: bool = True) -> Dataset:
    dataset = small_dataset(num_media=len(uris), labels_each=1)
    size = {} if sized else {"width": np.zeros(len(uris), np.int32)}
    return replace(dataset, media=replace(dataset.media, uri=uris, **size))


@pytest.fixture
def site() -> Iterator[Site]:
    with serving({f"/{n}.png": png(20 * n, width=100 + n) for n in range(1, 5)}) as site:
        yield site


@pytest.fixture
def project(tmp_path: Path) -> Project:
    Project.init(tmp_path / "field")
    (tmp_path / "field" / "tilth.toml").write_text("[media]\nretries = 0\ntimeout_s = 5.0\n")
    return Project.open(tmp_path / "field")


def test_a_remote_picture_is_fetched_once(site: Site, project: Project) -> None:
    url = f"{site.url}/1.png"
    report = project.import_dataset(media_at([url, f"{site.url}/2.png"]))
    assert report.problems == ()
    assert site.requests == [], "an import with sizes reads no pictures"
    path = project.media_path(url)
    assert read_image(path)[0, 0].tolist() == [20, 20, 20]
    assert path.is_relative_to(project.root / ".tilth" / "cache")
    assert Project.open(project.root).media_path(url) == path
    assert site.requests == ["/1.png"]


def test_sizes_that_labels_lack_are_read_from_remote_headers(site: Site, project: Project) -> None:
    project.import_dataset(media_at([f"{site.url}/{n}.png" for n in (1, 2)], sized=False))
    assert project.catalogue.read().media.width.tolist() == [101, 102]


def test_many_are_fetched_at_once_and_what_is_missing_is_told(site: Site, project: Project) -> None:
    uris = [f"{site.url}/{n}.png" for n in range(1, 6)]
    seen: list[int] = []
    (problem,) = project.prefetch([*uris, "photos/a.jpg"], advance=seen.append)
    assert (problem.count, len(seen)) == (1, 5)
    assert "5.png" in problem.examples[0]
    site.requests.clear()
    assert all(project.media_path(uri).is_file() for uri in uris[:4])
    assert site.requests == []


def test_a_remote_picture_that_changed_is_an_error(site: Site, project: Project) -> None:
    url = f"{site.url}/1.png"
    project.import_dataset(media_at([url]))
    ids = project.catalogue.read().media.id
    project.catalogue.set_content_hashes(ids, [content_hash(site.files["/1.png"])])
    assert project.media_path(url).is_file()
    site.files["/1.png"] = png(99)
    assert read_image(project.media_path(url))[0, 0, 0] == 20, "the copy is as it was"
    for path in (project.root / ".tilth" / "cache").glob("*/*"):
        path.unlink()
    with pytest.raises(MediaError, match="has changed"):
        project.media_path(url)


@pytest.mark.parametrize("uri", ["file:///etc/passwd", "ftp://host/a.png"])
def test_a_label_file_cannot_name_other_schemes(uri: str, project: Project) -> None:
    report = project.import_dataset(media_at([uri], sized=False))
    assert [problem.kind for problem in report.problems] == ["picture that cannot be read"]
    with pytest.raises(MediaError, match="not followed"):
        project.media_path(uri)


def test_frames_are_pictures(tmp_path: Path, project: Project) -> None:
    write_video(tmp_path / "clip.mp4", 30, codec="libx264", b_frames=2)
    write_video(project.root / "own.mp4", 30, codec="libx264")
    outside = [frame_uri(f"{tmp_path}/clip.mp4", n) for n in (3, 4, 17)]
    inside = [frame_uri(f"{project.root}/own.mp4", 5), f"{project.root}/own.mp4#t=0.4"]
    report = project.import_dataset(media_at([*outside, *inside], sized=False))
    assert report.problems == ()
    media = project.catalogue.read().media
    assert media.uri[3] == "own.mp4#frame=5"
    assert set(zip(media.width.tolist(), media.height.tolist(), strict=True)) == {(128, 32)}
    numbers = [number_of(read_image(project.media_path(uri))) for uri in media.uri]
    assert numbers == [3, 4, 17, 5, 12]
    with pytest.raises(PathEscapeError):
        project.media_path(f"{tmp_path}/other.mp4#frame=1")
    with pytest.raises(PathEscapeError):
        project.media_path("../clip.mp4#frame=1")


def test_a_frame_keeps_every_pixel(tmp_path: Path, project: Project) -> None:
    write_video(tmp_path / "clip.mp4", 3)
    uri = frame_uri(f"{tmp_path}/clip.mp4", 1)
    project.import_dataset(media_at([uri]))
    with Video(tmp_path / "clip.mp4") as clip:
        wanted = clip.read_frame(1)
    stored = cv2.imread(str(project.media_path(uri)))[:, :, ::-1]
    np.testing.assert_array_equal(stored, wanted)


def test_a_missing_video_is_reported_once_for_each_frame(tmp_path: Path, project: Project) -> None:
    report = project.import_dataset(
        media_at([frame_uri(f"{tmp_path}/none.mp4", n) for n in range(3)])
    )
    assert [(p.kind, p.count) for p in report.problems] == [("picture that is not there", 3)]


def test_a_remote_video_is_fetched_once_for_all_its_frames(
    site: Site, project: Project, tmp_path: Path
) -> None:
    write_video(tmp_path / "clip.mp4", 20)
    site.files["/clip.mp4"] = (tmp_path / "clip.mp4").read_bytes()
    uris = [frame_uri(f"{site.url}/clip.mp4", n) for n in (2, 9)]
    project.import_dataset(media_at(uris))
    assert [number_of(read_image(project.media_path(uri))) for uri in uris] == [2, 9]
    assert site.requests == ["/clip.mp4"]


def test_a_missing_video_or_frame_is_an_error_of_ours(project: Project) -> None:
    with pytest.raises(MediaError, match="the video is not there"):
        project.media_path("none.mp4#frame=1")
    write_video(project.root / "own.mp4", 10)
    with pytest.raises(MediaError, match="does not have") as caught:
        project.media_path("own.mp4#frame=10")
    assert caught.value.expected == "0 to 9"


@pytest.mark.parametrize("verify", [False, True])
def test_frames_that_the_video_does_not_have_are_reported(verify: bool, project: Project) -> None:
    write_video(project.root / "own.mp4", 10)
    uris = [frame_uri("own.mp4", n) for n in (9, 10)]
    report = project.import_dataset(media_at(uris, sized=verify), verify=verify)
    assert report.media_added == 2
    (example,) = next(p.examples for p in report.problems if "cannot be" in p.kind)
    assert "#frame=10" in example


def test_a_video_that_was_replaced_shows_its_new_frames(project: Project) -> None:
    path = project.root / "own.mp4"
    write_video(path, 10)
    assert number_of(read_image(project.media_path("own.mp4#frame=4"))) == 4
    write_video(path, 60, first=-20, codec="libx264")
    assert number_of(read_image(project.media_path("own.mp4#frame=4"))) == 24


def test_frames_are_extracted_in_one_pass_whatever_their_order(project: Project) -> None:
    for name in "ab":
        write_video(project.root / f"{name}.mp4", 40, codec="libx264", b_frames=2)
    uris = [frame_uri(f"{name}.mp4", n) for n in range(40) for name in "ba"]
    random.Random(0).shuffle(uris)
    jumps: list[int] = []
    original = Video._jump_before

    def counted(self: Video, index: int) -> bool:
        jumps.append(index)
        return original(self, index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Video, "_jump_before", counted)
        assert project.prefetch(uris) == ()
        assert jumps == [0, 0]
        for uri in uris:
            number = int(uri.rpartition("=")[2])
            assert number_of(read_image(project.media_path(uri))) == number
    assert jumps == [0, 0]


def test_threads_get_the_frames_that_they_asked_for(project: Project) -> None:
    write_video(project.root / "own.mp4", 40, codec="libx264", b_frames=2)
    numbers = [*range(40)] * 3
    random.Random(0).shuffle(numbers)
    with ThreadPoolExecutor(8) as pool:
        paths = pool.map(lambda n: project.media_path(frame_uri("own.mp4", n)), numbers)
        assert [number_of(read_image(path)) for path in paths] == numbers


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform does not fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_reads_frames_too(project: Project) -> None:
    write_video(project.root / "own.mp4", 40, codec="libx264", b_frames=2)
    project.media_path("own.mp4#frame=3")
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # the parent's decoder would be waited for for ever
        number = number_of(read_image(project.media_path("own.mp4#frame=20")))
        os._exit(0 if number == 20 else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_threads_that_want_one_file_fetch_it_once(site: Site, project: Project) -> None:
    url = f"{site.url}/1.png"
    project.import_dataset(media_at([url]))
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(project.media_path, [url] * 16))) == 1
    assert site.requests == ["/1.png"]


def test_what_could_not_be_had_is_not_waited_for_again(site: Site, project: Project) -> None:
    url = f"{site.url}/none.png"
    assert project.prefetch([url])[0].count == 1
    for _ in range(3):
        with pytest.raises(MediaError, match="cannot be fetched"):
            project.media_path(url)
    assert site.requests == ["/none.png"]


def test_a_copy_that_is_not_what_the_catalogue_knows_is_fetched_anew(
    site: Site, project: Project
) -> None:
    url = f"{site.url}/1.png"
    project.import_dataset(media_at([url]))
    assert project.media_path(url).is_file()
    site.files["/1.png"] = png(99)  # and a colleague, with the same catalogue, has read it
    ids = project.catalogue.read().media.id
    project.catalogue.set_content_hashes(ids, [content_hash(site.files["/1.png"])])
    assert read_image(project.media_path(url))[0, 0, 0] == 99


def test_keys_in_a_url_show_in_no_report(site: Site, project: Project) -> None:
    url = site.url.replace("//", "//ann:secret@") + "/none.png?token=hidden"
    report = project.import_dataset(media_at([url], sized=False))
    shown = " ".join(map(str, [*report.problems, *project.prefetch([url])]))
    assert "none.png" in shown
    assert "secret" not in shown
    assert "hidden" not in shown


def test_frames_of_a_video_stay_in_one_part() -> None:
    uris = [frame_uri(f"clips/{video}.mp4", n) for video in range(40) for n in range(3)]
    parts = split_by_parent(media_at(uris), (0.5, 0.2, 0.3), 0).reshape(40, 3)
    assert (parts == parts[:, :1]).all()
    assert len(np.unique(parts)) == 3
