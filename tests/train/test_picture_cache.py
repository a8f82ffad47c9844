"""Pictures are decoded once, kept as they are, and never beyond the room there is."""

from __future__ import annotations

import subprocess
import sys
import tempfile

import numpy as np
import pytest
import torch
from labelled_pictures import labelled, smooth_pictures
from PIL import Image

from tilth.data.images import read_at_least, read_image, write_jpeg
from tilth.errors import MediaError
from tilth.ops.letterbox import letterbox
from tilth.train.picture_cache import CacheSettings, PictureCache, fitted_picture

SIZES = [(97, 64), (64, 97), (80, 80), (30, 90)]


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    return smooth_pictures(tmp_path, SIZES)


def _cache(pictures, *, size=64, resize="letterbox", **settings):
    paths, dataset = pictures
    return PictureCache(
        paths, dataset.media, size=size, resize=resize, settings=CacheSettings(**settings)
    )


def test_what_is_kept_is_the_inside_of_the_letterbox(pictures):
    for _ in range(2):
        cache = _cache(pictures)
        for row, path in enumerate(pictures[0]):
            square, placement = letterbox(torch.from_numpy(read_image(path)).permute(2, 0, 1), 64)
            got = cache.get(row)
            height, width = got.image_rgb.shape[:2]
            inside = square[
                :, placement.top : placement.top + height, placement.left : placement.left + width
            ]
            np.testing.assert_array_equal(got.image_rgb, inside.permute(1, 2, 0).numpy())
            assert got.size == SIZES[row]


def test_stretched_pictures_fill_the_square(pictures):
    cache = _cache(pictures, resize="stretch")
    assert [cache.get(row).image_rgb.shape for row in range(4)] == [(64, 64, 3)] * 4


def test_second_time_and_second_user_do_not_decode(pictures, monkeypatch):
    decoded = []

    def counted(path, stored, **options):
        decoded.append(path)
        return fitted_picture(path, stored, **options)

    monkeypatch.setattr("tilth.train.picture_cache.fitted_picture", counted)
    cache, other = _cache(pictures), _cache(pictures)
    for each in (cache, other, cache):
        each.fill(workers=2)
        for row in range(4):
            each.get(row)
    assert sorted(decoded) == sorted(pictures[0])


def test_pictures_that_do_not_fit_are_decoded_each_time(pictures):
    whole = _cache(pictures)
    with pytest.warns(UserWarning, match="others are decoded in every epoch"):
        some = _cache(pictures, gigabytes=20_000 / 2**30)
    none = _cache(pictures, gigabytes=0.0)
    assert (whole.num_kept, some.num_kept, none.num_kept) == (4, 2, 0)  # of about 8,000 bytes
    for row in range(4):
        for cache in (some, none):
            np.testing.assert_array_equal(cache.get(row).image_rgb, whole.get(row).image_rgb)


def test_nothing_is_left_in_the_temporary_folder(pictures, tmp_path):
    cache = _cache(pictures)
    cache.get(0)
    (folder,) = (tmp_path / "temporary").iterdir()
    assert len(list(folder.iterdir())) == 2
    assert folder.stat().st_mode & 0o077 == 0  # pictures may be private
    cache.close()
    assert list(folder.iterdir()) == []


def test_a_named_folder_keeps_them_for_the_next_run(pictures, tmp_path, monkeypatch):
    _cache(pictures, folder=str(tmp_path / "kept")).fill()
    monkeypatch.setattr("tilth.train.picture_cache.fitted_picture", None)
    again = _cache(pictures, folder=str(tmp_path / "kept"))
    assert again.get(2).image_rgb.shape == (64, 64, 3)


def test_changed_pictures_are_not_taken_from_before(pictures, tmp_path):
    paths, _ = pictures
    before = _cache(pictures, folder=str(tmp_path / "kept")).get(0).image_rgb.copy()
    Image.fromarray(np.zeros((64, 97, 3), dtype=np.uint8)).save(paths[0])
    after = _cache(pictures, folder=str(tmp_path / "kept")).get(0).image_rgb
    assert before.any()
    assert not after.any()


def test_pictures_of_another_user_are_not_trusted(pictures, tmp_path, monkeypatch):
    folder = tmp_path / "temporary" / "tilth-pictures-12345"
    folder.mkdir()
    monkeypatch.setattr("os.getuid", lambda: 12345)
    assert _cache(pictures).get(0).image_rgb.any()
    assert list(folder.iterdir()) == []


def test_a_broken_picture_is_said_when_its_turn_comes(pictures):
    paths, _ = pictures
    paths[1].write_bytes(b"")
    cache = _cache(pictures)
    cache.get(0)
    with pytest.raises(MediaError, match="empty") as caught:
        cache.get(1)
    assert caught.value.where == str(paths[1])
    zero = labelled([(0, 0)] * 4, [])
    with pytest.raises(MediaError, match="empty"):
        _cache((paths, zero)).get(1)


def test_large_jpegs_are_decoded_smaller_and_look_the_same(tmp_path):
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (9, 9, 3), dtype=np.uint8))
    image = np.array(coarse.resize((1201, 803), Image.Resampling.BICUBIC))
    write_jpeg(tmp_path / "a.jpg", image)
    Image.fromarray(image).save(tmp_path / "a.png")
    for name in ("a.jpg", "a.png"):
        reduced, size, factor = read_at_least(
            tmp_path / name, lambda width, height: (width // 9, 80)
        )
        assert (size, factor) == ((1201, 803), 4)
        assert reduced.shape == (201, 301, 3)  # a quarter: an eighth would be below twice 133
        square, _ = letterbox(torch.from_numpy(image).permute(2, 0, 1), 64)
        got = fitted_picture(tmp_path / name, size, size=64, resize="letterbox").image_rgb
        expected = square.permute(1, 2, 0).numpy()[10:53]
        assert np.abs(got.astype(int) - expected).mean() < 2


def test_small_pictures_are_read_as_they_are(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (150, 100, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    got, size, factor = read_at_least(tmp_path / "a.png", lambda width, height: (40, 60))
    np.testing.assert_array_equal(got, image)
    assert (size, factor) == ((100, 150), 1)


_LARGE = """
import resource, sys
from pathlib import Path
from tilth.train.picture_cache import fitted_picture
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
picture = fitted_picture(Path(sys.argv[1]), (12_000, 12_000), size=416, resize="letterbox")
assert picture.image_rgb.shape == (416, 416, 3)
assert 90 < picture.image_rgb.mean() < 110
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize(
    ("suffix", "most_mb"), [("jpg", 200), pytest.param("png", 900, marks=pytest.mark.slow)]
)
def test_a_picture_of_12000_pixels_needs_bounded_memory(tmp_path, suffix, most_mb):
    path = tmp_path / f"large.{suffix}"
    Image.new("RGB", (12_000, 12_000), (100, 100, 100)).save(path)
    done = subprocess.run(
        [sys.executable, "-c", _LARGE, str(path)], capture_output=True, text=True, check=True
    )
    unit = 1 if sys.platform != "darwin" else 1024
    assert int(done.stdout) / unit / 1024 < most_mb
