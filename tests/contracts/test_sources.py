"""A file that follows a paper says which, where, with what symbols, and what checks it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "papers.py"
_spec = importlib.util.spec_from_file_location("papers", SCRIPT)
papers = importlib.util.module_from_spec(_spec)
sys.modules["papers"] = papers
_spec.loader.exec_module(papers)

BLOCKS = papers.source_blocks()


def test_some_files_follow_a_paper():
    assert {"losses/detection.py", "models/yolov4.py"} <= {block.path for block in BLOCKS}


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.path)
def test_source_block_is_complete(block):
    assert set(block.parts) == set(papers.LABELS)
    assert all(block.parts.values())


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.path)
def test_followed_names_are_defined_in_the_file(block):
    assert block.followed, "`Follows:` names no function"
    assert set(block.followed) <= block.defined


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.path)
def test_named_tests_exist(block):
    assert block.tests, "`Checked by:` names no test"
    assert set(block.tests) <= papers.test_names()


def test_papers_page_is_current():
    assert papers.PAGE.read_text(encoding="utf-8") == papers.page(), "run: make docs"
