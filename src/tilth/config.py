"""Settings: frozen dataclasses, filled from TOML and from ``--set a.b=1``, checked once.

The dataclass is the documentation of a setting: its name, its type, its default. A key that it
does not know is refused with the nearest spelling, a value of the wrong type with its dotted path.
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tilth.errors import SettingsError

__all__ = ["load_settings", "read_toml", "settings_to_dict"]

SettingsT = TypeVar("SettingsT")


def load_settings(
    kind: type[SettingsT],
    *,
    values: Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
    where: str = "settings",
) -> SettingsT:
    """Build ``kind`` from nested ``values`` with ``overrides`` (``"a.b=1"``) on top.

    Args:
        kind: a dataclass; its fields may be dataclasses too.
        values: nested mapping, as `read_toml` gives it.
        overrides: ``dotted.key=value`` strings; the value is read as TOML, else as plain text.
        where: what to call the source of ``values`` in errors.

    Raises:
        SettingsError: an unknown key (with the nearest known one) or a value of the wrong type.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Loop:
    ...     steps: int = 100
    >>> load_settings(Loop, overrides=["steps=7"])
    Loop(steps=7)
    """
    merged = _copied(values or {})
    _refuse_unknown_keys(kind, merged, path=(), where=where)
    for override in overrides:
        path, value = _parse_override(override)
        branch: dict[str, Any] = {}
        node = branch
        for name in path[:-1]:
            node = node.setdefault(name, {})
        node[path[-1]] = value
        _refuse_unknown_keys(kind, branch, path=(), where=f"--set {override}")
        _merge(merged, branch)
    return _validated(kind, merged, where=where)


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a TOML file.

    Raises:
        SettingsError: the file is missing or is not TOML; the message keeps line and column.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError("settings file not found", where=str(path)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError("settings file is not TOML", where=str(path), got=str(error)) from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise SettingsError("settings file cannot be read", where=str(path), got=reason) from error


def settings_to_dict(settings: Any) -> dict[str, Any]:
    """Nested plain values of a settings dataclass, ready for JSON and for `load_settings`."""
    from pydantic_core import to_jsonable_python  # paths and enumerations become text too

    return to_jsonable_python(settings)


def _parse_override(text: str) -> tuple[list[str], Any]:
    key, equals, raw = text.partition("=")
    path = [part.strip() for part in key.split(".")]
    if not equals or not all(path):
        raise SettingsError("an override cannot be read", expected="dotted.key=value", got=text)
    try:
        parsed = tomllib.loads(f"value = {raw}")
    except tomllib.TOMLDecodeError:
        parsed = {}
    if len(parsed) == 1:
        return path, parsed["value"]
    return path, raw.strip()  # an unquoted word, as people type it on a command line


def _refuse_unknown_keys(kind: Any, value: Any, *, path: tuple[str, ...], where: str) -> None:
    """Walk ``value`` along the type ``kind``: pydantic itself drops keys that it does not know."""
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        if not isinstance(value, Mapping):
            return  # of the wrong type; `_validated` says so
        hints = typing.get_type_hints(kind)
        known = {field.name: hints[field.name] for field in dataclasses.fields(kind)}
        for key, inner in value.items():
            if key not in known:
                raise _unknown_key(key, known, path=path, where=where)
            _refuse_unknown_keys(known[key], inner, path=(*path, key), where=where)
    elif typing.get_origin(kind) in (typing.Union, types.UnionType):
        choices = [choice for choice in typing.get_args(kind) if choice is not types.NoneType]
        if len(choices) == 1:  # of several, pydantic alone knows which one is meant
            _refuse_unknown_keys(choices[0], value, path=path, where=where)
    elif typing.get_origin(kind) in (list, tuple) and isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            _refuse_unknown_keys(
                typing.get_args(kind)[0], inner, path=(*path, str(index)), where=where
            )
    elif typing.get_origin(kind) is dict and isinstance(value, Mapping):
        for key, inner in value.items():
            _refuse_unknown_keys(typing.get_args(kind)[1], inner, path=(*path, key), where=where)


def _unknown_key(
    key: str, known: Mapping[str, Any], *, path: tuple[str, ...], where: str
) -> SettingsError:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return SettingsError(
        f"unknown setting '{'.'.join((*path, key))}'",
        where=where,
        expected=", ".join(known),
        fix=f"did you mean '{'.'.join((*path, near[0]))}'?" if near else None,
    )


def _validated(kind: type[SettingsT], values: dict[str, Any], *, where: str) -> SettingsT:
    from pydantic import TypeAdapter, ValidationError  # at the border only: half of start-up time

    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        dotted = ".".join(str(part) for part in first["loc"])
        # Without a place it is a rule of the dataclass itself, broken by the values together.
        subject = f"setting '{dotted}'" if dotted else kind.__name__
        raise SettingsError(
            f"{subject} cannot be used",
            where=where,
            expected=first["msg"],
            got=repr(first["input"] if dotted else values),
        ) from error


def _copied(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _copied(v) if isinstance(v, Mapping) else v for k, v in values.items()}


def _merge(base: dict[str, Any], branch: Mapping[str, Any]) -> None:
    for key, value in branch.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        else:
            base[key] = value
