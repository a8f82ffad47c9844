"""Heavy libraries wait, and a missing one is answered with the command that installs it."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest

from tilth.errors import MissingExtraError
from tilth.lazy import attribute, require


def test_require_gives_the_module() -> None:
    assert require("math", extra="train") is math


def test_attribute_gives_the_named_thing() -> None:
    assert attribute("math:sqrt") is math.sqrt


@pytest.mark.parametrize("path", ["no_such_library:thing", "no_such_library.deep:thing"])
def test_missing_library_names_the_install_command(path: str) -> None:
    with pytest.raises(MissingExtraError, match="no_such_library is not installed") as caught:
        attribute(path, extra="map")
    assert caught.value.fix == "pip install 'tilth[map]'"


def test_library_missing_further_down_is_the_one_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "leaf_of_a_test.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingExtraError, match="no_such_library is not installed"):
        attribute("leaf_of_a_test:thing")


def test_missing_module_of_our_own_is_a_defect_not_an_extra() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"tilth\.no_such_room"):
        attribute("tilth.no_such_room:thing")


def test_missing_name_is_a_defect() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        attribute("math:no_such_name")


@pytest.mark.parametrize("module", ["tilth", "tilth.errors", "tilth.config", "tilth.lazy"])
def test_vocabulary_starts_without_heavy_libraries(module: str) -> None:
    code = (
        f"import sys, {module}\n"
        "print(*{'torch', 'numpy', 'pydantic', 'sqlalchemy', 'rich'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
