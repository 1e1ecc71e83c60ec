"""What the demo measured, in plain numpy and Python, and what may honestly be said about it in two sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ssl_transfer.reporting.charts import Curve
from ssl_transfer.reporting.formats import count_word, lower_first, percent
from ssl_transfer.reporting.results import ResultRow, by_value
from ssl_transfer.reporting.scatter import Panel

Images = NDArray[np.generic]  # (N, C, H, W) uint8, or float in [0, 1]


@dataclass(frozen=True)
class Command:
    """A command line to copy: what it does, and the text, which may have several lines."""

    label: str
    text: str


OWN_IMAGES = (
    Command(
        "Pretrain on a folder of images; no labels needed",
        "ssl-transfer fit --config configs/pretrain/simclr.yaml \\\n"
        "  --data.source photos/ --data.size 64 --trainer.default_root_dir runs/pretrain",
    ),
    Command(
        "Train a classifier on the frozen encoder; one folder a class",
        "ssl-transfer fit --config configs/classify/frozen.yaml --model.encoder runs/pretrain/encoder \\\n"
        "  --data.source labelled/ --data.size 64 --data.test_fraction 0.2 --trainer.default_root_dir runs/classify",
    ),
    Command(
        "Test it on images it has never seen",
        "ssl-transfer test --config configs/classify/frozen.yaml --model.encoder runs/pretrain/encoder \\\n"
        "  --data.source labelled/ --data.size 64 --data.test_fraction 0.2 --trainer.default_root_dir runs/classify",
    ),
    Command(
        "The same in Python",
        "from ssl_transfer import Classifier, Frozen, ImageDataModule, SimCLR, fit\n\n"
        'fit(SimCLR(), ImageDataModule("photos/", size=64), "runs/pretrain")\n'
        'classifier = Classifier(encoder="runs/pretrain/encoder", tuning=Frozen())\n'
        'fit(classifier, ImageDataModule("labelled/", size=64), "runs/classify")',
    ),
)


@dataclass(frozen=True)
class DemoResults:
    """Everything the demo page shows.

    Args:
        data_name: the data set with its article or possessive, for a sentence: "scikit-learn's handwritten digits".
        thing: what one image shows, singular: "digit". The plural adds an s.
        unlabelled, labelled, test: number of images for pretraining, of labelled images a classifier sees, and of the
            test split.
        label_budget: labelled images a class.
        rows: results on the test split at that budget; the floors are among them.
        interval: what `ResultRow.low` and `high` are, in words: "95 % interval over 5 seeds".
        seconds: how long the whole demo took.
        machine, versions, seed: where, with what and from which seed it ran.
        reproduce: the commands that repeat it.
        originals, views: (n, C, H, W) and (n, k, C, H, W), k views of each original.
        clean, corrupted, restored: (n, C, H, W) each, the denoising autoencoder's input before and after the damage,
            and its output.
        losses: name of the objective, its (epoch, training loss) points.
        accuracy_curves: name of the objective, its (epoch, kNN accuracy on the validation split) points.
        accuracy_floor: kNN accuracy of raw pixels on the same split, or None.
        maps: 2-D pictures of the same points, from the floor to the best encoder.
        labels, class_names, thumbnails: of those points: (N,), names by index, (N, C, H, W).
        map_method: how features became two numbers, in a clause: "t-SNE, a method that keeps neighbours together".
        map_images: which images the maps show: "the test split".
        own_images: the commands for a user's own images.
    """

    data_name: str
    thing: str
    unlabelled: int
    labelled: int
    test: int
    label_budget: int
    rows: Sequence[ResultRow]
    interval: str
    seconds: float
    machine: str
    versions: dict[str, str]
    seed: int
    reproduce: Sequence[Command]
    originals: Images
    views: Images
    clean: Images
    corrupted: Images
    restored: Images
    losses: dict[str, Curve]
    accuracy_curves: dict[str, Curve]
    accuracy_floor: float | None
    maps: Sequence[Panel]
    labels: NDArray[np.integer]
    class_names: Sequence[str]
    thumbnails: Images
    map_method: str = "t-SNE, a method that keeps neighbours together"
    map_images: str = "the test split"
    own_images: Sequence[Command] = field(default=OWN_IMAGES)

    def __post_init__(self) -> None:
        assert self.best("ours") and self.best("floor"), "the table needs a row of ours and a floor"
        assert self.views.ndim == 5 and len(self.views) == len(self.originals), "views: (n, k, C, H, W), n as originals"
        assert len(self.clean) == len(self.corrupted) == len(self.restored), "one restored image each"

    @property
    def things(self) -> str:
        """The plural of `thing`."""
        return f"{self.thing}s"

    def best(self, kind: str) -> ResultRow | None:
        """The row of this kind with the highest value."""
        return next((row for row in by_value(self.rows) if row.kind == kind), None)

    def ends(self) -> tuple[ResultRow, ResultRow]:
        """The best pretrained encoder and the best floor."""
        ours, floor = self.best("ours"), self.best("floor")
        assert ours is not None and floor is not None
        return ours, floor


def headline(results: DemoResults) -> str:
    """What the table says about the best pretrained encoder and the best floor, won or lost, as plain text."""
    ours, floor = results.ends()
    labels = "label" if results.label_budget == 1 else "labels"
    found = (
        f"ith {count_word(results.label_budget)} {labels} a class, a classifier on the {ours.name} features names "
        f"{percent(ours.value)} of unseen {results.things} correctly"
    )
    without = f"the best result without pretraining is {percent(floor.value)} ({lower_first(floor.name)})"
    if ours.value <= floor.value:
        return f"Pretraining did not help here. W{found}; {without}."
    if ours.low <= floor.high:
        return f"W{found}; {without}. The intervals overlap, so the lead may be chance."
    return f"W{found}; {without}."


def comparison_tile(results: DemoResults) -> tuple[str, str, str]:
    """How many mistakes pretraining saves or adds against the best floor, as a tile."""
    ours, floor = results.ends()
    note = f"than {lower_first(floor.name)}, the best floor"
    wrong, wrong_floor = 1 - ours.value, 1 - floor.value
    if wrong_floor <= 0 or wrong == wrong_floor:
        gap = f"{100 * (ours.value - floor.value):+.1f}\u00a0points"
        return gap, "difference in accuracy", f"to {lower_first(floor.name)}, the best floor"
    change = wrong / wrong_floor - 1
    if change > 1:
        return f"{1 + change:.1f}×", "as many mistakes", f"as {lower_first(floor.name)}, the best floor"
    return percent(abs(change), 0), "fewer mistakes" if change < 0 else "more mistakes", note
