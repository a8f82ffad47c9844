"""From a frame to batches: every kind of column, splits, weights, frameworks."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight
from torch.utils.data import DataLoader

from tilth.data import FrameDataset, Vocabulary, from_frame
from tilth.errors import DataError, EmptyDatasetError, MissingExtraError, SettingsError

TEXTS = ("i like ice cream", "i don't like ice cream", "i'm a little teapot and i'm happy")


def question(copies: int = 10) -> pd.DataFrame:
    """The frame of the question, with more rows."""
    return pd.DataFrame(
        {
            "index": range(1, 3 * copies + 1),
            "label": [1, 0, 1] * copies,
            "unstructured_text": list(TEXTS) * copies,
        }
    )


def wide(num_rows: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    words = np.array(["ice", "cream", "tea", "pot", "like", "a"])
    return pd.DataFrame(
        {
            "label": rng.choice(["good", "bad", "so so"], num_rows, p=[0.6, 0.3, 0.1]),
            "unstructured_text": [
                " ".join(rng.choice(words, rng.integers(1, 12))) for _ in range(num_rows)
            ],
            "age": rng.normal(size=num_rows),
            "height": rng.integers(100, 200, num_rows),
            "town": rng.choice(["Ulm", "Bern", None], num_rows),
            "weight": rng.uniform(0.5, 2, num_rows),
        }
    )


def open_wide(frame: Any = None, **settings: Any) -> FrameDataset:
    chosen: dict[str, Any] = {
        "numeric": ["age", "height"],
        "categorical": ["town"],
        "weight": "weight",
        "progress": False,
    }
    return from_frame(wide() if frame is None else frame, **{**chosen, **settings})


def test_the_question_is_answered_in_two_lines() -> None:
    data = from_frame(question())
    batches = list(data.torch(batch_size=8))
    assert data.class_names == ("0", "1")
    assert [len(batch["label"]) for batch in batches] == [8, 8, 8, 6]
    for batch in batches:
        for tokens, length, label, row in zip(
            batch["tokens"], batch["lengths"], batch["label"], batch["row"], strict=True
        ):
            text = question()["unstructured_text"][int(row)]
            assert data.vocabulary.decode(tokens[: int(length)].tolist()) == text.split()
            assert not tokens[int(length) :].any()
            assert int(label) == question()["label"][int(row)]


def test_every_column_stands_in_the_batch_of_its_row() -> None:
    frame, data = wide(), open_wide()
    names = set()
    for batch in data.torch(batch_size=7):
        names |= set(batch)
        rows = frame.iloc[batch["row"].numpy()]
        assert [data.class_names[code] for code in batch["label"]] == rows["label"].tolist()
        np.testing.assert_array_equal(batch["weight"], rows["weight"].astype(np.float32))
        np.testing.assert_array_equal(batch["numeric"], rows[["age", "height"]].to_numpy("float32"))
        towns = [{"Bern": 1, "Ulm": 2}.get(town, 0) for town in rows["town"]]
        assert batch["categorical"][:, 0].tolist() == towns
    assert names == {"tokens", "lengths", "label", "weight", "numeric", "categorical", "row"}
    kinds = {name: str(values.dtype).removeprefix("torch.") for name, values in batch.items()}
    assert kinds == {
        **dict.fromkeys(("tokens", "lengths", "label", "categorical", "row"), "int64"),
        **dict.fromkeys(("weight", "numeric"), "float32"),
    }


@pytest.mark.parametrize("bucket", [True, False])
@pytest.mark.parametrize("drop_last", [True, False])
def test_an_epoch_has_every_row_once_in_a_new_order(bucket: bool, drop_last: bool) -> None:
    batches = open_wide().torch(batch_size=8, bucket=bucket, drop_last=drop_last, seed=3)
    orders = [[int(row) for batch in batches for row in batch["row"]] for _ in range(3)]
    assert len({tuple(order) for order in orders}) == 3
    for order in orders:
        assert len(set(order)) == len(order) == (56 if drop_last else 60)
    batches.set_epoch(1)
    assert [int(row) for batch in batches for row in batch["row"]] == orders[1]
    assert len(batches) == (7 if drop_last else 8)


def test_batches_have_numbers() -> None:
    """`batch(step)` and `batches[place]` are the batches of the loop, over all epochs."""
    batches = open_wide().torch(batch_size=8)
    looped = [batch for _ in range(2) for batch in batches]
    for step in (0, 5, 8, 15):
        numbered = batches.batch(step)
        for name, values in looped[step].items():
            assert torch.equal(values, numbered[name])
    batches.set_epoch(1)
    assert torch.equal(batches[-1]["row"], looped[15]["row"])
    with pytest.raises(IndexError):
        batches[8]


def test_without_shuffle_rows_come_in_the_order_of_the_frame() -> None:
    for _ in range(2):
        batches = open_wide().torch(batch_size=8, shuffle=False)
        assert [int(row) for batch in batches for row in batch["row"]] == list(range(60))


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_of_a_data_loader_give_each_row_once(workers: int) -> None:
    batches = open_wide().torch(batch_size=8)
    loader = DataLoader(batches, batch_size=None, num_workers=workers)
    orders = []
    for epoch in range(2):
        batches.set_epoch(epoch)
        orders.append([int(row) for batch in loader for row in batch["row"]])
        assert sorted(orders[-1]) == list(range(60))
    assert orders[0] != orders[1]


def test_a_fixed_width_pads_and_cuts() -> None:
    data = open_wide()
    for batch in data.torch(batch_size=9, pad=5):
        assert batch["tokens"].shape[1] == 5
        wanted = data.encoded.tokens.lengths[batch["row"].numpy()].clip(max=5)
        assert batch["lengths"].tolist() == wanted.tolist()
    cut = open_wide(max_length=3)
    assert max(int(batch["lengths"].max()) for batch in cut.torch()) == 3


@given(
    counts=st.lists(st.integers(1, 12), min_size=2, max_size=4),
    share=st.floats(0.1, 0.7),
    seed=st.integers(0, 3),
)
def test_a_stratified_split_keeps_the_shares(counts: list[int], share: float, seed: int) -> None:
    labels = [str(code) for code, count in enumerate(counts) for _ in range(count)]
    data = from_frame({"label": labels, "unstructured_text": ["a"] * len(labels)}, on_single="keep")
    room = sum(count - 1 for count in counts)
    wanted = min(round(share * len(labels)), room)
    if not wanted:
        with pytest.raises(DataError, match="one part of the split would be empty"):
            data.split(share, seed=seed)
        return
    train, check = data.split(share, seed=seed)
    assert sorted([*train.rows, *check.rows]) == list(range(len(labels)))
    assert len(check) == wanted
    for total, left, taken in zip(counts, train.class_counts(), check.class_counts(), strict=True):
        assert left + taken == total
        assert left >= 1
        assert abs(taken - min(share * total, total - 1)) <= 1


def test_what_is_fitted_is_fitted_on_the_training_rows() -> None:
    frame = {
        "label": ["a", "b"] * 20,
        "unstructured_text": [f"word{row}" for row in range(40)],
        "town": [f"town{row}" for row in range(40)],
    }
    train, check = from_frame(frame, categorical=["town"]).split(0.25, seed=1)
    assert set(train.vocabulary.tokens) == {f"word{row}" for row in train.rows}
    assert check.vocabulary is train.vocabulary
    (batch,) = check.torch(batch_size=10)
    assert batch["tokens"].tolist() == [[1]] * 10, "unknown, as they will be in use"
    assert batch["categorical"].tolist() == [[0]] * 10
    given_one = Vocabulary.fit(frame["unstructured_text"])
    assert from_frame(frame, vocabulary=given_one).split()[0].vocabulary is given_one


def test_a_split_is_a_function_of_its_seed() -> None:
    parts = [open_wide().split(seed=seed)[1].rows.tolist() for seed in (0, 0, 1)]
    assert parts[0] == parts[1] != parts[2]
    plain = open_wide().split(0.5, stratify=False)
    assert [len(part) for part in plain] == [30, 30]


def test_shuffle_and_take_give_new_data_sets() -> None:
    data = open_wide()
    before = data.rows.copy()
    shuffled = data.shuffle(4)
    assert shuffled.rows.tolist() != before.tolist()
    assert sorted(shuffled.rows) == before.tolist()
    assert data.rows.tolist() == before.tolist()
    for row, label in zip(shuffled.rows, shuffled.labels, strict=True):
        assert data.labels[row] == label
    assert data.take([5, 2]).table["age"].to_pylist() == wide()["age"][[5, 2]].tolist()


def test_class_weights_are_those_of_scikit_learn() -> None:
    data = open_wide()
    wanted = compute_class_weight("balanced", classes=np.arange(3), y=data.labels)
    np.testing.assert_allclose(data.class_weights(), wanted)
    with_none = from_frame(wide(), class_names=["good", "bad", "so so", "never"])
    assert with_none.class_weights()[3] == 0
    assert with_none.num_classes == 4


def test_a_regression_keeps_its_numbers() -> None:
    data = open_wide(label="age", numeric=["height"], task="regress")
    (batch,) = data.torch(batch_size=60, shuffle=False)
    np.testing.assert_array_equal(batch["label"], wide()["age"].to_numpy("float32"))
    assert str(batch["label"].dtype) == "torch.float32"
    assert data.class_names == ()
    assert len(data.split()[1]) == 12
    with pytest.raises(SettingsError, match="has no classes"):
        data.class_weights()


def test_numbers_alone_need_no_text() -> None:
    data = open_wide(text=None)
    (batch,) = data.torch(batch_size=60)
    assert set(batch) == {"label", "weight", "numeric", "categorical", "row"}
    with pytest.raises(SettingsError, match="no texts"):
        _ = data.vocabulary
    with pytest.raises(SettingsError, match="no column to learn from"):
        from_frame(wide(), text=None)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([10, 9, 10, 9], ("9", "10")),
        ([1.0, 0.0, 1.0, 0.0], ("0", "1")),
        ([True, False, True, False], ("False", "True")),
        (["b", "a", "B", "b"], ("B", "a", "b")),
        (pd.Categorical(["b", "a", "b", "a"], categories=["b", "a", "c"]), ("a", "b")),
        (pa.array([2, 1, 2, 1], pa.uint8()), ("1", "2")),
    ],
)
def test_classes_are_sorted_by_value(labels: Any, names: tuple[str, ...]) -> None:
    frame = {"label": labels, "unstructured_text": ["a"] * 4}
    assert from_frame(frame, on_single="keep").class_names == names
    turned = from_frame(frame, on_single="keep", class_names=names[::-1])
    assert turned.class_names == names[::-1]
    assert (turned.labels == len(names) - 1 - from_frame(frame, on_single="keep").labels).all()


def test_another_frame_is_read_alike() -> None:
    train, _ = open_wide().split()
    new = wide(10).drop(columns="label")
    data = train.like(new)
    assert (data.class_names, data.vocabulary) == (train.class_names, train.vocabulary)
    (batch,) = data.torch(batch_size=10, shuffle=False)
    assert "label" not in batch
    assert batch["row"].tolist() == list(range(10))
    assert train.like(wide(10)).labels.tolist() == open_wide().labels[:10].tolist()
    with pytest.raises(DataError, match="none of the 3 classes") as caught:
        train.like(wide(10).assign(label=["good"] * 8 + ["great", "great"]))
    assert caught.value.got == "'great' (2)"
    assert caught.value.where == "first in row 8"
    with pytest.raises(SettingsError, match="no labels"):
        _ = data.labels


def test_hugging_face_gets_the_columns_and_the_classes() -> None:
    pytest.importorskip("datasets")
    theirs = open_wide().huggingface()
    assert theirs.features["label"].names == ["bad", "good", "so so"]
    assert theirs["unstructured_text"][:] == wide()["unstructured_text"].tolist()
    named = [theirs.features["label"].int2str(label) for label in theirs["label"]]
    assert named == wide()["label"].tolist()
    assert theirs[3]["age"] == wide()["age"][3]
    assert "label" not in open_wide(label=None).huggingface().features


def test_keras_learns_from_it() -> None:
    keras = pytest.importorskip("keras")
    pytest.importorskip("tensorflow")
    data = from_frame(question(40))
    dataset = data.tensorflow(batch_size=12)
    assert len(dataset) == 10
    assert [tuple(spec.shape) for spec in dataset.element_spec] == [(None, None), (None,)]
    rows = [batch["tokens"].tolist() for batch in data.batches(batch_size=12)]
    assert [tokens.numpy().tolist() for tokens, _ in dataset] == rows
    model = keras.Sequential(
        [
            keras.layers.Embedding(len(data.vocabulary), 8, mask_zero=True),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    model.compile(
        keras.optimizers.Adam(0.05), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    history = model.fit(dataset, epochs=15, verbose=0)
    assert history.history["accuracy"][-1] == 1.0
    specs = open_wide().tensorflow(pad=6).element_spec
    assert {name: tuple(spec.shape) for name, spec in specs[0].items()} == {
        "tokens": (None, 6),
        "numeric": (None, 2),
        "categorical": (None, 1),
    }
    assert len(specs) == 3, "features, label, weight"


@pytest.mark.parametrize("module", ["tensorflow", "datasets"])
def test_a_missing_framework_names_its_extra(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, module, None)
    data = open_wide()
    with pytest.raises(MissingExtraError, match="is not installed"):
        data.tensorflow() if module == "tensorflow" else data.huggingface()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch size cannot"),
        ({"pad": 0}, "pad cannot"),
        ({"pad": "longest"}, "pad cannot"),
        ({"batch_size": 61, "drop_last": True}, "no batch would be left"),
    ],
)
def test_batches_that_cannot_be_meant(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        open_wide().torch(**settings)


@pytest.mark.parametrize("share", [0, 1, -0.5, 2, float("nan")])
def test_shares_that_cannot_be_meant(share: float) -> None:
    with pytest.raises(SettingsError, match="between 0 and 1"):
        open_wide().split(share)


def test_a_long_frame_is_encoded_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    from tilth.data import tokenise

    whole = open_wide().encoded
    monkeypatch.setattr(tokenise, "_BLOCK_ROWS", 7)
    blocks = open_wide().encoded
    for left, right in itertools.zip_longest(
        whole.batch(0, 60, None).values(), blocks.batch(0, 60, None).values()
    ):
        np.testing.assert_array_equal(left, right)


def test_nothing_left_is_an_error() -> None:
    with pytest.raises(EmptyDatasetError, match="no row that can be used"):
        from_frame(question(1)[:0])
