"""Results to draw, and what every page must satisfy."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser

import numpy as np
import pytest
from sklearn.datasets import load_digits

from ssl_transfer.reporting import DemoResults, Panel, ResultRow

_VOID = {"meta", "link", "img", "br", "hr", "input"}


class _Walker(HTMLParser):
    """Follows the nesting and gathers attributes and visible text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.headings: list[int] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the attributes; all but void elements wait for their end."""
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag == "img":
            assert dict(attrs).get("alt"), "an image without a text"
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Self-closed SVG elements."""
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        """The end must match the last start."""
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        """Text outside scripts and styles."""
        if not self.open or self.open[-1] not in ("script", "style"):
            self.text.append(data)


@pytest.fixture
def read_page() -> Callable[[str], str]:
    """Checks that a page is balanced, self-contained and outlined, and returns its visible text."""

    def read(html: str) -> str:
        walker = _Walker()
        walker.feed(html)
        walker.close()
        assert walker.open == []
        for tag, name, value in walker.attributes:
            assert name not in ("src", "href", "xlink:href") or value.startswith("data:"), (tag, name, value[:60])
            assert not name.startswith("on"), f"{tag} has an inline handler {name}"
        assert re.search(r"https?://|@import", html) is None
        assert all(target.startswith("data:") for target in re.findall(r"url\(([^)]*)", html))
        assert walker.headings[0] == 1 and walker.headings.count(1) == 1
        assert all(after <= before + 1 for before, after in zip(walker.headings, walker.headings[1:], strict=False))
        return " ".join("".join(walker.text).replace("\N{NO-BREAK SPACE}", " ").split())

    return read


@pytest.fixture(scope="session")
def demo_results() -> DemoResults:
    """Real digits with made-up measurements."""
    digits = load_digits()
    images = (digits.images[:, None] / 16).astype(np.float32)
    flat = images.reshape(len(images), -1)
    few = images[:8]
    rows = [
        ResultRow("SimCLR", 0.965, 0.959, 0.970, "ours", 5, "two views"),
        ResultRow("Denoising autoencoder", 0.932, 0.921, 0.942, "ours", 5, "restores"),
        ResultRow("Raw pixels", 0.890, 0.876, 0.903, "floor", 5, "grey values"),
        ResultRow("PCA", 0.885, 0.870, 0.899, "floor", 5, "components"),
    ]
    return DemoResults(
        data_name="scikit-learn's handwritten digits",
        thing="digit",
        unlabelled=1437,
        labelled=100,
        test=360,
        label_budget=10,
        rows=rows,
        interval="95 % interval over 5 seeds",
        seconds=74.3,
        machine="2 CPU cores",
        versions={"torch": "2.15.0"},
        seed=7,
        reproduce=[],
        originals=few,
        views=np.stack([few, few[..., ::-1]], axis=1),
        clean=few,
        corrupted=few * 0.5,
        restored=few,
        losses={"SimCLR": [(0, 5.0), (1, 3.0)], "Denoising autoencoder": [(0, 0.2), (1, 0.1)]},
        accuracy_curves={"SimCLR": [(0, 0.90), (1, 0.98)], "Denoising autoencoder": [(0, 0.91), (1, 0.97)]},
        accuracy_floor=0.962,
        maps=[Panel("Raw pixels", flat[:, 20:22], "kNN 96.2 %"), Panel("SimCLR", flat[:, 30:32], "kNN 98.4 %")],
        labels=digits.target,
        class_names=[str(name) for name in digits.target_names],
        thumbnails=images,
    )
