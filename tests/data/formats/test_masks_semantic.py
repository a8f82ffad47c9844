"""Class masks: values are classes, colours only by an exact list, and nothing is guessed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mask_fixtures import labels_of, mask_set, save, save_picture
from PIL import Image
from pycocotools import mask as coco_masks

from tilth.data.formats import masks_semantic
from tilth.data.formats.masks_semantic import ReadOptions, WriteOptions
from tilth.data.indexed_png import voc_palette
from tilth.data.records import Category
from tilth.errors import DataError, LabelError, SettingsError

INDICES = np.array([[0, 1, 1], [2, 2, 255]], np.uint8)
LABELMAP = "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:128,0,0::\ndog:0,128,0::\n"


def written(folder: Path, pixels: np.ndarray = INDICES, labelmap: str = LABELMAP) -> Path:
    """masks/a.png and a labelmap beside images/a.jpg."""
    save(folder / "masks/a.png", pixels, palette=voc_palette() if pixels.ndim == 2 else None)
    save_picture(folder / "images/a.jpg", pixels.shape[1], pixels.shape[0])
    if labelmap:
        (folder / "masks/labelmap.txt").write_text(labelmap)
    return folder / "masks"


def test_a_hand_made_mask_is_read_by_the_definition(tmp_path: Path) -> None:
    folder = written(tmp_path)
    assert masks_semantic.recognises(folder)
    dataset, report = masks_semantic.read(folder)
    assert dataset.media.uri == [f"{tmp_path}/images/a.jpg"]
    assert [(c.name, c.origin_id) for c in dataset.categories] == [("cat", 1), ("dog", 2)]
    (cat, cat_mask), (dog, dog_mask) = labels_of(dataset, "a.jpg")
    assert (cat, dog) == ("cat", "dog")
    np.testing.assert_array_equal(cat_mask, INDICES == 1)
    np.testing.assert_array_equal(dog_mask, INDICES == 2)
    assert dataset.annotations.boxes_xyxy.tolist() == [[1, 0, 3, 1], [0, 1, 2, 2]]
    assert dataset.annotations.area.tolist() == [2, 2]
    (problem,) = report.problems
    assert problem.kind == "pixels to ignore"
    assert problem.examples == ("a.png: value 255, 1 pixels",)


def test_pixels_to_ignore_become_a_class_and_255_again(tmp_path: Path) -> None:
    folder = written(tmp_path)
    dataset, report = masks_semantic.read(folder, options=ReadOptions(ignore_as="void"))
    assert not report.problems
    assert labels_of(dataset, "a.jpg")[2][0] == "void"
    masks_semantic.write(
        dataset,
        tmp_path / "out",
        media_root=tmp_path / "images",
        options=WriteOptions(ignore_as="void"),
    )
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "out/a.png")), INDICES)
    assert "void" not in (tmp_path / "out/labelmap.txt").read_text()
    with pytest.raises(SettingsError, match="no class of that name"):
        masks_semantic.write(dataset, tmp_path / "x", options=WriteOptions(ignore_as="nobody"))


def test_what_is_written_is_an_indexed_png_with_the_palette_of_voc(tmp_path: Path) -> None:
    mask = np.eye(4, dtype=np.bool_)
    dataset = mask_set([(1, mask)], ["cat", "dog"], uri=f"{tmp_path}/sub/a.b.jpg")
    report = masks_semantic.write(dataset, tmp_path / "out", media_root=tmp_path)
    assert not report.problems
    with Image.open(tmp_path / "out/sub/a.b.png") as picture:
        assert picture.mode == "P"
        assert picture.getpalette() == voc_palette().ravel().tolist()
        np.testing.assert_array_equal(np.array(picture), 2 * mask.astype(np.uint8))
    text = (tmp_path / "out/labelmap.txt").read_text().splitlines()
    assert text[1:] == ["background:0,0,0::", "cat:128,0,0::", "dog:0,128,0::"]
    assert (tmp_path / "out/pictures.txt").read_text() == "sub/a.b.jpg\n"


def test_more_than_254_classes_take_16_bits_and_65535_to_ignore(tmp_path: Path) -> None:
    mask = np.eye(4, dtype=np.bool_)
    names = [f"class {number}" for number in range(300)]
    dataset = mask_set([(254, mask), (299, np.fliplr(mask))], names, uri=f"{tmp_path}/a.jpg")
    masks_semantic.write(dataset, tmp_path / "out", media_root=tmp_path)
    with Image.open(tmp_path / "out/a.png") as picture:
        assert picture.mode.startswith("I;16")
        assert set(np.array(picture).ravel().tolist()) == {0, 255, 300}
    again, report = masks_semantic.read(tmp_path / "out", media_root=tmp_path)
    assert [name for name, _ in labels_of(again, "a.jpg")] == ["class 254", "class 299"]
    assert not report.problems, "255 is a class here"
    save(tmp_path / "out/a.png", np.array([[65535, 1]], np.uint16))
    _, report = masks_semantic.read(tmp_path / "out", media_root=tmp_path)
    assert [problem.kind for problem in report.problems] == ["pixels to ignore"]


def test_exactly_254_classes_still_fit_in_8_bits(tmp_path: Path) -> None:
    names = [f"class {number}" for number in range(254)]
    dataset = mask_set([(253, np.eye(3, dtype=np.bool_))], names, uri=f"{tmp_path}/a.jpg")
    masks_semantic.write(dataset, tmp_path / "out", media_root=tmp_path)
    with Image.open(tmp_path / "out/a.png") as picture:
        assert (picture.mode, np.array(picture).max()) == ("P", 254)


def test_of_classes_that_overlap_the_smaller_is_seen_and_every_pair_reported() -> None:
    person, tie = np.ones((4, 4), np.bool_), np.zeros((4, 4), np.bool_)
    tie[1:3, 1] = True
    dataset = mask_set([(0, tie), (1, person)], ["tie", "person"])
    fitted, report = masks_semantic.adapt(dataset)
    assert fitted.annotations.area.tolist() == [2, 14]
    (problem,) = report.problems
    assert problem.kind == "masks that overlap"
    assert problem.examples == ("label 1 over label 2: 2 pixels",)
    fitted, report = masks_semantic.adapt(dataset, options=WriteOptions(order="last_on_top"))
    assert fitted.annotations.area.tolist() == [16]
    assert [problem.kind for problem in report.problems] == [
        "masks that overlap",
        "mask that others cover",
    ]
    assert report.problems[1].examples == ("label 1",)


def test_objects_of_one_class_become_one_region_and_do_not_hide_each_other() -> None:
    left, both = np.zeros((3, 4), np.bool_), np.zeros((3, 4), np.bool_)
    left[:, :2] = both[:, 1:] = True
    fitted, report = masks_semantic.adapt(mask_set([(0, left), (0, both)], ["cat"]))
    assert fitted.annotations.area.tolist() == [12]
    assert [problem.kind for problem in report.problems] == [
        "further object of a class in one picture"
    ]


def test_a_mask_of_another_size_is_left_out_and_never_stretched(tmp_path: Path) -> None:
    folder = written(tmp_path)
    save_picture(tmp_path / "images/a.jpg", 6, 4)
    dataset, report = masks_semantic.read(folder)
    assert len(dataset.annotations) == 0
    assert report.problems[0].examples == ("a.png: 3 x 2, picture 6 x 4",)
    wrong = replace(dataset.media, width=np.array([7], np.int32), height=np.array([7], np.int32))
    labels = mask_set([(0, np.eye(4, dtype=np.bool_))], ["cat"]).annotations
    fitted, report = masks_semantic.adapt(replace(dataset, media=wrong, annotations=labels))
    assert len(fitted.annotations) == 0
    assert [problem.examples for problem in report.problems] == [("label 1: 4 x 4, picture 7 x 7",)]


def test_an_unknown_value_is_an_error_with_value_count_and_file(tmp_path: Path) -> None:
    folder = written(tmp_path, np.array([[9, 9, 1]], np.uint8))
    with pytest.raises(LabelError, match="of no class") as caught:
        masks_semantic.read(folder)
    assert caught.value.where == "a.png: value 9, 2 pixels"
    assert caught.value.expected == "1 cat, 2 dog"
    dataset, report = masks_semantic.read(folder, on_unknown="skip")
    assert [name for name, _ in labels_of(dataset, "a.jpg")] == ["cat"]
    assert report.problems[0].examples == ("a.png: value 9, 2 pixels",)


def colours(*rows: list[tuple[int, int, int]]) -> np.ndarray:
    return np.array(rows, np.uint8)


def test_colours_are_classes_by_an_exact_list_only(tmp_path: Path) -> None:
    pixels = colours([(0, 0, 0), (128, 0, 0)], [(0, 128, 0), (224, 224, 192)])
    folder = written(tmp_path, pixels)
    dataset, report = masks_semantic.read(folder)
    assert {name: mask.tolist() for name, mask in labels_of(dataset, "a.jpg")} == {
        "cat": [[False, True], [False, False]],
        "dog": [[False, False], [True, False]],
    }
    assert report.problems[0].examples == ("a.png: colour 224,224,192, 1 pixels",)
    (folder / "labelmap.txt").unlink()
    with pytest.raises(LabelError, match="no list of what they stand for"):
        masks_semantic.read(folder)


def test_a_colour_between_others_is_an_error_with_colour_count_and_file(tmp_path: Path) -> None:
    folder = written(tmp_path, colours([(128, 0, 0), (127, 1, 0), (127, 1, 0)]))
    with pytest.raises(LabelError, match="of no class") as caught:
        masks_semantic.read(folder)
    assert caught.value.where == "a.png: colour 127,1,0, 2 pixels"
    assert "smoothing" in (caught.value.fix or "")


def test_black_may_be_a_class_where_the_background_has_another_colour(tmp_path: Path) -> None:
    labelmap = "background:255,255,255::\nink:0,0,0::\n"
    folder = written(tmp_path, colours([(255, 255, 255), (0, 0, 0)]), labelmap)
    dataset, report = masks_semantic.read(folder)
    assert [(n, m.tolist()) for n, m in labels_of(dataset, "a.jpg")] == [("ink", [[False, True]])]
    assert not report.problems


def test_a_palette_that_contradicts_the_labelmap_is_asked_about(tmp_path: Path) -> None:
    """Some tools write palettes in the order in which they met the colours."""
    folder = written(tmp_path, np.array([[0, 1, 2]], np.uint8))
    swapped = voc_palette()[[0, 2, 1]]
    save(folder / "a.png", np.array([[0, 1, 2]], np.uint8), palette=swapped)
    with pytest.raises(LabelError, match="different classes") as caught:
        masks_semantic.read(folder)
    assert caught.value.got == "index 1 is 'cat', its colour is that of 'dog'"
    by_index, _ = masks_semantic.read(folder, options=ReadOptions(values="index"))
    by_colour, _ = masks_semantic.read(folder, options=ReadOptions(values="colour"))
    assert labels_of(by_index, "a.jpg")[0][1].tolist() == [[False, True, False]]
    assert dict(labels_of(by_colour, "a.jpg"))["cat"].tolist() == [[False, False, True]]


def test_a_palette_without_meaning_does_not_count(tmp_path: Path) -> None:
    folder = written(tmp_path, np.array([[0, 1, 2]], np.uint8))
    save(
        folder / "a.png",
        np.array([[0, 1, 2]], np.uint8),
        palette=np.repeat(np.arange(256)[:, None], 3, axis=1),
    )
    dataset, _ = masks_semantic.read(folder)
    assert [name for name, _ in labels_of(dataset, "a.jpg")] == ["cat", "dog"]


def test_masks_of_0_and_255_are_asked_about(tmp_path: Path) -> None:
    pixels = np.array([[0, 255, 255]], np.uint8)
    folder = written(tmp_path, pixels, labelmap="")
    save(folder / "a.png", pixels)
    with pytest.raises(LabelError, match="0 and 255 only") as caught:
        masks_semantic.read(folder)
    assert "values=binary" in (caught.value.fix or "")
    options = ReadOptions(values="binary", classes="car,")
    with pytest.raises(LabelError, match="without a name"):
        masks_semantic.read(folder, options=options)
    (folder / "one.txt").write_text("car\n")
    options = ReadOptions(values="binary", classes=str(folder / "one.txt"))
    dataset, _ = masks_semantic.read(folder, options=options)
    assert [(n, m.sum()) for n, m in labels_of(dataset, "a.jpg")] == [("car", 2)]


def test_a_mask_in_jpeg_is_refused_with_the_reason(tmp_path: Path) -> None:
    folder = written(tmp_path)
    Image.fromarray(INDICES).save(folder / "b.png", "JPEG")  # whatever its name says
    dataset, report = masks_semantic.read(folder)
    assert len(dataset.media) == 2
    assert any("compression changes values" in problem.kind for problem in report.problems)
    for name in ("a.png", "b.png"):
        (folder / name).unlink()
    Image.fromarray(INDICES).save(folder / "a.jpg", "JPEG")
    with pytest.raises(LabelError, match="masks in JPEG"):
        masks_semantic.read(folder)


def test_without_names_the_values_are_the_names(tmp_path: Path) -> None:
    folder = written(tmp_path, np.array([[0, 7, 3, 255]], np.uint8), labelmap="")
    dataset, report = masks_semantic.read(folder)
    assert [(c.name, c.origin_id) for c in dataset.categories] == [("3", 3), ("7", 7)]
    assert "classes: not named anywhere, so called by their values" in report.notes


def test_without_a_background_the_first_class_has_the_value_that_is_said(tmp_path: Path) -> None:
    folder = written(tmp_path, np.array([[0, 1]], np.uint8), labelmap="")
    options = ReadOptions(classes="road,sky", first_value=0)
    dataset, _ = masks_semantic.read(folder, options=options)
    assert [(n, m.tolist()) for n, m in labels_of(dataset, "a.jpg")] == [
        ("road", [[True, False]]),
        ("sky", [[False, True]]),
    ]
    dataset, _ = masks_semantic.read(folder, options=ReadOptions(classes="road,sky"))
    assert [name for name, _ in labels_of(dataset, "a.jpg")] == ["road"]


def test_eighty_names_are_no_file_name(tmp_path: Path) -> None:
    folder = written(tmp_path, np.array([[0, 80]], np.uint8), labelmap="")
    names = ",".join(f"class {number}" for number in range(1, 81))
    dataset, _ = masks_semantic.read(folder, options=ReadOptions(classes=names))
    assert [name for name, _ in labels_of(dataset, "a.jpg")] == ["class 80"]


def test_numbers_of_a_csv_are_values(tmp_path: Path) -> None:
    folder = written(tmp_path, np.array([[0, 70]], np.uint8), labelmap="")
    (tmp_path / "classes.csv").write_text("road,7\nsky,70\n")
    options = ReadOptions(classes=str(tmp_path / "classes.csv"))
    dataset, _ = masks_semantic.read(folder, options=options)
    assert [name for name, _ in labels_of(dataset, "a.jpg")] == ["sky"]


def test_the_folders_of_cvat_and_cityscapes_are_read(tmp_path: Path) -> None:
    save(tmp_path / "cvat/SegmentationClass/a.png", INDICES, palette=voc_palette())
    save_picture(tmp_path / "cvat/JPEGImages/a.jpg", 3, 2)
    (tmp_path / "cvat/labelmap.txt").write_text(LABELMAP)
    assert masks_semantic.recognises(tmp_path / "cvat")
    dataset, _ = masks_semantic.read(tmp_path / "cvat")
    assert dataset.media.uri == [f"{tmp_path}/cvat/JPEGImages/a.jpg"]
    assert [name for name, _ in labels_of(dataset, "a.jpg")] == ["cat", "dog"]
    city = tmp_path / "city/gtFine"
    for kind in ("color", "instanceIds", "labelIds"):
        save(city / f"x/x_1_gtFine_{kind}.png", INDICES)
    save_picture(tmp_path / "city/leftImg8bit/x/x_1_leftImg8bit.png", 3, 2)
    dataset, _ = masks_semantic.read(city, options=ReadOptions(classes="a,b"))
    assert dataset.media.uri == [f"{tmp_path}/city/leftImg8bit/x/x_1_leftImg8bit.png"]


def test_pictures_beside_their_masks_are_told_apart(tmp_path: Path) -> None:
    save(tmp_path / "a.png", np.array([[0, 1]], np.uint8), palette=voc_palette())
    save_picture(tmp_path / "a.jpg", 2, 1)
    save_picture(tmp_path / "b.jpg", 2, 1)
    dataset, report = masks_semantic.read(tmp_path)
    assert [Path(uri).name for uri in dataset.media.uri] == ["a.jpg", "b.jpg"]
    assert report.problems[0].kind == "picture without a mask"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat:300,0,0::\n", "colour that cannot be read"),
        ("cat:1,2::\n", "colour that cannot be read"),
        ("cat:" + "9" * 5000 + ",0,0::\n", "colour that cannot be read"),
        ("cat:1,1,1::\ndog:1,1,1::\n", "two classes of one colour"),
        ("cat:1,1,1::\ncat:2,2,2::\n", "stands twice"),
        (":1,1,1::\n", "without a name"),
    ],
)
def test_a_labelmap_that_cannot_be_read_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(LabelError, match=message):
        masks_semantic.read(written(tmp_path, labelmap=text))


def test_a_labelmap_of_names_alone_and_names_with_colons_are_read(tmp_path: Path) -> None:
    dataset, _ = masks_semantic.read(written(tmp_path, labelmap="\nbackground\r\na: b\n50%\n"))
    assert [c.name for c in dataset.categories] == ["a: b", "50%"]
    odd = ["a:b", "#1", "50%", "100%25", " lead", "größe", "x,y:1,2,3::"]
    shapes = [(at, np.eye(3, k=at - 3, dtype=np.bool_)) for at in range(1, 6)]
    dataset = mask_set(shapes, odd, uri=f"{tmp_path}/a.jpg")
    masks_semantic.write(dataset, tmp_path / "out", media_root=tmp_path)
    again, _ = masks_semantic.read(tmp_path / "out", media_root=tmp_path)
    assert [c.name for c in again.categories] == odd


def test_frames_of_one_video_have_masks_of_their_own(tmp_path: Path) -> None:
    one = mask_set([(0, np.eye(3, dtype=np.bool_))], ["cat"], uri=f"{tmp_path}/v.mp4#frame=3")
    media = one.media
    two = replace(
        media,
        id=np.array([1, 2]),
        uri=[f"{tmp_path}/v.mp4#frame=3", f"{tmp_path}/v.mp4#frame=12"],
        width=np.repeat(media.width, 2),
        height=np.repeat(media.height, 2),
        split=np.repeat(media.split, 2),
        parent_id=np.repeat(media.parent_id, 2),
    )
    masks_semantic.write(replace(one, media=two), tmp_path / "out", media_root=tmp_path)
    assert (tmp_path / "out/v.mp4#frame=12.png").is_file()
    again, _ = masks_semantic.read(tmp_path / "out", media_root=tmp_path)
    assert again.media.uri == two.uri
    assert [len(labels_of(again, end)) for end in ("#frame=3", "#frame=12")] == [1, 0]


def test_a_list_of_pictures_cannot_leave_their_folder(tmp_path: Path) -> None:
    folder = written(tmp_path)
    (folder / "pictures.txt").write_text("../../etc/passwd\n")
    with pytest.raises(Exception, match="leaves the folder") as caught:
        masks_semantic.read(folder)
    assert type(caught.value).__name__ == "PathEscapeError"


def test_two_pictures_of_one_name_and_too_many_classes_are_refused(tmp_path: Path) -> None:
    dataset = mask_set([(0, np.eye(3, dtype=np.bool_))], ["cat"], uri=f"{tmp_path}/a.jpg")
    many = tuple(Category(name=str(number), origin_id=number) for number in range(65535))
    with pytest.raises(DataError, match="more classes than values"):
        masks_semantic.write(replace(dataset, categories=many), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_progress_is_told_to_the_last_file(tmp_path: Path) -> None:
    folder = written(tmp_path)
    for number in range(40):
        save(folder / f"n{number}.png", INDICES, palette=voc_palette())
    seen: list[tuple[int, int]] = []
    masks_semantic.read(folder, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(16, 41), (32, 41), (41, 41)]


@pytest.mark.parametrize("count", [2, 300])
def test_pillow_and_pycocotools_read_the_same_masks(tmp_path: Path, count: int) -> None:
    rng = np.random.default_rng(count)
    shapes = [(row, rng.random((30, 40)) < 0.1) for row in range(2)]
    dataset = mask_set(shapes, [str(row) for row in range(count)], uri=f"{tmp_path}/a.jpg")
    masks_semantic.write(dataset, tmp_path / "out", media_root=tmp_path)
    again, _ = masks_semantic.read(tmp_path / "out", media_root=tmp_path)
    values = np.array(Image.open(tmp_path / "out/a.png"))
    for row, value in enumerate((1, 2)):
        theirs = coco_masks.encode(np.asfortranarray(values == value, dtype=np.uint8))
        ours = json.loads(again.annotations.segmentation[row] or b"")
        assert ours["counts"].encode() == theirs["counts"]
        x0, y0, x1, y1 = again.annotations.boxes_xyxy[row].tolist()
        assert [x0, y0, x1 - x0, y1 - y0] == coco_masks.toBbox(theirs).tolist()
        assert again.annotations.area[row] == coco_masks.area(theirs)


def test_a_mask_that_is_read_and_written_costs_nothing_and_is_the_same(tmp_path: Path) -> None:
    folder = written(tmp_path, np.array([[0, 1, 1], [2, 2, 0]], np.uint8))
    dataset, _ = masks_semantic.read(folder)
    report = masks_semantic.write(dataset, tmp_path / "out", media_root=tmp_path / "images")
    assert not report.problems, "values are counted from 1, and are kept"
    assert (tmp_path / "out/labelmap.txt").read_text() == LABELMAP
    np.testing.assert_array_equal(
        np.array(Image.open(tmp_path / "out/a.png")), np.array(Image.open(folder / "a.png"))
    )


def test_labelformat_reads_what_is_written_as_it_was(tmp_path: Path) -> None:
    reader = pytest.importorskip("labelformat.formats.semantic_segmentation.pascalvoc")
    rng = np.random.default_rng(3)
    shapes = [(row, rng.random((30, 40)) < 0.2) for row in range(3)]
    save_picture(tmp_path / "images/sub/a.jpg", 40, 30)
    dataset = mask_set(shapes, ["a", "b", "c"], uri=f"{tmp_path}/images/sub/a.jpg")
    fitted, _ = masks_semantic.adapt(dataset)
    masks_semantic.write(dataset, tmp_path / "masks", media_root=tmp_path / "images")
    theirs = reader.PascalVOCSemanticSegmentationInput.from_dirs(
        tmp_path / "images", tmp_path / "masks", {0: "background", 1: "a", 2: "b", 3: "c"}
    )
    (labels,) = theirs.get_labels()
    found = {
        each.category.name: each.segmentation.get_binary_mask()
        for each in labels.objects
        if each.category.id
    }
    ours = dict(labels_of(fitted, "a.jpg"))
    assert found.keys() == ours.keys()
    for name, mask in found.items():
        np.testing.assert_array_equal(mask.astype(np.bool_), ours[name])
