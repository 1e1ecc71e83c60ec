"""`evidence`: did pretraining help? A grid of floors, probes and tuning strategies over label budgets and seeds."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from inspect import signature
from pathlib import Path
from typing import Any

from ssl_transfer.commands.sources import device_of, images_for
from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.data.views import Views
from ssl_transfer.encoders import load_encoder
from ssl_transfer.encoders.config import read_config
from ssl_transfer.reporting.evidence_page import evidence_table, verdict
from ssl_transfer.running.evidence.asked import label_budgets, named_encoders, tunings
from ssl_transfer.running.evidence.grid import Grid
from ssl_transfer.running.evidence.record import Record
from ssl_transfer.running.evidence.run import measure
from ssl_transfer.running.evidence.write import write_evidence
from ssl_transfer.running.recipes import VIEWS


def evidence(
    encoder: str,
    source: str,
    out: str = "evidence",
    budgets: str | None = None,
    seeds: int = 5,
    strategies: str = "Frozen,LinearThenFull,Full",
    views: Views = VIEWS,
    steps: int | None = None,
    test_fraction: float = 0.2,
    root: str | None = None,
    size: int | None = None,
    resize: str | None = None,
    pattern: str = "*",
    on_bad_image: str = "refuse",
    batch_size: int = 512,
    device: str = "auto",
    overwrite: bool = False,
) -> int:
    """Did pretraining help? Compare encoders with the floors, from one label a class to all.

    Example: ssl-transfer evidence runs/simclr/encoder labelled/ --budgets 1,10,100 --seeds 5 --out evidence/

    Floors are raw pixels, PCA, the network with random weights, and the same network trained from scratch; ours are
    nearest neighbours, a linear classifier and the strategies, from the pretrained weights. A seed draws the labels
    and the weights, the same for all. A run that was stopped goes on where it was. Writes `evidence.html`,
    `evidence.md` and `evidence.json` to `out`.

    Args:
        encoder: an encoder folder, or several separated by commas.
        source: labelled images: a folder of class folders, a manifest, a data set's name ..., as for `--data.source`.
        out: the folder to write.
        budgets: labelled images a class, such as 1,10,all; by default those of 1,5,10,50,100,all that every class has.
        seeds: draws of labels and weights.
        strategies: names of tuning strategies, with arguments or without, such as Full,Partial(n_stages=2).
        views: training augmentation. Where a mirrored image means something else, as a digit does, give
            --views.horizontal_flip 0.
        steps: of the optimiser, for everything that learns by gradient; by default as many as the labels ask for.
        test_fraction: share of the images drawn for the test where the source has no test split.
        root: where torchvision data sets lie.
        size: side in pixels; by default the one the encoder was trained on.
        resize: crop, pad or stretch; by default as the encoder was trained.
        pattern: which files of a folder, such as "*.jpg".
        on_bad_image: refuse, or skip and say which.
        batch_size: images at a time where nothing learns.
        device: cpu, cuda, mps, or auto.
        overwrite: replace what stands in `out`.
    """
    command = _command(locals())
    record = Record(Path(out).expanduser().absolute(), out)
    record.check()
    _check_numbers(seeds, steps, test_fraction)
    folders, tuned, where = named_encoders(encoder), tunings(strategies), device_of(device)
    reading = {"root": root, "size": size, "resize": resize, "pattern": pattern, "on_bad_image": on_bad_image}
    data = _images(folders, source, test_fraction=test_fraction, batch_size=batch_size, **reading)
    grid = Grid(data, folders, tuned, label_budgets(budgets, data), seeds, record.features, views, steps, where)
    grid.check()
    record.claim(grid.settings(), overwrite)
    results = write_evidence(record.folder, grid, measure(grid, record), command)
    print(
        "\n".join(
            ["", evidence_table(results.trials), "", *verdict(results.trials, results.doubts), "", *results.notes]
        )
    )
    print(f"wrote {record.folder}: evidence.html, evidence.md, evidence.json")
    return 0


def _command(given: dict[str, Any]) -> str:
    """The command line of the arguments that differ from their defaults."""
    words = ["ssl-transfer", "evidence", given["encoder"], given["source"]]
    for name, told in signature(evidence).parameters.items():
        value = given[name]
        if name in ("encoder", "source", "overwrite") or value == told.default:
            continue
        if isinstance(value, Views):
            changed = ((key, part) for key, part in asdict(value).items() if part != getattr(VIEWS, key))
            plain = ((key, list(part) if isinstance(part, tuple) else part) for key, part in changed)
            words += [word for key, part in plain for word in (f"--views.{key}", str(part))]
        else:
            words += [f"--{name}", str(value)]
    return shlex.join(words)


def _check_numbers(seeds: int, steps: int | None, test_fraction: float) -> None:
    if seeds < 1:
        raise ValueError(f"--seeds must be at least 1, not {seeds}")
    if steps is not None and steps < 1:
        raise ValueError(f"--steps must be at least 1, not {steps}")
    if not 0 < test_fraction < 1:
        raise ValueError(f"--test_fraction must lie between 0 and 1, not {test_fraction}")


def _images(folders: dict[str, Path], source: str, **given: Any) -> ImageDataModule:
    """The source, prepared for the first encoder; ValueError for others that were trained on other images."""
    prepared = {}
    for name, path in folders.items():
        network, trained_on = load_encoder(path), read_config(path)["data"]
        prepared[name] = (network.shape, trained_on.get("resize", "crop"), trained_on.get("value_range"))
        if name == next(iter(folders)):
            data = images_for(network, trained_on, source, **given)
    first, *others = prepared
    for name in others:
        if prepared[name] != prepared[first]:
            raise ValueError(
                f"encoders {first} and {name} were trained on images of other shape, resize or range "
                f"({prepared[first]}, {prepared[name]}): give them one by one"
            )
    data.setup()
    _check_labels(data)
    return data


def _check_labels(data: ImageDataModule) -> None:
    targets = data.table.targets
    if not data.num_classes or targets.ndim != 1:
        raise ValueError(
            f"source {data.source} has no class labels, one an image, and evidence needs them: use class folders, a "
            "manifest with a column 'label', or a labelled data set"
        )
    if data.num_classes < 2:
        raise ValueError(f"source {data.source} has one class only, {(data.classes or [''])[0]!r}: give two at least")
    if not (targets[data.indices("test")] >= 0).any():
        raise ValueError(
            f"the test split of source {data.source} has no labelled image: label some, or leave the split out"
        )
