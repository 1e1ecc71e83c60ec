"""Is the advice any good? What `ssl-transfer advise` picks, against what each strategy turns out to be worth.

Over encoders, data sets and label budgets: every strategy is trained on one draw of labels and scored on test images;
the adviser sees the same labelled images, and no other label, for a stated number of minutes of processor time, so that
other work on the machine does not count. Its regret is what the best strategy scores more than its pick. Everything
measured is kept at once: the script goes on where it was stopped, and the cells come in an order that leaves a balanced
table wherever that is.

    python benchmarks/adviser.py --root data               hours on one core; most of it is the truth, not the advice
    python benchmarks/adviser.py --root data --tell        the table of what is measured so far
    python benchmarks/adviser.py --root data --quick       two minutes, to see that it works

Needs the encoders of `fashion_mnist.py` and, in runs/benchmarks/mnist/simclr-0, that of `ssl-transfer fit --config
configs/pretrain/simclr.yaml --data.source MNIST`.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from common import RUNS, Row, parser, show, spread, write

from ssl_transfer import Classifier, ImageDataModule, Views, load_encoder
from ssl_transfer.commands.sources import images_for
from ssl_transfer.downstream.tuning import Frozen
from ssl_transfer.encoders import build_encoder, save_encoder
from ssl_transfer.encoders.config import rebuild_spec
from ssl_transfer.evaluation.advice import STRATEGIES, Advice, advise
from ssl_transfer.evaluation.evidence import Trial, pack, paired_difference
from ssl_transfer.evaluation.gains import Prior
from ssl_transfer.evaluation.intervals import interval
from ssl_transfer.evaluation.measurements import Measurements
from ssl_transfer.running.advice import Question, measure
from ssl_transfer.running.recipes import VIEWS, recipe_for
from ssl_transfer.running.short_fits import TRIED, fresh_spec
from ssl_transfer.running.trial import scores_of, trial

ENCODERS = {  # by name: the folder, and what it was pretrained on
    "simclr_of_fashion": ("fashion_mnist/simclr-0", "fashion_mnist"),
    "simclr_of_mnist": ("mnist/simclr-0", "mnist"),
    "denoising_of_fashion": ("fashion_mnist/denoising-0", "fashion_mnist"),
    "untrained": ("adviser/untrained", None),
}
SOURCES = {"fashion_mnist": "FashionMNIST", "cifar10_grey": "cifar10_jpeg", "mnist": "MNIST", "digits": "digits"}
MIRRORED = ("fashion_mnist", "cifar10_grey")  # a mirrored image means the same
COMPETING = tuple(s for s in STRATEGIES if s == "frozen" or s in TRIED)
BUDGETS = (5, 20, 100)
ORDER = ((0, 5), (0, 20), (1, 5), (1, 20), (2, 5), (2, 20), (3, 5), (3, 20), (0, 100), (1, 100), (2, 100), (3, 100))
TEST = 3000  # test images that are asked
Name = tuple[str, str, int, int]  # data set, encoder, budget, seed


def main() -> None:
    options = arguments()
    bench = Bench(RUNS / "quick" / "adviser" if options.quick else RUNS / "adviser", options)
    untrained()
    cells: list[Cell] = []
    for name in names(options):
        if (cell := bench.cell(*name, known=options.tell)) is not None:
            cells.append(cell)
            if not options.tell:
                print(f"{' '.join(map(str, name))}: {cell.words(advise(cell.measured))}", flush=True)
    rows = rows_of(cells)
    sys.argv = [word for word in sys.argv if word != "--tell"]  # the command that measured what is told
    write("adviser", rows, spent(cells, options), [*notes(cells, options), *options.note], options.quick)
    show(rows)


def spent(cells: Sequence[Cell], options: Any) -> float:
    """Seconds that the cells took, in however many runs of the script."""
    fits = {
        (c.data, c.budget, c.seed, s, "" if s == "scratch" else c.encoder): t for c in cells for s, t in c.truth.items()
    }
    return sum(t.seconds for t in fits.values()) + 60 * options.minutes * len(cells)


def arguments() -> Any:
    made = parser(__doc__, rounds=1)
    made.add_argument("--minutes", type=float, default=0.5, help="of processor time for the adviser")
    made.add_argument("--budgets", nargs="+", type=int, default=list(BUDGETS), help="labelled images a class")
    made.add_argument("--data", nargs="+", default=list(SOURCES), choices=list(SOURCES))
    made.add_argument("--seeds", type=int, default=1, help="draws of labels, and of weights and order")
    made.add_argument("--tell", action="store_true", help="measure nothing more")
    options = made.parse_args()
    if options.quick:
        options.minutes, options.budgets, options.data = 0.05, [5], ["digits", "mnist"]
    for folder, _ in ENCODERS.values():
        if folder != ENCODERS["untrained"][0] and not (RUNS / folder / "encoder").is_dir():
            raise SystemExit(f"runs/benchmarks/{folder}/encoder does not exist: see --help for what makes it")
    return options


def names(options: Any) -> list[Name]:
    """The cells in their order: in each four every data set and every encoder once."""
    sources, found = list(SOURCES), []
    for seed in range(options.seeds):
        for shift, budget in ORDER:
            pairs = [(sources[(n + shift) % len(sources)], encoder) for n, encoder in enumerate(ENCODERS)]
            found += [(s, e, budget, seed) for s, e in pairs if s in options.data and budget in options.budgets]
    return found


def untrained() -> None:
    """The encoder folder of a network that has learned nothing."""
    folder = RUNS / ENCODERS["untrained"][0] / "encoder"
    if not folder.is_dir():
        like = load_encoder(RUNS / ENCODERS["simclr_of_fashion"][0] / "encoder")
        torch.manual_seed(0)
        fresh = build_encoder(rebuild_spec(like.spec), like.shape, [0.3], [0.3])
        save_encoder(fresh, folder, objective="none", data={})


# ---- one cell


@dataclass(frozen=True)
class Cell:
    """What each strategy scores on test images, and what the adviser saw of the same labelled images."""

    data: str
    encoder: str
    budget: int
    seed: int
    truth: dict[str, Trial]
    measured: Measurements

    @property
    def best(self) -> str:
        return max(self.truth, key=lambda s: self.truth[s].accuracy)

    def regret(self, strategy: str) -> float:
        """Test accuracy of the best less that of the strategy."""
        return self.truth[self.best].accuracy - self.truth[strategy].accuracy

    def hit(self, strategy: str) -> bool:
        """Whether it is the best, or the test images cannot tell it from the best (95 %, paired)."""
        return strategy == self.best or paired_difference([self.truth[self.best]], [self.truth[strategy]]).low <= 0

    def gain(self, strategy: str) -> float:
        """Over the frozen encoder."""
        return self.truth[strategy].accuracy - self.truth["frozen"].accuracy

    def words(self, advice: Advice) -> str:
        scores = ", ".join(f"{s} {self.truth[s].accuracy:.3f}" for s in self.truth)
        return f"{scores}; advised {advice.strategy} ({advice.certainty})"


@dataclass(frozen=True)
class Bench:
    """Measures cells, or reads those that were measured; a file a fit."""

    folder: Path
    options: Any

    def cell(self, data: str, encoder: str, budget: int, seed: int, known: bool = False) -> Cell | None:
        """The cell; known: None unless all of it was measured before."""
        place, about = f"{data}_{budget}", f"{encoder}_{seed}"
        seen = self.folder / f"{place}_{about}_advice_{self.options.minutes:g}min.json"
        files = {s: self.folder / f"{place}_{seed if s == 'scratch' else about}_{s}.json" for s in COMPETING}
        if known and not all(file.exists() for file in (seen, *files.values())):
            return None
        told = kept(seen, partial(self._seen, data, encoder, budget, seed))
        truth = {
            strategy: Trial.from_json(kept(file, partial(self._truth, strategy, data, encoder, budget, seed)))
            for strategy, file in files.items()
        }
        return Cell(data, encoder, budget, seed, truth, Measurements.from_dict(told))

    def _seen(self, data: str, encoder: str, budget: int, seed: int) -> dict[str, Any]:
        """What the adviser measures within the labelled images."""
        folder, trained_on = ENCODERS[encoder]
        pretraining = images(trained_on, self.options.root) if trained_on else None
        few = images(data, self.options.root).few(budget, seed)
        path = str(RUNS / folder / "encoder")
        question = Question(path, few, pretraining, views(data), self.options.minutes, seed)
        with patch("time.monotonic", time.process_time):
            return measure(question, say=lambda text: print(f"  {text}", flush=True)).to_dict()

    def _truth(self, strategy: str, data: str, encoder: str, budget: int, seed: int) -> dict[str, Any]:
        """A strategy with its whole recipe, scored on test images."""
        started = time.monotonic()
        source = images(data, self.options.root)
        few, asked = source.few(budget, seed), source.with_train(test_rows(source))
        path = RUNS / ENCODERS[encoder][0] / "encoder"
        if strategy == "frozen":
            module = trial(Classifier(str(path), tuning=Frozen()), few, seed=seed)
        else:
            recipe = recipe_for(TRIED[strategy](), len(few.indices("train")))
            start = fresh_spec(load_encoder(path)) if strategy == "scratch" else str(path)
            how: dict[str, Any] = {"optimisation": recipe.optimisation, "views": views(data), **recipe.options}
            module = Classifier(start, tuning=TRIED[strategy](), **how)
            steps = 10 if self.options.quick else recipe.steps
            trial(module, few, steps=steps, batch_size=recipe.batch_size, seed=seed)
        scores, targets = scores_of(module, asked, "train")
        right = (scores.argmax(1) == targets).numpy()
        seconds = round(time.monotonic() - started, 1)
        labels = len(few.indices("train"))
        return Trial(
            encoder, strategy, "ours", budget, labels, seed, float(right.mean()), None, math.nan, seconds, pack(right)
        ).to_json()


def kept(file: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What the file holds, or what is made now and kept."""
    if not file.exists():
        made = make()
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(".new")
        unfinished.write_text(json.dumps(made), encoding="utf-8")
        unfinished.replace(file)
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


@cache
def images(name: str, root: str) -> ImageDataModule:
    """A data set as grey images of 28 pixels."""
    like = load_encoder(RUNS / ENCODERS["simclr_of_fashion"][0] / "encoder")
    source = str(Path(root) / SOURCES[name]) if name == "cifar10_grey" else SOURCES[name]
    data = images_for(like, {}, source, root, None, None, "*", "refuse", 256)
    data.setup()
    return data


def views(data: str) -> Views:
    """The recipes' augmentation, mirroring what may be mirrored."""
    return VIEWS if data in MIRRORED else replace(VIEWS, horizontal_flip=0.0)


def test_rows(data: ImageDataModule) -> Any:
    """Rows of at most `TEST` test images."""
    rows = data.indices("test")
    return np.random.default_rng(0).permutation(rows)[:TEST]


# ---- rules, each the strategy that it picks in every cell


def picks(cells: Sequence[Cell]) -> dict[str, list[str]]:
    """What every rule picks, in the order of the cells."""
    found = {"adviser": [advise(c.measured).strategy for c in cells]}
    found["adviser_refitted"] = [advise(c.measured, refitted(others(cells, c))).strategy for c in cells]
    found["adviser_at_any_cost"] = [largest_gain(advise(c.measured)) for c in cells]
    found["measured_alone"] = [measured_best(c) for c in cells]
    found["usual_alone"] = [usual_best(c) for c in cells]
    found["logme_alone"] = [by_logme(c, logme_threshold(others(cells, c))) for c in cells]
    return found | {f"always_{strategy}": [strategy] * len(cells) for strategy in COMPETING}


def others(cells: Sequence[Cell], cell: Cell) -> list[Cell]:
    """The cells of other data sets; MNIST and digits are one kind."""
    kind = {"digits": "mnist"}
    return [c for c in cells if kind.get(c.data, c.data) != kind.get(cell.data, cell.data)]


def largest_gain(advice: Advice) -> str:
    """What is expected to gain most, be it no surer than a cheaper strategy."""
    return max(advice.standings, key=lambda standing: standing.gain).strategy


def measured_best(cell: Cell) -> str:
    """What is most often right on held-out images, the cheapest of equals."""
    return max(COMPETING, key=lambda s: cell.measured.estimates[s].accuracy)


def usual_best(cell: Cell) -> str:
    """What usually gains most, nothing measured but the distance."""
    prior, distance = Prior(), cell.measured.distance
    far = 1.0 if distance is None else distance
    return max(COMPETING, key=lambda s: 0.0 if s == "frozen" else prior.mean(s, cell.measured.labels, far))


def by_logme(cell: Cell, threshold: float) -> str:
    return "frozen" if cell.measured.figures["LogME"] > threshold else "scratch"


def logme_threshold(cells: Sequence[Cell]) -> float:
    """Of those between the LogMEs of the cells, and beyond, the one by which they regret least."""
    known = sorted(c.measured.figures["LogME"] for c in cells)
    between = [(a + b) / 2 for a, b in pairwise(known)]
    return min([-math.inf, *between, math.inf], key=lambda t: sum(c.regret(by_logme(c, t)) for c in cells))


def refitted(cells: Sequence[Cell]) -> Prior:
    """The prior with one number a strategy fitted: its level, halfway to the mean gain in these cells."""
    prior = Prior()
    means = {}
    for strategy, (start, slope, least, most) in prior.means.items():
        off = [c.gain(strategy) - usual_gain(prior, c, strategy) for c in cells]
        shift = sum(off) / (len(off) + SHRINK)
        means[strategy] = (start + shift, slope, least + shift, most + shift)
    return replace(prior, means=means)


SHRINK = 8.0  # cells for which the prior as it was counts


def usual_gain(prior: Prior, cell: Cell, strategy: str) -> float:
    distance = cell.measured.distance
    return prior.mean(strategy, cell.measured.labels, 1.0 if distance is None else distance)


# ---- the table


def rows_of(cells: Sequence[Cell]) -> list[Row]:
    """The rules, how sure the adviser is, and every cell."""
    rows = []
    chosen = picks(cells)
    for rule, strategies in chosen.items():
        kind = "peer" if rule == "logme_alone" else "ours" if rule.startswith("adviser") else "floor"
        regrets = [c.regret(s) for c, s in zip(cells, strategies, strict=True)]
        rows.append(mean_row(f"{rule}/mean_regret", regrets, kind))
    for rule, strategies in chosen.items():
        kind = "peer" if rule == "logme_alone" else "ours" if rule.startswith("adviser") else "floor"
        hits = [float(c.hit(s)) for c, s in zip(cells, strategies, strict=True)]
        rows.append(mean_row(f"{rule}/hits", hits, kind))
    for rule in (r for r in chosen if not r.startswith("adviser")):
        pairs = zip(cells, chosen[rule], chosen["adviser"], strict=True)
        rows.append(mean_row(f"adviser/gain_over_{rule}", [c.regret(a) - c.regret(b) for c, a, b in pairs], "ours"))
    advices = [advise(c.measured) for c in cells]
    for certainty in ("cannot tell", "likely", "sure"):
        those = [(c, a.strategy) for c, a in zip(cells, advices, strict=True) if a.certainty == certainty]
        label = certainty.replace(" ", "_")
        rows.append(mean_row(f"adviser/{label}", [float(a.certainty == certainty) for a in advices], "ours"))
        if those:
            rows.append(mean_row(f"adviser/mean_regret_where_{label}", [c.regret(s) for c, s in those], "ours"))
    for part, key in (("data", lambda c: c.data), ("budget", lambda c: f"{c.budget}_labels"), ("encoder", enc)):
        for value in dict.fromkeys(key(c) for c in cells):
            held = [c.regret(a.strategy) for c, a in zip(cells, advices, strict=True) if key(c) == value]
            rows.append(mean_row(f"adviser/mean_regret_by_{part}/{value}", held, "ours"))
    return rows + [cell_row(c, a) for c, a in zip(cells, advices, strict=True)]


def enc(cell: Cell) -> str:
    return cell.encoder


def mean_row(id: str, values: Sequence[float], kind: str) -> Row:
    """A mean over cells, with Student's t interval over them."""
    found = interval(values)
    told = {"low": round(found.low, 4), "high": round(found.high, 4)} if len(values) > 1 else {}
    remark = f"{len(values)} cells" + (f", 95 % interval {found.low:.4f} to {found.high:.4f}" if told else "")
    figures = {"value": round(statistics.fmean(values), 4), "spread": round(spread(values), 4)}
    return {"id": id, **figures, **told, "cells": len(values), "unit": "fraction", "kind": kind, "remark": remark}


def cell_row(cell: Cell, advice: Advice) -> Row:
    """The regret of the advice in one cell."""
    accuracies = {s: round(cell.truth[s].accuracy, 4) for s in cell.truth}
    made = {s: round(1 - cell.measured.estimates[s].missing, 2) for s in TRIED if s in cell.measured.estimates}
    value = round(cell.regret(advice.strategy), 4)
    told = {"advised": advice.strategy, "certainty": advice.certainty, "accuracies": accuracies, "steps_made": made}
    about = {"seeds": 1, "unit": "fraction", "kind": "ours", "remark": cell.words(advice)}
    id = f"{cell.data}_{cell.budget}_labels/{cell.encoder}/regret" + (f"_seed_{cell.seed}" if cell.seed else "")
    return {"id": id, "value": value, "spread": 0.0, **about, **told}


def notes(cells: Sequence[Cell], options: Any) -> list[str]:
    made = [1 - e.missing for c in cells for s, e in c.measured.estimates.items() if s in TRIED]
    return [
        f"{len(cells)} cells: encoders, data sets, labelled images a class, {options.seeds} draw of labels each. Grey "
        f"images of 28 pixels; at most {TEST:,} test images, which the adviser never reads. MNIST and digits are not "
        "mirrored.",
        f"The adviser measures for {options.minutes:g} minutes of processor time a cell, one thread (the command takes "
        f"5 minutes by default); its short fits make {statistics.fmean(made):.0%} of the steps of whole ones on "
        "average. Advice is replayed from that.",
        "Truth: frozen (a solved linear head), partial (the last stage), full (the head first, then all), scratch (the "
        "same for all encoders of one data set and budget), by the recipes of running/recipes.py, one fit each: part "
        "of every regret is the luck of the best of four fits. hits: the best, or one that the test images cannot tell "
        "from it (paired, 95 %). Intervals are over cells, which share data sets and encoders and are not independent.",
        "adviser: the rule's numbers as they stand, fitted before on four cells of Fashion-MNIST, MNIST and CIFAR-10 "
        "with the SimCLR encoders of this table and an untrained one, scored on training images held out; one "
        "is among these cells but for its weights, so the table is not independent of it. adviser_refitted: the "
        "usual gain of each strategy moved towards its mean in the cells of the other data sets (the old level counts "
        f"as {SHRINK:g} cells); MNIST and digits are left out together. "
        "adviser_at_any_cost: the largest expected gain, where the adviser takes the cheapest of what it cannot tell "
        "apart; a reading made after the cells were seen.",
        "measured_alone: the highest held-out accuracy of the same measurement. usual_alone: the largest usual gain "
        "for so many labels and such a distance. logme_alone: frozen where LogME is above a threshold, else scratch, "
        "the threshold the best on the cells of the other data sets. gain_over_X: regret of X less the adviser's.",
    ]


if __name__ == "__main__":
    main()
