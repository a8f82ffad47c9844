"""Binary masks: classes overlap freely, objects of a class are one, parts only where asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mask_fixtures import labels_of, mask_set, save, save_picture
from PIL import Image

from tilth.data.formats import masks_per_class
from tilth.data.formats.masks_per_class import ReadOptions, WriteOptions
from tilth.errors import LabelError

LEFT = np.array([[255, 255, 0, 0], [255, 255, 0, 0]], np.uint8)
ENDS = np.array([[255, 0, 0, 255], [0, 255, 0, 255]], np.uint8)


def written(folder: Path) -> Path:
    """masks/a__cat.png and a__dog.png, which overlap, beside images/a.jpg and an empty b.jpg."""
    save(folder / "masks/a__dog.png", ENDS)
    save(folder / "masks/a__cat.png", LEFT)
    for name in "ab":
        save_picture(folder / f"images/{name}.jpg", 4, 2)
    return folder / "masks"


def test_a_hand_made_folder_is_read_and_classes_that_overlap_are_whole(tmp_path: Path) -> None:
    folder = written(tmp_path)
    assert masks_per_class.recognises(folder)
    dataset, report = masks_per_class.read(folder)
    assert [category.name for category in dataset.categories] == ["cat", "dog"]
    found = dict(labels_of(dataset, "a.jpg"))
    np.testing.assert_array_equal(found["cat"], LEFT > 0)
    np.testing.assert_array_equal(found["dog"], ENDS > 0)
    assert labels_of(dataset, "b.jpg") == []
    assert report.problems[0].kind == "picture without a mask"
    assert "classes: the names of the files, sorted" in report.notes


def test_connected_parts_are_labels_only_where_asked_for(tmp_path: Path) -> None:
    folder = written(tmp_path)
    plain, _ = masks_per_class.read(folder)
    parts, _ = masks_per_class.read(folder, options=ReadOptions(components=True))
    assert [name for name, _ in labels_of(plain, "a.jpg")] == ["cat", "dog"]
    found = labels_of(parts, "a.jpg")
    assert [name for name, _ in found] == ["cat", "dog", "dog"]
    assert [mask.sum() for _, mask in found] == [4, 2, 2], "a corner connects"


def test_what_is_written_is_0_and_255_in_a_file_for_each_class(tmp_path: Path) -> None:
    one, other = np.eye(4, dtype=np.bool_), np.fliplr(np.eye(4, dtype=np.bool_))
    dataset = mask_set([(1, one), (0, other), (1, other)], ["b", "a"], uri=f"{tmp_path}/s/x.jpg")
    report = masks_per_class.write(dataset, tmp_path / "out", media_root=tmp_path)
    assert [problem.kind for problem in report.problems] == [
        "further object of a class in one picture"
    ]
    files = sorted(path.name for path in (tmp_path / "out").rglob("*"))
    assert files == ["classes.txt", "pictures.txt", "s", "x__a.png", "x__b.png"]
    pixels = np.array(Image.open(tmp_path / "out/s/x__a.png"))
    np.testing.assert_array_equal(pixels, 255 * (one | other).astype(np.uint8))
    assert (tmp_path / "out/classes.txt").read_text() == "b\na\n"


def test_one_bit_is_the_same_mask_in_fewer_bytes(tmp_path: Path) -> None:
    mask = np.random.default_rng(0).random((64, 64)) < 0.5
    dataset = mask_set([(0, mask)], ["cat"], uri=f"{tmp_path}/a.jpg")
    for bits in ("8", "1"):
        options = WriteOptions(bits=bits)
        masks_per_class.write(dataset, tmp_path / bits, media_root=tmp_path, options=options)
        again, report = masks_per_class.read(tmp_path / bits, media_root=tmp_path)
        np.testing.assert_array_equal(labels_of(again, "a.jpg")[0][1], mask)
        assert not report.problems
    with Image.open(tmp_path / "1/a__cat.png") as picture:
        assert picture.mode == "1"


@pytest.mark.parametrize(
    "name", ["__", "_a", "a__b", "a/b", "..", "a\\b", "50%", "%5F", "ü:*?", "b_"]
)
def test_class_names_that_no_file_could_have_come_back(tmp_path: Path, name: str) -> None:
    dataset = mask_set([(1, np.eye(3, dtype=np.bool_))], ["cat", name], uri=f"{tmp_path}/a__x_.jpg")
    masks_per_class.write(dataset, tmp_path / "out", media_root=tmp_path)
    assert len(list((tmp_path / "out").rglob("*.png"))) == 1
    again, report = masks_per_class.read(tmp_path / "out", media_root=tmp_path)
    assert again.media.uri == dataset.media.uri
    assert [found for found, _ in labels_of(again, "a__x_.jpg")] == [name]
    assert not report.problems


def test_a_class_outside_the_list_is_an_error_with_its_file(tmp_path: Path) -> None:
    folder = written(tmp_path)
    (folder / "classes.txt").write_text("cat\nbird\n")
    with pytest.raises(LabelError, match="class 'dog' is not in the list") as caught:
        masks_per_class.read(folder)
    assert "a__dog.png" in (caught.value.where or "")
    assert caught.value.expected == "cat, bird"
    dataset, report = masks_per_class.read(folder, on_unknown="skip")
    assert [category.name for category in dataset.categories] == ["cat", "bird"]
    assert "mask of an unknown class" in [problem.kind for problem in report.problems]


def test_grey_between_0_and_255_is_inside_and_reported(tmp_path: Path) -> None:
    folder = written(tmp_path)
    save(folder / "a__cat.png", LEFT // 2)
    dataset, report = masks_per_class.read(folder)
    np.testing.assert_array_equal(dict(labels_of(dataset, "a.jpg"))["cat"], LEFT > 0)
    (problem,) = [p for p in report.problems if p.kind.startswith("mask with values")]
    assert problem.examples == ("a__cat.png",)


def test_grey_as_three_channels_is_read_and_colours_are_not(tmp_path: Path) -> None:
    folder = written(tmp_path)
    save(folder / "a__cat.png", np.repeat(LEFT[..., None], 3, axis=2))
    save(folder / "a__dog.png", np.full((2, 4, 3), (255, 0, 0), np.uint8))
    dataset, report = masks_per_class.read(folder)
    assert [name for name, _ in labels_of(dataset, "a.jpg")] == ["cat"]
    assert "mask of colours, not of 0 and 255" in [problem.kind for problem in report.problems]


def test_masks_of_one_picture_that_disagree_in_size_are_reported(tmp_path: Path) -> None:
    save(tmp_path / "a__cat.png", LEFT)
    save(tmp_path / "a__dog.png", ENDS[:, :3])
    dataset, report = masks_per_class.read(tmp_path)
    assert [name for name, _ in labels_of(dataset, "a.jpg")] == ["cat"]
    assert report.problems[-1].examples == ("a__dog.png: 3 x 2, picture 4 x 2",)


def test_files_without_a_class_are_reported_and_a_folder_of_them_refused(tmp_path: Path) -> None:
    folder = written(tmp_path)
    save(folder / "plain.png", LEFT)
    _, report = masks_per_class.read(folder)
    assert report.problems[0].examples == ("plain.png",)
    save(tmp_path / "other/plain.png", LEFT)
    assert not masks_per_class.recognises(tmp_path / "other")
    with pytest.raises(LabelError, match="no mask says its class"):
        masks_per_class.read(tmp_path / "other")
