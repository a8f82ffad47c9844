"""What holds of every label format: the table tells the truth, and nothing is lost in silence."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from any_dataset import comparable, datasets, write_pictures
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tilth.data.dataset import Dataset
from tilth.data.formats import FORMATS, load_format
from tilth.data.holds import Holds
from tilth.data.problems import LabelReport
from tilth.data.records import Split
from tilth.errors import SettingsError, TilthError

MODULES = {name: load_format(name) for name in FORMATS}
SUFFIXES = {"csv": ".csv", "openimages_csv": ".csv", "yolo_keras": ".txt", "cvat_xml": ".xml"}
EXAMPLES = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
every_format = pytest.mark.parametrize("name", list(FORMATS))


def target_of(name: str, folder: Path) -> Path:
    return (
        folder / f"labels{'' if MODULES[name].TARGET == 'folder' else SUFFIXES.get(name, '.json')}"
    )


def round_trip(name: str, dataset: Dataset, folder: Path, media_root: Path) -> Dataset:
    module, target = MODULES[name], target_of(name, folder)
    module.write(dataset, target, media_root=media_root)
    return module.read(target, media_root=media_root)[0]


def fresh(root: Path) -> tuple[Path, Path]:
    """An empty folder for labels and one for pictures, for one example."""
    folder = Path(tempfile.mkdtemp(dir=root))
    (folder / "pictures").mkdir()
    return folder, folder / "pictures"


def has_pictures(fitted: Dataset, *modules: ModuleType) -> bool:
    """Whether any picture is left for formats that hold none without labels."""
    return len(fitted.annotations) > 0 or all(module.HOLDS.empty_media for module in modules)


def moved(dataset: Dataset, media_root: Path, drawn_at: Path) -> Dataset:
    """The data set with its pictures below another folder, where they are written."""
    uris = [uri.replace(drawn_at.as_posix(), media_root.as_posix(), 1) for uri in dataset.media.uri]
    dataset = dataclasses.replace(dataset, media=dataclasses.replace(dataset.media, uri=uris))
    write_pictures(dataset)
    return dataset


def test_table_and_folder_agree() -> None:
    folder = Path(MODULES["coco"].__file__ or "").parent
    files = {path.stem for path in folder.glob("[a-z]*.py")}
    assert {module.rpartition(".")[2] for module in FORMATS.values()} == files
    assert list(FORMATS) == sorted(FORMATS)


def test_an_unknown_format_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SettingsError, match="unknown label format") as caught:
        load_format("cocoa")
    assert "coco" in (caught.value.expected or "")


@every_format
def test_a_format_keeps_the_contract(name: str) -> None:
    module = MODULES[name]
    assert isinstance(module.HOLDS, Holds)
    assert module.TARGET in ("file", "folder")
    for options in (module.ReadOptions, module.WriteOptions):
        assert dataclasses.is_dataclass(options)
        options()  # every option has a default
    assert (module.__doc__ or "").strip().splitlines()[0].endswith((".", ":"))
    for function in ("read", "adapt", "write", "recognises"):
        assert callable(getattr(module, function))


@every_format
@EXAMPLES
@given(data=st.data())
def test_what_fits_comes_back(name: str, data: st.DataObject, tmp_path: Path) -> None:
    """Written and read again, a data set is what ``adapt`` said that the format makes of it."""
    folder, media_root = fresh(tmp_path)
    drawn_at = Path("/drawn")
    dataset = moved(data.draw(datasets(drawn_at)), media_root, drawn_at)
    fitted, _ = MODULES[name].adapt(dataset)
    assume(has_pictures(fitted, MODULES[name]))
    back = round_trip(name, dataset, folder, media_root)
    assert_same(back, fitted, MODULES[name], media_root)


@every_format
@EXAMPLES
@given(data=st.data())
def test_adapting_again_costs_nothing(name: str, data: st.DataObject) -> None:
    module = MODULES[name]
    dataset = data.draw(datasets(Path("/drawn")))
    fitted, _ = module.adapt(dataset)
    again, report = module.adapt(fitted)
    held = {"class number", "supercategory", "class without a label", "picture without labels"}
    changed = [problem for problem in report.problems if problem.kind not in held]
    assert changed == []
    assert comparable(again, Path("/drawn")) == comparable(fitted, Path("/drawn"))


@every_format
@EXAMPLES
@given(data=st.data())
def test_what_a_format_holds_costs_nothing(name: str, data: st.DataObject) -> None:
    """The table of `tilth formats` is a promise: a data set of that kind is reported as whole."""
    module = MODULES[name]
    dataset = data.draw(datasets(Path("/drawn"), module.HOLDS))
    _, report = module.adapt(dataset)
    allowed = ALSO_REPORTED.get(name, set()) | {"class without a label", "picture without labels"}
    assert [p for p in report.problems if p.kind not in allowed] == []


ALSO_REPORTED: dict[str, set[str]] = {
    "folders": {"picture of several classes", "further object of a class in one picture"},
    "masks_instance": {"masks that overlap", "mask that others cover"},
    "masks_per_class": {"further object of a class in one picture"},
    "masks_semantic": {
        "further object of a class in one picture",
        "masks that overlap",
        "mask that others cover",
    },
    "pascal": {"masks that overlap", "mask that others cover"},
    "yolo_keras": {"box that is not on whole pixels", "box that rounding would close"},
    "yolo_ultralytics": {"box in a picture with outlines"},
}
"""Losses that lie in the numbers, not in the kind of label: rounding, overlaps."""


@pytest.mark.slow
@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(FORMATS, 2)))
@settings(parent=EXAMPLES, max_examples=2)
@given(data=st.data())
def test_two_formats_keep_what_both_hold(
    first: str, second: str, data: st.DataObject, tmp_path: Path
) -> None:
    """A -> B -> A is the same as what A's and then B's ``adapt`` leave."""
    folder, media_root = fresh(tmp_path)
    drawn_at = Path("/drawn")
    dataset = moved(data.draw(datasets(drawn_at, max_media=2)), media_root, drawn_at)
    wanted, _ = MODULES[first].adapt(dataset)
    wanted, _ = MODULES[second].adapt(wanted)
    wanted, _ = MODULES[first].adapt(wanted)
    if not has_pictures(wanted, MODULES[first], MODULES[second]):
        return  # a box and a label of a picture have nothing in common
    back = dataset
    for step, name in enumerate((first, second, first)):
        place = folder / str(step)
        place.mkdir()
        back = round_trip(name, back, place, media_root)
    assert_same(back, wanted, MODULES[first], media_root, also=MODULES[second])
    shutil.rmtree(folder)


def assert_same(
    ours: Dataset,
    theirs: Dataset,
    module: ModuleType,
    media_root: Path,
    *,
    also: ModuleType | None = None,
) -> None:
    """Equal in all that the format (both, where there are two) holds."""
    modules = [module] if also is None else [module, also]
    a, b = comparable(ours, media_root), comparable(theirs, media_root)
    if not all(m.HOLDS.empty_media for m in modules):
        b["pictures"] = {uri: labels for uri, labels in b["pictures"].items() if labels}
        a["pictures"] = {uri: labels for uri, labels in a["pictures"].items() if labels}
    assert a["pictures"] == b["pictures"]
    if all(m.HOLDS.class_order for m in modules):
        assert a["classes"] == b["classes"]
    else:
        used = {entry["class"] for labels in b["pictures"].values() for entry in labels}
        assert used <= set(a["classes"])
    if all(m.HOLDS.splits for m in modules):
        found, wanted = splits_of(ours, media_root), splits_of(theirs, media_root)
        assert found == {uri: split for uri, split in wanted.items() if uri in b["pictures"]}


def splits_of(dataset: Dataset, media_root: Path) -> dict[str, Split]:
    return {
        uri.removeprefix(media_root.as_posix() + "/"): Split(code)
        for uri, code in zip(dataset.media.uri, dataset.media.split.tolist(), strict=True)
    }


@every_format
@settings(parent=EXAMPLES, max_examples=60)
@given(data=st.data())
def test_any_bytes_end_in_a_result_or_an_error_of_ours(
    name: str, data: st.DataObject, tmp_path: Path
) -> None:
    """Random bytes, and valid files with a few bytes changed, cut or doubled."""
    folder, media_root = fresh(tmp_path)
    module, target = MODULES[name], target_of(name, folder)
    drawn_at = Path("/drawn")
    dataset = moved(data.draw(datasets(drawn_at, max_media=2)), media_root, drawn_at)
    module.write(dataset, target, media_root=media_root)
    files = [target] if target.is_file() else sorted(p for p in target.rglob("*") if p.is_file())
    if files:
        spoilt = data.draw(st.sampled_from(files))
        spoilt.write_bytes(data.draw(mutations(spoilt.read_bytes())))
    assert module.recognises(target) in (True, False)
    outside = ends_in_result_or_error(module, target, media_root)
    assert outside == []
    shutil.rmtree(folder)


def ends_in_result_or_error(module: ModuleType, target: Path, media_root: Path) -> list[str]:
    """The uris that lie outside; a reading that ends in one of our errors has none."""
    report = LabelReport(where=str(target))
    try:
        dataset, _ = module.read(target, media_root=media_root, on_unknown="skip", report=report)
    except TilthError:
        return []
    labels = dataset.annotations
    assert np.isfinite(labels.boxes_xyxy).all()
    assert ((labels.media_index >= 0) & (labels.media_index < len(dataset.media))).all()
    inside = (media_root.as_posix() + "/", target.as_posix() + "/", target.parent.as_posix() + "/")
    local = [uri for uri in dataset.media.uri if "://" not in uri]
    return [uri for uri in local if not uri.startswith(inside) or "/../" in uri]


@st.composite
def mutations(draw: st.DrawFn, text: bytes) -> bytes:
    kind = draw(st.sampled_from(["random", "cut", "flip", "double", "insert"]))
    if kind == "random" or not text:
        return draw(st.binary(max_size=200))
    at = draw(st.integers(0, len(text) - 1))
    if kind == "cut":
        return text[:at]
    if kind == "flip":
        return text[:at] + bytes([draw(st.integers(0, 255))]) + text[at + 1 :]
    if kind == "double":
        return text + text[at:]
    return text[:at] + draw(st.sampled_from(NASTY)) + text[at:]


NASTY: list[Any] = [
    b"\0",
    b"-",
    b"9" * 400,
    b"nan",
    b"1e999",
    b"../../etc/passwd",
    b"[" * 2000,
    b'"',
    b"\xff\xfe",
    b"<!ENTITY a '&a;'>",
    b"\n",
    b" ",
    b",",
    "é".encode("latin-1"),
]
