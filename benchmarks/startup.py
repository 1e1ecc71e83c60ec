"""Seconds until something happens: the help, and the first training step of `ssl-transfer fit`.

Rounds alternate; every measurement is the wall time of a fresh process. A stopped script goes on.

    python benchmarks/startup.py --root data
    python benchmarks/startup.py --root data --quick
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from common import CONFIGS, RUNS, Result, Rounds, Row, median_row, parser, ratio_row, serve, show, values, write

NOTES = (
    "Wall seconds of whole fresh processes, files in the system's cache: median over rounds, and standard deviation.",
    "help: `ssl-transfer --help`. python: `python -c pass`, the least that is possible. imports: `import torch, "
    "pytorch_lightning`, which a fit cannot do without.",
    "first_step: a fit of SimCLR on scikit-learn's digits, from the command to the end of the process after one step, "
    "so an upper bound of the time to the first step. Ours (`ssl-transfer fit`, --trainer.max_steps 1, no validation) "
    "writes checkpoint, encoder folder and summary in that time; lightly's recipe (the same network, one step, its "
    "Trainer's defaults) a checkpoint.",
    "ratio: how many times faster, the median of the rounds' own ratios.",
)


def main() -> None:
    options = parser(__doc__, rounds=10).parse_args()
    started = time.monotonic()
    rounds = Rounds("startup", options.quick)
    labels = ("python", "help", "imports", "fit", "lightly")
    found = rounds.run({label: {"what": label} for label in labels}, 2 if options.quick else options.rounds)
    rows = rows_of({label: values(results, "seconds") for label, results in found.items()})
    write("startup", rows, time.monotonic() - started, [*NOTES, *options.note], options.quick)
    rounds.finish()
    show(rows)


def rows_of(seconds: dict[str, list[float]]) -> list[Row]:
    return [
        ratio_row("startup/help/seconds", seconds["help"], seconds["imports"], "imports", "s"),
        median_row("startup/python/seconds", seconds["python"], "limit", "s"),
        median_row("startup/imports/seconds", seconds["imports"], "limit", "s"),
        ratio_row("digits/simclr/first_step_seconds", seconds["fit"], seconds["lightly"], "lightly", "s"),
        median_row("digits/lightly/first_step_seconds", seconds["lightly"], "peer", "s"),
    ]


# ---- what is measured


def wall(command: list[str]) -> Result:
    started = time.perf_counter()
    subprocess.run(command, check=True)
    return {"seconds": time.perf_counter() - started}


def python() -> Result:
    return wall([sys.executable, "-c", "pass"])


def imports() -> Result:
    return wall([sys.executable, "-c", "import torch, pytorch_lightning"])


def help_() -> Result:
    return wall([str(Path(sys.executable).with_name("ssl-transfer")), "--help"])


def fit() -> Result:
    """`ssl-transfer fit` on digits, one step."""
    run = RUNS / "startup_fit"
    command = [str(Path(sys.executable).with_name("ssl-transfer")), "fit", "--config", str(CONFIGS / "simclr.yaml")]
    command += ["--data.source", "digits", "--trainer.max_steps", "1", "--trainer.limit_val_batches", "0"]
    result = wall([*command, "--trainer.default_root_dir", str(run), "--overwrite"])
    shutil.rmtree(run)
    return result


def lightly() -> Result:
    """lightly's recipe on digits, one step, as a script of its own."""
    result = wall([sys.executable, sys.argv[0], "--recipe"])
    shutil.rmtree(RUNS / "startup_lightly", ignore_errors=True)
    return result


def recipe() -> None:
    """What such a script does."""
    import peers
    from sklearn.datasets import load_digits

    digits = np.rint(load_digits().images * (255 / 16)).astype(np.uint8)
    images = peers.Images(digits, peers.lightly_views(8))
    network = peers.LightlySimCLR(peers.objective("simclr", None, (1, 8, 8)))
    trainer = peers.lightly_trainer(RUNS / "startup_lightly", max_steps=1)
    trainer.fit(network, peers.train_loader(images, batch_size=256, workers=0))


if __name__ == "__main__":
    if sys.argv[1:] == ["--recipe"]:
        recipe()
    else:
        serve({"python": python, "imports": imports, "help": help_, "fit": fit, "lightly": lightly})
        main()
