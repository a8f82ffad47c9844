"""The page is self-contained, escapes what users wrote, and shows the numbers of the records."""

from __future__ import annotations

import dataclasses
import io
import math
import re
import time
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path

import pytest
from made_up_result import ARMS, made_up_arm, made_up_clusters, made_up_result
from rich.console import Console

from tilth.recipes.experiment import Arm, ExperimentResult, SeedScore
from tilth.recipes.report.page import DASH, render_html, results_table, write_report
from tilth.recipes.report.plots import arm_dots

VOID = {"meta", "link", "img", "br", "hr", "input"}
LOADS = {"src", "srcset", "href", "xlink:href", "data", "poster", "action", "background"}
HOSTILE = '"><script>alert(1)</script><img src=http://evil.example/x onerror=alert(1)>'


class Page(HTMLParser):
    """Elements with their attributes, the rows of tables as text, and whether all tags close."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        self.text.append(data)
        # The first line of a cell; what stands small below it is not the number.
        if ("td" in self._open or "th" in self._open) and "small" not in self._open:
            self.rows[-1][-1] += data.strip()


@pytest.fixture(scope="module")
def result() -> ExperimentResult:
    return made_up_result(num_examples=12)


@pytest.fixture(scope="module")
def html(result: ExperimentResult) -> str:
    return render_html(result)


def test_the_page_loads_nothing(html: str) -> None:
    page = Page(html)
    allowed = re.compile(r"data:image/jpeg;base64,[A-Za-z0-9+/=]+|#[\w-]+|report\.json")
    targets = [(t, v) for t, attrs in page.elements for k, v in attrs.items() if k in LOADS]
    assert sum(target == "image" for target, _ in targets) == 12
    assert all(allowed.fullmatch(value or "") for _, value in targets)
    names = {name for name, _ in page.elements}
    assert not names & {"script", "link", "iframe", "object", "embed", "img"}
    assert "@import" not in html
    assert "url(" not in html
    policies = [a["content"] for _, a in page.elements if "http-equiv" in a]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_hostile_names_stay_text() -> None:
    arms = [dataclasses.replace(made_up_arm(name, [0.5, 0.6]), label=HOSTILE) for name in ARMS]
    source = dataclasses.replace(arms[0], name="source", protocol="source", description=HOSTILE)
    picture = dataclasses.replace(made_up_result(num_examples=1).examples[0], name=HOSTILE)
    truth = [dataclasses.replace(box, class_name=HOSTILE) for box in picture.truth]
    clusters = dataclasses.replace(
        made_up_clusters(),
        descriptions=[HOSTILE] * 4,
        feature_names=[HOSTILE],
        projection_name=HOSTILE,
        method=HOSTILE,
    )
    words = {name: HOSTILE for name in ("title", "summary", "created", "command")}
    tables = {n: {HOSTILE: HOSTILE} for n in ("machine", "versions", "settings", "datasets")}
    hostile = made_up_result(
        arms=[*arms, source],
        clusters=clusters,
        examples=[dataclasses.replace(picture, truth=truth)],
        class_names=[HOSTILE, "b"],
        notes=[HOSTILE],
        **words,
        **tables,
    )
    page = Page(render_html(hostile))
    assert HOSTILE in "".join(page.text)
    assert not {"script", "img"} & {name for name, _ in page.elements}
    assert not [k for _, attrs in page.elements for k in attrs if k.startswith("on")]


def test_table_numbers_equal_the_records(result: ExperimentResult, html: str) -> None:
    rows = {tuple(row[:2]): row for row in Page(html).rows if len(row) == 7}
    for arm in result.arms:
        mean, deviation = arm.ap50.mean, arm.ap50.std
        row = rows[arm.label, f"{100 * mean:.1f} ± {100 * deviation:.1f}"]
        assert row[2] == f"{100 * arm.ap.mean:.1f} ± {100 * arm.ap.std:.1f}"
        assert row[3] == f"{100 * arm.ap75.mean:.1f} ± {100 * arm.ap75.std:.1f}"
        assert row[4:] == [str(arm.ap50.runs), f"{arm.num_train_images:,}", f"{arm.steps:,}"]


def test_the_plan_adds_up(html: str) -> None:
    rows = [row for row in Page(html).rows if len(row) == 4]
    assert ["All", "400", "960", "560"] in rows


def test_the_optimistic_row_is_set_apart(html: str) -> None:
    labels = [row[0] for row in Page(html).rows if row]
    warning = next(i for i, label in enumerate(labels) if "Optimistic: derived" in label)
    assert labels[warning + 1] == "Retrained, rebalanced"
    assert "Pretrained, as it is" in labels[:warning]


def test_unmeasured_figures_are_dashes() -> None:
    arms = [made_up_arm("pretrained", [math.nan]), made_up_arm("raw", [0.5, None])]
    page = render_html(made_up_result(arms=arms, clusters=None, examples=[]))
    cells = next(row for row in Page(page).rows if row and row[0] == "Pretrained, as it is")
    assert cells[1] == DASH
    assert "nan" not in re.sub(r"<style>.*?</style>", "", page, flags=re.S).lower()
    assert "None" not in "".join(Page(page).text)


@pytest.mark.parametrize(
    "changes",
    [
        {"clusters": None, "examples": []},
        {"arms": []},
        {"arms": [Arm(name="raw", label="Raw")]},
        {"arms": [Arm(name="s", label="S", protocol="source")]},
        {"examples": []},
        {"clusters": dataclasses.replace(made_up_clusters(), points_before=[], points_after=[])},
        {"clusters": dataclasses.replace(made_up_clusters(), counts_before=[0, 0, 0, 0], plan=[])},
        {"seconds": None, "created": "", "command": "", "settings": {}, "datasets": {}},
    ],
)
def test_parts_may_be_missing(changes: dict) -> None:
    result = made_up_result(**({"num_examples": 1} | changes))
    page = Page(render_html(result))
    assert "How this was measured" in page.text
    assert results_table(result).row_count == len(result.arms)


def test_every_figure_can_be_read_aloud_and_pointed_at(html: str) -> None:
    elements = Page(html).elements
    drawings = [a for name, a in elements if name == "svg" and a.get("role") == "img"]
    # dots, one curve figure and four panels, bars, two maps, AP by cluster, and 12 x 4 pictures
    assert len(drawings) == 1 + 1 + 4 + 1 + 2 + 1 + 48
    assert all(a.get("aria-label") for a in drawings)
    assert html.count("<title>") > len(drawings)


def test_every_seed_is_a_dot_and_every_class_of_mark_has_a_colour(html: str) -> None:
    assert len([1 for name, a in Page(html).elements if name == "circle"]) == 4 * 3
    style = resources.files("tilth.recipes.report").joinpath("page.css").read_text("utf-8")
    used = set(
        re.findall(r"\b(?:arm|cluster)-\d\b", re.sub(r"<style>.*?</style>", "", html, flags=re.S))
    )
    assert used
    assert all(f"--{name}:" in style for name in used)


def test_a_large_map_is_thinned() -> None:
    view = dataclasses.replace(
        made_up_clusters(), points_before=[[i * 0.1, i % 7, i % 4] for i in range(9000)]
    )
    page = render_html(made_up_result(clusters=view, examples=[]))
    before = page[page.index("<h3>Before</h3>") : page.index("<h3>After</h3>")]
    assert before.count("h0") == 4000


def test_files_are_small_complete_and_fast(result: ExperimentResult, tmp_path: Path) -> None:
    started = time.perf_counter()
    html_path, json_path = write_report(result, tmp_path / "run")
    assert time.perf_counter() - started < 3
    assert (html_path.name, json_path.name) == ("report.html", "report.json")
    assert html_path.stat().st_size < 3_000_000
    assert ExperimentResult.from_json(json_path) == result


def test_the_page_is_rebuilt_from_its_json(
    html: str, result: ExperimentResult, tmp_path: Path
) -> None:
    _, json_path = write_report(result, tmp_path)
    assert render_html(ExperimentResult.from_json(json_path)) == html


def test_terminal_table_shows_the_records(result: ExperimentResult) -> None:
    arms = [dataclasses.replace(arm, label=f"[red]{arm.name}") for arm in result.arms]
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(results_table(dataclasses.replace(result, arms=arms)))
    lines = console.export_text().splitlines()
    for arm in arms:
        line = next(line for line in lines if f"{arm.label} " in line)
        assert f"{100 * arm.ap50.mean:.1f} ± {100 * arm.ap50.std:.1f}" in line
        assert ("optimistic" in line) == (arm.protocol == "source")


@pytest.mark.parametrize("spread", [0.2, 0.02, 0.004])
def test_no_two_lines_of_the_axis_say_the_same(spread: float) -> None:
    scores = [SeedScore(seed=seed, ap=0.2, ap50=0.5 + spread * seed, ap75=0.1) for seed in range(2)]
    drawing = str(arm_dots([Arm(name="raw", label="raw", scores=scores)]))
    ticks = re.findall(r'class="tick middle"[^>]*>([\d.]+)<', drawing)
    assert len(ticks) == len(set(ticks)) > 2
