"""Does self-supervised pretraining on both domains help an adaptation? MNIST → MNIST-M, from random weights and from
SimCLR's, which saw the images of both and no label.

Every fit is made twice, from each of the two: of frozen features a head that is solved, of a network that learns three
epochs. Each seed is a process of its own on one thread, and a script that was stopped does not repeat those that have
finished.

    python benchmarks/adaptation_pretrained.py --root data --photographs data/bsds500 --at-once 2
    python benchmarks/adaptation_pretrained.py --root data --photographs data/bsds500 --quick
"""

from __future__ import annotations

import copy
import time
from typing import Any

import pytorch_lightning as pl
import torch
from adaptation_fits import (
    ADAMW,
    BEST_NETWORK,
    SCRATCH,
    SELECT_BY,
    TARGET_VIEWS,
    VIEWS,
    pair_of,
    pair_parser,
    quiet_trainer,
    run,
)
from common import Result, Rounds, Row, Task, row, serve, show, write

from ssl_transfer import (
    CORAL,
    DANN,
    DomainAdapter,
    Frozen,
    Optimisation,
    SimCLR,
    SourceOnly,
    SubspaceAlignment,
)
from ssl_transfer.downstream.adaptation import SelfTraining

PAIR = "mnist_to_mnist_m"
STARTS = ("random", "simclr")
PRETRAINING, TUNING = 5, 3  # epochs


def main() -> None:
    options = pair_parser(__doc__).parse_args()
    started = time.monotonic()
    rounds = Rounds("adaptation_pretrained", options.quick)
    shared: Task = {"what": "compared", "root": options.root, "photographs": options.photographs}
    short = {"batches": 5, "pretraining": 1, "tuning": 1} if options.quick else {}
    tasks = {
        f"{start} {seed}": {**shared, **short, "start": start, "seed": seed}
        for seed in range(1 if options.quick else options.seeds)
        for start in STARTS
    }
    found = rounds.run(tasks, 1, options.at_once)
    rows: list[Row] = []
    for start in STARTS:
        rows += rows_of(start, [results[0] for label, results in found.items() if label.startswith(start)])
    write("adaptation_pretrained", rows, time.monotonic() - started, [*notes(), *options.note], options.quick)
    show(rows)
    rounds.finish()


def rows_of(start: str, results: list[Result]) -> list[Row]:
    kind = "floor" if start == "random" else "ours"
    rows: list[Row] = []
    for name in results[0]["fits"]:
        fits = [result["fits"][name] for result in results]
        curves = [fit["curves"] for fit in fits]
        rows.append(row(f"{start}/{name}/accuracy", [fit["accuracy"] for fit in fits], kind, curves=curves))
        rows.append(row(f"{start}/{name}/oracle", [fit["oracle"] for fit in fits], "oracle"))
        rows.append(row(f"{start}/{name}/seconds", [fit["seconds"] for fit in fits], kind, "s"))
    if start == "simclr":
        rows.append(row("simclr/pretraining/seconds", [result["pretraining"] for result in results], kind, "s"))
    return rows


def compared(
    start: str,
    seed: int,
    root: str,
    photographs: str,
    batches: int | None = None,
    pretraining: int = PRETRAINING,
    tuning: int = TUNING,
) -> Result:
    """Every fit from one start."""
    torch.set_num_threads(1)
    data = pair_of(PAIR, root, photographs, batch_size=256)
    began = time.process_time()
    pl.seed_everything(seed, verbose=False)
    encoder: Any = pretrained(data, pretraining, batches) if start == "simclr" else BEST_NETWORK
    spent = time.process_time() - began
    fits = {}
    for name, module in adapters(encoder).items():
        print(f"{start} {seed} {name}", flush=True)
        pl.seed_everything(seed, verbose=False)
        fits[name] = run(module, data, batches, 1 if module.solves else tuning)
    return {"pretraining": spent, "fits": fits, "best": max(fit["accuracy"] for fit in fits.values())}


def pretrained(data: Any, epochs: int, batches: int | None) -> torch.nn.Module:
    """An encoder that saw the images of both domains."""
    objective = SimCLR(BEST_NETWORK, VIEWS, optimisation=Optimisation(lr=2e-3, weight_decay=1e-4))
    quiet_trainer(epochs, batches).fit(objective, datamodule=data)
    return objective.encoder.eval()


def adapters(encoder: Any) -> dict[str, DomainAdapter]:
    """What is fitted, each on a copy of the encoder."""

    def frozen(method: Any) -> DomainAdapter:
        return DomainAdapter(copy.deepcopy(encoder), method, Frozen())

    def tuned(method: Any, rate: float, **more: Any) -> DomainAdapter:
        optimisation = ADAMW if rate == ADAMW.lr else Optimisation(lr=rate)
        return DomainAdapter(copy.deepcopy(encoder), method, SCRATCH, optimisation, **more)

    return {
        "frozen_source_only": frozen(SourceOnly()),
        "frozen_subspace_alignment": frozen(SubspaceAlignment()),
        "frozen_coral": frozen(CORAL()),
        "tuned_source_only": tuned(SourceOnly(), 1e-3),
        "tuned_dann": tuned(DANN(), 1e-3),
        "tuned_self_training": tuned(SelfTraining(views=TARGET_VIEWS), 4e-3, views=VIEWS, weight_average=0.99),
    }


def notes() -> list[str]:
    return [
        "MNIST → MNIST-M, accuracy on the 10,000 test images of MNIST-M. `accuracy`: of the epoch that "
        f"{SELECT_BY} chooses without a label; `oracle`: of the epoch that the target's test labels would choose. "
        "`frozen…`: the encoder's features and a solved linear head; `tuned…`: three epochs of the whole network, 256 "
        "images a batch, half of each domain.",
        "`simclr/…`: the same network begins with the weights of five epochs of SimCLR on the training images of both "
        "domains together, half of each in a batch, with the views of best_source_only of adaptation.py; "
        "`random/…`: without. The network is that of the best recipe there; tuned_self_training is that recipe, at "
        "half its epochs.",
        "SimCLR's views, and the recipe's, were chosen with labels of held-out MNIST-M training images (see "
        "adaptation.md); nothing else was chosen for this table.",
        "seconds: of the process on one thread, without the scoring of the test images.",
    ]


if __name__ == "__main__":
    serve({"compared": compared})
    main()
