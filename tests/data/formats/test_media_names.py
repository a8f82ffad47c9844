"""Names of pictures in label files: many at once as one by one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.data.formats._media_names import label_stems, media_uri, media_uris
from tilth.errors import DataError, PathEscapeError

PARTS = ["a", "b.jpg", "/", "//", ".", "..", "./", "C:", "\\", "\0", "\n", "s3://", "ä", " "]
names = st.lists(st.sampled_from(PARTS), max_size=4).map("".join)


@given(st.lists(names, max_size=4))
def test_many_uris_are_those_of_each_name(given_names: list[str]) -> None:
    root = Path("/pictures")
    assert outcome(lambda: media_uris(given_names, root, "here")) == outcome(
        lambda: [media_uri(name, root, "here") for name in given_names]
    )


def outcome(uris: Callable[[], list[str]]) -> list[str] | str:
    try:
        return uris()
    except PathEscapeError as error:
        return str(error)


def test_an_escape_is_told_with_its_own_place() -> None:
    with pytest.raises(PathEscapeError) as caught:
        media_uris(["a.jpg", "../b.jpg"], Path("/pictures"), ["one.xml", "two.xml"])
    assert caught.value.where == "two.xml"


@given(st.lists(st.lists(st.sampled_from("ab./"), max_size=6).map("".join), max_size=4))
def test_stems_are_names_without_their_suffix(given_names: list[str]) -> None:
    expected = [os.path.splitext(name)[0] for name in given_names]
    if len(set(expected)) == len(expected):
        assert label_stems(given_names) == expected
    else:
        with pytest.raises(DataError, match="share one label file"):
            label_stems(given_names)
