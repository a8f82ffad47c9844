"""Darknet's network files, `.cfg`: read with their line numbers, written back to the byte.

Source: the reader of the authors' program, `src/parser.c` of AlexeyAB/darknet; the files of
    Redmon, Farhadi, 2018, YOLOv3, arXiv 1804.02767v1 and Bochkovskiy, Wang, Liao, 2020, YOLOv4,
    arXiv 2004.10934v1.
Follows: sections and options -> `parse_cfg`; the authors' advice for own data (filters before each
    head, classes in it) -> `with_classes`.
Symbols: layers = sections after the first, counted from 0 as in Darknet's own print-out.
Differs: an option that stands twice in a section, or a line that is no option, is an error here;
    Darknet goes on with the first, or skips the line.
Checked by: `test_a_cfg_is_written_back_to_the_byte`, `test_parse_names_the_line`,
    `test_with_classes_changes_only_the_heads`
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tilth.errors import LabelError, SettingsError

__all__ = [
    "LAYER_KINDS",
    "CfgSection",
    "DarknetCfg",
    "head_channels",
    "parse_cfg",
    "with_anchors",
    "with_classes",
    "with_options",
]

LAYER_KINDS = (
    "convolutional",
    "maxpool",
    "avgpool",
    "upsample",
    "route",
    "shortcut",
    "yolo",
    "region",
    "dropout",
    "reorg",
    "softmax",
    "scale_channels",
    "sam",
)
_SYNONYMS = {"conv": "convolutional", "max": "maxpool", "avg": "avgpool", "soft": "softmax"}
_NET = ("net", "network")


@dataclass(frozen=True, kw_only=True)
class CfgSection:
    """One section: its kind, its options as text, and where they stand.

    Attributes:
        line: of the header, from 1.
        lines: of each option, from 1.
    """

    kind: str
    line: int
    where: str
    options: dict[str, str] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)

    def integer(self, name: str, default: int) -> int:
        """The option as a whole number.

        Raises:
            SettingsError: it is none.
        """
        text = self.options.get(name)
        if text is None:
            return default
        try:
            return int(text)
        except ValueError as error:
            raise self.unusable(name, "a whole number") from error

    def number(self, name: str, default: float) -> float:
        """The option as a number.

        Raises:
            SettingsError: it is none.
        """
        text = self.options.get(name)
        if text is None:
            return default
        try:
            return float(text)
        except ValueError as error:
            raise self.unusable(name, "a number") from error

    def numbers(self, name: str) -> list[float]:
        """The option as numbers between commas; none where it is missing.

        Raises:
            SettingsError: a part is no number.
        """
        parts = [part.strip() for part in self.options.get(name, "").split(",")]
        try:
            return [float(part) for part in parts if part]
        except ValueError as error:
            raise self.unusable(name, "numbers between commas") from error

    def integers(self, name: str) -> list[int]:
        """The option as whole numbers between commas; none where it is missing."""
        values = self.numbers(name)
        if any(value != int(value) for value in values):
            raise self.unusable(name, "whole numbers between commas")
        return [int(value) for value in values]

    def unusable(self, name: str, expected: str) -> SettingsError:
        """The error for an option that cannot be used, with its line."""
        return SettingsError(
            f"'{name}' of [{self.kind}] cannot be used",
            where=f"{self.where}:{self.lines.get(name, self.line)}",
            expected=expected,
            got=repr(self.options.get(name)),
        )


@dataclass(frozen=True, kw_only=True)
class DarknetCfg:
    """A network file.

    Attributes:
        text: the file as it is.
        net: the first section: sizes of the input and the authors' training settings.
        layers: the others, in order.
    """

    text: str
    net: CfgSection
    layers: tuple[CfgSection, ...]

    @property
    def heads(self) -> tuple[int, ...]:
        """The layers that are detection heads."""
        kinds = ("yolo", "region")
        return tuple(i for i, layer in enumerate(self.layers) if layer.kind in kinds)


def parse_cfg(text: str, *, where: str = "cfg") -> DarknetCfg:
    """Read a network file.

    Args:
        where: what to call the file in errors.

    Raises:
        LabelError: a line that is neither a section nor an option, or an option that stands twice.
        SettingsError: no [net] first, no layer after it, or a section that Tilth does not build.
    """
    sections: list[CfgSection] = []
    for number, line in enumerate(text.splitlines(), start=1):
        content = line.strip()
        if not content or content[0] in "#;":
            continue
        place = f"{where}:{number}"
        if content.startswith("["):
            kind = content.strip("[]").strip().lower()
            sections.append(CfgSection(kind=_SYNONYMS.get(kind, kind), line=number, where=where))
            continue
        name, equals, value = (part.strip() for part in content.partition("="))
        if not equals or not name or not sections:
            raise LabelError(
                "a line of the network file cannot be read",
                where=place,
                expected="[section] or option=value",
                got=repr(content[:60]),
            )
        if name in sections[-1].options:
            raise LabelError(
                f"'{name}' stands twice in [{sections[-1].kind}]",
                where=place,
                expected=f"once; it is on line {sections[-1].lines[name]} already",
                got=repr(content[:60]),
            )
        # A remark may follow the value, as in "stride=2 # halves the grid".
        sections[-1].options[name] = value.split("#")[0].split(";")[0].strip()
        sections[-1].lines[name] = number
    return _checked(text, sections, where)


def _checked(text: str, sections: list[CfgSection], where: str) -> DarknetCfg:
    if not sections or sections[0].kind not in _NET:
        raise SettingsError(
            "not a network file of Darknet",
            where=where,
            expected="[net] as the first section",
            got=f"[{sections[0].kind}]" if sections else "no section",
        )
    if len(sections) == 1:
        raise SettingsError("a network without layers", where=where, expected="layers after [net]")
    for section in sections[1:]:
        if section.kind not in LAYER_KINDS:
            near = difflib.get_close_matches(section.kind, LAYER_KINDS, n=1, cutoff=0.6)
            raise SettingsError(
                f"unknown section [{section.kind}]",
                where=f"{where}:{section.line}",
                expected=", ".join(LAYER_KINDS),
                fix=f"did you mean [{near[0]}]?"
                if near
                else "leave this layer out, or train it with Darknet itself",
            )
    return DarknetCfg(text=text, net=sections[0], layers=tuple(sections[1:]))


def with_classes(cfg: DarknetCfg, num_classes: int) -> DarknetCfg:
    """The same network for another number of classes: its heads, and the convolutions before them.

    Raises:
        SettingsError: no class, no head, or a head that does not follow a convolution.
    """
    where = cfg.net.where
    if num_classes < 1:
        raise SettingsError("a detector needs a class", expected="1 or more", got=str(num_classes))
    if not cfg.heads:
        raise SettingsError("a network without a detection head", where=where, expected="[yolo]")
    changes: dict[tuple[int, str], object] = {}
    for index in cfg.heads:
        head, before = cfg.layers[index], cfg.layers[index - 1]
        if index == 0 or before.kind != "convolutional" or "filters" not in before.options:
            raise SettingsError(
                "a head that does not follow a convolution with its filters",
                where=f"{where}:{head.line}",
                expected="[convolutional] with filters=(classes + 5) * anchors before it",
            )
        if "classes" not in head.options:
            raise head.unusable("classes", "a number of classes")
        changes[index - 1, "filters"] = head_channels(head, num_classes)
        changes[index, "classes"] = num_classes
    return with_options(cfg, changes)


def with_anchors(cfg: DarknetCfg, anchors: Sequence[tuple[float, float]]) -> DarknetCfg:
    """The same network with other anchors, as many as before, in pixels and in the file's order.

    Raises:
        SettingsError: another number of them, or heads that count anchors in cells ([region]).
    """
    pairs = ", ".join(f"{width:g},{height:g}" for width, height in anchors)
    for index in cfg.heads:
        head = cfg.layers[index]
        if head.kind != "yolo" or len(head.numbers("anchors")) != 2 * len(anchors):
            raise head.unusable("anchors", f"{len(anchors)} pairs of pixels, as were given")
    return with_options(cfg, {(index, "anchors"): pairs for index in cfg.heads})


def with_options(cfg: DarknetCfg, changes: Mapping[tuple[int, str], object]) -> DarknetCfg:
    """The same file with other values of options that it has; all else is as it was.

    Args:
        changes: the new value by number of layer and name of option; layer -1 is [net].

    Raises:
        SettingsError: a section does not have the option.
    """
    lines = cfg.text.splitlines(keepends=True)
    for (index, name), value in changes.items():
        section = cfg.net if index < 0 else cfg.layers[index]
        if name not in section.lines:
            raise section.unusable(name, "an option that the section has")
        line = lines[section.lines[name] - 1]
        ending = line[len(line.rstrip("\r\n")) :]
        lines[section.lines[name] - 1] = f"{name}={value}{ending}"
    return parse_cfg("".join(lines), where=cfg.net.where)


def head_channels(head: CfgSection, num_classes: int) -> int:
    """Channels that a head reads: for each of its anchors a box, objectness and the classes."""
    anchors = len(head.integers("mask")) if head.kind == "yolo" else head.integer("num", 1)
    return anchors * (5 + num_classes)
