"""The demo's pictures: the same bytes for a seed, labels that fit, nothing shared between sides."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tilth.data.formats import load_format
from tilth.data.images import read_image
from tilth.errors import SettingsError
from tilth.recipes import demo_data
from tilth.recipes.demo import COLLECTED, DEPLOYED, TEXTURES
from tilth.recipes.demo_data import CONDITIONS, DemoSet, write_demo_set

FEW = {name: 4 for name in CONDITIONS}
SIZE = 160


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("few")
    write_demo_set(folder, DemoSet(name="few", shares=FEW, side=0), size=SIZE, seed=5)
    return folder


def _bytes_in(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_same_seed_gives_the_same_bytes(few: Path, tmp_path: Path) -> None:
    demo_set = DemoSet(name="few", shares=FEW, side=0)
    write_demo_set(tmp_path / "again", demo_set, size=SIZE, seed=5)
    assert _bytes_in(tmp_path / "again") == _bytes_in(few)
    write_demo_set(tmp_path / "other", demo_set, size=SIZE, seed=6)
    assert _bytes_in(tmp_path / "other")["few/0000.jpg"] != _bytes_in(few)["few/0000.jpg"]


def test_a_whole_set_is_left_as_it_is(few: Path) -> None:
    before = (few / "few/0000.jpg").stat().st_mtime_ns
    path = write_demo_set(few, DemoSet(name="few", shares=FEW, side=0), size=SIZE, seed=5)
    assert path == few / "few.json"
    assert (few / "few/0000.jpg").stat().st_mtime_ns == before


@pytest.mark.parametrize(("seed", "size", "shares"), [(6, SIZE, FEW), (5, 96, FEW), (5, SIZE, {})])
def test_a_set_of_another_kind_is_not_written_over(
    few: Path, seed: int, size: int, shares: dict[str, int]
) -> None:
    before = _bytes_in(few)
    with pytest.raises(SettingsError, match="another kind") as caught:
        write_demo_set(few, DemoSet(name="few", shares=shares, side=0), size=size, seed=seed)
    assert caught.value.where == str(few / "few.json")
    assert _bytes_in(few) == before


def test_a_picture_does_not_depend_on_how_many_there_are(few: Path, tmp_path: Path) -> None:
    one = DemoSet(name="few", shares={"near, day": 1}, side=0)
    write_demo_set(tmp_path, one, size=SIZE, seed=5)
    assert (tmp_path / "few/0000.jpg").read_bytes() == (few / "few/0000.jpg").read_bytes()


def test_labels_are_read_without_a_problem(few: Path) -> None:
    dataset, report = load_format("coco").read(few / "few.json", media_root=few / "few")
    assert not report.problems
    assert len(dataset.media) == 16
    assert [category.name for category in dataset.categories] == ["digit", "face"]


def test_boxes_lie_inside_and_apart(few: Path) -> None:
    dataset, _ = load_format("coco").read(few / "few.json", media_root=few / "few")
    boxes = dataset.annotations.boxes_xyxy
    assert (boxes >= 0).all()
    assert (boxes <= SIZE).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    for row in range(len(dataset.media)):
        own = boxes[dataset.rows_of(row)]
        assert len(own) >= 1
        for i, a in enumerate(own):
            for b in own[i + 1 :]:
                assert min(a[2], b[2]) <= max(a[0], b[0]) or min(a[3], b[3]) <= max(a[1], b[1])


def test_scenes_are_as_their_condition_says(few: Path) -> None:
    labels = json.loads((few / "few.json").read_text())
    conditions = {}
    for annotation in labels["annotations"]:
        condition = annotation["attributes"]["condition"]
        conditions[annotation["image_id"]] = condition
        low, high = CONDITIONS[condition].height_px
        assert int(low) <= annotation["bbox"][3] <= high
    counts = {name: list(conditions.values()).count(name) for name in CONDITIONS}
    assert counts == FEW
    brightness: dict[str, list[float]] = {"day": [], "dusk": []}
    for number, condition in conditions.items():
        mean = read_image(few / "few" / f"{number:04d}.jpg").mean()
        brightness[condition.split(", ")[1]].append(float(mean))
    assert np.mean(brightness["dusk"]) < 0.5 * np.mean(brightness["day"])


def test_the_two_sides_share_no_object_and_no_background() -> None:
    assert COLLECTED.side == TEXTURES.side != DEPLOYED.side
    from skimage.data import brick, coffee, lfw_subset
    from sklearn.datasets import load_digits

    # The parts of a source picture: together all of it, so no column belongs to both.
    halves = [demo_data._backgrounds(side, photographs=True) for side in (0, 1)]
    whole = np.concatenate([half[0] for half in halves], axis=1)
    np.testing.assert_array_equal(whole[..., 0], brick())
    np.testing.assert_array_equal(np.concatenate([half[5] for half in halves], axis=1), coffee())

    digits, faces = load_digits().images, lfw_subset()[:100]
    for painter, sources in ((demo_data._digit_painter, digits), (demo_data._face_painter, faces)):
        used = [_sources_of(painter, side, len(sources)) for side in (0, 1)]
        assert used[0]
        assert used[1]
        assert not used[0] & used[1]


class Counting:
    """In the place of random numbers: `integers` counts up, so that every source is painted."""

    def __init__(self) -> None:
        self.asked = -1

    def integers(self, limit: int) -> int:
        self.asked += 1
        return self.asked % limit

    def random(self) -> float:
        return 0.9

    def uniform(self, low: float, high: float, size: int | None = None):
        return low if size is None else np.full(size, low)


def _sources_of(painter, side: int, count: int) -> set[bytes]:
    paint, numbers = painter(side), Counting()
    return {paint(numbers, 24)[0].tobytes() for _ in range(count // 2)}


def test_training_pictures_are_out_of_balance_and_deployment_is_not() -> None:
    assert set(COLLECTED.shares) == set(DEPLOYED.shares) == set(CONDITIONS)
    assert max(COLLECTED.shares.values()) > 5 * min(COLLECTED.shares.values())
    assert len(set(DEPLOYED.shares.values())) == 1
