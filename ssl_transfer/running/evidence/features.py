"""Images encoded once for a whole grid, and kept beside its results so that a resumed one reads them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from sklearn.decomposition import PCA
from torch import Tensor, nn

from ssl_transfer.data.hashing import content_hash
from ssl_transfer.evaluation.features import encode, pixel_features
from ssl_transfer.files import whole_file

PCA_VARIANCE, PCA_IMAGES = 0.95, 10_000  # what the components hold, and of how many training images at most
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Known:
    """Features `(N, D)` of `rows (N,)` of a store, ascending; `seconds` an image that they took."""

    features: Tensor
    rows: Rows
    seconds: float

    def at(self, rows: Rows) -> Tensor:
        """The features of some of the rows, `(n, D)`."""
        places = np.searchsorted(self.rows, rows)
        assert (self.rows[places] == rows).all(), "rows that nobody asked to be encoded"
        return self.features[torch.from_numpy(places)]


class FeatureFiles:
    """Makes features, or reads those that were made before.

    Args:
        folder: where they are kept, a file a kind.
        data: the images, an `ImageDataModule`.
        rows: the rows of its store that will be asked for.
        device: where encoders work.
    """

    def __init__(self, folder: Path, data: Any, rows: Rows, device: torch.device) -> None:
        self.folder, self.data, self.rows, self.device = folder, data, np.unique(rows), device
        self._known: dict[str, Known] = {}

    def encoded(self, name: str, make: Callable[[], nn.Module]) -> Known:
        """Features by the encoder that `make` gives; `name` tells it from all others."""

        def encode_rows(rows: Rows) -> Tensor:
            batches = self.data.with_train(rows).loader("train")
            return encode(make().to(self.device), batches, self.device).features.cpu()

        return self._kept(name, encode_rows)

    def pixels(self) -> Known:
        """The pixels themselves; of images larger than 32 pixels, means."""
        return self._kept("pixels", lambda rows: pixel_features(self.data, rows))

    def components(self) -> Known:
        """The principal components of the pixels that hold 95 % of the variance of training images."""

        def project(rows: Rows) -> Tensor:
            train = self.data.loader("train", limit=PCA_IMAGES).rows  # with labels or without
            pca = PCA(PCA_VARIANCE, svd_solver="full").fit(pixel_features(self.data, train).numpy())
            return torch.from_numpy(pca.transform(pixel_features(self.data, rows).numpy())).float()

        return self._kept("pca", project)

    def _kept(self, name: str, make: Callable[[Rows], Tensor]) -> Known:
        """What is in memory, or in the file together with what it lacks."""
        if name not in self._known:
            file = self.folder / f"{content_hash(f'{name} {self.data.fingerprint}'.encode())}.safetensors"
            known = _read(file) if file.exists() else None
            missing = self.rows if known is None else np.setdiff1d(self.rows, known.rows)
            if len(missing):
                started = time.monotonic()
                features = make(missing)
                new = Known(features, missing, (time.monotonic() - started) / len(missing))
                known = new if known is None else _joined(known, new)
                _write(file, known, name)
            assert known is not None
            self._known[name] = known
        return self._known[name]


def _joined(known: Known, new: Known) -> Known:
    rows = np.concatenate([known.rows, new.rows])
    order = np.argsort(rows)
    features = torch.cat([known.features, new.features])[torch.from_numpy(order)]
    return Known(features, rows[order], new.seconds)


def _write(file: Path, known: Known, name: str) -> None:
    with whole_file(file) as new:
        tensors = {"features": known.features.contiguous(), "rows": torch.from_numpy(known.rows)}
        save_file(tensors, new, metadata={"name": name, "seconds": repr(known.seconds)})


def _read(file: Path) -> Known:
    with safe_open(file, "pt") as tensors:
        features, rows = tensors.get_tensor("features"), tensors.get_tensor("rows")
        return Known(features, rows.numpy(), float(tensors.metadata()["seconds"]))
