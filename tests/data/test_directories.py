"""Folders of texts and pictures: order, parts, pixels of Keras, recorded and, where it is, live."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import tilth.data
from tilth.data.directory_files import list_directory
from tilth.data.picture_rows import resized
from tilth.errors import DataError, EmptyDatasetError, SettingsError

sys.path.insert(0, str(Path(__file__).parents[1] / "golden"))
import keras_directories as recorded

GOLDEN = json.loads(recorded.FILE.read_text())


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tree")
    recorded.plant(root)
    return root


def our_answer(root: Path, call: dict[str, Any]) -> dict[str, Any]:
    settings = {key: value for key, value in call.items() if key != "kind"}
    listed = list_directory(root, extensions=recorded.ENDINGS[call["kind"]], **settings)
    return {
        "files": [path.relative_to(root).as_posix() for path in listed.files],
        "labels": None if listed.labels is None else listed.labels.tolist(),
        "class_names": list(listed.class_names) or None,
    }


@pytest.mark.parametrize("answer", GOLDEN["answers"])
def test_order_labels_and_parts_are_those_of_keras(answer: dict[str, Any], tree: Path) -> None:
    wanted = {key: answer[key] for key in ("files", "labels", "class_names")}
    assert our_answer(tree, answer["call"]) == wanted


@pytest.mark.parametrize("seed", [1, 2, 99])
def test_order_and_parts_are_those_of_the_keras_that_is_installed(seed: int, tree: Path) -> None:
    pytest.importorskip("tensorflow")
    for subset in ("training", "validation"):
        call = {"kind": "image", "shuffle": True, "seed": seed}
        call |= {"validation_split": 0.3, "subset": subset}
        assert our_answer(tree, call) == recorded.keras_answer(tree, call)


@pytest.mark.parametrize("record", GOLDEN["pixels"])
def test_pixels_are_those_of_tensorflow(record: dict[str, Any]) -> None:
    height, width = record["size"]
    ours = resized(
        recorded.picture(),
        (height, width),
        interpolation=record["interpolation"],
        crop=record["crop"],
    )
    wanted = np.array(record["values"]).reshape(height, width, 3)
    np.testing.assert_allclose(ours, wanted, atol=2e-3)


def test_texts_become_rows_of_their_folder(tree: Path) -> None:
    data = tilth.data.texts_from_directory(tree, shuffle=False, progress=False)
    assert (data.class_names, len(data)) == (("neg", "pos", "zero"), 27)
    texts = data.table["unstructured_text"].to_pylist()
    for text, path, code in zip(texts, data.index.to_pylist(), data.labels, strict=True):
        assert Path(path) == tree / text, "every file holds its own path"
        assert text.split("/")[0] == data.class_names[code]


def test_parts_of_a_seed_share_no_file_and_leave_none_out(tree: Path) -> None:
    parts = [
        tilth.data.texts_from_directory(tree, validation_split=0.3, subset=subset, seed=5)
        for subset in ("training", "validation")
    ]
    files = [path for part in parts for path in part.index.to_pylist()]
    everything = tilth.data.texts_from_directory(tree).index.to_pylist()
    assert sorted(files) == sorted(everything)
    assert len(parts[1]) == int(0.3 * len(files))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for number in range(7):
        folder = tmp_path / ("cat" if number % 3 else "dog")
        folder.mkdir(exist_ok=True)
        grey = np.full((10 + number, 12, 3), number * 20, np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), grey)
    return tmp_path


def test_pictures_come_in_batches(pictures: Path) -> None:
    data = tilth.data.images_from_directory(pictures, image_size=(6, 8), shuffle=False)
    seen = []
    for batch in data.torch(batch_size=3):
        assert batch["images"].shape[1:] == (3, 6, 8)
        assert str(batch["images"].dtype) == "torch.float32"
        for row, image, label in zip(batch["row"], batch["images"], batch["label"], strict=True):
            path = data.files[int(row)]
            assert float(image.mean()) == pytest.approx(int(path.stem) * 20 / 255)
            assert data.class_names[int(label)] == path.parent.name
            seen.append(path)
    assert sorted(seen) == sorted(pictures.rglob("*.png"))
    assert data.class_weights().tolist() == pytest.approx([7 / 8, 7 / 6])


@pytest.mark.parametrize(
    ("mode", "wanted"),
    [("int", [0, 1]), ("binary", [[0], [1]]), ("categorical", [[1, 0], [0, 1]]), (None, None)],
)
def test_label_modes(mode: Any, wanted: Any, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.txt").write_text(f"text {name}")
        cv2.imwrite(str(tmp_path / name / "1.png"), np.zeros((2, 2, 3), np.uint8))
    for opened in (tilth.data.texts_from_directory, tilth.data.images_from_directory):
        data = opened(tmp_path, label_mode=mode)
        (batch,) = data.torch(batch_size=2, shuffle=False)
        if wanted is None:
            assert "label" not in batch
        else:
            assert batch["label"][np.argsort(data.labels)].tolist() == wanted
            assert str(batch["label"].dtype) == (
                "torch.int64" if mode == "int" else "torch.float32"
            )


def test_the_kind_is_found_out(tree: Path, pictures: Path, tmp_path: Path) -> None:
    data = tilth.data.from_directory(pictures, image_size=(2, 2))
    assert len(data.files) == 7  # type: ignore[union-attr]
    (pictures / "classes.txt").write_text("beside the class folders")
    assert len(tilth.data.from_directory(pictures)) == len(data)
    with pytest.raises(SettingsError, match="texts and pictures"):
        tilth.data.from_directory(tree)
    (tmp_path / "empty").mkdir()
    with pytest.raises(EmptyDatasetError, match="neither texts nor pictures"):
        tilth.data.from_directory(tmp_path / "empty")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"subset": "training"}, "belong together"),
        ({"validation_split": 0.2}, "belong together"),
        ({"validation_split": 0.2, "subset": "training"}, "needs a seed"),
        ({"validation_split": 1.2, "subset": "training", "seed": 0}, "validation_split cannot"),
        ({"validation_split": 0.2, "subset": "test", "seed": 0}, "subset cannot"),
        ({"class_names": ["neg", "positive"]}, "are not the folders"),
        ({"class_names": ["neg", "neg"]}, "are not the folders"),
        ({"labels": [0, 1]}, "not one label a file"),
        ({"labels": "folders"}, "labels cannot be used"),
        ({"labels": None, "class_names": ["neg"]}, "only be given where labels are inferred"),
        ({"label_mode": "binary"}, "needs two classes"),
        ({"label_mode": "one-hot"}, "label_mode cannot be used"),
    ],
)
def test_arguments_that_contradict_each_other(
    settings: dict[str, Any], message: str, tree: Path
) -> None:
    with pytest.raises(SettingsError, match=message):
        _ = tilth.data.texts_from_directory(tree, progress=False, **settings).encoded


@pytest.mark.parametrize("settings", [{"interpolation": "area"}, {"image_size": (0, 4)}])
def test_sizes_that_cannot_be_meant(settings: dict[str, Any], pictures: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be used"):
        tilth.data.images_from_directory(pictures, **settings)


def test_an_empty_part_is_refused(tree: Path) -> None:
    for subset in ("training", "validation"):
        with pytest.raises(EmptyDatasetError, match="one part of the split would be empty"):
            list_directory(tree, extensions=(".txt",), validation_split=0.01, subset=subset, seed=0)


def test_a_text_in_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "latin.txt").write_bytes("größe".encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8") as caught:
        tilth.data.texts_from_directory(tmp_path)
    assert "latin.txt, byte 2" in str(caught.value)


def test_numbers_given_as_labels_are_the_classes(tree: Path) -> None:
    count = len(list_directory(tree, extensions=(".txt",), labels=None).files)
    listed = list_directory(
        tree, extensions=(".txt",), labels=[5, *[2] * (count - 1)], shuffle=False
    )
    assert listed.class_names == ("2", "5")
    assert listed.labels is not None
    assert listed.labels[:3].tolist() == [1, 0, 0]
