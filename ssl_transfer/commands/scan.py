"""`ssl-transfer scan SOURCE`: what is in a source, and what of it cannot be used."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ssl_transfer.data.contents import duplicates_across_splits
from ssl_transfer.data.decode import MAX_PIXELS, BadImage, Header, probe
from ssl_transfer.data.hashing import content_hash
from ssl_transfer.data.parallel import in_order
from ssl_transfer.data.records import Records
from ssl_transfer.data.sources import FileSource, Source, open_source
from ssl_transfer.data.store import read_mask, read_pixels
from ssl_transfer.files import whole_file

_SHOWN = 20  # rows of a table on the screen; the manifest has them all


@dataclass
class Finding:
    """A row of the manifest."""

    path: str
    label: str
    split: str
    status: str  # ok, converted or rejected
    reason: str  # how it is converted, or why it is rejected
    width: int | None
    height: int | None
    mode: str
    hash: str
    mask: str
    group: str


def scan(
    source: str,
    root: str | None = None,
    pattern: str = "*",
    out: str = "scan.csv",
    max_pixels: int = MAX_PIXELS,
) -> int:
    """List every image of a source as ok, converted or rejected with the reason, and find exact duplicates.

    Every image is decoded, so a damaged one cannot hide. The manifest is a CSV file that `--data.source` takes back
    where the source is one of files; rejected images are then left out.

    Args:
        source: a folder, manifest, Parquet, array file, torchvision data set or `digits`, as for `--data.source`.
        root: where torchvision data sets lie.
        pattern: which files of a folder or manifest.
        out: the manifest to write.
        max_pixels: images above are rejected unread.

    Returns the exit status: 0 if every image can be used, 1 if some are rejected.
    """
    opened = open_source(source, root, pattern)
    target = Path(out)
    base = target.absolute().parent

    def look(row: int) -> Finding:
        return _examine(opened, row, base, max_pixels)

    findings = list(in_order(look, range(len(opened)), "Scanning"))
    _write(findings, target)
    hashes = np.array([finding.hash for finding in findings], "S32")
    opened.records.hashes = hashes
    _report(Console(), source, findings, opened.records, target)
    return int(any(finding.status == "rejected" for finding in findings))


def _examine(source: Source, row: int, base: Path, max_pixels: int) -> Finding:
    """Read and decode one image and its mask."""
    records = source.records
    path = str(records.paths[row])
    finding = Finding(path, _label(records, row), str(records.splits[row]), "ok", "", None, None, "", "", "", "")
    finding.group = str(records.groups[row])
    if isinstance(source, FileSource):
        finding.path = _relative(path, base)
    try:
        mask = source.mask_path(row)
        finding.mask = "" if mask is None else _relative(mask, base)
        header = _header(source, row, finding, max_pixels)
        finding.width, finding.height, finding.mode = header.width, header.height, header.mode
        read_mask(source, row, read_pixels(source, row, max_pixels).shape, max_pixels)
        finding.status, finding.reason = ("converted" if header.note else "ok"), header.note
    except BadImage as error:
        finding.status, finding.reason = "rejected", error.reason
    return finding


def _header(source: Source, row: int, finding: Finding, max_pixels: int) -> Header:
    """The header of a row; notes the content's hash on the way."""
    if source.arrays is None:
        data = source.read(row)
        finding.hash = content_hash(data)
        return probe(data, str(source.records.paths[row]), max_pixels)
    image = np.asarray(source.arrays[row])
    finding.hash = content_hash(image.tobytes())
    height, width, channels = image.shape
    note = "16 bits, scaled to 8 bits" if image.dtype == np.uint16 else ""
    return Header(f"{channels} channels", height, width, channels, note=note)


def _label(records: Records, row: int) -> str:
    """The label as a CSV manifest holds it: a class, a number, a JSON list of classes, or nothing."""
    target = records.targets[row]
    if records.targets.ndim == 2:
        assert records.classes is not None
        return "" if np.isnan(target).any() else json.dumps([records.classes[k] for k in np.flatnonzero(target)])
    if records.classes is None:
        unlabelled = records.targets.dtype.kind == "i" or np.isnan(target)
        return "" if unlabelled else repr(float(target))
    return "" if target < 0 else records.classes[target]


def _relative(path: str, base: Path) -> str:
    """A path relative to the manifest's folder if it lies below it, else absolute."""
    absolute = Path(path).absolute()
    return absolute.relative_to(base).as_posix() if absolute.is_relative_to(base) else str(absolute)


def _write(findings: list[Finding], target: Path) -> None:
    columns = [name for name in Finding.__dataclass_fields__ if name != "group" or any(f.group for f in findings)]
    with whole_file(target) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(asdict(finding) for finding in findings)


def _report(console: Console, source: str, findings: list[Finding], records: Records, target: Path) -> None:
    counts = Counter(finding.status for finding in findings)
    summary = Table(title=f"{escape(source)}: {len(findings):,} images", show_header=False, title_justify="left")
    for status in ("ok", "converted", "rejected"):
        summary.add_row(status, f"{counts[status]:,}")
    readable = [finding for finding in findings if finding.status != "rejected"]
    for name, values in (
        ("splits", (finding.split or "not stated" for finding in findings)),
        ("labels", (finding.label or "none" for finding in findings)),
        ("sizes", (f"{finding.width}×{finding.height}" for finding in readable)),
        ("modes", (finding.mode for finding in readable)),
    ):
        summary.add_row(name, escape(_most_common(values)))
    doubles = _duplicates(findings)
    stated = records.select((records.splits != "") & (records.hashes != b""))
    across = duplicates_across_splits(stated)
    summary.add_row("exact duplicates", f"{sum(len(group) - 1 for group in doubles):,}")
    summary.add_row("duplicates across splits", f"{len(across):,}")
    console.print(summary)
    _print_rows(console, "Rejected", [(f.path, f.reason) for f in findings if f.status == "rejected"])
    _print_rows(console, "Converted", [(f.path, f.reason) for f in findings if f.status == "converted"])
    _print_rows(console, "Exact duplicates", [(group[0], ", ".join(group[1:])) for group in doubles])
    _print_rows(console, "Duplicates across splits", [(str(stated.paths[r]), str(stated.splits[r])) for r in across])
    console.print(f"Every image is listed in {escape(str(target))}", soft_wrap=True)


def _duplicates(findings: list[Finding]) -> list[list[str]]:
    """Paths of equal contents, one list a content."""
    by_hash: dict[str, list[str]] = {}
    for finding in findings:
        if finding.hash:
            by_hash.setdefault(finding.hash, []).append(finding.path)
    return [paths for paths in by_hash.values() if len(paths) > 1]


def _most_common(values: Iterable[str], limit: int = 6) -> str:
    """Values with their counts, the most frequent first.

    >>> _most_common(["RGB", "L", "RGB"])
    'RGB (2), L (1)'
    """
    counts = Counter(values)
    text = ", ".join(f"{value} ({count:,})" for value, count in counts.most_common(limit))
    return text + (f" and {len(counts) - limit:,} more" if len(counts) > limit else "")


def _print_rows(console: Console, title: str, rows: list[tuple[str, str]]) -> None:
    if not rows:
        return
    table = Table(title=title, show_header=False, title_justify="left")
    for path, text in rows[:_SHOWN]:
        table.add_row(escape(path), escape(text))
    if len(rows) > _SHOWN:
        table.add_row("…", f"{len(rows) - _SHOWN:,} more")
    console.print(table)
