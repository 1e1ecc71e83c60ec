"""Few labels: does pretraining help on Fashion-MNIST, and by which strategy?

Runs `ssl-transfer evidence`, which goes on where it was stopped, with the SimCLR encoder of `fashion_mnist.py`, and
turns what it found into rows. Floors are properly tuned: pixels and principal components at one scale, and the same
network from scratch, augmented, with the same recipe and as many steps as ours.

    python benchmarks/evidence.py --root data              both budgets, five seeds
    python benchmarks/evidence.py --root data --budget 10  one of them
    python benchmarks/evidence.py --root data --quick      one seed and 30 steps a fit
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from common import RUNS, row, write

from ssl_transfer.evaluation.evidence import Trial, paired_difference

ENCODER = RUNS / "fashion_mnist" / "simclr-0" / "encoder"
STRATEGIES = {
    10: "Full,LinearThenFull,Partial(n_stages=1),Gradual,Surgical('first'),LoRA,"
    "Frozen(unlabelled=True),LinearThenFull(unlabelled=True)",
    100: "LinearThenFull,LinearThenFull(unlabelled=True)",
}
CHOICE = "ours is chosen on the validation split, the floor on the test split"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="data", help="where torchvision finds or puts FashionMNIST")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--budget", type=int, choices=STRATEGIES, help="measure this one alone")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--note", action="append", default=[], help="a condition of this run to state with the table")
    options = parser.parse_args()
    if not ENCODER.is_dir():
        raise SystemExit(f"{ENCODER} does not exist: run benchmarks/fashion_mnist.py --objectives simclr first")
    started = time.monotonic()
    rows: list[dict[str, Any]] = []
    for budget in STRATEGIES:
        out = RUNS / ("evidence_quick" if options.quick else "evidence") / f"fashion_mnist_{budget}"
        if options.budget in (None, budget):
            measure(out, budget, options.root, 1 if options.quick else options.seeds, options.quick)
        if (out / "evidence.json").exists():
            rows += rows_of(budget, out)
    write("evidence_quick" if options.quick else "evidence", rows, time.monotonic() - started, [*NOTES, *options.note])
    for r in rows:
        print(f"{r['id']:60}{r['value']:8.4f} ± {r['spread']:.4f}  {r['kind']}")


NOTES = (
    "Test split of 10,000 images. A seed draws labels and weights, the same for all methods; the encoder is one, "
    "pretrained on the 54,000 training images without labels (seed 0).",
    "best/gain: the best of ours by accuracy on the 6,000 validation images, whose labels no budget counts, less the "
    "floor that is best on the test images; 95 % interval over seeds and test images.",
    "Each strategy by the recipe of `ssl_transfer/running/recipes.py`, which was chosen on other draws of labels, "
    "scored on validation images. Spread: standard deviation over seeds.",
)


def measure(out: Path, budget: int, root: str, seeds: int, quick: bool) -> None:
    """The command, unless all its cells are measured."""
    command = [sys.executable, "-m", "ssl_transfer", "evidence", str(ENCODER), "FashionMNIST", "--root", root]
    command += ["--budgets", str(budget), "--seeds", str(seeds), "--strategies", STRATEGIES[budget]]
    command += ["--out", str(out), *(["--steps", "30"] if quick else [])]
    subprocess.run(command, check=True)


def rows_of(budget: int, out: Path) -> list[dict[str, Any]]:
    """A row a method, and the gain of the best of ours over the best floor."""
    lines = (out / "trials.jsonl").read_text().splitlines()
    trials = [Trial.from_json(json.loads(line)) for line in lines]
    by_method: dict[str, list[Trial]] = {}
    for trial in trials:
        by_method.setdefault(trial.method, []).append(trial)
    start = f"fashion_mnist_{budget}_labels"
    rows = []
    for method, found in by_method.items():
        seconds = round(sum(t.seconds for t in found) / len(found), 1)
        held_out = [t.val_accuracy for t in found if t.val_accuracy is not None]
        more = {"validation": round(sum(held_out) / len(held_out), 4)} if held_out else {}
        accuracies = [t.accuracy for t in found]
        rows.append(row(f"{start}/{name_of(method)}/accuracy", accuracies, found[0].kind, seconds=seconds, **more))
    ours = max((f for f in by_method.values() if f[0].kind == "ours"), key=lambda f: mean([t.val_accuracy for t in f]))
    floor = max((f for f in by_method.values() if f[0].kind == "floor"), key=lambda f: mean([t.accuracy for t in f]))
    return [*rows, gain(f"{start}/best/gain", ours, floor)]


def gain(id: str, ours: list[Trial], floor: list[Trial]) -> dict[str, Any]:
    """The row of a paired difference."""
    found = paired_difference(ours, floor)
    before = {t.seed: t.accuracy for t in floor}
    differences = [t.accuracy - before[t.seed] for t in ours if t.seed in before]
    told = {"low": round(found.low, 4), "high": round(found.high, 4), "of": ours[0].method, "against": floor[0].method}
    return row(id, differences, "ours", remark=CHOICE, **told)


def mean(values: list[Any]) -> float:
    return float(sum(values) / len(values))


def name_of(method: str) -> str:
    """A method's name as a part of an id."""
    return "".join(letter if letter.isalnum() else "_" for letter in method.lower()).strip("_")


if __name__ == "__main__":
    main()
