"""Nested plain values as TOML, which `tilth.config.read_toml` reads back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

__all__ = ["toml_text"]


def toml_text(values: Mapping[str, Any]) -> str:
    """Scalars and lists first, then a section for each mapping.

    >>> print(toml_text({"a": {"b": [1, 2.5], "c": "x"}, "d": True}), end="")
    d = true
    <BLANKLINE>
    [a]
    b = [1, 2.5]
    c = "x"
    """
    return "\n".join(_section(values, ()))


def _section(values: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    plain = {name: value for name, value in values.items() if not isinstance(value, Mapping)}
    lines = [f"{name} = {_value(value)}\n" for name, value in plain.items()]
    if path and plain:
        lines.insert(0, f"[{'.'.join(path)}]\n")
    parts = ["".join(lines)] if lines else []
    for name, value in values.items():
        if isinstance(value, Mapping):
            parts += _section(value, (*path, name))
    return parts


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    if isinstance(value, str | bool):
        return json.dumps(value, ensure_ascii=False)
    return repr(value)
