"""Every kind of picture becomes uint8 RGB, or an error that names the file."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tilth.data import atomic
from tilth.data.images import (
    content_hash,
    decode_image,
    expect_size,
    read_image,
    read_size,
    write_jpeg,
)
from tilth.errors import MediaError, StorageError


def smooth_picture(height: int = 48, width: int = 64) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 3, y * 4, (x + y) * 2], axis=2).astype(np.uint8)


@pytest.fixture
def jpeg(tmp_path: Path) -> Path:
    path = tmp_path / "a.jpg"
    write_jpeg(path, smooth_picture())
    return path


def test_a_jpeg_is_read_as_rgb(jpeg: Path) -> None:
    image = read_image(jpeg)
    assert (image.shape, image.dtype) == ((48, 64, 3), np.uint8)
    error = np.abs(image.astype(int) - smooth_picture()).mean()
    assert error < 2, "red and blue in their places, up to the loss of JPEG"
    assert read_size(jpeg) == (64, 48)


@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
def test_a_truncated_jpeg_is_an_error_and_no_grey_picture(jpeg: Path, share: float) -> None:
    data = jpeg.read_bytes()
    jpeg.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(MediaError, match=r"truncated or broken|not a picture") as caught:
        read_image(jpeg)
    assert str(jpeg) in str(caught.value)


def test_a_jpeg_with_something_behind_it_is_read(jpeg: Path) -> None:
    expected = read_image(jpeg)
    jpeg.write_bytes(jpeg.read_bytes() + b"maker's notes")
    np.testing.assert_allclose(read_image(jpeg).astype(int), expected.astype(int), atol=3)


def test_a_missing_file_and_a_text_file_are_errors(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="missing"):
        read_image(tmp_path / "none.jpg")
    with pytest.raises(MediaError, match="missing"):
        read_size(tmp_path / "none.jpg")
    text = tmp_path / "text.jpg"
    text.write_text("no picture")
    for read in (read_image, read_size):
        with pytest.raises(MediaError, match="not a picture"):
            read(text)
    with pytest.raises(MediaError) as caught:
        read_image(text)
    assert caught.value.got == "no known format"
    text.write_bytes(b"")
    with pytest.raises(MediaError, match="not a picture"):
        read_image(text)


def test_a_picture_over_the_limit_is_refused_before_it_is_decoded(jpeg: Path) -> None:
    for read in (read_image, read_size):
        with pytest.raises(MediaError, match="too large") as caught:
            read(jpeg, max_pixels=3_000)
        assert caught.value.got == "64 x 48 = 3,072"


def test_exif_rotation_is_not_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    path = tmp_path / "turned.jpg"
    Image.fromarray(smooth_picture()).save(path, exif=exif)
    assert read_size(path) == (64, 48)
    assert read_image(path).shape == (48, 64, 3)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "LA", "1", "CMYK"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    source = Image.fromarray(smooth_picture()).convert(mode)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    source.save(path)
    np.testing.assert_array_equal(read_image(path), np.asarray(source.convert("RGB")))


def test_a_grey_jpeg_becomes_rgb(tmp_path: Path) -> None:
    path = tmp_path / "grey.jpg"
    Image.fromarray(smooth_picture()).convert("L").save(path)
    image = read_image(path)
    assert image.shape == (48, 64, 3)
    np.testing.assert_array_equal(image[..., 0], image[..., 2])


def test_sixteen_bits_keep_their_high_byte(tmp_path: Path) -> None:
    values = (np.arange(48 * 64).reshape(48, 64) * 21).astype(np.uint16)
    path = tmp_path / "deep.png"
    Image.fromarray(values).save(path)
    np.testing.assert_array_equal(read_image(path)[..., 1], (values >> 8).astype(np.uint8))


def test_numbers_without_an_agreed_white_are_refused(tmp_path: Path) -> None:
    for values in (np.ones((4, 4), np.float32), np.full((4, 4), 70_000, np.int32)):
        path = tmp_path / "raw.tif"
        Image.fromarray(values).save(path)
        with pytest.raises(MediaError, match="agreed white"):
            read_image(path)


def test_a_full_disk_leaves_the_old_picture(jpeg: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = jpeg.read_bytes()

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", fail)
    with pytest.raises(StorageError, match="unchanged") as caught:
        write_jpeg(jpeg, np.zeros((48, 64, 3), dtype=np.uint8))
    assert caught.value.got == "No space left on device"
    assert jpeg.read_bytes() == before
    assert [path.name for path in jpeg.parent.iterdir()] == ["a.jpg"], "no temporary file is left"


def test_the_content_hash_is_of_the_bytes(jpeg: Path) -> None:
    assert content_hash(b"") == "cae66941d9efbd404e4d88758ea67670"
    assert content_hash(jpeg.read_bytes()) != content_hash(jpeg.read_bytes() + b"x")


def test_bytes_are_decoded_as_the_file_is(jpeg: Path) -> None:
    np.testing.assert_array_equal(decode_image(jpeg.read_bytes()), read_image(jpeg))
    stream = io.BytesIO()
    Image.fromarray(smooth_picture()).save(stream, "PNG")
    with pytest.raises(MediaError, match="from the camera"):
        decode_image(stream.getvalue()[:-30], where="from the camera")


def test_a_picture_of_another_size_than_its_labels_is_refused() -> None:
    picture = np.zeros((48, 64, 3), dtype=np.uint8)
    expect_size(picture, (64, 48), where="a.jpg")
    expect_size(picture, (0, 0), where="a.jpg")  # labels that do not say
    with pytest.raises(MediaError, match="another size") as caught:
        expect_size(picture, (128, 96), where="a.jpg")
    details = caught.value.details()
    assert (details["where"], details["expected"], details["got"]) == (
        "a.jpg",
        "128 x 96",
        "64 x 48",
    )
