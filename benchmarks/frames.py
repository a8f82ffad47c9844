"""Rows a second from a Parquet file of short texts to padded batches, against datasets and tf.data.

The same file, one epoch, shuffled, batches of 256; each tool in a process of its own, in turns, on
both cores. Two times are taken: with the vocabulary given (opening the file to the last batch), and
with fitting it on all rows before that. The claims hold the worse of the two ratios.

The peers do what their guides say: datasets loads the Parquet file, maps a fast tokenizer
(`tokenizers`, words, Rust, all cores) over batches into its Arrow cache, which is part of the time,
and a `DataLoader` pads with a collator; tf.data makes slices of the columns, shuffles, batches, and
maps a `TextVectorization` layer with AUTOTUNE and prefetch (its own interpreter:
--tensorflow-python). All know the same 20,000 words and must count the same tokens.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tilth-benchmarks"
TENSORFLOW = ROOT / ".venv-peers" / "tensorflow" / "bin" / "python"  # made by `make bench`
BATCH_SIZE = 256
WORDS = 20_000
SHUFFLED = 2**17
PART = 250_000
CHECKED_ROWS = 50_000

Measured = dict[str, Any]


def make_file(rows: int) -> Path:
    """A Parquet file of `rows` texts of 3 to 20 words, word frequencies after Zipf, seed 0."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    path = CACHE / f"frames-{rows}.parquet"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = np.random.default_rng(0)
    vocabulary = pa.array([_word(number) for number in range(60_000)])
    temporary = path.with_suffix(".part")
    kinds = {"index": pa.int64(), "label": pa.int64(), "unstructured_text": pa.string()}
    with pq.ParquetWriter(temporary, pa.schema(list(kinds.items()))) as writer:
        for start in range(0, rows, PART):
            count = min(PART, rows - start)
            lengths = stream.integers(3, 21, count)
            ranks = np.minimum(stream.zipf(1.3, lengths.sum()), len(vocabulary)) - 1
            offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
            words = pa.ListArray.from_arrays(offsets, vocabulary.take(pa.array(ranks)))
            texts = pc.utf8_capitalize(pc.binary_join(words, " "))
            labels = stream.integers(0, 2, count)
            columns = [np.arange(start, start + count), labels, texts]
            writer.write_table(pa.table(columns, names=list(kinds)), row_group_size=PART // 2)
    temporary.rename(path)
    return path


def _word(number: int) -> str:
    """A pronounceable word of its own for each number; small numbers have short ones."""
    word = ""
    while True:
        number, place = divmod(number, 70)
        word += "bdfgklmnprstvz"[place // 5] + "aeiou"[place % 5]
        if not number:
            return word


def tilth_tool(path: Path, scratch: Path) -> Iterator[Any]:
    import torch.utils.data  # noqa: F401  (as the peers' imports: not timed)

    from tilth.data import from_parquet

    yield "ready"
    fitted = from_parquet(path, max_tokens=WORDS, progress=False)
    vocabulary, class_names = fitted.vocabulary, fitted.class_names
    yield "fitted"
    data = from_parquet(path, vocabulary=vocabulary, class_names=class_names, progress=False)
    for batch in data.torch(batch_size=BATCH_SIZE, shuffle_rows=SHUFFLED):
        yield batch["tokens"], len(batch["label"])


def datasets_tool(path: Path, scratch: Path) -> Iterator[Any]:
    import datasets
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    datasets.disable_progress_bars()
    yield "ready"
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.WordLevelTrainer(
        vocab_size=WORDS + 2, special_tokens=["[PAD]", "[UNK]"], show_progress=False
    )
    loaded = datasets.Dataset.from_parquet(str(path), cache_dir=str(scratch / "fit"))
    texts = (batch["unstructured_text"] for batch in loaded.iter(1000))
    tokenizer.train_from_iterator(texts, trainer)
    yield "fitted"

    def encode(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        encodings = tokenizer.encode_batch_fast(batch["unstructured_text"])
        return {"tokens": [encoding.ids for encoding in encodings]}

    def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
        width = max(len(row["tokens"]) for row in rows)
        padded = [row["tokens"] + [0] * (width - len(row["tokens"])) for row in rows]
        return {
            "tokens": torch.tensor(padded),
            "label": torch.tensor([row["label"] for row in rows]),
        }

    loaded = datasets.Dataset.from_parquet(str(path), cache_dir=str(scratch / "epoch"))
    mapped = loaded.map(encode, batched=True, remove_columns=["index", "unstructured_text"])
    loader = torch.utils.data.DataLoader(
        mapped, batch_size=BATCH_SIZE, shuffle=True, collate_fn=collate, num_workers=2
    )
    for batch in loader:
        yield batch["tokens"], len(batch["label"])


def tensorflow_tool(path: Path, scratch: Path) -> Iterator[Any]:
    import pyarrow.parquet as pq
    import tensorflow as tf

    def columns() -> tuple[Any, Any]:
        table = pq.read_table(path, columns=["unstructured_text", "label"])
        return table["unstructured_text"].to_numpy(), table["label"].to_numpy()

    yield "ready"
    layer = tf.keras.layers.TextVectorization(
        max_tokens=WORDS + 2, standardize="lower", split="whitespace"
    )
    layer.adapt(tf.data.Dataset.from_tensor_slices(columns()[0]).batch(4096))
    yield "fitted"
    dataset = tf.data.Dataset.from_tensor_slices(columns())
    dataset = dataset.shuffle(SHUFFLED).batch(BATCH_SIZE)
    dataset = dataset.map(lambda text, label: (layer(text), label), tf.data.AUTOTUNE)
    for tokens, label in dataset.prefetch(tf.data.AUTOTUNE):
        yield tokens, len(label)


TOOLS: dict[str, Callable[[Path, Path], Iterator[Any]]] = {
    "tilth": tilth_tool,
    "datasets": datasets_tool,
    "tensorflow": tensorflow_tool,
}


def worker(tool: str, path: Path, count_tokens: bool) -> None:
    """Run one tool and print what it took; a batch's size is all that is asked of it."""
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        steps = TOOLS[tool](path, Path(scratch))
        assert next(steps) == "ready"
        start = time.perf_counter()
        assert next(steps) == "fitted"
        fitted = time.perf_counter()
        rows = tokens = places = 0
        for batch, count in steps:
            rows += count
            places += batch.shape[0] * batch.shape[1]
            if count_tokens:
                tokens += int((batch.numpy() != 0).sum())
        end = time.perf_counter()
    answer: Measured = {"fit_s": fitted - start, "epoch_s": end - fitted, "rows": rows}
    answer |= {"places": places, "tokens": tokens}
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({**answer, "peak_gb": round(usage / 2**20, 2)}))


def measure(tool: str, python: str, path: Path, *, count_tokens: bool = False) -> Measured:
    done = subprocess.run(
        [python, __file__, "--worker", tool, str(path), *(["count"] if count_tokens else [])],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1:]}
    measured = json.loads(done.stdout.splitlines()[-1])
    print(f"{tool}: {json.dumps(measured)}", flush=True)
    return measured


def check_tokens(pythons: dict[str, str]) -> None:
    """All tools must find the same rows and tokens, or the times compare nothing."""
    path = make_file(CHECKED_ROWS)
    found = {}
    for tool, python in pythons.items():
        measured = measure(tool, python, path, count_tokens=True)
        if "error" not in measured:
            found[tool] = (measured["rows"], measured["tokens"])
    if len(set(found.values())) != 1:
        raise SystemExit(f"the tools disagree: {found}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tensorflow-python", default=str(TENSORFLOW))
    args = parser.parse_args()
    if args.worker:
        worker(args.worker[0], Path(args.worker[1]), bool(args.worker[2:]))
        return
    pythons = {"tilth": sys.executable, "datasets": sys.executable}
    if Path(args.tensorflow_python).exists():
        pythons["tensorflow"] = args.tensorflow_python
    check_tokens(pythons)
    path = make_file(args.rows)
    runs: dict[str, list[Measured]] = {tool: [] for tool in pythons}
    for _ in range(args.rounds):
        for tool, python in pythons.items():
            runs[tool].append(measure(tool, python, path))
    report(runs, args.rows, path)


def report(runs: dict[str, list[Measured]], rows: int, path: Path) -> None:
    from evidence import claim, write_result

    claims = []
    for peer, name in (("datasets", "hf_datasets"), ("tensorflow", "tf_data")):
        pairs = list(zip(runs["tilth"], runs.get(peer, []), strict=False))
        if not pairs or any("error" in one for pair in pairs for one in pair):
            print(f"{peer} did not run: {runs.get(peer)}")
            continue
        given = [theirs["epoch_s"] / ours["epoch_s"] for ours, theirs in pairs]
        fitted = [_whole(theirs) / _whole(ours) for ours, theirs in pairs]
        worse, other = sorted((given, fitted), key=statistics.median)
        which = "with the vocabulary given" if worse is given else "with fitting the vocabulary"
        claims.append(
            claim(
                f"frame_rows_vs_{name}",
                statistics.median(worse),
                unit="ratio of rows/s",
                goal=1.5,
                better="higher",
                spread=[min(worse), max(worse)],
                runs=len(pairs),
                note=f"{which}; the other way {statistics.median(other):.3g}; {_NOTES[peer]}",
            )
        )
    write_result(
        "frames",
        claims,
        data={
            "name": "made by this script, seed 0",
            "rows": rows,
            "megabytes": round(path.stat().st_size / 1e6, 1),
            "digest": hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest(),
        },
        detail={tool: _summary(measured, rows) for tool, measured in runs.items()},
    )


_NOTES = {
    "datasets": "tokenizing into the Arrow cache is part of the time; two loading workers",
    "tensorflow": "its batches stay TensorFlow's: no conversion to torch is counted",
}


def _whole(measured: Measured) -> float:
    return measured["fit_s"] + measured["epoch_s"]


def _summary(measured: list[Measured], rows: int) -> dict[str, Any]:
    done = [one for one in measured if "error" not in one]
    if not done:
        return {"did_not_run": measured[-1]["error"]}
    assert all(one["rows"] == rows for one in done), "a tool lost rows"
    return {
        "rows_per_second": round(rows / statistics.median(one["epoch_s"] for one in done)),
        "rows_per_second_with_fit": round(rows / statistics.median(map(_whole, done))),
        "fit_s": round(statistics.median(one["fit_s"] for one in done), 2),
        "peak_gb": max(one["peak_gb"] for one in done),
        "padded_places": done[-1]["places"],
    }


if __name__ == "__main__":
    main()
