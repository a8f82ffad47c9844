"""noise inject: new labels beside the old ones, and a record of every one that is wrong."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from cli_runs import Ended, Tilth
from coco_sets import write_coco_set
from PIL import Image

from tilth.data.directories import from_directory
from tilth.data.noise_record import read_noise_record

HEAD = "code,label,text\n"
ROWS = [f'00{i % 7},{"cat" if i % 3 else "dog"},"said ""{i}"", twice"\n' for i in range(90)]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text(HEAD + "".join(ROWS) + "007,,no label\n")
    return path


@pytest.fixture
def boxes(tmp_path: Path) -> Path:
    return write_coco_set(tmp_path, 40)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for name, level in (("cat", 20), ("dog", 200), ("cow", 90)):
        for number in range(20):
            path = tmp_path / "pets" / name / f"{number:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8, 3), level + number, dtype=np.uint8)).save(path)
    return tmp_path / "pets"


def done(ended: Ended) -> dict[str, Any]:
    assert ended.code == 0, ended.err
    return ended.document


def cells(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


INJECT = ("noise", "inject")
FLIP = ("--kind", "symmetric_flip", "--rate", 0.3)


def test_a_table_keeps_everything_but_the_labels(tilth: Tilth, rows: Path) -> None:
    before = rows.read_bytes()
    document = done(
        tilth(*INJECT, rows, "--label", "label", *FLIP, "--output", "noisy.csv", "--json")
    )
    assert rows.read_bytes() == before
    old, new = cells(rows), cells(Path("noisy.csv"))
    assert len(old) == len(new) == 91
    wrong = [k for k in range(91) if old[k]["label"] != new[k]["label"]]
    assert 0 < len(wrong) == document["changed"] == document["noise"]["changed"]
    for a, b in zip(old, new, strict=True):
        assert (a["code"], a["text"]) == (b["code"], b["text"])
    noise, changes = read_noise_record(Path("noisy.noise.json"))
    assert noise == document["noise"] | {"source": str(rows)}
    assert [change["row"] for change in changes] == wrong
    for change in changes:
        assert old[change["row"]]["label"] == change["old_class"]
        assert new[change["row"]]["label"] == change["new_class"]
    assert new[90]["label"] == ""


def test_the_seed_decides_all(tilth: Tilth, rows: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        ended = tilth(
            *INJECT, rows, "--label", "label", *FLIP, "--seed", seed, "--output", f"{name}.csv"
        )
        assert ended.code == 0, ended.err
    a, b, c = (Path(f"{name}.csv").read_bytes() for name in "abc")
    assert a == b != c
    assert Path("a.noise.json").read_bytes() == Path("b.noise.json").read_bytes()


@pytest.mark.parametrize("as_categories", [False, True])
def test_a_parquet_table_keeps_its_types(tilth: Tilth, as_categories: bool) -> None:
    labels: Any = pa.array([0, 1, 2, None] * 20, pa.int16())
    if as_categories:
        labels = pa.array(["b", "a", "c", None] * 20).dictionary_encode()
    table = pa.table({"x": pa.array(np.arange(80.0)), "y": labels})
    pyarrow.parquet.write_table(table, "rows.parquet")
    document = done(
        tilth(
            *INJECT, "rows.parquet", "--label", "y", *FLIP, "--output", "noisy.parquet", "--exact",
            "--record", "truth.parquet", "--json",
        )
    )  # fmt: skip
    noisy = pyarrow.parquet.read_table("noisy.parquet")
    assert noisy.schema.names == ["x", "y"]
    assert noisy.schema.field("y").type == table.schema.field("y").type
    old, new = table.column("y").to_pylist(), noisy.column("y").to_pylist()
    assert sum(a != b for a, b in zip(old, new, strict=True)) == document["changed"] == 18
    assert new[3::4] == [None] * 20
    noise, changes = read_noise_record(Path("truth.parquet"))
    assert noise["realised_rate"] == 18 / 60
    assert len(changes) == 18


def test_instance_noise_sees_columns_or_a_file(tilth: Tilth, tmp_path: Path) -> None:
    lines = [f"{k % 3},{k / 10},{k % 5}\n" for k in range(60)]
    Path("rows.csv").write_text("label,a,b\n" + "".join(lines))
    np.save("features.npy", [[k / 10, k % 5] for k in range(60)])
    kind = ("--kind", "instance_dependent", "--rate", 0.4, "--label", "label")
    done(tilth(*INJECT, "rows.csv", *kind, "--feature", "a", "--feature", "b", "--output", "a.csv",
               "--json"))  # fmt: skip
    done(tilth(*INJECT, "rows.csv", *kind, "--features", "features.npy", "--output", "b.csv",
               "--json"))  # fmt: skip
    assert Path("a.csv").read_bytes() == Path("b.csv").read_bytes()
    ended = tilth(*INJECT, "rows.csv", *kind, "--output", "c.csv")
    assert ended.code == 3
    assert "see the examples" in ended.err
    assert not Path("c.csv").exists()


def test_matrix_noise_reads_its_matrix(tilth: Tilth, rows: Path) -> None:
    Path("matrix.csv").write_text("1,0\n1,0\n")
    done(
        tilth(
            *INJECT, rows, "--label", "label", "--kind", "matrix", "--matrix", "matrix.csv",
            "--output", "noisy.csv", "--json",
        )
    )  # fmt: skip
    assert {row["label"] for row in cells(Path("noisy.csv"))} == {"cat", ""}


def test_a_folder_of_pictures_becomes_folders_of_links(tilth: Tilth, pictures: Path) -> None:
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in pictures.rglob("*.png")}
    flips = ("--kind", "asymmetric", "--flip", "cat=dog", "--rate", 0.5, "--exact")
    document = done(tilth(*INJECT, pictures, *flips, "--output", "noisy", "--json"))
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in pictures.rglob("*.png")} == before
    links = list(Path("noisy").rglob("*.png"))
    assert len(links) == 60
    assert all(link.is_symlink() for link in links)
    classes = [link.relative_to("noisy").parts[0] for link in links]
    moved = [
        (link.resolve(), name)
        for link, name in zip(links, classes, strict=True)
        if link.resolve().parent.name != name
    ]
    assert len(moved) == document["changed"] == 10
    assert {(path.parent.name, name) for path, name in moved} == {("cat", "dog")}
    _, changes = read_noise_record(Path("noisy.noise.json"))
    assert {Path(change["picture"]) for change in changes} == {path for path, _ in moved}
    # As training reads it, beside its list of classes.
    read = from_directory("noisy", shuffle=False)
    assert [file.relative_to("noisy").parts[0] for file in read.files] == sorted(classes)


def test_a_table_of_pictures_is_another_format(tilth: Tilth, pictures: Path) -> None:
    ended = tilth(*INJECT, pictures, *FLIP, "--output", "noisy.csv")
    assert ended.code == 2
    assert "--to csv" in ended.err
    assert not Path("noisy.csv").exists()
    done(tilth(*INJECT, pictures, *FLIP, "--to", "csv", "--output", "noisy.csv", "--json"))
    assert len(cells(Path("noisy.csv"))) == 60


def test_noisy_pictures_are_trained_on_and_searched(tilth: Tilth, pictures: Path) -> None:
    assert tilth("init", "field").code == 0
    done(tilth(*INJECT, pictures, *FLIP, "--output", "noisy", "--json"))
    small = ["picture.size=16", "picture.width=4", "batch_size=16", "train.steps=40"]
    settings = [part for one in (*small, "train.device=cpu") for part in ("--set", one)]
    common = ("noisy", *settings, "--project", "field", "--quiet", "--json")
    trained = done(tilth("train", "classify", *common))
    assert trained["class_names"] == ["cat", "cow", "dog"]
    found = done(tilth("noise", "find", *common, "--folds", 2))
    _, changes = read_noise_record(Path("noisy.noise.json"))
    wrong = {Path(change["picture"]) for change in changes}
    accused = {Path("noisy", row["name"]).resolve() for row in found["errors"]}
    assert found["rows"] == 60
    assert len(wrong & accused) > len(wrong) / 2


def test_boxes_of_a_label_file(tilth: Tilth, boxes: Path) -> None:
    before = boxes.read_bytes()
    kinds = [(name, 0.1) for name in ("missed", "spurious", "moved", "swapped")]
    options = [part for name, rate in kinds for part in ("--kind", name, "--rate", rate)]
    photos = boxes.parent / "photos"
    document = done(
        tilth(*INJECT, boxes, "--images", photos, *options, "--output", "noisy.json", "--json")
    )
    assert boxes.read_bytes() == before
    assert document["format"] == "coco"
    assert document["noise"]["counts"] == dict.fromkeys(dict(kinds), 4)
    old, new = json.loads(boxes.read_text()), json.loads(Path("noisy.json").read_text())
    assert len(new["annotations"]) == len(old["annotations"]) == 40

    def boxes_of(document: dict[str, Any]) -> set[Any]:
        names = {image["id"]: image["file_name"] for image in document["images"]}
        return {
            (names[a["image_id"]], a["category_id"], *np.round(a["bbox"], 3))
            for a in document["annotations"]
        }

    gone, come = boxes_of(old) - boxes_of(new), boxes_of(new) - boxes_of(old)
    noise, changes = read_noise_record(Path("noisy.noise.json"))
    assert noise["boxes"] == 40
    faults = {name: [c for c in changes if c["fault"] == name] for name, _ in kinds}
    assert [len(rows) for rows in faults.values()] == [4, 4, 4, 4]
    assert len(gone) == len(come) == 12
    for change in faults["missed"]:
        name, box = Path(change["picture"]).name, change["old_box"]
        assert any(key[0] == name and key[2:4] == tuple(box[:2]) for key in gone)


def test_boxes_of_a_project_and_of_one_part(
    tilth: Tilth, boxes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tilth("init", "field").code == 0
    monkeypatch.chdir(tmp_path / "field")
    assert tilth("import", boxes, "--images", tmp_path / "photos").code == 0
    assert tilth("split").code == 0
    info = done(tilth("info", "--json"))
    options = ("--kind", "missed", "--rate", 1, "--split", "train", "--output", "../noisy.json")
    document = done(tilth(*INJECT, *options, "--json"))
    left = len(json.loads((tmp_path / "noisy.json").read_text())["annotations"])
    assert 0 < document["changed"] == 40 - left < 40
    assert done(tilth("info", "--json")) == info


def test_it_says_what_it_did(tilth: Tilth, rows: Path, boxes: Path) -> None:
    ended = tilth(*INJECT, rows, "--label", "label", *FLIP, "--exact", "--output", "noisy.csv")
    assert "27 of 90 labels are wrong now, 30.00%; expected 30.00%" in ended.out
    assert "never by its own" in ended.out
    assert "noisy.noise.json" in ended.out
    photos = boxes.parent / "photos"
    ended = tilth(
        *INJECT, boxes, "--images", photos, "--kind", "moved", "--rate", 0.5, "--output", "b.json"
    )
    assert "20 faults among 40 boxes" in ended.out


def test_nothing_is_written_in_place_or_over_what_is_there(tilth: Tilth, rows: Path) -> None:
    arguments = (*INJECT, rows, "--label", "label", *FLIP)
    ended = tilth(*arguments, "--output", rows, "--overwrite")
    assert ended.code == 2
    assert "place of the clean ones" in ended.err
    assert tilth(*arguments, "--output", "noisy.csv").code == 0
    first = Path("noisy.csv").read_bytes()
    again = tilth(*arguments, "--seed", 5, "--output", "noisy.csv")
    assert again.code == 2
    assert "--overwrite" in again.err
    assert Path("noisy.csv").read_bytes() == first
    assert tilth(*arguments, "--seed", 5, "--output", "noisy.csv", "--overwrite").code == 0
    assert Path("noisy.csv").read_bytes() != first


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--kind", "symmetric", "--rate", 0.2), "symmetric_uniform"),
        (("--kind", "symmetric_flip"), "the rate of a noise is a share"),
        (("--kind", "symmetric_flip", "--rate", 1.5), "0 to 1"),
        (("--kind", "asymmetric", "--rate", 0.2, "--flip", "cta=dog"), "did you mean 'cat'?"),
        (("--kind", "asymmetric", "--rate", 0.2, "--flip", "cifar10"), "10 classes"),
        (
            ("--kind", "asymmetric", "--rate", 0.2, "--flip", "cat=dog", "--flip", "x"),
            "CLASS=CLASS",
        ),
        (("--kind", "superclass", "--rate", 0.2, "--superclass", "cat=pet"), "no class shares"),
        (("--kind", "missed", "--rate", 0.2), "--kind symmetric_flip"),
        (("--kind", "missed", "--kind", "pair_flip", "--rate", 0.2), "do not go together"),
        (("--kind", "matrix", "--matrix", "none.csv"), "cannot be read"),
        ((*FLIP, "--split", "train"), "no parts"),
        ((*FLIP, "--record", "record.txt"), ".json or .parquet"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(
    tilth: Tilth, rows: Path, tmp_path: Path, options: tuple[Any, ...], said: str
) -> None:
    ended = tilth(*INJECT, rows, "--label", "label", *options, "--output", "noisy.csv")
    assert ended.code == 2
    assert said in ended.err
    assert list(tmp_path.iterdir()) == [rows]


def test_classes_of_boxes_are_refused_with_the_noise_that_boxes_have(
    tilth: Tilth, boxes: Path
) -> None:
    ended = tilth(
        *INJECT, boxes, "--images", boxes.parent / "photos", *FLIP, "--output", "noisy.json"
    )
    assert ended.code == 3
    assert "--kind missed" in ended.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "name the columns"),
        ("a,a\n1,2\n", "each once"),
        ("a,b\n1,2\n", "no column 'label'"),
        ("label,b\n1,2,3\n", "cannot be read"),
        ("label,b\n,2\n", "no row has a label"),
    ],
)
def test_broken_tables_are_refused(tilth: Tilth, text: str, said: str) -> None:
    Path("rows.csv").write_text(text)
    ended = tilth(*INJECT, "rows.csv", "--label", "label", *FLIP, "--output", "noisy.csv")
    assert ended.code == 3
    assert said in ended.err


def test_a_record_of_something_else_is_refused(tmp_path: Path) -> None:
    from tilth.errors import DataError

    for name, content in (("a.json", b"{}"), ("b.json", b"["), ("c.parquet", b"PAR1")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match="not the record"):
            read_noise_record(tmp_path / name)
    with pytest.raises(DataError, match="not there"):
        read_noise_record(tmp_path / "d.json")


def test_a_table_without_its_column_is_refused_with_the_option(tilth: Tilth, rows: Path) -> None:
    ended = tilth(*INJECT, rows, *FLIP, "--output", "noisy.csv")
    assert ended.code == 2
    assert "--label COLUMN" in ended.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--label", "label", "--flip", "cat=dog"), "--flip is not read"),
        (("--label", "label", "--shift", 0.9), "--shift and --scale are not read"),
        (("--label", "label", "--feature", "code"), "--features is not read"),
        (("--label", "label", "--to", "coco"), "a table does not read --to"),
        (("--feature", "code"), "--feature names columns of a table"),
    ],
)
def test_options_that_would_change_nothing_are_refused(
    tilth: Tilth, rows: Path, options: tuple[Any, ...], said: str
) -> None:
    ended = tilth(*INJECT, rows, *FLIP, *options, "--output", "noisy.csv")
    assert ended.code != 0
    assert said in ended.err
    assert not Path("noisy.csv").exists()


def test_a_label_column_is_of_a_table(tilth: Tilth, pictures: Path) -> None:
    ended = tilth(*INJECT, pictures, *FLIP, "--label", "label", "--output", "noisy.csv")
    assert "--label names a column of a table" in ended.err


def test_rows_without_a_label_are_counted(tilth: Tilth, rows: Path) -> None:
    ended = tilth(*INJECT, rows, "--label", "label", *FLIP, "--output", "noisy.csv")
    assert "rows that have no label, and keep none: 1" in ended.err
