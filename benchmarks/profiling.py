"""Where the time of a training step of ours goes: torch's profiler around some steps of a fit, in a few words."""

from __future__ import annotations

import shutil
from collections import Counter
from typing import Any

import pytorch_lightning as pl
import torch
from common import RUNS
from torch.profiler import ProfilerActivity, profile

from ssl_transfer import Autoencoder, DenoisingAutoencoder, EncoderSpec, ImageDataModule, SimCLR, Views, fit

KINDS = {"simclr": SimCLR, "denoising": DenoisingAutoencoder, "autoencoder": Autoencoder}
WARM_UP, STEPS = 10, 20
CLOSURE = "forward and backward"  # which Lightning runs within the optimiser's step
CATEGORIES = (  # the first whose words are in the name of an operation, or else of the one that it is part of
    ("views", ("views",)),
    ("optimiser", ("Optimizer.step", "Optimizer.zero_grad")),
    ("convolution backward", ("ConvolutionBackward", "convolution_backward")),
    ("BatchNorm", ("batch_norm", "BatchNorm")),
    ("convolution forward", ("convolution", "conv2d")),
)
LEFT = "everything else"


class ProfiledViews(Views):
    """Views whose operations are recorded under one name."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with torch.profiler.record_function("views"):
            return super().__call__(*args, **kwargs)


def mark_closure(module: Any) -> None:
    """Record forward and backward under one name, so that they are told from the optimiser's own work."""
    step = module.optimizer_step

    def marked(epoch: int, batch_idx: int, optimizer: Any, closure: Any) -> None:
        def recorded() -> Any:
            with torch.profiler.record_function(CLOSURE):
                return closure()

        step(epoch, batch_idx, optimizer, recorded)

    module.optimizer_step = marked


class Profiler(pl.Callback):
    """Records the steps after the warm-up."""

    def __init__(self, device: str) -> None:
        kinds = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device == "cuda" else [])
        self.recorded = profile(activities=kinds)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, number: int) -> None:
        if number == WARM_UP:
            self.recorded.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, number: int
    ) -> None:
        if number == WARM_UP + STEPS - 1:
            self.recorded.stop()


def profiled(objective: str, spec: EncoderSpec | None, source: list[str], batch_size: int, device: str) -> str:
    """A line of shares by category and by operation. source: as arguments of the command line."""
    given = {name.removeprefix("--data."): value for name, value in zip(source[::2], source[1::2], strict=True)}
    size = int(given["size"]) if "size" in given else None
    data = ImageDataModule(given["source"], root=given.get("root"), size=size, batch_size=batch_size)
    module: Any = KINDS[objective](spec) if spec else KINDS[objective]()  # type: ignore[arg-type]
    if objective == "simclr":
        module.views = ProfiledViews()
    mark_closure(module)
    data.setup()
    if len(data.train_dataloader()) < WARM_UP + STEPS:
        raise SystemExit(f"{given['source']} has too few batches an epoch to profile {WARM_UP + STEPS} steps")
    profiler = Profiler(device)
    options: dict[str, Any] = {"callbacks": [profiler], "limit_val_batches": 0, "max_epochs": 1}
    options |= {"limit_train_batches": WARM_UP + STEPS, "accelerator": "gpu" if device == "cuda" else "cpu"}
    fit(module, data, RUNS / "profile", overwrite=True, enable_progress_bar=False, **options)
    shutil.rmtree(RUNS / "profile")
    return summary(objective, profiler.recorded, device)


def summary(objective: str, recorded: Any, device: str) -> str:
    categories: Counter[str] = Counter()
    operations: Counter[str] = Counter()
    for event in recorded.events():
        if event.device_type != torch.autograd.DeviceType.CPU:  # kernels count with the operation that started them
            continue
        own = event.self_device_time_total if device == "cuda" else event.self_cpu_time_total
        categories[category(event)] += own
        operations[event.name] += own
    total = max(1, sum(categories.values()))
    shares = ", ".join(f"{name} {value / total:.0%}" for name, value in categories.most_common())
    top = ", ".join(f"`{name}` {value / total:.0%}" for name, value in operations.most_common(8))
    return f"Profile of {objective}, {STEPS} steps, {total / STEPS / 1000:.1f} ms a step: {shares}. Operations: {top}."


def category(event: Any) -> str:
    """The category of an operation: its own, or that of what it is part of."""
    while event is not None and event.name != CLOSURE:
        for label, words in CATEGORIES:
            if any(word in event.name for word in words):
                return label
        event = event.cpu_parent
    return LEFT
