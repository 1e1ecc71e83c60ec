"""Pretraining: images a second of `ssl-transfer fit`, of lightly's documented recipe, and of the bare network.

An image whose two views are seen counts once. Rounds alternate between the three, each in a process of its own; a
script that was stopped goes on with the rounds it has.

    python benchmarks/throughput.py --root data
    python benchmarks/throughput.py --root data --quick                          two cases, to see that it works
    python benchmarks/throughput.py --root data --device cuda                    writes throughput_cuda
    python benchmarks/throughput.py --root data --cases simclr_small --profile   where the time of a step goes
"""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from common import CONFIGS, RUNS, Result, Rounds, Row, median_row, parser, ratio, ratio_row, serve, show, values, write

from ssl_transfer import EncoderSpec, ImageDataModule
from ssl_transfer.running.folder import RunFolder

SMALL = EncoderSpec(arguments={"widths": [16, 32, 64], "strides": [1, 2, 2]})
PHOTOGRAPHS = 300


@dataclass(frozen=True)
class Case:
    """What is trained on what, and how much of it is measured.

    batches: of an epoch of ours; all by default, and then with validation and diagnostics as in normal use.
    peer_batches: of an epoch of lightly's; steps: of the bare loop.
    """

    id: str
    data: str
    spec: EncoderSpec | None = None
    objective: str = "simclr"
    batch_size: int = 256
    batches: int | None = None
    epochs: int = 2
    peer_batches: int = 40
    steps: int = 40


CASES = (
    Case("fashion_mnist/simclr_small", "fashion_mnist", SMALL, steps=100),
    Case("fashion_mnist/simclr_default", "fashion_mnist", EncoderSpec(pool=3)),
    Case("fashion_mnist/denoising", "fashion_mnist", objective="denoising", batches=60),
    Case("fashion_mnist/autoencoder", "fashion_mnist", objective="autoencoder", batches=60),
    Case(
        "cifar10/simclr_resnet18",
        "cifar10",
        EncoderSpec("resnet18"),
        batch_size=64,
        batches=8,
        epochs=3,
        peer_batches=8,
        steps=8,
    ),
    Case("bsds/simclr_resnet18", "bsds", EncoderSpec("resnet18"), batch_size=16, peer_batches=16, steps=8),
)
SHAPES = {"fashion_mnist": (1, 28, 28), "cifar10": (3, 32, 32), "bsds": (3, 224, 224)}


def main() -> None:
    options = arguments()
    started = time.monotonic()
    name = "throughput" if options.device == "cpu" else f"throughput_{options.device}"
    rounds = Rounds(name, options.quick)
    cases = [case for case in CASES if case.id in options.cases]
    if options.quick:
        cases = [quick(case) for case in cases]
    rows: list[Row] = []
    notes = [*NOTES, *options.note]
    for case in cases:
        if not source(case.data, options.root):
            print(f"{case.id}: no such data below {options.root}, left out")
            continue
        print(case.id, flush=True)
        rows += measure(case, rounds, options)
        if options.profile:
            task = {"what": "profile", "id": case.id, "root": options.root, "device": options.device}
            notes.append(rounds.run({"profile": task}, 1)["profile"][0]["text"])
    write(name, rows, time.monotonic() - started, notes, options.quick)
    rounds.finish()
    show(rows)


def arguments() -> Any:
    made = parser(__doc__)
    made.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    made.add_argument("--cases", nargs="+", help="ids, or their last parts; all by default")
    made.add_argument("--profile", action="store_true", help="add to the notes where the time of our steps goes")
    options = made.parse_args()
    if options.quick:
        options.rounds = 1
        options.cases = options.cases or ["fashion_mnist/simclr_small", "fashion_mnist/denoising"]
    wanted = options.cases
    options.cases = [c.id for c in CASES if not wanted or c.id in wanted or c.id.split("/")[1] in wanted]
    return options


NOTES = (
    "Unit: images a second; an image whose two views are seen counts once. Value: median over rounds. Spread: standard "
    "deviation. ratio: median of the rounds' own ratios. of_bare: the same against throughput_bare.",
    "throughput: `ssl-transfer fit` as a user runs it, the epochs after the first, from the start of an epoch to the "
    "end of its last step. throughput_with_diagnostics: whole epochs after the first, with validation, the reading of "
    "features (which the last epoch always has) and checkpoints. diagnostics_share: what reading features and drawing "
    "took of the whole run's time.",
    "throughput_lightly: lightly's documented Lightning recipe (SimCLRTransform, DataLoader, Trainer with its "
    "defaults) in the epochs after the first, without their first step; its DataLoader has the best of 0, 1 and 2 "
    "workers. Its images lie decoded in memory, as torchvision holds them; photographs are read from their JPEG files.",
    "throughput_bare: the network, its loss, backward and optimiser step on ready-made batches, no data and no views.",
    "All train the same network and projector (channels_last) with AdamW, the same batch size, precision (bfloat16 "
    "autocast where the processor computes in it, else float32) and number of threads. simclr_small: a residual net "
    "of widths 16, 32, 64 with a full-size stem; simclr_default: that of configs/pretrain/simclr.yaml.",
    "lightly's views are those of its CIFAR-10 benchmark on small images (no blur) and its defaults at 224 pixels, "
    "without its normalisation, which the encoder does once a batch; grey images stay grey.",
)


def quick(case: Case) -> Case:
    batch = min(case.batch_size, 64)
    return replace(case, batch_size=batch, batches=4, peer_batches=4, steps=3)


def measure(case: Case, rounds: Rounds, options: Any) -> list[Row]:
    """The rows of one case."""
    about = {"id": case.id, "root": options.root, "device": options.device, "quick": options.quick}
    tasks = {"ours": {"what": "ours", **about}, "bare": {"what": "bare", **about}}
    workers = None
    if case.objective == "simclr":
        workers = 0 if options.quick else best_workers(case, rounds, about)
        tasks["lightly"] = {"what": "lightly", **about, "workers": workers, "batches": case.peer_batches}
    results = rounds.run(tasks, options.rounds)
    return rows_of(case, results, workers, options.device)


def best_workers(case: Case, rounds: Rounds, about: dict[str, Any]) -> int:
    """The number of worker processes with which lightly's recipe is fastest here."""
    from peers import WORKERS

    batches = max(6, case.peer_batches // 2)
    tasks = {
        f"lightly with {n} workers": {"what": "lightly", **about, "workers": n, "batches": batches} for n in WORKERS
    }
    found = rounds.run(tasks, 1)
    rates = [values(found[label], "images_per_second")[0] for label in tasks]
    return WORKERS[rates.index(max(rates))]


def rows_of(case: Case, results: dict[str, list[Result]], workers: int | None, device: str) -> list[Row]:
    id = case.id if device == "cpu" else f"{case.id}_{device}"
    rates = {label: values(found, "images_per_second") for label, found in results.items()}
    size = {"batch_size": case.batch_size, "parameters": results["bare"][0]["parameters"]}
    against = "lightly" if workers is not None else "bare"
    of_bare = ratio(rates["ours"], rates["bare"])["ratio"]
    rows = [ratio_row(f"{id}/throughput", rates["ours"], rates[against], against, "images/s", of_bare=of_bare, **size)]
    if case.batches is None:
        whole = values(results["ours"], "with_diagnostics")
        rows.append(median_row(f"{id}/throughput_with_diagnostics", whole, "ours", "images/s"))
        shares = values(results["ours"], "diagnostics_share")
        rows.append(median_row(f"{id}/diagnostics_share", shares, "ours", "fraction"))
    if workers is not None:
        share = ratio(rates["lightly"], rates["bare"])["ratio"]
        lightly = {"workers": workers, "of_bare": share}
        rows.append(median_row(f"{id}/throughput_lightly", rates["lightly"], "peer", "images/s", **lightly))
    return [*rows, median_row(f"{id}/throughput_bare", rates["bare"], "limit", "images/s")]


# ---- the data


def source(data: str, root: str) -> list[str]:
    """The arguments of `ssl-transfer fit` that name a data set; empty if it is not below `root`."""
    parquet = Path(root) / "cifar10_jpeg" / "train.parquet"
    if data == "cifar10" and parquet.exists():
        return ["--data.source", str(parquet)]
    if data == "bsds":
        exists = (Path(root) / "bsds500").exists()
        return ["--data.source", str(photographs(root)), "--data.size", "224"] if exists else []
    return ["--data.source", {"fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10"}[data], "--data.root", root]


def photographs(root: str) -> Path:
    """A folder of links to the first of the Berkeley photographs."""
    folder = RUNS / f"bsds{PHOTOGRAPHS}"
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted((Path(root) / "bsds500").glob("*/*.jpg"))[:PHOTOGRAPHS]:
        if not (folder / path.name).exists():
            (folder / path.name).symlink_to(path.absolute())
    return folder


# ---- what is measured, each in its own process


def case_of(id: str, quick_run: bool) -> Case:
    case = next(case for case in CASES if case.id == id)
    return quick(case) if quick_run else case


def ours(id: str, root: str, device: str, quick: bool) -> Result:
    """`ssl-transfer fit` from a fresh process: its rates in the epochs after the first."""
    case = case_of(id, quick)
    run = RunFolder(RUNS / "throughput_fit")
    command = [sys.executable, "-m", "ssl_transfer", "fit", "--config", str(CONFIGS / f"{case.objective}.yaml")]
    command += [*source(case.data, root), "--data.batch_size", str(case.batch_size), *encoder_arguments(case)]
    command += ["--trainer.max_epochs", str(case.epochs), "--trainer.default_root_dir", str(run.path), "--overwrite"]
    command += ["--trainer.accelerator", "gpu" if device == "cuda" else "cpu", "--trainer.devices", "1"]
    if case.batches is not None:
        command += ["--trainer.limit_train_batches", str(case.batches), "--trainer.limit_val_batches", "0"]
    subprocess.run(command, check=True)
    with (run.logs / "metrics.csv").open(encoding="utf-8") as file:
        epochs = [{name: float(value or "nan") for name, value in line.items()} for line in csv.DictReader(file)]
    metrics = run.metrics()
    images = metrics["images_seen"] / len(epochs)  # an epoch
    seconds = [images / epoch["train/images_per_second"] for epoch in epochs[1:]]
    whole = epochs[-1]["seconds"] - epochs[0]["seconds"]
    shutil.rmtree(run.path)
    later = len(epochs) - 1
    share = metrics["diagnostics_share"]
    rates = {"images_per_second": later * images / sum(seconds), "with_diagnostics": later * images / whole}
    return {**rates, "diagnostics_share": share}


def encoder_arguments(case: Case) -> list[str]:
    if case.spec is None:  # the configuration's own
        return []
    chosen = ["--model.encoder.name", case.spec.name, "--model.encoder.pool", str(case.spec.pool)]
    return chosen + (["--model.encoder.arguments", json.dumps(case.spec.arguments)] if case.spec.arguments else [])


def lightly(id: str, root: str, device: str, quick: bool, workers: int, batches: int) -> Result:
    """lightly's recipe: its rate in the epochs after the first."""
    import peers

    case = case_of(id, quick)
    size = SHAPES[case.data][-1]
    if case.data == "bsds":
        images: Any = peers.lightly_folder(str(photographs(root)), size)
    else:
        chosen = source(case.data, root)
        data = ImageDataModule(chosen[1], root=root)
        data.setup()
        images = peers.Images(peers.images_of(data)[0], peers.lightly_views(size))
    network = peers.objective("simclr", case.spec, SHAPES[case.data])
    loader = peers.train_loader(images, case.batch_size, workers)
    folder = RUNS / "throughput_lightly"
    rate = peers.lightly_rate(network, loader, folder, batches, 2, device)
    shutil.rmtree(folder, ignore_errors=True)
    return {"images_per_second": rate}


def bare(id: str, root: str, device: str, quick: bool) -> Result:
    """The network alone."""
    import peers

    case = case_of(id, quick)
    network = peers.objective(case.objective, case.spec, SHAPES[case.data])
    count = sum(parameter.numel() for parameter in network.encoder.parameters())
    steps = case.steps if device == "cpu" else 10 * case.steps
    return {"images_per_second": peers.bare_rate(network, case.batch_size, steps, device), "parameters": count}


def profile(id: str, root: str, device: str) -> Result:
    """Where the time of our steps goes."""
    from profiling import profiled

    case = case_of(id, quick_run=False)
    return {"text": profiled(case.objective, case.spec, source(case.data, root), case.batch_size, device)}


if __name__ == "__main__":
    serve({"ours": ours, "lightly": lightly, "bare": bare, "profile": profile})
    main()
