"""Errors teach, keep their exit codes, and survive the way back from a worker process."""

from __future__ import annotations

import copy
import pickle
import re
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth import errors
from tilth.errors import LabelError, MediaError, TilthError

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type)]
TEXT = st.none() | st.text(max_size=20)


def raise_media_error() -> None:
    raise MediaError("truncated", where="a.jpg", fix="copy it again")


def test_documented_tree_matches_the_classes() -> None:
    assert errors.__doc__ is not None
    documented = dict(re.findall(r"(\w+Error) +(\d)", errors.__doc__))
    assert {name: int(code) for name, code in documented.items()} == {
        kind.__name__: kind.exit_code for kind in KINDS
    }


def test_exit_codes_are_stable() -> None:
    """Scripts rely on these numbers; a change here is a breaking change."""
    assert {kind.__name__: kind.exit_code for kind in KINDS} == {
        "TilthError": 1,
        "SettingsError": 2,
        "DataError": 3,
        "LabelError": 3,
        "EmptyDatasetError": 3,
        "MediaError": 4,
        "PathEscapeError": 4,
        "CatalogueError": 5,
        "MissingExtraError": 6,
        "StorageError": 7,
        "TrainingError": 8,
    }


def test_text_has_one_line_a_part_in_order() -> None:
    error = LabelError(
        "unknown label", fix="add it", got="7", expected="0 to 4", where="train/0004.txt line 3"
    )
    assert str(error) == (
        "unknown label\n  where: train/0004.txt line 3\n  expected: 0 to 4\n  got: 7\n  fix: add it"
    )


def test_parts_not_given_are_not_printed() -> None:
    assert str(TilthError("no")) == "no"
    assert TilthError("no", got="").details() == {"got": ""}


@pytest.mark.parametrize("kind", KINDS)
@given(message=st.text(max_size=20), expected=TEXT, got=TEXT, where=TEXT, fix=TEXT)
def test_copy_and_pickle_keep_every_part(
    kind: type[TilthError],
    message: str,
    expected: str | None,
    got: str | None,
    where: str | None,
    fix: str | None,
) -> None:
    error = kind(message, expected=expected, got=got, where=where, fix=fix)
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is kind
        assert (twin.message, twin.details()) == (message, error.details())
        assert twin.exit_code == kind.exit_code


def test_crosses_a_process_border() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        future = pool.submit(raise_media_error)
        with pytest.raises(MediaError, match="truncated") as caught:
            future.result()
    assert caught.value.details() == {"where": "a.jpg", "fix": "copy it again"}
