"""Settings: what TOML and `--set` may say, and how they are refused."""

from __future__ import annotations

import dataclasses
import json
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.config import load_settings, read_toml, settings_to_dict
from tilth.errors import SettingsError, TrainingError


class Colour(Enum):
    GREY = "grey"
    RGB = "rgb"


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimSettings:
    learning_rate: float = 0.01
    momentum: float = 0.9


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoopSettings:
    steps: int = 100
    name: str = "run"
    mixed_precision: Literal["no", "bf16"] = "no"
    image_sizes: tuple[int, ...] = (320, 416)
    optim: OptimSettings = OptimSettings()
    second: OptimSettings | None = None
    stages: tuple[OptimSettings, ...] = ()
    by_name: dict[str, OptimSettings] = dataclasses.field(default_factory=dict)
    folder: Path = Path("runs")
    colour: Colour = Colour.RGB


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckedSettings:
    low: int = 0
    high: int = 1

    def __post_init__(self) -> None:
        if self.low == 13:
            raise TrainingError("13 is taken", fix="take 12")
        if self.low > self.high:
            raise ValueError("low is above high")


def refused(**given: Any) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        load_settings(LoopSettings, **given)
    return caught.value


def test_defaults_stand_when_nothing_is_given() -> None:
    assert load_settings(LoopSettings) == LoopSettings()


def test_values_then_overrides_the_last_wins() -> None:
    settings = load_settings(
        LoopSettings,
        values={"steps": 5, "optim": {"momentum": 0.5}},
        overrides=["steps=7", "optim.learning_rate=1e-3", "steps=8"],
    )
    assert settings.steps == 8
    assert settings.optim == OptimSettings(learning_rate=1e-3, momentum=0.5)


def test_values_are_not_changed_by_overrides() -> None:
    values = {"optim": {"momentum": 0.5}}
    load_settings(LoopSettings, values=values, overrides=["optim.momentum=0.1"])
    assert values == {"optim": {"momentum": 0.5}}


@pytest.mark.parametrize(
    ("override", "field", "expected"),
    [
        ("name=field", "name", "field"),
        ('name="field 7"', "name", "field 7"),
        ("name=field 7", "name", "field 7"),
        ("name=a=b", "name", "a=b"),
        ("name=", "name", ""),
        ("image_sizes=[32, 64]", "image_sizes", (32, 64)),
        (" steps = 3", "steps", 3),
        ("mixed_precision=bf16", "mixed_precision", "bf16"),
        ("folder=a/b", "folder", Path("a/b")),
        ("colour=grey", "colour", Colour.GREY),
    ],
)
def test_override_is_read_as_toml_else_as_text(override: str, field: str, expected: object) -> None:
    assert getattr(load_settings(LoopSettings, overrides=[override]), field) == expected


@pytest.mark.parametrize("override", ["steps", "=3", "optim.=3", ".steps=3", ""])
def test_override_without_key_and_value_is_refused(override: str) -> None:
    error = refused(overrides=[override])
    assert error.expected == "dotted.key=value"
    assert error.got == override


def test_override_holds_one_value_and_nothing_else() -> None:
    error = refused(overrides=["steps=3\nname = 'x'"])
    assert error.message == "setting 'steps' cannot be used"


@pytest.mark.parametrize(
    ("values", "dotted", "near"),
    [
        ({"step": 1}, "step", "steps"),
        ({"optim": {"learning_rat": 1}}, "optim.learning_rat", "optim.learning_rate"),
        ({"second": {"momentun": 1}}, "second.momentun", "second.momentum"),
        ({"stages": [{}, {"momentun": 1}]}, "stages.1.momentun", "stages.1.momentum"),
        ({"by_name": {"a": {"momentun": 1}}}, "by_name.a.momentun", "by_name.a.momentum"),
    ],
)
def test_unknown_key_is_refused_with_the_nearest_spelling(
    values: dict[str, Any], dotted: str, near: str
) -> None:
    error = refused(values=values, where="detect.toml")
    assert error.message == f"unknown setting '{dotted}'"
    assert error.fix == f"did you mean '{near}'?"
    assert error.where == "detect.toml"


def test_unknown_override_names_the_flag() -> None:
    error = refused(overrides=["optim.momentun=1"])
    assert error.where == "--set optim.momentun=1"
    assert error.fix == "did you mean 'optim.momentum'?"


def test_key_unlike_any_other_has_no_suggestion() -> None:
    error = refused(values={"zzz": 1})
    assert error.fix is None
    assert "steps" in (error.expected or "")


@pytest.mark.parametrize(
    ("values", "dotted"),
    [
        ({"steps": "many"}, "steps"),
        ({"steps": 1.5}, "steps"),
        ({"optim": {"learning_rate": "fast"}}, "optim.learning_rate"),
        ({"optim": 3}, "optim"),
        ({"steps": {"a": 1}}, "steps"),
        ({"mixed_precision": "fp8"}, "mixed_precision"),
        ({"image_sizes": [32, "big"]}, "image_sizes.1"),
    ],
)
def test_wrong_type_is_refused_by_dotted_path(values: dict[str, Any], dotted: str) -> None:
    error = refused(values=values)
    assert error.message == f"setting '{dotted}' cannot be used"
    assert error.expected
    assert error.got


def test_rule_of_the_dataclass_names_the_dataclass() -> None:
    with pytest.raises(SettingsError, match="CheckedSettings cannot be used") as caught:
        load_settings(CheckedSettings, values={"low": 3})
    assert "low is above high" in (caught.value.expected or "")
    assert caught.value.got == "{'low': 3}"


def test_own_error_of_the_dataclass_passes_unchanged() -> None:
    with pytest.raises(TrainingError, match="13 is taken"):
        load_settings(CheckedSettings, overrides=["low=13"])


@given(
    steps=st.integers(-(2**40), 2**40),
    name=st.text(max_size=10),
    learning_rate=st.floats(allow_nan=False, allow_infinity=False),
    sizes=st.lists(st.integers(0, 9999), max_size=3),
    second=st.none() | st.builds(OptimSettings, momentum=st.floats(0, 1)),
    colour=st.sampled_from(Colour),
)
def test_settings_round_trip_through_json(
    steps: int,
    name: str,
    learning_rate: float,
    sizes: list[int],
    second: OptimSettings | None,
    colour: Colour,
) -> None:
    settings = LoopSettings(
        steps=steps,
        name=name,
        optim=OptimSettings(learning_rate=learning_rate),
        image_sizes=tuple(sizes),
        second=second,
        stages=(OptimSettings(),),
        folder=Path("a/b"),
        colour=colour,
    )
    text = json.dumps(settings_to_dict(settings), allow_nan=False)
    assert load_settings(LoopSettings, values=json.loads(text)) == settings


@given(steps=st.integers(-(2**40), 2**40), rate=st.floats(allow_nan=False, allow_infinity=False))
def test_overrides_round_trip_numbers(steps: int, rate: float) -> None:
    overrides = [f"steps={steps}", f"optim.learning_rate={rate!r}"]
    settings = load_settings(LoopSettings, overrides=overrides)
    assert (settings.steps, settings.optim.learning_rate) == (steps, rate)


def test_toml_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "detect.toml"
    path.write_text('name = "größe"\n[optim]\nmomentum = 0.5\n', encoding="utf-8")
    assert read_toml(path) == {"name": "größe", "optim": {"momentum": 0.5}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"steps = \n", "settings file is not TOML"),
        (b"\xff\xfe", "settings file is not TOML"),
        (None, "settings file not found"),
    ],
)
def test_broken_toml_file_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "detect.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=message) as caught:
        read_toml(path)
    assert caught.value.where == str(path)


def test_toml_error_keeps_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "detect.toml"
    path.write_text("a = 1\nb = \n")
    with pytest.raises(SettingsError, match="line 2"):
        read_toml(path)


def test_folder_in_place_of_a_toml_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="settings file cannot be read"):
        read_toml(tmp_path)
