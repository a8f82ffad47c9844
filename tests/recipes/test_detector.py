"""A trained detector is found again as it was, and speaks in pixels of the stored picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from drawn_sets import SIDE, draw_pictures, labelled
from safetensors.torch import save_file

from tilth.data.dataset import Dataset
from tilth.data.formats import load_format
from tilth.data.images import write_jpeg
from tilth.data.records import Geometry
from tilth.errors import DataError, EmptyDatasetError, MediaError, SettingsError, TrainingError
from tilth.metrics.average_precision import average_precision
from tilth.recipes.demo_data import DemoSet, write_demo_set
from tilth.recipes.detect_settings import DetectSettings, ModelSettings
from tilth.recipes.detector import (
    Detector,
    device_for,
    find_objects,
    load_detector,
    new_detector,
)
from tilth.recipes.detector_training import train_detector
from tilth.train.augment_settings import NO_AUGMENT
from tilth.train.loop_settings import LoopSettings

TINY = DetectSettings(
    model=ModelSettings(width=0.125, size=64),
    train=LoopSettings(
        steps=6, optimiser="adamw", learning_rate=0.003, ema_decay=0.5, device="cpu"
    ),
    batch_size=4,
)


def train(dataset: Dataset, paths: list[Path], run_dir: Path, **changes: object):
    settings = replace(TINY, **changes)
    return train_detector(
        dataset,
        paths,
        settings=settings,
        root=run_dir.parent,
        run_dir=run_dir,
        digest="abc",
        seed=0,
        progress=False,
    )


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, list[Path]]:
    return draw_pictures(tmp_path_factory.mktemp("drawn"), 6)


@pytest.fixture(scope="module")
def trained(drawn, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("trained") / "run"
    train(*drawn, run_dir)
    return run_dir


def test_learns_eight_pictures_by_heart(tmp_path: Path) -> None:
    shares = {"near, day": 4, "far, day": 2, "near, dusk": 2}
    demo_set = DemoSet(name="eight", shares=shares, side=0)
    labels = write_demo_set(tmp_path, demo_set, size=160, seed=0)
    dataset, _ = load_format("coco").read(labels, media_root=tmp_path / "eight")
    paths = [Path(uri) for uri in dataset.media.uri]
    settings = DetectSettings(
        model=ModelSettings(width=0.25, size=160),
        train=LoopSettings(
            steps=110,
            optimiser="adamw",
            learning_rate=0.003,
            weight_decay=0.0,
            warmup_steps=10,
            ema_decay=0.9,
        ),
        augment=NO_AUGMENT,
        batch_size=8,
    )
    train_detector(
        dataset,
        paths,
        settings=settings,
        root=tmp_path,
        run_dir=tmp_path / "run",
        digest="",
        seed=0,
        progress=False,
    )
    found = find_objects(load_detector(tmp_path / "run"), paths)
    ap50 = average_precision(dataset, found).ap50
    assert ap50 is not None
    assert ap50 > 0.95


def test_a_loaded_detector_finds_what_the_trained_one_found(drawn, tmp_path: Path) -> None:
    dataset, paths = drawn
    # Without a moving average the weights in memory are those that are kept.
    settings = replace(TINY, train=replace(TINY.train, ema_decay=0.0))
    kept: list[Detector] = []

    def keep(*arguments, **named):
        made = new_detector(*arguments, **named)
        kept.append(made[0])
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tilth.recipes.detector_training.new_detector", keep)
        train_detector(
            dataset,
            paths,
            settings=settings,
            root=tmp_path,
            run_dir=tmp_path / "run",
            digest="abc",
            seed=0,
            progress=False,
        )
    # Channels last, as in training, adds in another order: 1e-6 px.
    kept[0].model.to(memory_format=torch.contiguous_format)
    before = find_objects(kept[0], paths)
    loaded = load_detector(tmp_path / "run")
    after = find_objects(loaded, paths)
    assert (loaded.class_names, loaded.digest) == (("bright", "dark"), "abc")
    assert not loaded.model.training
    assert len(before) > 0
    for column in ("media_index", "category_index", "boxes_xyxy", "score"):
        np.testing.assert_array_equal(getattr(before, column), getattr(after, column))


def test_a_finished_run_is_left_as_it_is(drawn, trained: Path) -> None:
    before = (trained / "last.safetensors").stat().st_mtime_ns
    again = train(*drawn, trained)
    assert again.resumed_from == TINY.train.steps
    assert (trained / "last.safetensors").stat().st_mtime_ns == before


def test_other_pictures_are_refused_in_the_folder_of_a_run(drawn, trained: Path) -> None:
    dataset, paths = drawn
    with pytest.raises(TrainingError, match="another run"):
        train(dataset.take(np.arange(5)), paths[:5], trained)


@pytest.mark.parametrize(
    "changes", [{"width": 0.25}, {"variant": "yolov4", "depth": 0.1}], ids=["width", "variant"]
)
def test_weights_of_another_network_are_refused(trained: Path, changes: dict) -> None:
    # Biases of the heads and the counters of normalisations fit; a backbone of noise would not do.
    settings = replace(TINY.model, weights=str(trained), **changes)
    with pytest.raises(TrainingError, match="another network") as caught:
        new_detector(settings, ("bright", "dark"), root=Path("/"), seed=0)
    assert str(trained) in str(caught.value)


def test_weights_are_relative_to_the_root(trained: Path) -> None:
    settings = replace(TINY.model, weights=f"{trained.name}/last.safetensors")
    _, transfer = new_detector(settings, ("bright", "dark"), root=trained.parent, seed=0)
    assert transfer is not None
    assert not transfer.skipped


def test_starting_weights_that_are_missing_or_broken(tmp_path: Path) -> None:
    def start(name: str) -> None:
        new_detector(replace(TINY.model, weights=name), ("a",), root=tmp_path, seed=0)

    with pytest.raises(TrainingError, match="no weights here"):
        start("nowhere")
    (tmp_path / "broken.safetensors").write_bytes(b"not weights")
    with pytest.raises(TrainingError, match="cannot be read") as caught:
        start("broken.safetensors")
    assert caught.value.where == str(tmp_path / "broken.safetensors")
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(TrainingError, match="another network"):
        start("other.safetensors")


def test_a_folder_without_a_detector(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no trained detector here") as caught:
        load_detector(tmp_path)
    assert caught.value.where == str(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff\xfe", b'{"model": 3}'])
def test_a_broken_record(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "detector.json").write_bytes(content)
    with pytest.raises(DataError, match="record is broken"):
        load_detector(tmp_path)


def test_a_record_without_its_weights(trained: Path, tmp_path: Path) -> None:
    record = (trained / "detector.json").read_bytes()
    (tmp_path / "detector.json").write_bytes(record)
    with pytest.raises(TrainingError, match="no weights here"):
        load_detector(tmp_path)
    (tmp_path / "last.safetensors").write_bytes(b"cut off")
    with pytest.raises(TrainingError, match="cannot be loaded"):
        load_detector(tmp_path)
    changed = msgspec.json.decode(record)
    changed["model"]["size"] = 65
    (tmp_path / "detector.json").write_bytes(msgspec.json.encode(changed))
    with pytest.raises(SettingsError, match=r"model\.size"):
        load_detector(tmp_path)


def test_there_must_be_a_box_of_a_single_object(drawn, tmp_path: Path) -> None:
    dataset, paths = drawn
    empty = dataset.keep_annotations(np.zeros(len(dataset.annotations), bool))
    crowds = replace(
        dataset,
        annotations=replace(dataset.annotations, is_crowd=np.ones(len(dataset.annotations), bool)),
    )
    classes = replace(
        dataset,
        annotations=replace(
            dataset.annotations,
            geometry=np.full(len(dataset.annotations), Geometry.LABEL, np.uint8),
        ),
    )
    for useless in (empty, crowds, classes):
        with pytest.raises(EmptyDatasetError, match="no box to learn from"):
            train(useless, paths, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_truncated_picture_ends_training_with_its_name(tmp_path: Path) -> None:
    dataset, paths = draw_pictures(tmp_path, 4)
    paths[2].write_bytes(paths[2].read_bytes()[:400])
    with pytest.raises(MediaError) as caught:
        train(dataset, paths, tmp_path / "run")
    assert str(paths[2]) in str(caught.value)


@pytest.mark.parametrize(("there", "device"), [(True, "cuda"), (False, "cpu")])
def test_a_gpu_is_taken_where_there_is_one(
    there: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert device_for("auto").type == device
    assert device_for("cpu").type == "cpu"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_finds_what_the_processor_finds(drawn, trained: Path) -> None:
    on_gpu, on_cpu = load_detector(trained), load_detector(trained, device="cpu")
    assert next(on_gpu.model.parameters()).is_cuda
    there, here = (find_objects(each, drawn[1], score_threshold=0.05) for each in (on_gpu, on_cpu))
    np.testing.assert_allclose(np.sort(there.score), np.sort(here.score), atol=1e-3)


def brightest(model, squares, **choices):
    """In the place of `detect`: the bounding box of what is bright, in network pixels."""
    found = []
    for square in squares:
        rows, columns = (square.mean(0) > 0.8).nonzero().unbind(1)
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        found.append((torch.tensor([box]).float(), torch.tensor([0.9]), torch.tensor([1])))
    return found


@pytest.mark.parametrize(("width", "height"), [(200, 100), (60, 140), (64, 64), (333, 97)])
def test_boxes_come_back_in_pixels_of_the_picture(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int, height: int
) -> None:
    box = np.array([width * 0.5, height * 0.25, width * 0.9, height * 0.7]).round().astype(int)
    image = np.full((height, width, 3), 20, np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = 255
    write_jpeg(tmp_path / "a.jpg", image)
    monkeypatch.setattr("tilth.recipes.picture_detection.detect", brightest)
    found = find_objects(load_detector(trained), [tmp_path / "a.jpg"] * 3, batch_size=2)
    assert found.media_index.tolist() == [0, 1, 2]
    assert found.category_index.tolist() == [1, 1, 1]
    pixel = max(width, height) / SIDE  # of the network, in pixels of the picture
    np.testing.assert_allclose(found.boxes_xyxy, np.tile(box, (3, 1)), atol=pixel + 1)


def test_boxes_end_at_the_border(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_jpeg(tmp_path / "wide.jpg", np.zeros((100, 200, 3), np.uint8))
    # Beyond the picture on all sides, across its upper edge, and in the padding above it.
    wild = torch.tensor(
        [[-9.0, -9.0, 90.0, 90.0], [20.0, 10.0, 40.0, 30.0], [20.0, 2.0, 40.0, 15.0]]
    )
    monkeypatch.setattr(
        "tilth.recipes.picture_detection.detect",
        lambda model, squares, **choices: [(wild, torch.ones(3), torch.zeros(3).long())],
    )
    found = find_objects(load_detector(trained), [tmp_path / "wide.jpg"])
    # 64 network pixels for 200: the picture lies in lines 16 to 48 of the square.
    np.testing.assert_allclose(found.boxes_xyxy, [[0, 0, 200, 100], [62.5, 0, 125, 43.75]])


def test_no_picture_and_no_detection_are_empty_columns(trained: Path, drawn) -> None:
    detector = load_detector(trained)
    for none in (find_objects(detector, []), find_objects(detector, drawn[1], score_threshold=1.0)):
        assert len(none) == 0
        assert none.boxes_xyxy.shape == (0, 4)
        assert none.media_index.dtype == np.int64
    truth = labelled([[[0, 0, 9, 9]]], [[0]])
    assert average_precision(truth, none).ap50 == 0.0


def test_a_run_is_not_gone_on_with_from_other_weights(drawn, trained: Path, tmp_path: Path) -> None:
    start = tmp_path / "start.safetensors"
    start.write_bytes((trained / "last.safetensors").read_bytes())
    model = replace(TINY.model, weights="start.safetensors")
    train(*drawn, tmp_path / "run", model=model)
    train(*drawn, tmp_path / "run", model=model)
    changed = load_detector(trained).model.state_dict()
    changed["heads.0.1.bias"] = changed["heads.0.1.bias"] + 1.0
    save_file({name: tensor.contiguous() for name, tensor in changed.items()}, start)
    with pytest.raises(TrainingError, match="another run") as caught:
        train(*drawn, tmp_path / "run", model=model)
    assert "starting_weights" in str(caught.value)
