"""The report of an experiment: one self-contained HTML page, the same as JSON, and a short table.

The page loads nothing from anywhere: style, figures and pictures are inside it, there is no script,
and a content security policy in it forbids both. It is rebuilt from the JSON alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from tilth.data.atomic import atomic_writer
from tilth.recipes.experiment import Arm, ClusterView, ExperimentResult, Spread
from tilth.recipes.report.cluster_plots import (
    cluster_ap,
    cluster_bars,
    cluster_scatter,
    cluster_style,
)
from tilth.recipes.report.headline import headline
from tilth.recipes.report.picture_overlays import (
    overlay,
    picture_definition,
    sorted_by_change,
    tally,
)
from tilth.recipes.report.plots import (
    arm_dots,
    arm_style,
    precision_recall,
    precision_recall_panel,
)
from tilth.recipes.report.svg import marker, tag

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["render_html", "results_table", "write_report"]

DASH = "\N{EN DASH}"


def write_report(result: ExperimentResult, folder: Path) -> tuple[Path, Path]:
    """Write ``report.html`` and ``report.json`` into ``folder`` and return their paths.

    Raises:
        StorageError: the disk refused; an earlier report is untouched.
    """
    html_path, json_path = folder / "report.html", folder / "report.json"
    page = render_html(result).encode("utf-8")
    result.to_json(json_path)
    with atomic_writer(html_path) as stream:
        stream.write(page)
    return html_path, json_path


def render_html(result: ExperimentResult) -> str:
    """The page as text."""
    import jinja2  # a tenth of a second, and only reports need it

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "percent": _percent,
        "spread": _spread,
        "range": _range,
        "points": _points,
        "count": _count,
        "std": lambda spread: DASH if spread.std is None else f"{100 * spread.std:.1f}",
        "duration": _duration,
        "moment": _moment,
        "flat": _flat,
    }
    here = resources.files("tilth.recipes.report")
    template = environment.from_string(here.joinpath("page.html.jinja").read_text("utf-8"))
    style = here.joinpath("page.css").read_text("utf-8")
    return template.render(
        result=result,
        arms=result.held_out_arms,
        best=_best_arm(result),
        headline=headline(result),
        style=Markup(style),  # ours, not the user's
        draw=_DRAWINGS,
        imbalance=_imbalance,
        pictures=_pictures(result),
    )


def results_table(result: ExperimentResult) -> Table:
    """The arms as rows for a terminal: AP50 with its spread, AP, AP75, pictures, steps."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(result.title), caption="per cent, mean ± standard deviation of seeds")
    table.add_column("arm")
    for name in ("mAP50", "mAP50:95", "mAP75", "pictures", "steps"):
        table.add_column(name, justify="right")
    for arm in result.held_out_arms:
        table.add_row(Text(arm.label), *_cells(arm))  # Text: a label in [brackets] is no markup
    table.add_section()
    for arm in result.source_arms:
        table.add_row(Text(f"{arm.label} (optimistic: leaks)"), *_cells(arm))
    return table


def _cells(arm: Arm) -> list[str]:
    scores = [_spread(spread) for spread in (arm.ap50, arm.ap, arm.ap75)]
    return [*scores, _count(arm.num_train_images), _count(arm.steps)]


_DRAWINGS = {
    "arm_dots": arm_dots,
    "arm_style": arm_style,
    "cluster_ap": cluster_ap,
    "cluster_bars": cluster_bars,
    "cluster_scatter": cluster_scatter,
    "cluster_style": cluster_style,
    "precision_recall": precision_recall,
    "precision_recall_panel": precision_recall_panel,
    "key": lambda row: tag(
        "svg",
        tag("path", class_=f"mean {arm_style(row)}", d=marker(row, 7, 7, 5)),
        class_="key",
        viewBox="0 0 14 14",
        aria_hidden="true",
    ),
}


def _pictures(result: ExperimentResult) -> list[dict[str, Any]]:
    """One a picture: its name, its definition, and a panel for each arm that looked at it."""
    arms = result.held_out_arms
    pictures = []
    for index, picture in enumerate(sorted_by_change(result.examples, arms)):
        identifier = f"picture-{index}"
        panels = [
            {
                "arm": arm,
                "row": row,
                "drawing": overlay(picture, arm, identifier),
                "tally": tally(picture, arm.name),
            }
            for row, arm in enumerate(arms)
            if arm.name in picture.predictions
        ]
        definition = picture_definition(picture, identifier)
        pictures.append({"record": picture, "definition": definition, "panels": panels})
    return pictures


def _best_arm(result: ExperimentResult) -> str | None:
    means = {arm.name: arm.ap50.mean for arm in result.held_out_arms}
    measured = {name: mean for name, mean in means.items() if mean is not None}
    return max(measured, key=lambda name: measured[name]) if measured else None


def _imbalance(view: ClusterView) -> str:
    """How unequal the clusters were and are, one sentence."""
    if 0 in view.counts_before + view.counts_after:
        return "A cluster is empty, so there is no ratio of the largest to the smallest."
    before, after = (max(c) / min(c) for c in (view.counts_before, view.counts_after))
    return f"The largest cluster had {before:.1f} times the boxes of the smallest; now {after:.1f}."


def _percent(value: float | None) -> str:
    return DASH if value is None else f"{100 * value:.1f}"


def _spread(spread: Spread) -> str:
    if spread.mean is None or spread.std is None:
        return _percent(spread.mean)
    return f"{_percent(spread.mean)} ± {_percent(spread.std)}"


def _range(spread: Spread) -> str:
    if spread.runs < 2:
        return DASH
    return f"{_percent(spread.low)} to {_percent(spread.high)}"


def _points(difference: float | None) -> str:
    if difference is None:
        return DASH
    sign = "+" if difference >= 0 else "\N{MINUS SIGN}"
    return f"{sign}{100 * abs(difference):.1f}"


def _count(value: int) -> str:
    return f"{value:,}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return DASH
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _moment(created: str) -> str:
    """An ISO time to the minute; anything else as it is."""
    try:
        return datetime.fromisoformat(created).strftime("%Y-%m-%d %H:%M %Z").strip()
    except ValueError:
        return created


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as dotted names, as ``--set`` takes them."""
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            rows += _flat(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", _plain_text(value)))
    return rows


def _plain_text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain_text, value)) or DASH
    return DASH if value is None or value == {} else str(value)
