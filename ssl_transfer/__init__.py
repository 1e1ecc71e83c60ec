"""Pretrain an image encoder on unlabelled images, learn whether that helped, and put it to work.

The public names are imported when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_PUBLIC = {
    "Autoencoder": "ssl_transfer.pretraining",
    "Batch": "ssl_transfer.data.batch",
    "Classifier": "ssl_transfer.downstream",
    "Corruption": "ssl_transfer.data.corruptions",
    "DenoisingAutoencoder": "ssl_transfer.pretraining",
    "Encoder": "ssl_transfer.encoders",
    "EncoderSpec": "ssl_transfer.encoders",
    "Frozen": "ssl_transfer.downstream",
    "Full": "ssl_transfer.downstream",
    "ImageDataModule": "ssl_transfer.data.module",
    "Optimisation": "ssl_transfer.optimisation",
    "Scratch": "ssl_transfer.downstream",
    "SimCLR": "ssl_transfer.pretraining",
    "Views": "ssl_transfer.data.views",
    "fit": "ssl_transfer.running.fit",
    "load_encoder": "ssl_transfer.encoders",
    "load_model": "ssl_transfer.downstream",
    "predict": "ssl_transfer.running.fit",
    "save_encoder": "ssl_transfer.encoders",
    "test": "ssl_transfer.running.fit",
}
__all__ = sorted(_PUBLIC)

if TYPE_CHECKING:
    from ssl_transfer.data.batch import Batch
    from ssl_transfer.data.corruptions import Corruption
    from ssl_transfer.data.module import ImageDataModule
    from ssl_transfer.data.views import Views
    from ssl_transfer.downstream import Classifier, Frozen, Full, Scratch, load_model
    from ssl_transfer.encoders import Encoder, EncoderSpec, load_encoder, save_encoder
    from ssl_transfer.optimisation import Optimisation
    from ssl_transfer.pretraining import Autoencoder, DenoisingAutoencoder, SimCLR
    from ssl_transfer.running.fit import fit, predict, test


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'ssl_transfer' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
