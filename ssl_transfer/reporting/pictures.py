"""Pictures that are drawn once, from arrays, and shown on a page and in TensorBoard alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ssl_transfer.reporting.images import image_grid, sheet
from ssl_transfer.reporting.scatter import Panel, fit_square, scatter

# --c0 … --c11 of page.css
COLOURS = (
    *("#4053d3", "#b58500", "#c4261d", "#0095d0", "#e83ea5", "#009e52"),
    *("#5f656c", "#e06600", "#7b3fb0", "#8a5a2b", "#00857c", "#8d9500"),
)
GREY = "#868e96"


class Picture(Protocol):
    """A drawing with a heading."""

    @property
    def heading(self) -> str:
        """What is shown."""

    def html(self) -> str:
        """For a page."""

    def pixels(self) -> NDArray[np.uint8]:
        """For TensorBoard: `(H, W, 3)` on white."""


@dataclass(frozen=True)
class ImageRows:
    """Rows of images; the same column is the same image throughout.

    Args:
        heading: what is shown.
        rows: label of a row, its images `(N, C, H, W)`, uint8 or float in [0, 1].
    """

    heading: str
    rows: Mapping[str, NDArray[np.generic]]

    def html(self) -> str:
        """Rows with their labels."""
        return image_grid(self.rows)

    def pixels(self) -> NDArray[np.uint8]:
        """The rows below each other, each with its label above."""
        sheets = [sheet(images) for images in self.rows.values()]
        line = 18
        height = sum(row.height + line + 4 for row in sheets)
        canvas = Image.new("RGB", (max(row.width for row in sheets), height), "white")
        pen, top = ImageDraw.Draw(canvas), 0
        for label, row in zip(self.rows, sheets, strict=True):
            pen.text((1, top), label, fill="black", font=ImageFont.load_default(13))
            canvas.paste(row, (0, top + line), row)
            top += row.height + line + 4
        return np.asarray(canvas)


@dataclass(frozen=True)
class FeatureMap:
    """The features of images in two dimensions, coloured by class where there are classes.

    Args:
        heading: what is shown.
        panel: the points `(N, 2)` and what they are.
        labels: `(N,)` indices into `names`, -1 for none.
        names: of the classes; may be empty.
        thumbnails: `(N, C, H, W)`, shown on pointing at a point.
        caption: a sentence below.
    """

    heading: str
    panel: Panel
    labels: NDArray[np.integer]
    names: Sequence[str]
    thumbnails: NDArray[np.generic]
    caption: str = ""

    def html(self) -> str:
        """The map with its images."""
        return scatter([self.panel], self.labels, self.names, self.thumbnails, caption=self.caption)

    def pixels(self, side: int = 480) -> NDArray[np.uint8]:
        """Dots in the colours of their classes, and a legend."""
        shown = [index for index in range(len(self.names)) if (self.labels == index).any()][:24]
        scale, size = 2, side * 2  # drawn twice as large, then reduced: round dots
        canvas = Image.new("RGB", (size, size), "white")
        pen = ImageDraw.Draw(canvas)
        for (x, y), label in zip(fit_square(self.panel.points) * size / 1000, self.labels.tolist(), strict=True):
            pen.ellipse((x - 5, y - 5, x + 5, y + 5), fill=_colour(label))
        legend = Image.new("RGB", (170 if shown else 0, side), "white")
        write = ImageDraw.Draw(legend) if shown else None
        for row, index in enumerate(shown):
            assert write is not None
            write.ellipse((8, 12 + 19 * row, 18, 22 + 19 * row), fill=_colour(index))
            write.text((26, 9 + 19 * row), self.names[index][:20], fill="black", font=ImageFont.load_default(13))
        whole = Image.new("RGB", (side + legend.width, side), "white")
        whole.paste(canvas.resize((size // scale, size // scale), Image.Resampling.BOX), (0, 0))
        whole.paste(legend, (side, 0))
        return np.asarray(whole)


def _colour(label: int) -> str:
    return COLOURS[label % len(COLOURS)] if label >= 0 else GREY
