"""`advise`: which tuning strategy, before training."""

from __future__ import annotations

import shlex
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ssl_transfer.commands.sources import device_of, images_for
from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.data.views import Views
from ssl_transfer.downstream import Classifier, tuning
from ssl_transfer.encoders import Encoder, load_encoder
from ssl_transfer.encoders.config import read_config, versions
from ssl_transfer.evaluation.advice import Advice
from ssl_transfer.evaluation.advice import advise as advise_on
from ssl_transfer.evaluation.measurements import Measurements
from ssl_transfer.files import write_json
from ssl_transfer.reporting.advice_page import (
    COLUMNS,
    curve_rows,
    evidence_rows,
    figure_rows,
    folded,
    headline,
    how_to_read,
    write_advice_page,
)
from ssl_transfer.running.advice import Question, labelled_rows, measure
from ssl_transfer.running.recipes import VIEWS, recipe_for

SUPERVISED = (Classifier.__name__,)  # objectives that learn from labels
TUNINGS = {"as_is": "AsIs", "frozen": "Frozen", "partial": "Partial", "full": "LinearThenFull", "scratch": "Scratch"}


def advise(
    encoder: str,
    source: str,
    root: str | None = None,
    size: int | None = None,
    resize: str | None = None,
    pattern: str = "*",
    on_bad_image: str = "refuse",
    label_budget: int | None = None,
    pretrained_on: str | None = None,
    views: Views = VIEWS,
    minutes: float = 5.0,
    seed: int = 0,
    out: str | None = None,
    device: str = "auto",
) -> int:
    """Advise how much of an encoder to keep for a labelled source: freeze, tune in part or whole, or start over.

    Probes and short fits are cross-validated within the labelled training images; no test image is read.

    Example: ssl-transfer advise runs/a/encoder labelled/ --label_budget 20 --out advice/

    Args:
        encoder: an encoder folder.
        source: labelled images: a folder, manifest, Parquet, array file, torchvision data set or `digits`.
        root: where torchvision data sets lie.
        size: side in pixels; by default the one the encoder was trained on.
        resize: crop, pad or stretch; by default as the encoder was trained.
        pattern: which files of a folder, such as "*.jpg".
        on_bad_image: refuse, or skip and say which.
        label_budget: use this many labelled images a class; all by default.
        pretrained_on: the images of pretraining, to say how far they are; by default those that the encoder's
            config.json names, if they are here.
        views: augmentation of what is tuned. Where a mirrored image means something else, as a digit does, give
            --views.horizontal_flip 0.
        minutes: that the measurement should take.
        seed: of folds, draws and training.
        out: a folder for advice.json and advice.html.
        device: cpu, cuda, mps, or auto.
    """
    if minutes <= 0:
        raise ValueError(f"--minutes must be above 0, not {minutes}")
    if label_budget is not None and label_budget < 1:
        raise ValueError(f"--label_budget must be 1 or more labelled images a class, not {label_budget}")
    started = time.monotonic()
    where, network = device_of(device), load_encoder(encoder)
    trained_on = read_config(Path(encoder).expanduser())["data"]
    data = images_for(network, trained_on, source, root, size, resize, pattern, on_bad_image, 256)
    data.seed = seed
    data.setup("fit")
    _check_labels(data)
    if label_budget is not None:
        data = data.few(label_budget, seed)
    pretraining, left_out = _pretraining(network, trained_on, pretrained_on, data, root)
    question = Question(encoder, data, pretraining, views, minutes, seed, where)
    measured = measure(question, (*_learned_with_labels(encoder, data), *left_out))
    advice = advise_on(measured)
    command = _fit_command(advice.strategy, question)
    _show(measured, advice, command)
    if out is not None:
        folder = Path(out)
        _write(folder, measured, advice, command, encoder, source, time.monotonic() - started)
        print(f"wrote {folder / 'advice.json'} and advice.html")
    return 0


def _check_labels(data: ImageDataModule) -> None:
    if not data.num_classes or data.table.targets.ndim != 1:
        raise ValueError(
            f"{data.source} has no single class label an image, and advice needs them: use class folders, a manifest "
            "with a column 'label', or a labelled data set"
        )
    if data.num_classes < 2:
        raise ValueError(f"{data.source} has one class only, {(data.classes or [''])[0]!r}: advice needs at least two")
    if not (data.table.targets[data.indices("train")] >= 0).any():
        raise ValueError(f"{data.source} has no labelled training image: advice needs some of every class")


def _learned_with_labels(encoder: str, data: ImageDataModule) -> tuple[str, ...]:
    """What to know of an encoder that learned from labels, the more so from those that are held out here."""
    config = read_config(Path(encoder).expanduser())
    if config["objective"] not in SUPERVISED:
        return ()
    told = f"the encoder was trained with labels, by a {config['objective']}"
    if config["data"].get("source") != data.source:
        return (told,)
    return (f"{told} of {data.source}: what is held out here it may have learned from, which flatters the encoder",)


def _pretraining(
    network: Encoder, trained_on: dict[str, Any], given: str | None, data: ImageDataModule, root: str | None
) -> tuple[ImageDataModule | None, tuple[str, ...]]:
    """The images of pretraining, or why they are left out."""
    told = given or trained_on.get("source")
    if told is None:
        return None, ("the encoder does not name its images, so their distance is left out: give --pretrained_on",)
    if told == data.source:
        return data.few(None, data.seed) if data.label_budget is not None else data, ()
    here = told == "digits" or Path(told).expanduser().exists() or (Path(root or "data") / told).is_dir()
    if given is None and not here:
        return None, (
            f"the images of pretraining, {told}, are not here, so their distance is left out: give --pretrained_on",
        )
    images = images_for(network, trained_on, told, root, data.shape[-1], None, "*", "skip", 256)
    try:
        images.setup()
    except ValueError as error:
        if given is not None:
            raise
        return None, (f"the images of pretraining cannot be read, so their distance is left out ({error})",)
    return images, ()


def _fit_command(strategy: str, asked: Question) -> str:
    """The `fit` that carries the advice out, with the recipe that was tried."""
    data, name = asked.data, TUNINGS[strategy]
    given: dict[str, Any] = {"model": "Classifier", "model.encoder": asked.encoder, "model.tuning": name}
    trainer: dict[str, Any] = {"trainer.default_root_dir": f"runs/{strategy}"}
    batch_size = 256
    if strategy not in ("as_is", "frozen"):
        recipe = recipe_for(getattr(tuning, name)(), labelled_rows(asked)[1])
        batch_size, usual = recipe.batch_size, Classifier().optimisation
        given |= {f"model.optimisation.{name}": value for name, value in _changed(recipe.optimisation, usual)}
        given |= {f"model.{name}": value for name, value in recipe.options.items()}
        if asked.views is not None:
            given |= {"model.views": "Views"}
            given |= {f"model.views.{name}": value for name, value in _changed(asked.views, Views())}
        trainer |= {"trainer.max_steps": recipe.steps, "trainer.max_epochs": -1}
    images = ("root", "size", "channels", "resize", "value_range", "label_budget", "seed")
    given |= {"data": "ImageDataModule", "data.source": data.source, "data.batch_size": batch_size}
    given |= {f"data.{name}": getattr(data, name) for name in images}
    if data.pattern != "*":
        given |= {"data.pattern": data.pattern}
    if data.on_bad_image != "refuse":
        given |= {"data.on_bad_image": data.on_bad_image}
    given |= {"seed_everything": asked.seed} | trainer
    told = {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}
    words = [word for name, value in told.items() if value is not None for word in (f"--{name}", str(value))]
    return shlex.join(["ssl-transfer", "fit", *words])


def _changed(given: Any, usual: Any) -> list[tuple[str, Any]]:
    """The fields of a dataclass that differ, with their values."""
    return [(name, getattr(given, name)) for name, old in asdict(usual).items() if getattr(given, name) != old]


def _show(measured: Measurements, advice: Advice, command: str) -> None:
    console = Console(highlight=False)

    def show(columns: Any, rows: Any) -> None:
        table = Table(*columns)
        for row in rows:
            table.add_row(*row)
        console.print(table)

    if advice.standings:
        console.print(how_to_read(measured))
        show(COLUMNS, evidence_rows(measured, advice))
        show(*curve_rows(measured))
    if measured.figures:
        show(("measure", "value", "how to read it"), figure_rows(measured))
    for remark in measured.remarks:
        print(f"Note: {remark}.")
    console.print(f"\n[bold]{headline(advice)}[/bold] {advice.reason}\n")
    print(folded(command))


def _write(
    folder: Path,
    measured: Measurements,
    advice: Advice,
    command: str,
    encoder: str,
    source: str,
    seconds: float,
) -> None:
    told = {"encoder": encoder, "source": source, "command": command, "seconds": round(seconds, 1)}
    report = told | {"advice": asdict(advice), "measurements": measured.to_dict(), "versions": versions()}
    write_json(folder / "advice.json", report)
    facts = [("encoder", encoder), ("images", source), ("took", f"{seconds:.0f} s")]
    write_advice_page(folder / "advice.html", measured, advice, command, facts)
