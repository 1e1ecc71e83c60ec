"""What looking costs: seconds to read and to draw the default encoder on Fashion-MNIST, against an epoch of training.

The epoch's seconds are those of results/throughput.json, which benchmarks/throughput.py writes first.

    python benchmarks/diagnostics.py --root data
"""

from __future__ import annotations

import json
import time
from types import SimpleNamespace

import torch
from common import RESULTS, median_row, parser, show, write

from ssl_transfer import ImageDataModule, SimCLR
from ssl_transfer.encoders import build_encoder
from ssl_transfer.pretraining.monitor import Monitor
from ssl_transfer.running.fit import has_bfloat16
from ssl_transfer.running.summary import draw


def main() -> None:
    options = parser(__doc__, rounds=5).parse_args()
    started = time.monotonic()
    data = ImageDataModule("FashionMNIST", root=options.root)
    data.setup()
    module = SimCLR()
    module.encoder = build_encoder(module.chosen_encoder[0], data.shape, data.mean, data.std)
    monitor, reads, draws = Monitor(), [], []
    for number in range(options.rounds + 1):
        read, drawn = look(monitor, module, data)
        if number:  # the first warms up, and finds the floor of raw pixels, once a fit
            reads.append(read)
            draws.append(drawn)
    rate = next(r for r in json.loads((RESULTS / "throughput.json").read_text())["rows"] if r["id"] == RATE)["value"]
    epoch = len(data.indices("train")) / rate
    shares = [(read + drawn) / epoch for read, drawn in zip(reads, draws, strict=True)]
    rows = [
        median_row("fashion_mnist/simclr_default/read_seconds", reads, "ours", "s"),
        median_row("fashion_mnist/simclr_default/draw_seconds", draws, "ours", "s"),
        median_row("fashion_mnist/simclr_default/diagnostics_share_of_epoch", shares, "ours", "fraction"),
    ]
    write("diagnostics", rows, time.monotonic() - started, [NOTE, *options.note], options.quick)
    show(rows)


RATE = "fashion_mnist/simclr_default/throughput"
NOTE = (
    "Read: kNN, linear probe, RankMe, spread, alignment and uniformity of the default encoder. Draw: the pictures, as "
    "for summary.html and TensorBoard. Share: both, of an epoch of 54,000 images at the rate of throughput.md."
)


def look(monitor: Monitor, module: SimCLR, data: ImageDataModule) -> tuple[float, float]:
    """Seconds to read the encoder and to draw what was read."""
    precision = SimpleNamespace(
        forward_context=lambda: torch.autocast("cpu", dtype=torch.bfloat16, enabled=has_bfloat16())
    )
    trainer = SimpleNamespace(datamodule=data, precision_plugin=precision)
    started = time.perf_counter()
    reading = monitor.read(trainer, module)  # type: ignore[arg-type]
    read = time.perf_counter()
    for picture in draw(module, data, reading):
        picture.html()
        picture.pixels()
    return read - started, time.perf_counter() - read


if __name__ == "__main__":
    main()
