"""Many text files at once: the words, lines and numbers that a plain loop over them finds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.data.dataset import Dataset
from tilth.data.formats import (
    _text_columns,
    _text_tokens,
    _ultralytics_rows,
    kitti,
    yolo_darknet,
    yolo_ultralytics,
)
from tilth.data.formats import _text_files as text_files
from tilth.data.formats._columns import annotation_columns, media_columns
from tilth.data.problems import LabelReport
from tilth.data.records import Category
from tilth.errors import PathEscapeError


def lines_by_hand(texts: list[bytes]) -> list[tuple[int, int, list[bytes]]]:
    return [
        (file, line, words)
        for file, text in enumerate(texts)
        for line, row in enumerate(text.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1)
        if (words := row.split())
    ]


def lines_of_tokens(root: Path, names: list[str]) -> list[tuple[int, int, list[bytes]]]:
    found = []
    for tokens in text_files.read_tokens(root, names, LabelReport(where="test")):
        words = tokens.words.cast(pa.binary()).to_pylist()
        first = tokens.first.tolist()
        found += [
            (int(tokens.file[row]), int(tokens.line[row]), words[first[row] : first[row + 1]])
            for row in range(len(tokens.file))
        ]
    return found


ALPHABET = [
    b"0",
    b"-1.5e3",
    b"car",
    b" ",
    b"  ",
    b"\t",
    b"\n",
    b"\n\n",
    b"\r\n",
    b"\xff",
    b"\0",
    b"\x0b",
]
file_texts = st.lists(st.lists(st.sampled_from(ALPHABET), max_size=12).map(b"".join), max_size=8)


@given(texts=file_texts, block=st.sampled_from([1, 20, 2**23]))
def test_words_and_lines_are_those_of_a_plain_loop(
    texts: list[bytes],
    block: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    root = tmp_path_factory.mktemp("texts")
    names = [f"{at}.txt" for at in range(len(texts))]
    for name, text in zip(names, texts, strict=True):
        (root / name).write_bytes(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_files, "_BLOCK_BYTES", block)
        patch.setattr(text_files, "FILES_A_TASK", 2)
        assert lines_of_tokens(root, names) == lines_by_hand(texts)


words = st.one_of(
    st.floats(allow_nan=True).map(repr),
    st.integers(-(10**30), 10**30).map(str),
    st.sampled_from(
        ["nan", "inf", "1_0", "0x1", "+1", "1.", ".5", "-", "e", "9" * 400, "1e999", "\u0661"]
    ),
    st.text("0123456789+-.eE", min_size=1, max_size=6),
)


@given(st.lists(words, max_size=200))
def test_numbers_are_those_of_float_and_nan_for_all_else(texts: list[str]) -> None:
    ours = _text_tokens.finite_numbers(pa.array(texts, pa.string()))
    for text, value in zip(texts, ours.tolist(), strict=True):
        try:
            expected = float(text) if text.isascii() and "_" not in text else float("nan")
        except ValueError:
            expected = float("nan")
        assert value == expected if np.isfinite(expected) else np.isnan(value)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=50))
def test_a_column_of_numbers_reads_back_as_the_same_numbers(values: list[float]) -> None:
    texts = _text_columns.column(np.array(values, np.float64)).to_pylist()
    assert [float(text) for text in texts] == values
    assert all(text != "-0" for text in texts)


@given(
    st.lists(
        st.one_of(st.integers(-5, 300_000).map(lambda at: at / 100), st.floats(-1, 4e3)),
        max_size=100,
    )
)
def test_numbers_of_two_decimals_have_the_texts_of_any_others(values: list[float]) -> None:
    plain = pa.array([value + 0.0 for value in values], pa.float64()).cast(pa.large_string())
    assert _text_columns.column(np.array(values, np.float64)).to_pylist() == plain.to_pylist()


def test_texts_that_are_the_same_in_all_rows_stand_in_each() -> None:
    same, other = np.full(3, 0.5), np.array([1.25, 2.0, 3.0])
    columns = [same, same, other, same]
    words = [_text_columns.column_or_word(values) for values in columns]
    assert [isinstance(word, pa.Scalar) for word in words] == [True, True, False, True]
    names = pa.array(["a", "b", "c"], pa.large_string())
    arrays = [_text_columns.column(values) for values in columns]
    lines = _text_columns.lines_of([names, *words])
    assert lines.to_pylist() == _text_columns.lines_of([names, *arrays]).to_pylist()
    assert lines.to_pylist()[1] == "b 0.5 0.5 2 0.5\n"


def test_a_byte_order_mark_and_a_last_line_without_end(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf1 2\n3")
    assert lines_of_tokens(tmp_path, ["a.txt", ""]) == [(0, 1, [b"1", b"2"]), (0, 2, [b"3"])]


def test_a_file_longer_than_one_read_comes_whole(tmp_path: Path) -> None:
    rows = b"".join(b"%d 0.5\n" % at for at in range(30_000))
    (tmp_path / "a.txt").write_bytes(rows)
    found = lines_of_tokens(tmp_path, ["a.txt"])
    assert len(found) == 30_000
    assert found[-1] == (0, 30_000, [b"29999", b"0.5"])


def test_files_that_cannot_be_read_count_as_empty_and_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_files, "_MOST_BYTES", 100_000)
    (tmp_path / "a.txt").write_bytes(b"1 2\n")
    (tmp_path / "large.txt").write_bytes(b"1 2\n" * 60_000)
    report = LabelReport(where="test")
    names = ["gone.txt", "a.txt", "large.txt", "nul\0.txt"]
    (tokens,) = text_files.read_tokens(tmp_path, names, report)
    assert tokens.file.tolist() == [1]
    assert [p.examples for p in report.problems] == [("gone.txt", "large.txt", "nul\0.txt")]


def test_finds_regular_files_only_and_each_folder_once(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    for name in ("b.TXT", "a.txt", "sub/c.txt", "d.jpg"):
        (root / name).write_bytes(b"")
    os.mkfifo(root / "pipe.txt")
    (root / "sub" / "up").symlink_to(root)
    (root / "inside.txt").symlink_to(root / "a.txt")
    (root / "broken.txt").symlink_to(root / "nothing")
    (tmp_path / "outside.txt").write_bytes(b"")
    (root / "out.txt").symlink_to(tmp_path / "outside.txt")
    (root / "etc").symlink_to("/etc")
    report = LabelReport(where="test")
    found = text_files.files_below(root, (".txt",), report)
    assert found == ["a.txt", "b.TXT", "inside.txt", "sub/c.txt"]
    assert [p.examples for p in report.problems] == [("etc", "out.txt")]
    assert text_files.files_below(tmp_path / "absent", (".txt",), report) == []


@pytest.mark.parametrize("name", ["../a.txt", "/tmp/a.txt", "a/../../b.txt", "a\0.txt"])
def test_nothing_is_written_outside_the_folder(tmp_path: Path, name: str) -> None:
    dataset, rows_text = many_boxes(1, 1), pa.array(["0\n"], pa.large_string())
    with pytest.raises(PathEscapeError):
        text_files.write_label_files(tmp_path / "out", [name], dataset, lambda rows: rows_text)
    assert list(tmp_path.iterdir()) == []


def many_boxes(pictures: int, each: int) -> Dataset:
    count = pictures * each
    uris = [f"/p/{at:04d}.jpg" for at in range(pictures)]
    sizes = np.full(pictures, 200), np.full(pictures, 100)
    media = media_columns(uris, width=sizes[0], height=sizes[1], split=np.zeros(pictures))
    low = np.arange(count) % 50 + 0.25
    annotations = annotation_columns(
        media,
        media_index=np.repeat(np.arange(pictures), each),
        category_index=np.arange(count) % 2,
        boxes_xyxy=np.stack([low, low, low + 9, low + 7], axis=1),
        report=LabelReport(where="test"),
        place=str,
    )
    classes = tuple(Category(name=name, origin_id=at) for at, name in enumerate("ab"))
    return Dataset(categories=classes, media=media, annotations=annotations)


@pytest.mark.parametrize(
    ("module", "options"),
    [
        (kitti, kitti.ReadOptions()),
        (yolo_darknet, yolo_darknet.ReadOptions(width=200, height=100)),
        (yolo_ultralytics, yolo_ultralytics.ReadOptions(width=200, height=100)),
    ],
)
def test_many_small_blocks_give_what_one_gives(
    module: Any, options: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = many_boxes(40, 3)
    monkeypatch.setattr(text_files, "_LABELS_A_BLOCK", 7)
    monkeypatch.setattr(text_files, "_BLOCK_BYTES", 100)
    monkeypatch.setattr(text_files, "FILES_A_TASK", 3)
    monkeypatch.setattr(_ultralytics_rows, "_BLOCK", 5)
    module.write(dataset, tmp_path / "out")
    back, report = module.read(tmp_path / "out", options=options)
    assert np.array_equal(back.annotations.boxes_xyxy, dataset.annotations.boxes_xyxy)
    assert np.array_equal(back.annotations.media_index, dataset.annotations.media_index)
    assert np.array_equal(back.annotations.category_index, dataset.annotations.category_index)
    assert [p.kind for p in report.problems if "picture is not there" not in p.kind] == []
