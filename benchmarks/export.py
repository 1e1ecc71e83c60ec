"""Exports beside what they were made from: how far they differ, how large and how fast they are, how long they take.

Each pair of a subject and a target is measured in a process of its own, on one thread: the export is written (and so
verified in another process, where this package cannot be imported), and then `predict` of its `example.py` alternates
with the same call in Python, on batches of 64 made-up images. What is measured is kept in runs/benchmarks/export, so
the script can be stopped and started again.

    python benchmarks/export.py --root data            the table of the documentation
    python benchmarks/export.py --root data --quick    one subject, to see that it works
"""

from __future__ import annotations

import runpy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import RUNS, Result, Rounds, Row, median_row, parser, ratio_row, serve, show, write

from ssl_transfer import (
    AnomalyDetector,
    Classifier,
    ImageDataModule,
    KNNDistance,
    PatchMemoryBank,
    SimCLR,
    fit,
    load_encoder,
    load_model,
    save_encoder,
    write_export,
)
from ssl_transfer.encoders import build_encoder

TARGETS = ("torch", "torch_export", "onnx", "torchvision", "timm", "huggingface")
FOLDER = RUNS / "export"
BATCH, TURN = 64, 0.5  # images, and seconds at least that one turn takes
PRETRAINED = RUNS / "fashion_mnist" / "simclr-0" / "encoder"
LEARNT_FROM = {"label_budget": 100}
NORMAL = "Ankle boot"  # the class of Fashion-MNIST that detectors take for normal

NOTES = (
    "One thread, batches of 64 made-up uint8 images; rates are medians over the rounds, in which the export and this "
    "package take turns, and their standard deviations.",
    "max_abs_difference: the largest difference of any output on the golden images (4 of the subject's size), beside "
    "this package, in a fresh process that cannot import it. mebibytes: all files of the export.",
    "export_seconds: `write_export` from the call to the folder, verification in a process of its own included.",
    "images_per_second: `predict` of the export's own `example.py`; ratio: to the same subject in Python by this "
    "package, of the same rounds.",
    "small_resnet: pretrained by SimCLR on Fashion-MNIST (28 pixels, grey). resnet18_224: torchvision's, random "
    "weights. classifier: a linear head on the frozen small_resnet, from 100 labels a class. knn and patch_bank: "
    f"`KNNDistance` and `PatchMemoryBank(coreset=0.02)` on small_resnet, of the training images of class {NORMAL!r}.",
    "A target that cannot hold a subject has no row.",
)


def main() -> None:
    options = parser(__doc__, rounds=5).parse_args()
    started = time.monotonic()
    subjects = SUBJECTS[:1] if options.quick else SUBJECTS
    rounds = Rounds("export", options.quick)
    count = 2 if options.quick else options.rounds
    tasks = {
        f"{subject}/{target}": {
            "what": "pair",
            "subject": subject,
            "target": target,
            "root": options.root,
            "turns": count,
        }
        for subject in subjects
        for target in TARGETS
    }
    found = {label: results[0] for label, results in rounds.run(tasks, 1).items()}
    rows = [row for label, result in found.items() if "refused" not in result for row in rows_of(label, result)]
    write("export", rows, time.monotonic() - started, [*NOTES, *options.note], options.quick)
    rounds.finish()
    show(rows)


def rows_of(label: str, result: Result) -> list[Row]:
    """The rows of a subject and a target."""
    difference = {"value": float(f"{result['difference']:.2g}"), "spread": 0.0, "rounds": 1}
    return [
        {"id": f"{label}/max_abs_difference", **difference, "unit": "absolute", "kind": "ours"},
        ratio_row(f"{label}/images_per_second", result["exported"], result["python"], "in Python", "images/s"),
        median_row(f"{label}/mebibytes", [result["mebibytes"]], "ours", "MiB"),
        median_row(f"{label}/export_seconds", [result["seconds"]], "ours", "s"),
    ]


# ---- what is measured


def pair(subject: str, target: str, root: str, turns: int) -> Result:
    """One subject as one target."""
    torch.set_num_threads(1)
    source = MAKE[subject](root)
    started = time.perf_counter()
    try:
        export = write_export(source, target, FOLDER / "exports" / f"{subject}-{target}", overwrite=True)
    except ValueError as error:
        print(subject, target, error)
        return {"refused": str(error)}
    seconds = time.perf_counter() - started
    ours = in_python(source)
    theirs = runpy.run_path(str(export.path / "example.py"))
    wanted = theirs["golden"]()["images"].shape[1:]
    images = torch.randint(0, 256, (BATCH, *wanted), dtype=torch.uint8)
    given = images.numpy() if target == "onnx" else images
    exported, python = [], []
    for _ in range(turns):
        exported.append(rate(lambda: theirs["predict"](given)))
        python.append(rate(lambda: ours(images)))
    return {
        "difference": max(export.differences.values()),
        "mebibytes": export.bytes / 2**20,
        "seconds": seconds,
        "exported": exported,
        "python": python,
    }


def in_python(source: Path) -> Callable[[torch.Tensor], Any]:
    """The same in this package."""
    if (source / "encoder").is_dir():
        predict: Callable[[torch.Tensor], Any] = load_model(source).predict
        return predict
    encoder = load_encoder(source)
    return torch.inference_mode()(lambda images: encoder(images))


def rate(call: Callable[[], Any]) -> float:
    """Images a second over at least `TURN` seconds, after one call that does not count."""
    call()
    started, done = time.perf_counter(), 0
    while time.perf_counter() - started < TURN:
        call()
        done += BATCH
    return done / (time.perf_counter() - started)


# ---- subjects


def small_resnet(root: str) -> Path:
    """The encoder of the benchmark on Fashion-MNIST, or one like it that is trained for two epochs."""
    if PRETRAINED.exists():
        return PRETRAINED
    run = FOLDER / "simclr"
    if not (run / "encoder").exists():
        quickly(SimCLR(), ImageDataModule("FashionMNIST", root=root, batch_size=256), run, max_epochs=2)
    return run / "encoder"


def resnet18_224(root: str) -> Path:
    folder = FOLDER / "resnet18_224"
    if not folder.exists():
        torch.manual_seed(0)
        encoder = build_encoder("resnet18", (3, 224, 224), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        save_encoder(encoder.eval(), folder, objective="none", data={})
    return folder


def classifier(root: str) -> Path:
    return fitted("classifier", root, lambda encoder: Classifier(encoder), **LEARNT_FROM)


def knn(root: str) -> Path:
    return fitted("knn", root, lambda encoder: AnomalyDetector(encoder, KNNDistance()), normal=NORMAL)


def patch_bank(root: str) -> Path:
    return fitted(
        "patch_bank", root, lambda encoder: AnomalyDetector(encoder, PatchMemoryBank(coreset=0.02)), normal=NORMAL
    )


def fitted(name: str, root: str, module: Callable[[str], Any], **data: Any) -> Path:
    """The model folder of a downstream fit on Fashion-MNIST."""
    run = FOLDER / name
    if not (run / "model").exists():
        quickly(module(str(small_resnet(root))), ImageDataModule("FashionMNIST", root=root, **data), run)
    return run / "model"


def quickly(module: Any, data: ImageDataModule, run: Path, **options: Any) -> None:
    fit(module, data, run, accelerator="cpu", enable_progress_bar=False, overwrite=True, **options)


MAKE: dict[str, Callable[[str], Path]] = {
    "small_resnet": small_resnet,
    "classifier": classifier,
    "knn": knn,
    "patch_bank": patch_bank,
    "resnet18_224": resnet18_224,
}
SUBJECTS = tuple(MAKE)

if __name__ == "__main__":
    serve({"pair": pair})
    main()
