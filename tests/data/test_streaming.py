"""Files larger than memory give what the frame in memory gives, in bounded memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from torch.utils.data import DataLoader

from tilth.data import from_csv, from_frame, from_parquet
from tilth.data.streaming import StreamDataset
from tilth.errors import DataError, EmptyDatasetError, SettingsError

ROWS = 1000
COLUMNS: dict[str, Any] = {"numeric": ["age"], "categorical": ["town"], "progress": False}


def frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    words = np.array(["ice", "cream", 'a "quoted" word', "line\nbreak", "größe", "tea, pot"])
    return pd.DataFrame(
        {
            "label": rng.integers(8, 12, ROWS),
            "unstructured_text": [
                " ".join(rng.choice(words, rng.integers(1, 15))) for _ in range(ROWS)
            ],
            "age": rng.normal(size=ROWS).astype(np.float32).astype(float),
            "town": rng.choice(["Ulm", "Bern", None], ROWS),
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tables")
    whole = frame()
    whole.to_parquet(root / "whole.parquet", row_group_size=90)
    whole.to_csv(root / "whole.csv", index=False)
    for number in range(4):
        part = whole[number * 250 : (number + 1) * 250]
        part.to_csv(root / f"part{number}.csv", index=False)
        part.to_parquet(root / f"part{number}.parquet", row_group_size=70)
    return root


OPENERS: dict[str, Any] = {
    "one parquet": lambda root, **s: from_parquet(root / "whole.parquet", **s),
    "parquet glob": lambda root, **s: from_parquet(f"{root}/part*.parquet", **s),
    "one csv": lambda root, **s: from_csv(str(root / "whole.csv"), **s),
    "csv list": lambda root, **s: from_csv([root / f"part{n}.csv" for n in range(4)], **s),
}


@pytest.fixture(params=OPENERS)
def opener(request: pytest.FixtureRequest) -> Any:
    return OPENERS[request.param]


def rows_of(batches: Any) -> list[int]:
    return [int(row) for batch in batches for row in batch["row"]]


@pytest.mark.parametrize("shuffle", [True, False])
def test_rows_are_those_of_the_frame_in_memory(opener: Any, folder: Path, shuffle: bool) -> None:
    memory, stream = from_frame(frame(), **COLUMNS), opener(folder, **COLUMNS)
    assert stream.class_names == memory.class_names == ("8", "9", "10", "11")
    assert stream.vocabulary == memory.vocabulary
    np.testing.assert_allclose(stream.class_weights(), memory.class_weights())
    order = []
    for batch in stream.torch(batch_size=32, shuffle=shuffle, shuffle_rows=300):
        rows = batch["row"].numpy()
        wanted = memory.encoded.take(rows).batch(0, len(rows), None)
        assert batch.keys() == wanted.keys()
        for name, values in batch.items():
            np.testing.assert_array_equal(values, wanted[name], err_msg=name)
            assert values.numpy().dtype == wanted[name].dtype
        order += rows.tolist()
    assert sorted(order) == list(range(ROWS))
    assert (order == list(range(ROWS))) is not shuffle


def test_an_epoch_is_a_function_of_seed_and_number(opener: Any, folder: Path) -> None:
    stream = opener(folder, **COLUMNS)
    batches = stream.batches(batch_size=32, shuffle_rows=300, seed=1)
    orders = [rows_of(batches) for _ in range(2)]
    assert orders[0] != orders[1]
    batches.set_epoch(0)
    assert rows_of(batches) == orders[0]
    assert rows_of(stream.batches(batch_size=32, shuffle_rows=300, seed=2)) != orders[0]


def test_the_pool_spreads_neighbours(folder: Path) -> None:
    """Rows of a row group of 90 stand in batches all over the epoch, not side by side."""
    order = rows_of(
        from_parquet(folder / "whole.parquet", progress=False).batches(shuffle_rows=500)
    )
    place = np.empty(ROWS)
    place[order] = np.arange(ROWS)
    spread = [np.ptp(place[start : start + 90]) for start in range(0, 990, 90)]
    assert np.mean(spread) > 400


def test_batches_are_whole_but_the_last(opener: Any, folder: Path) -> None:
    for shuffle in (True, False):
        settings = {"batch_size": 48, "shuffle": shuffle, "shuffle_rows": 200}
        sizes = [len(b["row"]) for b in opener(folder, **COLUMNS).batches(**settings)]
        assert sizes == [48] * 20 + [40]
        kept = opener(folder, **COLUMNS).batches(**settings, drop_last=True)
        assert [len(b["row"]) for b in kept] == [48] * 20


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_of_a_data_loader_give_each_row_once(
    workers: int, opener: Any, folder: Path
) -> None:
    batches = opener(folder, **COLUMNS).torch(batch_size=32, shuffle_rows=200)
    loader = DataLoader(batches, batch_size=None, num_workers=workers)
    orders = []
    for epoch in range(2):
        batches.set_epoch(epoch)
        orders.append(rows_of(loader))
        assert sorted(orders[-1]) == list(range(ROWS))
    assert orders[0] != orders[1]


@pytest.mark.slow
def test_workers_that_start_from_nothing_read_too(folder: Path) -> None:
    """As on macOS and Windows, where a worker gets a pickled copy and no torch is loaded yet."""
    for opened_files in (
        from_parquet(folder / "whole.parquet", progress=False),
        from_frame(frame()),
    ):
        loader = DataLoader(
            opened_files.torch(), batch_size=None, num_workers=2, multiprocessing_context="spawn"
        )
        assert sorted(rows_of(loader)) == list(range(ROWS))


def test_a_split_fits_on_the_training_rows(opener: Any, folder: Path) -> None:
    train, check = opener(folder, **COLUMNS).split(0.3, seed=2)
    parts = [rows_of(part.batches()) for part in (train, check)]
    assert sorted(parts[0] + parts[1]) == list(range(ROWS))
    assert abs(len(parts[1]) - 300) < 60, "four standard errors"
    assert (train.num_rows, check.num_rows) == (len(parts[0]), len(parts[1]))
    own = from_frame(frame().iloc[sorted(parts[0])], **COLUMNS)
    assert train.vocabulary == check.vocabulary == own.vocabulary
    assert check.class_counts().sum() == len(parts[1])
    with pytest.raises(SettingsError, match="cannot be divided again"):
        train.split()
    with pytest.raises(SettingsError, match="between 0 and 1"):
        opener(folder).split(1.5)


def test_what_is_given_needs_no_pass(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = from_frame(frame(), progress=False)
    monkeypatch.setattr("tilth.data.streaming.fit_stream", None)
    stream = from_parquet(
        folder / "whole.parquet", vocabulary=memory.vocabulary, class_names=memory.class_names
    )
    assert sorted(rows_of(stream.batches())) == list(range(ROWS))


def test_urls_are_read_through_fsspec(folder: Path) -> None:
    memory = fsspec.filesystem("memory")
    for name in ("whole.parquet", "whole.csv"):
        memory.pipe(f"/tables/{name}", (folder / name).read_bytes())
    for stream in (
        from_parquet("memory://tables/whole.parquet", progress=False),
        from_csv("memory://tables/*.csv", progress=False),
    ):
        assert sorted(rows_of(stream.batches())) == list(range(ROWS))


def test_another_delimiter_and_encoding(tmp_path: Path) -> None:
    whole = frame()
    whole.to_csv(tmp_path / "a.csv", index=False, sep=";", encoding="utf-16")
    stream = from_csv(tmp_path / "a.csv", delimiter=";", encoding="utf-16", progress=False)
    assert stream.vocabulary == from_frame(whole).vocabulary


def write(path: Path, **columns: Any) -> Path:
    whole = pd.DataFrame({"label": ["a", "b"] * 2, "unstructured_text": list("wxyz"), **columns})
    whole.to_csv(path, index=False) if path.suffix == ".csv" else whole.to_parquet(
        path, row_group_size=2
    )
    return path


def opened(path: Path, **settings: Any) -> StreamDataset:
    opener = from_csv if path.suffix == ".csv" else from_parquet
    return opener(path, progress=False, **settings)


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_rows_that_cannot_be_used_are_named_by_their_number(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, label=["a", "b", "a", None])
    with pytest.raises(DataError, match="'label' has 1 missing") as caught:
        _ = opened(path).fitted
    assert caught.value.where == "row 3"
    kept = opened(path, on_missing="drop", on_single="keep")
    assert sorted(rows_of(kept.batches())) == [0, 1, 2]
    assert kept.num_rows == 3
    with pytest.raises(DataError, match="none of the 2 classes") as caught:
        list(opened(write(tmp_path / name), class_names=["a", "c"]).batches())
    assert caught.value.where == "first in row 1"
    with pytest.raises(DataError, match="no column 'lable'"):
        opened(path, label="lable")
    with pytest.raises(DataError, match="all 4 rows have the label"):
        _ = opened(write(tmp_path / name, label=["a"] * 4)).fitted
    with pytest.warns(UserWarning, match="single row"):
        _ = opened(write(tmp_path / name, label=["a", "b", "b", "b"])).fitted


def test_values_of_another_type_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", age=[1, 2, 3, "four"])
    with pytest.raises(DataError, match="cannot be read") as caught:
        _ = opened(path, numeric=["age"]).fitted
    assert "a.csv" in str(caught.value)
    assert "four" in str(caught.value)


@pytest.mark.parametrize("name", ["broken.parquet", "broken.csv"])
def test_broken_files_are_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x00\xffnothing,that\nis,a,table\n")
    with pytest.raises(DataError) as caught:
        _ = opened(tmp_path / name).fitted
    assert name in str(caught.value) or "no column" in str(caught.value)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "none.parquet", f"{tmp_path}/*.parquet", tmp_path):
        with pytest.raises(EmptyDatasetError, match="no parquet file"):
            from_parquet(path)
    with pytest.raises(EmptyDatasetError, match="was named"):
        from_parquet([])


def test_a_pool_smaller_than_two_batches_is_refused(folder: Path) -> None:
    with pytest.raises(SettingsError, match="shuffle_rows"):
        from_parquet(folder / "whole.parquet", progress=False).batches(shuffle_rows=10)


PEAK = """
import resource, sys
from tilth.data import from_parquet
stream = from_parquet(sys.argv[1], progress=False)
def epoch():
    return sum(len(b["row"]) for b in stream.batches(batch_size=256, shuffle_rows=20_000))
print(epoch(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_mb(path: Path) -> tuple[int, float]:
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(path)], capture_output=True, text=True, check=True
    )
    rows, kilobytes = done.stdout.split()
    return int(rows), int(kilobytes) / 1024


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Ten times the rows, 120 MB more of text: the same peak, within what an allocator keeps."""
    text = pa.array([f"{'word ' * 60}{row % 997}" for row in range(20_000)])
    table = pa.table({"label": pa.array([0, 1] * 10_000), "unstructured_text": text})
    peaks = {}
    for copies in (2, 20):
        path = tmp_path / f"{copies}.parquet"
        with pq.ParquetWriter(path, table.schema) as writer:
            for _ in range(copies):
                writer.write_table(table, row_group_size=10_000)
        rows, peaks[copies] = peak_mb(path)
        assert rows == copies * 20_000
    assert peaks[20] < peaks[2] + 60
