"""The others: lightly's documented recipe of SimCLR, and loops that hold nothing but the network.

All of them train the networks of ssl_transfer with its optimiser, precision and loss, so that only what is around the
network differs. lightly's recipe is that of its documentation (https://docs.lightly.ai/examples/simclr.html), with the
settings for small images of its CIFAR-10 benchmark.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from lightly.data import LightlyDataset
from lightly.loss import NTXentLoss
from lightly.transforms import SimCLRTransform
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ssl_transfer import Autoencoder, DenoisingAutoencoder, EncoderSpec, SimCLR
from ssl_transfer.encoders import Encoder, build_encoder
from ssl_transfer.optimisation import total_steps
from ssl_transfer.pretraining import Objective
from ssl_transfer.running.fit import has_bfloat16

WORKERS = (0, 1, 2)  # processes that a DataLoader of lightly's is tried with


def precision() -> str:
    """What `ssl-transfer fit` takes here, and therefore all."""
    return "bf16-mixed" if has_bfloat16() else "32-true"


def objective(name: str, spec: EncoderSpec | None, shape: Sequence[int], mean: Any = None, std: Any = None) -> Any:
    """An objective with its networks built, outside of a trainer; on random images mean and deviation are any."""
    kinds: dict[str, type[Objective]] = {
        "simclr": SimCLR,
        "denoising": DenoisingAutoencoder,
        "autoencoder": Autoencoder,
    }
    torch.manual_seed(0)
    made: Any = kinds[name](spec) if spec else kinds[name]()  # type: ignore[arg-type]
    mean, std = mean or [0.5] * shape[0], std or [0.25] * shape[0]
    made.encoder = build_encoder(made.chosen_encoder[0], tuple(shape), mean, std)  # type: ignore[arg-type]
    made.build_heads()
    return made


# ---- lightly


class LightlySimCLR(pl.LightningModule):
    """SimCLR as lightly documents it: one forward a view, the loss of both."""

    def __init__(self, ours: Any) -> None:
        super().__init__()
        self.encoder, self.projector = ours.encoder, ours.projector
        self.criterion = NTXentLoss(temperature=ours.temperature)
        self.optimisation = ours.optimisation

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, output_dim)
        z: Tensor = self.projector(self.encoder(x))
        return z

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        x0, x1 = batch[0]
        loss: Tensor = self.criterion(self(x0), self(x1))
        self.log("train_loss_ssl", loss)
        return loss

    def configure_optimizers(self) -> Any:
        return self.optimisation.configure([self.encoder, self.projector], total_steps(self.trainer))


class Images(Dataset):  # type: ignore[type-arg]
    """Decoded images `(N, H, W)` or `(N, H, W, 3)` uint8 as PIL images, as torchvision's own data sets give them."""

    def __init__(self, images: np.ndarray, transform: Callable[..., Any], targets: np.ndarray | None = None) -> None:
        self.images, self.transform = images, transform
        self.targets = np.zeros(len(images), np.int64) if targets is None else targets

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[Any, int]:
        return self.transform(Image.fromarray(self.images[row])), int(self.targets[row])


def images_of(data: Any, split: str = "train", limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Images `(N, H, W)` or `(N, H, W, 3)` and targets `(N,)` of a DataModule's split."""
    batches = list(data.loader(split, limit=limit))
    images = torch.cat([batch.images for batch in batches]).permute(0, 2, 3, 1).numpy()
    grey = images.shape[-1] == 1
    return np.ascontiguousarray(images[..., 0] if grey else images), torch.cat([b.targets for b in batches]).numpy()


def lightly_views(size: int) -> SimCLRTransform:
    """lightly's views: of small images those of its CIFAR-10 benchmark, else its defaults.

    Normalisation is left to the encoder, which does it once a batch.
    """
    if size <= 64:
        return SimCLRTransform(input_size=size, cj_strength=0.5, gaussian_blur=0.0, normalize=None)
    return SimCLRTransform(input_size=size, normalize=None)


def lightly_folder(folder: str, size: int) -> LightlyDataset:
    """Files that are decoded whenever they are asked for."""
    return LightlyDataset(input_dir=folder, transform=lightly_views(size))


def train_loader(images: Any, batch_size: int, workers: int) -> Any:
    """A shuffled DataLoader whose worker processes live as long as it does."""
    return DataLoader(
        images, batch_size, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0
    )


def lightly_trainer(folder: Path, device: str = "cpu", **options: Any) -> pl.Trainer:
    """Lightning's Trainer with its own defaults (progress bar, logger, a checkpoint an epoch) in our precision."""
    accelerator = "gpu" if device == "cuda" else "cpu"
    options = {"precision": precision(), "accelerator": accelerator, "devices": 1, **options}
    return pl.Trainer(default_root_dir=folder, **options)


class Clock(pl.Callback):
    """Seconds of every epoch's steps, and seconds a step from the end of the first to the end of the last."""

    def __init__(self) -> None:
        self.seconds_a_step: list[float] = []
        self.seconds_an_epoch: list[float] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.ends: list[float] = []
        self.started = time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.is_last_batch and torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.seconds_an_epoch.append(self.ends[-1] - self.started)
        self.seconds_a_step.append((self.ends[-1] - self.ends[0]) / (len(self.ends) - 1))


def lightly_rate(ours: Any, loader: Any, folder: Path, batches: int, epochs: int, device: str) -> float:
    """Images a second in the epochs after the first."""
    clock = Clock()
    trainer = lightly_trainer(folder, device, max_epochs=epochs, limit_train_batches=batches, callbacks=[clock])
    trainer.fit(LightlySimCLR(ours), loader)
    return float(loader.batch_size / statistics.fmean(clock.seconds_a_step[1:]))


# ---- the bare network


def bare_rate(ours: Any, batch_size: int, steps: int, device: str, ready: int = 4, warm_up: int = 3) -> float:
    """Images a second of forward, loss, backward and optimiser step on `ready` ready-made batches in turn."""
    ours.to(device).train()
    encoder = ours.encoder
    views = 2 if isinstance(ours, SimCLR) else 1
    batches = [encoder.normalise(torch.rand(views * batch_size, *encoder.shape, device=device)) for _ in range(ready)]
    loss = bare_contrast if isinstance(ours, SimCLR) else bare_restoration
    modules = [module for module in ours.children() if any(p.requires_grad for p in module.parameters())]
    optimiser = ours.optimisation.configure(modules, total_steps=10**6)["optimizer"]

    def step(number: int) -> None:
        with torch.autocast(device, torch.bfloat16, enabled=precision() == "bf16-mixed"):
            value = loss(ours, batches[number % ready])
        value.backward()
        optimiser.step()
        optimiser.zero_grad()

    for number in range(warm_up):
        step(number)
    started = now(device)
    for number in range(steps):
        step(number)
    return steps * batch_size / (now(device) - started)


def bare_contrast(ours: Any, x: Tensor) -> Tensor:
    """NT-Xent of ready-made views `(2B, C, H, W)`, normalised."""
    z0, z1 = ours.projector(bare_features(ours.encoder, x)).chunk(2)
    with torch.autocast(x.device.type, enabled=False):
        loss: Tensor = ours.criterion(z0.float(), z1.float())
    return loss


def bare_restoration(ours: Any, x: Tensor) -> Tensor:
    """Squared error of restoring images `(B, C, H, W)`, normalised."""
    maps = ours.encoder.network.maps(x)
    code = ours.encoder.features_from_maps(maps) if ours.encoder.spec.bottleneck else maps
    return F.mse_loss(ours.decoder(code).float(), x)


def bare_features(encoder: Encoder, x: Tensor) -> Tensor:
    """Features of normalised images."""
    if encoder.pools_maps:
        return encoder.features_from_maps(encoder.network.maps(x))
    return encoder.network.features(x)


def now(device: str) -> float:
    """Seconds, once the device has done its work."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
