"""Figures and self-contained HTML pages, from plain numpy arrays: nothing here imports torch."""

from __future__ import annotations

from ssl_transfer.reporting.charts import interval_chart, line_chart
from ssl_transfer.reporting.confusion import confusion_html
from ssl_transfer.reporting.demo_page import Command, DemoResults, headline, write_demo_page
from ssl_transfer.reporting.images import image_grid, image_row
from ssl_transfer.reporting.page import Page
from ssl_transfer.reporting.results import ResultRow
from ssl_transfer.reporting.scatter import Panel, scatter
from ssl_transfer.reporting.summary import write_summary

__all__ = [
    "Command",
    "DemoResults",
    "Page",
    "Panel",
    "ResultRow",
    "confusion_html",
    "headline",
    "image_grid",
    "image_row",
    "interval_chart",
    "line_chart",
    "scatter",
    "write_demo_page",
    "write_summary",
]
