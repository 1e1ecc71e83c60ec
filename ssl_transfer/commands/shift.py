"""`shift`: how a new domain without labels differs from a labelled one, and what to do about it."""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ssl_transfer.commands.shift_fits import fits, has_classes, prior_correction
from ssl_transfer.commands.sides import conversion, draw, for_encoder, of_one_shape, size_as_it_came
from ssl_transfer.commands.sources import device_of
from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.encoders import load_encoder
from ssl_transfer.encoders.build import build_encoder, is_folder_name
from ssl_transfer.encoders.config import read_config, versions
from ssl_transfer.encoders.networks import known_names
from ssl_transfer.evaluation.shift import Shift
from ssl_transfer.evaluation.shift_verdict import in_words, judge
from ssl_transfer.files import write_json
from ssl_transfer.reporting.advice_page import folded
from ssl_transfer.reporting.shift_page import (
    ALIKE,
    COLUMNS,
    SHARES,
    Advice,
    Examples,
    distance_rows,
    explained_rows,
    share_rows,
    write_shift_page,
)
from ssl_transfer.running.shift import LEAST, Comparison, Pairs, Side, compare


def shift(
    source: str,
    target: str,
    out: str = "shift",
    encoder: str = "oriented_gradients",
    source_labels: bool = True,
    images: int = 1000,
    root: str | None = None,
    target_root: str | None = None,
    size: int | None = None,
    resize: str | None = None,
    pattern: str = "*",
    target_pattern: str | None = None,
    on_bad_image: str = "refuse",
    seed: int = 0,
    device: str = "auto",
) -> int:
    """Diagnose how a target domain differs from a labelled source: how far, in what, and which adaptation suits.

    Example: ssl-transfer shift MNIST MNISTM:photographs/ --root data --out shift/

    Distances with their floors, class frequencies, mean images, histograms and pairs of images, by all images of both
    but those of a test split that they state. Labels of the target are never read. Writes `shift.html` and
    `shift.json` to `out`.

    Args:
        source: labelled images: a folder, manifest, Parquet, array file, torchvision data set, `digits`, or
            `MNISTM:PHOTOGRAPHS`, digits over a folder of photographs.
        target: images of the new domain, named likewise; labels that it has are ignored.
        out: the folder to write.
        encoder: what features are read with: an encoder folder, or a network by name.
        source_labels: estimate class frequencies of the target, by the source's labels.
        images: how many of each side are compared, drawn by seed.
        root: where torchvision data sets lie.
        target_root: the same for the target, if elsewhere.
        size: side in pixels of the squares that both are compared as, needed where sizes differ; by default the
            encoder's, or the source's own.
        resize: crop, pad or stretch, to get to that size.
        pattern: which files of a folder, such as "*.jpg".
        target_pattern: the same for the target, if another.
        on_bad_image: refuse, or skip and say which.
        seed: of all draws.
        device: cpu, cuda, mps, or auto.
    """
    if images < LEAST:
        raise ValueError(f"--images must be at least {LEAST}, not {images}")
    _check_out(Path(out))
    _check_encoder(encoder)
    started, where = time.monotonic(), device_of(device)
    reading: dict[str, Any] = {"size": size, "resize": resize, "on_bad_image": on_bad_image}
    sides = [
        {"source": source, "root": root, "pattern": pattern, **reading},
        {"source": target, "root": target_root or root, "pattern": target_pattern or pattern, **reading},
    ]
    if is_folder_name(encoder):
        network = load_encoder(encoder)
        first, second = for_encoder(network, read_config(Path(encoder).expanduser())["data"], sides)
    else:
        first, second = of_one_shape(sides)
        network = build_encoder(encoder, first.shape, first.mean, first.std)
    rows, told = draw(first, "source", images, seed)
    others, more = draw(second, "target", images, seed)
    remarks = (*told, *more, *conversion(first, second), *_labels_ignored(first, second))
    labelled = source_labels and has_classes(first)
    if source_labels and not labelled:
        remarks = (*remarks, f"class frequencies are left out, as {source} has no class label an image")
    if not has_classes(first):
        remarks = (*remarks, "no fit is given, as it learns from the source's classes: put its images in class folders")
    asked = Comparison(
        Side(source, first.images(rows), size_as_it_came(first, rows)),
        Side(target, second.images(others), size_as_it_came(second, others)),
        network,
        first.table.targets[rows] if labelled else None,
        tuple(first.classes or ()) if labelled else (),
        seed,
        where,
    )
    found, pairs = compare(asked, remarks)
    verdict = judge(found)
    code = prior_correction(found.shares) if verdict.kind == "labels" and found.shares is not None else ""
    advice = Advice(verdict, fits(verdict, sides, encoder, first, second), code)
    _show(found, advice)
    facts = {"source": source, "target": target, "features": encoder}
    _write(Path(out), asked, found, advice, pairs, facts, time.monotonic() - started)
    print(f"wrote {Path(out) / 'shift.html'} and shift.json")
    return 0


def _check_out(folder: Path) -> None:
    """Refuse a folder that cannot be written before anything is computed."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise ValueError(f"--out {folder}: {there} is a file: give a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"--out {folder}: {there} cannot be written: give another folder")
    for name in ("shift.html", "shift.json"):
        if (folder / name).is_dir():
            raise ValueError(f"--out {folder}: {name} there is a folder: remove it, or give another --out")


def _check_encoder(encoder: str) -> None:
    """A short word on a name that no network has."""
    known = known_names()
    if encoder in known or "." in encoder or is_folder_name(encoder):
        return
    close = get_close_matches(encoder.lower(), known, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(close)}? Or " if close else ""
    raise ValueError(
        f"--encoder {encoder!r} is unknown: {hint}give an encoder folder, oriented_gradients, small_resnet or a "
        "network of torchvision such as resnet18"
    )


def _labels_ignored(source: ImageDataModule, target: ImageDataModule) -> tuple[str, ...]:
    if not target.classes:
        return ()
    told = "the target has labels, which were not read"
    others = sorted(set(target.classes) - set(source.classes or ()))
    if not others or not source.classes:
        return (told,)
    named = ", ".join(others[:3]) + (" …" if len(others) > 3 else "")
    return (f"{told}; a fit refuses classes that the source lacks ({named}): give it the images without class folders",)


def _show(found: Shift, advice: Advice) -> None:
    console, verdict = Console(highlight=False), advice.verdict
    tables = [(COLUMNS, distance_rows(found)), (ALIKE, explained_rows(found))]
    for columns, rows in [*tables, *([(SHARES, share_rows(found))] if found.shares and verdict.shares_hold else [])]:
        table = Table(*columns)
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for remark in found.remarks:
        print(f"Note: {remark}.")
    print(in_words(found))
    console.print(f"\n[bold]{verdict.title}.[/bold] {verdict.reason}\n")
    if verdict.beware:
        console.print(f"{verdict.beware}\n")
    for command in advice.commands:
        print(folded(command))
    if advice.code:
        print(f"\n{advice.code}")


def _write(
    folder: Path,
    asked: Comparison,
    found: Shift,
    advice: Advice,
    pairs: Pairs,
    facts: dict[str, str],
    seconds: float,
) -> None:
    counts = {"source_images": len(asked.source.images), "target_images": len(asked.target.images)}
    told = {**facts, **counts, "seed": asked.seed, "seconds": round(seconds, 1)}
    told |= {"commands": advice.commands, "python": advice.code}
    verdict = asdict(advice.verdict) | {"shares_hold": advice.verdict.shares_hold}
    report = told | {"verdict": verdict, "shift": found.to_dict(), "versions": versions()}
    write_json(folder / "shift.json", report)
    examples = Examples(asked.source.images, asked.target.images, pairs.source, pairs.target, pairs.odd)
    compared = f"{counts['source_images']:,} and {counts['target_images']:,} images"
    foot = [*facts.items(), ("compared", compared), ("took", f"{seconds:.0f} s")]
    write_shift_page(folder / "shift.html", found, advice, examples, foot)
