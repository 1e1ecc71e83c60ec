"""`ssl-transfer embed`: its rate against the bare rate of the encoder, and its memory as the images grow in number.

Fashion-MNIST's images, repeated to 10,000, 100,000 and 1,000,000, lie in `.npy` files in a temporary folder. Rounds
alternate, each measurement in a process of its own; a stopped script goes on.

    python benchmarks/embedding.py --root data
    python benchmarks/embedding.py --root data --quick        10,000 and 20,000 images
"""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import torch
from common import Result, Rounds, Row, Task, median_row, parser, ratio, serve, show, values, write

from ssl_transfer import EncoderSpec, ImageDataModule, load_encoder, save_encoder
from ssl_transfer.encoders import build_encoder

COUNTS = {"10k": 10_000, "100k": 100_000, "1m": 1_000_000}
BATCH = 512
BARE = 20_000  # images that the bare rate is measured on
NOTES = (
    "The default small_resnet (features pooled to 3 × 3) with random weights, float32, 512 images a batch.",
    "throughput: images a second over the seconds of the whole command less those of embedding one batch, so reading, "
    "checking and writing are in it. throughput_printed: what the command itself prints, its encoding and writing.",
    "of_bare: the share of embedding/bare/throughput, encoder(x) alone on uint8 batches that lie in memory; the median "
    "of the rounds' own ratios.",
    "peak_anonymous_bytes: the most memory of its own that the process held, sampled every 0.05 s; pages of files, "
    "which the system may drop, are not in it. peak_rss_bytes: with them, as the system counted.",
    "Value: median over rounds. Spread: standard deviation.",
)


def main() -> None:
    options = parser(__doc__).parse_args()
    started = time.monotonic()
    counts = {"10k": 10_000, "20k": 20_000} if options.quick else COUNTS
    rounds = Rounds("embedding", options.quick)
    files = prepare(rounds.folder / "files", {"start_up": BATCH, **counts}, options.root)
    encoder = random_encoder(rounds.folder / "encoder", options.root)
    tasks: dict[str, Task] = {"bare": {"what": "bare", "encoder": encoder, "images": BARE}}
    tasks |= {label: {"what": "embed", "encoder": encoder, "source": str(path)} for label, path in files.items()}
    rows = rows_of(counts, rounds.run(tasks, 1 if options.quick else options.rounds))
    write("embedding", rows, time.monotonic() - started, [*NOTES, *options.note], options.quick)
    rounds.finish()
    shutil.rmtree(rounds.folder / "files")
    show(rows)


def prepare(folder: Path, counts: dict[str, int], root: str) -> dict[str, Path]:
    """One `.npy` file a count, `(N, 28, 28)` uint8."""
    data = ImageDataModule("FashionMNIST", root=root)
    data.setup()
    images = np.concatenate([batch.images.numpy()[:, 0] for batch in data.loader("all")])
    folder.mkdir(exist_ok=True)
    files = {label: folder / f"{label}.npy" for label in counts}
    for label, count in counts.items():
        out = np.lib.format.open_memmap(files[label], mode="w+", dtype=np.uint8, shape=(count, *images.shape[1:]))
        for low in range(0, count, len(images)):
            out[low : low + len(images)] = images[: min(len(images), count - low)]
        out.flush()
    return files


def random_encoder(folder: Path, root: str) -> str:
    """An encoder folder with random weights."""
    if not folder.exists():
        data = ImageDataModule("FashionMNIST", root=root)
        data.setup()
        torch.manual_seed(0)
        encoder = build_encoder(EncoderSpec(pool=3), data.shape, data.mean, data.std)
        save_encoder(encoder, folder, objective="none", data=data.describe())
    return str(folder)


def rows_of(counts: dict[str, int], found: dict[str, list[Result]]) -> list[Row]:
    bare = values(found["bare"], "images_per_second")
    start_up = values(found["start_up"], "seconds")
    before = statistics.median(start_up)
    rows = []
    for label, count in counts.items():
        rates = [(count - BATCH) / (seconds - before) for seconds in values(found[label], "seconds")]
        of_bare = ratio(rates, bare)["ratio"]
        rows.append(median_row(f"embedding/{label}/throughput", rates, "ours", "images/s", of_bare=of_bare))
        printed = values(found[label], "printed")
        of_bare = ratio(printed, bare)["ratio"]
        rows.append(median_row(f"embedding/{label}/throughput_printed", printed, "ours", "images/s", of_bare=of_bare))
        for memory in ("peak_anonymous_bytes", "peak_rss_bytes"):
            rows.append(median_row(f"embedding/{label}/{memory}", values(found[label], memory), "ours", "bytes"))
    rows.append(median_row("embedding/start_up/seconds", start_up, "ours", "s"))
    return [*rows, median_row("embedding/bare/throughput", bare, "limit", "images/s")]


# ---- what is measured, each in its own process


def bare(encoder: str, images: int) -> Result:
    """The encoder on ready-made batches."""
    network = load_encoder(encoder).eval()
    ready = [torch.randint(0, 256, (BATCH, *network.shape), dtype=torch.uint8) for _ in range(4)]
    steps = max(1, images // BATCH)
    with torch.inference_mode():
        network(ready[0])
        started = time.perf_counter()
        for number in range(steps):
            network(ready[number % len(ready)])
        return {"images_per_second": steps * BATCH / (time.perf_counter() - started)}


def embed(encoder: str, source: str) -> Result:
    """The command in a process whose memory is watched."""
    out = Path(source).with_suffix(".parquet")
    command = [sys.executable, "-m", "ssl_transfer", "embed", encoder, source, "--out", str(out)]
    started = time.perf_counter()
    process = subprocess.Popen([*command, "--batch_size", str(BATCH), "--device", "cpu"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    samples = [0]
    watcher = threading.Thread(target=watch, args=(process.pid, samples), daemon=True)
    watcher.start()
    said = process.stdout.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    rate = re.search(r"([\d,]+) images/s", said)
    if process.returncode or rate is None:
        raise SystemExit(f"embed failed: {said}")
    out.unlink()
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "seconds": seconds,
        "printed": float(rate[1].replace(",", "")),
        "peak_anonymous_bytes": max(samples),
        "peak_rss_bytes": usage.ru_maxrss * unit,
    }


def watch(pid: int, samples: list[int]) -> None:
    """Anonymous memory of a process in bytes, until it has ended."""
    status = Path(f"/proc/{pid}/status")
    while True:
        try:
            found = re.search(r"RssAnon:\s+(\d+) kB", status.read_text())
        except OSError:
            return
        if found is None:  # it has ended
            return
        samples.append(1024 * int(found[1]))
        time.sleep(0.05)


if __name__ == "__main__":
    serve({"bare": bare, "embed": embed})
    main()
