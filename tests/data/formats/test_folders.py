"""Class folders: one class a picture, splits above, links that stay inside, classes in order."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.data.dataset import Dataset
from tilth.data.formats import folders
from tilth.data.formats._columns import annotation_columns, media_columns
from tilth.data.images import write_jpeg
from tilth.data.problems import LabelReport
from tilth.data.records import Category, Geometry, Split
from tilth.errors import (
    DataError,
    EmptyDatasetError,
    LabelError,
    SettingsError,
    StorageError,
    TilthError,
)


def picture(path: Path, width: int = 20, height: int = 10) -> Path:
    write_jpeg(path, np.full((height, width, 3), 90, np.uint8))
    return path


def layout(root: Path, *names: str) -> Path:
    for name in names:
        picture(root / name)
    return root


def found(dataset: Dataset, root: Path) -> dict[str, list[str]]:
    """Classes of each picture."""
    labels = dataset.annotations
    return {
        Path(uri).relative_to(root).as_posix(): [
            dataset.categories[row].name for row in labels.category_index[dataset.rows_of(at)]
        ]
        for at, uri in enumerate(dataset.media.uri)
    }


def problems(report: LabelReport) -> dict[str, tuple[int, tuple[str, ...]]]:
    return {problem.kind: (problem.count, problem.examples) for problem in report.problems}


def labelled(
    root: Path,
    classes: dict[str, list[str]],
    names: tuple[str, ...] = ("cat", "dog"),
    split: list[Split] | None = None,
) -> Dataset:
    """Real pictures below ``root`` with these classes."""
    uris = [picture(root / name).as_posix() for name in classes]
    media = media_columns(
        uris,
        width=[20] * len(uris),
        height=[10] * len(uris),
        split=None if split is None else split,
    )
    pairs = [(at, names.index(each)) for at, own in enumerate(classes.values()) for each in own]
    annotations = annotation_columns(
        media,
        media_index=[at for at, _ in pairs],
        category_index=[each for _, each in pairs],
        boxes_xyxy=None,
        report=LabelReport(where=""),
        place=str,
    )
    categories = tuple(Category(name=name, origin_id=at) for at, name in enumerate(names))
    return Dataset(categories=categories, media=media, annotations=annotations)


def test_folders_are_classes_in_order_of_their_names(tmp_path: Path) -> None:
    root = layout(tmp_path, "dog/b.jpg", "dog/deep/a.PNG", "cat/x y.jpeg")
    (root / "ant").mkdir()
    (root / "dog" / "notes.txt").write_text("no picture")
    dataset, report = folders.read(root)
    assert found(dataset, root) == {
        "cat/x y.jpeg": ["cat"],
        "dog/b.jpg": ["dog"],
        "dog/deep/a.PNG": ["dog"],
    }
    assert set(dataset.annotations.geometry.tolist()) == {Geometry.LABEL}
    assert dataset.annotations.boxes_xyxy.tolist() == [[0, 0, 20, 10]] * 3
    assert dataset.media.split.tolist() == [Split.NONE] * 3
    assert (report.num_media, report.num_annotations) == (3, 3)


def test_sizes_need_not_be_read(tmp_path: Path) -> None:
    root = layout(tmp_path, "cat/a.jpg")
    (root / "cat" / "b.jpg").write_bytes(b"no picture")
    dataset, report = folders.read(root)
    assert dataset.media.width.tolist() == [20, 0]
    assert list(problems(report)) == ["picture whose size cannot be read"]
    dataset, report = folders.read(root, options=folders.ReadOptions(sizes=False))
    assert dataset.media.width.tolist() == [0, 0]
    assert len(dataset.annotations) == 2


def test_splits_are_known_by_their_names(tmp_path: Path) -> None:
    root = layout(tmp_path, "train/cat/a.jpg", "validation/dog/a.jpg", "test/cat/c.jpg")
    dataset, report = folders.read(root)
    assert [category.name for category in dataset.categories] == ["cat", "dog"]
    splits = dict(zip(found(dataset, root), dataset.media.split.tolist(), strict=True))
    assert splits == {
        "train/cat/a.jpg": Split.TRAIN,
        "validation/dog/a.jpg": Split.VAL,
        "test/cat/c.jpg": Split.TEST,
    }
    assert "splits: test, train, validation" in report.notes


def test_classes_that_are_called_like_splits_hold_pictures_themselves(tmp_path: Path) -> None:
    root = layout(tmp_path, "train/a.jpg", "test/b.jpg")
    dataset, _ = folders.read(root)
    assert found(dataset, root) == {"test/b.jpg": ["test"], "train/a.jpg": ["train"]}
    deep = layout(tmp_path / "deep", "train/sub/a.jpg")
    assert found(folders.read(deep)[0], deep) == {"train/sub/a.jpg": ["sub"]}
    told, _ = folders.read(deep, options=folders.ReadOptions(splits="no"))
    assert found(told, deep) == {"train/sub/a.jpg": ["train"]}


def test_splits_that_were_asked_for_must_be_there(tmp_path: Path) -> None:
    root = layout(tmp_path, "train/cat/a.jpg", "holdout/cat/b.jpg")
    with pytest.raises(LabelError, match="no split") as caught:
        folders.read(root, options=folders.ReadOptions(splits="yes"))
    assert caught.value.got == "holdout"


def test_a_list_gives_the_order_and_unknown_folders_stop(tmp_path: Path) -> None:
    root = layout(tmp_path, "cat/a.jpg", "dog/b.jpg", "emu/c.jpg")
    (root / "classes.txt").write_text("dog\ncat\nant\n")
    with pytest.raises(LabelError, match="'emu'") as caught:
        folders.read(root)
    assert "emu/c.jpg" in str(caught.value)
    dataset, report = folders.read(root, on_unknown="skip")
    assert [category.name for category in dataset.categories] == ["dog", "cat", "ant"]
    assert problems(report) == {"label of an unknown class": (1, ("emu/c.jpg",))}
    assert found(dataset, root)["emu/c.jpg"] == []


def test_links_are_the_pictures_they_point_to(tmp_path: Path) -> None:
    picture(tmp_path / "pictures" / "a.jpg")
    picture(tmp_path / "elsewhere" / "b.jpg")
    root = layout(tmp_path / "labels", "cat/own.jpg")
    (root / "dog").mkdir()
    (root / "cat" / "a.jpg").symlink_to("../../pictures/a.jpg")
    (root / "dog" / "again.jpg").symlink_to("../../pictures/a.jpg")
    (root / "cat" / "b.jpg").symlink_to(tmp_path / "elsewhere" / "b.jpg")
    (root / "evil").symlink_to(tmp_path / "elsewhere")
    dataset, report = folders.read(root, media_root=tmp_path / "pictures")
    assert found(dataset, tmp_path) == {
        "pictures/a.jpg": ["cat", "dog"],
        "labels/cat/own.jpg": ["cat"],
    }
    assert problems(report) == {
        "link or name that leaves the folder": (2, ("cat/b.jpg", "evil/b.jpg")),
        "picture in several class folders": (1, ("dog/again.jpg",)),
    }
    alone, _ = folders.read(root)
    assert list(found(alone, root)) == ["cat/own.jpg"]


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    root = layout(tmp_path, "cat/a.jpg")
    (root / "cat" / "round").symlink_to(root)
    (root / "cat" / "itself.jpg").symlink_to("itself.jpg")
    dataset, _ = folders.read(root)
    assert "cat/a.jpg" in found(dataset, root)
    assert len(dataset.media) <= 2


def test_names_that_are_not_unicode_are_reported(tmp_path: Path) -> None:
    root = layout(tmp_path, "cat/a.jpg")
    picture(root / "b.jpg").rename(os.fsdecode(os.fsencode(root) + b"/cat/\xff.jpg"))
    dataset, report = folders.read(root)
    assert list(found(dataset, root)) == ["cat/a.jpg"]
    assert problems(report)["link or name that leaves the folder"][0] == 1


@pytest.mark.parametrize("names", [[], ["cat/a.txt"], ["a.jpg"]])
def test_a_folder_without_classes_of_pictures_is_empty(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(EmptyDatasetError):
        folders.read(tmp_path)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    with pytest.raises(LabelError, match="not a folder"):
        folders.read(tmp_path / "f")
    with pytest.raises(LabelError, match="not a folder"):
        folders.read(tmp_path / "none")


def test_only_folders_of_pictures_are_recognised(tmp_path: Path) -> None:
    assert folders.recognises(layout(tmp_path / "a", "cat/a.jpg", "dog/b.png"))
    assert folders.recognises(layout(tmp_path / "b", "train/cat/a.jpg", "val/cat/b.png"))
    listed = layout(tmp_path / "c", "cat/a.jpg")
    (listed / "classes.txt").write_text("cat\n")
    assert folders.recognises(listed)
    darknet = layout(tmp_path / "d", "images/a.jpg")
    (darknet / "labels").mkdir()
    voc = layout(tmp_path / "e", "JPEGImages/a.jpg")
    labels_beside = layout(tmp_path / "f", "cat/a.jpg")
    (labels_beside / "cat" / "a.txt").touch()
    coco = layout(tmp_path / "g", "train/a.jpg")
    (coco / "instances.json").touch()
    flat = layout(tmp_path / "h", "a.jpg")
    for other in (darknet, voc, labels_beside, coco, flat, tmp_path / "none"):
        assert not folders.recognises(other), other.name


# Out


@pytest.mark.parametrize("pictures", ["link", "copy", "hardlink"])
def test_pictures_are_linked_or_copied(tmp_path: Path, pictures: Any) -> None:
    source = tmp_path / "pictures"
    dataset = labelled(source, {"a.jpg": ["dog"], "sub/a.jpg": ["cat"]})
    out = tmp_path / "out"
    options = folders.WriteOptions(pictures=pictures)
    report = folders.write(dataset, out, media_root=source, options=options)
    assert (report.problems, report.num_media) == ((), 2)
    target = out / "cat" / "sub" / "a.jpg"
    assert target.is_symlink() is (pictures == "link")
    assert target.samefile(source / "sub" / "a.jpg") is (pictures != "copy")
    assert target.read_bytes() == (source / "sub" / "a.jpg").read_bytes()
    back, _ = folders.read(out, media_root=source)
    place = source if pictures == "link" else out
    names = {"a.jpg", "sub/a.jpg"} if pictures == "link" else {"dog/a.jpg", "cat/sub/a.jpg"}
    assert set(found(back, place)) == names


def test_links_survive_a_move_of_everything(tmp_path: Path) -> None:
    here = tmp_path / "here"
    dataset = labelled(here / "pictures", {"a.jpg": ["dog"]})
    folders.write(dataset, here / "out")
    here.rename(tmp_path / "there")
    back, _ = folders.read(tmp_path / "there" / "out", media_root=tmp_path / "there" / "pictures")
    assert list(found(back, tmp_path)) == ["there/pictures/a.jpg"]


def test_pictures_of_several_or_no_classes_are_reported_and_left_out(tmp_path: Path) -> None:
    names = {
        "one.jpg": ["cat"],
        "two.jpg": ["cat", "dog"],
        "twice.jpg": ["dog", "dog"],
        "no.jpg": [],
    }
    dataset = labelled(tmp_path / "p", names)
    report = folders.write(dataset, tmp_path / "out")
    assert {kind: count for kind, (count, _) in problems(report).items()} == {
        "further object of a class in one picture": 1,
        "picture without labels": 1,
        "picture of several classes": 1,
    }
    assert report.num_media == 2
    written = sorted(path.name for path in (tmp_path / "out").rglob("*.jpg"))
    assert written == ["one.jpg", "twice.jpg"]


def test_unused_classes_and_their_order_come_back(tmp_path: Path) -> None:
    dataset = labelled(tmp_path / "p", {"a.jpg": ["zebra"]}, ("zebra", "ant", "and/or", ".hid%41n"))
    folders.write(dataset, tmp_path / "out")
    made = sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir())
    assert made == ["%2Ehid%2541n", "and%2For", "ant", "zebra"]
    back, _ = folders.read(tmp_path / "out", media_root=tmp_path)
    assert back.categories == dataset.categories


def test_splits_and_classes_that_are_called_so(tmp_path: Path) -> None:
    names = {"a.jpg": ["train"], "b.jpg": ["cat"], "c.jpg": ["cat"]}
    splits = [Split.TEST, Split.NONE, Split.VAL]
    dataset = labelled(tmp_path / "p", names, ("train", "cat"), splits)
    folders.write(dataset, tmp_path / "out")
    assert (tmp_path / "out" / "test" / "train" / "a.jpg").exists()
    assert (tmp_path / "out" / "unassigned" / "cat" / "b.jpg").exists()
    back, _ = folders.read(tmp_path / "out", media_root=tmp_path / "p")
    found_splits = dict(zip(back.media.uri, back.media.split.tolist(), strict=True))
    assert found_splits == dict(zip(dataset.media.uri, splits, strict=True))
    plain = labelled(tmp_path / "q", {"a.jpg": ["train"]}, ("train",))
    folders.write(plain, tmp_path / "plain")
    back, _ = folders.read(tmp_path / "plain", media_root=tmp_path / "q")
    assert found(back, tmp_path / "q") == {"a.jpg": ["train"]}


def test_what_is_no_file_here_is_left_out(tmp_path: Path) -> None:
    dataset = labelled(tmp_path / "p", {"a.jpg": ["cat"], "b.jpg": ["cat"], "c.jpg": ["cat"]})
    (tmp_path / "p" / "c.jpg").unlink()
    uris = [dataset.media.uri[0], "s3://bucket/b.jpg", dataset.media.uri[2]]
    media = media_columns(uris, width=[20] * 3, height=[10] * 3)
    away = Dataset(categories=dataset.categories, media=media, annotations=dataset.annotations)
    report = folders.write(away, tmp_path / "out")
    assert problems(report) == {
        "picture that is no file here (a URL, or a frame of a video)": (1, ("s3://bucket/b.jpg",)),
        "picture that is missing": (1, (f"{tmp_path}/p/c.jpg",)),
    }
    assert [path.name for path in (tmp_path / "out").rglob("*.jpg")] == ["a.jpg"]


def test_a_folder_that_is_there_is_replaced_only_when_asked(tmp_path: Path) -> None:
    dataset = labelled(tmp_path / "p", {"a.jpg": ["cat"]})
    layout(tmp_path / "out", "old/x.jpg")
    with pytest.raises(SettingsError, match="holds something"):
        folders.write(dataset, tmp_path / "out")
    assert (tmp_path / "out" / "old" / "x.jpg").exists()
    folders.write(dataset, tmp_path / "out", replace=True)
    assert not (tmp_path / "out" / "old").exists()


def test_a_failed_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = labelled(tmp_path / "p", {"a.jpg": ["cat"]})
    layout(tmp_path / "out", "old/x.jpg")

    def fail(*_: Any) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(folders.os, "link", fail)
    options = folders.WriteOptions(pictures="hardlink")
    with pytest.raises(StorageError, match="hard-linked") as caught:
        folders.write(dataset, tmp_path / "out", options=options, replace=True)
    assert "pictures=copy" in (caught.value.fix or "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "p"]
    assert (tmp_path / "out" / "old" / "x.jpg").exists()


def test_a_class_name_of_two_lines_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    dataset = labelled(tmp_path / "p", {"a.jpg": ["x\ny"]}, ("x\ny",))
    with pytest.raises(DataError, match="one name a line"):
        folders.write(dataset, tmp_path / "out")
    assert not (tmp_path / "out").exists()


printable = st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"])


@given(names=st.lists(st.text(printable, min_size=1, max_size=20).filter(lambda n: n == n.strip()),
                      min_size=1, max_size=3, unique=True))  # fmt: skip
def test_any_class_name_comes_back(
    names: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("folders")
    classes = {f"{at}.jpg": [name] for at, name in enumerate(names)}
    dataset = labelled(folder / "p", classes, tuple(names))
    folders.write(dataset, folder / "out")
    back, report = folders.read(folder / "out", media_root=folder / "p")
    assert back.categories == dataset.categories
    assert found(back, folder / "p") == classes
    assert report.problems == ()


@given(text=st.binary(max_size=60))
def test_a_spoilt_list_ends_in_a_result_or_an_error_of_ours(
    text: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("fuzz")
    (root / "cat").mkdir()
    (root / "cat" / "a.jpg").write_bytes(text)
    (root / "classes.txt").write_bytes(text)
    assert folders.recognises(root) in (True, False)
    with contextlib.suppress(TilthError):
        assert len(folders.read(root, on_unknown="skip")[0].media) == 1
