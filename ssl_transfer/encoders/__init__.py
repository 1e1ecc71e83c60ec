"""Encoders: networks without their heads, decoders, and the encoder folder. Names are loaded on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssl_transfer.encoders.build import build_encoder as build_encoder
    from ssl_transfer.encoders.decoders import Decoder as Decoder
    from ssl_transfer.encoders.encoder import Encoder as Encoder
    from ssl_transfer.encoders.folder import load_encoder as load_encoder
    from ssl_transfer.encoders.folder import save_encoder as save_encoder
    from ssl_transfer.encoders.reconstruction import Reconstructor as Reconstructor
    from ssl_transfer.encoders.reconstruction import load_autoencoder as load_autoencoder
    from ssl_transfer.encoders.small_resnet import SmallResNet as SmallResNet
    from ssl_transfer.encoders.spec import EncoderSpec as EncoderSpec

_HOMES = {
    "Decoder": "decoders",
    "Encoder": "encoder",
    "EncoderSpec": "spec",
    "Reconstructor": "reconstruction",
    "SmallResNet": "small_resnet",
    "build_encoder": "build",
    "load_autoencoder": "reconstruction",
    "load_encoder": "folder",
    "save_encoder": "folder",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
