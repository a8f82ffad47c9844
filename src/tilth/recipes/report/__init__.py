"""The report of an experiment: a page, its figures, its words. `write_report` is the way in."""

from tilth.recipes.report.page import render_html, results_table, write_report

__all__ = ["render_html", "results_table", "write_report"]
