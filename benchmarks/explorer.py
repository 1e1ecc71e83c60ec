"""The explorer page at 1,797, 10,000 and 60,000 images: file size, time to write, time to open, frames a second.

Opens each page in headless Chromium, where WebGL is computed by the processor unless the flags say otherwise, so frames
a second are a floor of what a graphics card does. Screenshots go to `runs/explorer`. By default the map is PCA, which
is quick; `--map` takes another, an `.npy` of (60,000, 2) in the order of the training images.

    python benchmarks/explorer.py --root data
    python benchmarks/explorer.py --root data --quick
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from common import RUNS, Row, median_row, parser, show, write
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from ssl_transfer.evaluation.neighbours import nearest
from ssl_transfer.reporting.explorer import Explorer, write_explorer

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.reporting.chromium import SHIFT, Chromium

FOLDER = RUNS.parent / "explorer"
WINDOW = (1400, 860)
NEIGHBOURS = 24
CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
PAINTED = (
    "[...document.querySelectorAll('[role=tabpanel]:not([hidden]) .thumb canvas')].every((c) => c.dataset.painted)"
)
NOTES = (
    f"A window of {WINDOW[0]} × {WINDOW[1]} px in headless Chromium; WebGL in software (SwiftShader), so frames/s are "
    "a floor. 60 is the most that a browser draws.",
    "open_seconds: from the start of the navigation to the second frame after the whole map is drawn. write_seconds: "
    "reduce and encode the thumbnails, and write the file.",
    "pan, zoom: animation frames a second while the mouse drags the map, or its wheel turns. Where drawing all points "
    "takes longer than two frames, the last picture is moved along in between: redraws are those with all points.",
    "digits: 8 × 8 px; Fashion-MNIST: 28 × 28 px, the first 10,000 or all 60,000 training images; 24 neighbours each.",
)


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--map", type=Path, help="an .npy of (60,000, 2), in place of PCA")
    made.add_argument("--flag", action="append", default=[], help="one more of Chromium's flags")
    options = made.parse_args()
    started = time.monotonic()
    rows: list[Row] = []
    for name, explorer in explorers(options.root, options.map, options.quick):
        rows += measure(name, explorer, 1 if options.quick else options.rounds, options.flag)
        show(rows[-6:])
    write("explorer", rows, time.monotonic() - started, [*NOTES, *options.note], options.quick)


def explorers(root: str, places: Path | None, quick: bool) -> Iterator[tuple[str, Explorer]]:
    """The pages by the name of their data, smallest first."""
    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    yield "digits", explore("Handwritten digits", images, [str(digit) for digit in digits.target], None)
    if quick:
        return
    from torchvision.datasets import FashionMNIST

    data = FashionMNIST(root, train=True)
    labels = [CLASSES[target] for target in data.targets]
    chosen = np.load(places) if places else None
    for count in (10_000, 60_000):
        part = None if chosen is None else chosen[:count]
        yield f"fashion_mnist_{count}", explore("Fashion-MNIST", data.data.numpy()[:count], labels[:count], part)


def explore(title: str, images: NDArray[np.uint8], labels: list[str], points: NDArray[np.floating] | None) -> Explorer:
    """What the page shows of images `(N, H, W)`: neighbours and isolation by 50 principal components of the pixels."""
    features = PCA(min(50, images[0].size), random_state=0).fit_transform(images.reshape(len(images), -1) / 255.0)
    distances, neighbours = nearest(torch.tensor(features, dtype=torch.float32), NEIGHBOURS)
    isolation = distances[:, 4].numpy()
    close = [[row, int(neighbours[row, 0])] for row in range(len(images)) if distances[row, 0] < 1.0]
    pairs = sorted({tuple(sorted(pair)) for pair in close}, key=lambda pair: float(distances[pair[0], 0]))
    return Explorer(
        title=title,
        points=features[:, :2] if points is None else points,
        paths=[f"train/{label.split('/')[0].lower()}/{row:05d}.png" for row, label in enumerate(labels)],
        columns={
            "class": labels,
            "split": ["val" if row % 10 == 0 else "train" for row in range(len(labels))],
            "brightness": images.mean(axis=(1, 2)).tolist(),
            "isolation": isolation.tolist(),
        },
        thumbnails=images[:, None],
        neighbours=neighbours.numpy(),
        duplicates=pairs[:500],
        isolation=isolation,
    )


# ---- what is measured


def measure(name: str, explorer: Explorer, rounds: int, flags: list[str]) -> list[Row]:
    page = FOLDER / f"{name}.html"
    writing = time.perf_counter()
    write_explorer(explorer, page)
    writing = time.perf_counter() - writing
    opened, panned, zoomed, redrawn = [], [], [], []
    with Chromium(FOLDER / "chromium", WINDOW, flags) as chromium:
        for _ in range(rounds):
            chromium.open(page)
            opened.append(chromium.evaluate("explorer.opened") / 1000)
            before, since = chromium.evaluate("explorer.state().draws"), time.perf_counter()
            panned.append(frames(chromium, wheel=False))
            redrawn.append((chromium.evaluate("explorer.state().draws") - before) / (time.perf_counter() - since))
            zoomed.append(frames(chromium, wheel=True))
        chromium.open(page)
        pictures(chromium, name)
        assert not chromium.errors, chromium.errors
    return [
        median_row(f"{name}/explorer/megabytes", [page.stat().st_size / 1e6], "ours", "MB"),
        median_row(f"{name}/explorer/write_seconds", [writing], "ours", "s"),
        median_row(f"{name}/explorer/open_seconds", opened, "ours", "s"),
        median_row(f"{name}/explorer/pan_frames_per_second", panned, "ours", "1/s"),
        median_row(f"{name}/explorer/pan_redraws_per_second", redrawn, "ours", "1/s"),
        median_row(f"{name}/explorer/zoom_frames_per_second", zoomed, "ours", "1/s"),
    ]


def frames(chromium: Chromium, wheel: bool, seconds: float = 3.0) -> float:
    """Animation frames a second while the mouse works on the map."""
    chromium.evaluate(
        "(() => { window.frames_ = 0; window.counting = true; const since = performance.now();"
        "const count = () => { frames_ += 1; window.span = performance.now() - since;"
        "if (counting) requestAnimationFrame(count); }; requestAnimationFrame(count); })()"
    )
    left, top, width, height = plot_frame(chromium)
    x, y = left + width / 2, top + height / 2
    until = time.monotonic() + seconds
    if not wheel:
        chromium.mouse("Moved", x, y)
        chromium.mouse("Pressed", x, y, buttons=1)
    step = 0
    while time.monotonic() < until:
        step += 1
        if wheel:
            chromium.mouse("Wheel", x, y, deltaX=0, deltaY=-40 if step // 40 % 2 else 40)
        else:
            chromium.mouse("Moved", x + 120 * np.sin(step / 9), y + 80 * np.cos(step / 9), button="left", buttons=1)
        time.sleep(0.008)
    counted: float = chromium.evaluate("(() => { counting = false; return frames_ / span * 1000; })()")
    if not wheel:
        chromium.mouse("Released", x, y)
    return counted


def plot_frame(chromium: Chromium) -> list[float]:
    """Left, top, width and height of the map, px."""
    found: list[float] = chromium.evaluate(
        "(() => { const box = document.querySelector('.plot').getBoundingClientRect();"
        "return [box.left, box.top, box.width, box.height]; })()"
    )
    return found


def pictures(chromium: Chromium, name: str) -> None:
    """Screenshots of what a reader sees, made with the mouse."""

    def picture(what: str, wait: float = 0.6) -> None:
        time.sleep(wait)
        chromium.wait(PAINTED)
        chromium.screenshot(FOLDER / f"{name}-{what}.png")

    chromium.prefer("light")
    picture("light")
    left, top, width, height = plot_frame(chromium)
    x, y = chromium.evaluate("explorer.place(7)")
    chromium.mouse("Moved", left + x + 1, top + y)
    chromium.mouse("Moved", left + x, top + y)
    picture("hover")
    angles = np.linspace(0, 2 * np.pi, 24)
    lasso = [
        (left + width * (0.42 + 0.1 * np.cos(a)), top + height * (0.5 + 0.14 * np.sin(a))) for a in angles.tolist()
    ]
    chromium.drag(lasso, SHIFT)
    chromium.mouse("Moved", left + 5, top + height - 5)
    picture("selection")
    chromium.click(left + x, top + y)
    chromium.mouse("Moved", left + 5, top + height - 5)
    picture("neighbours")
    for tab in ("duplicates", "outliers", "about"):
        chromium.evaluate(f"explorer.open('{tab}')")
        picture(tab)
    chromium.evaluate("explorer.open('selection')")
    chromium.key("Escape")
    chromium.evaluate("explorer.colour('isolation')")
    picture("scale")
    chromium.evaluate("explorer.colour('class')")
    chromium.evaluate("explorer.isolate(2)")
    chromium.prefer("dark")
    picture("dark-isolated")
    chromium.evaluate("explorer.isolate(2)")
    picture("dark")
    for _ in range(8):
        chromium.mouse("Wheel", left + width / 2, top + height / 2, deltaX=0, deltaY=-220)
        time.sleep(0.15)
    picture("dark-zoomed")
    chromium.prefer("light")
    chromium.key("?")
    picture("keys")
    chromium.key("Escape")
    chromium.resize(390, 844, phone=True)
    chromium.evaluate("explorer.fit()")
    picture("phone", 1.0)
    chromium.resize(900, 700)
    picture("tablet", 1.0)
    chromium.resize(*WINDOW)


if __name__ == "__main__":
    main()
