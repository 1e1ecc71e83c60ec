"""Images restored from their code: an encoder with its mirrored decoder, and the decoder's files in the encoder folder.

`decoder.safetensors` (weights) and `decoder_golden.safetensors` (made-up images and what becomes of them, which loading
must reproduce) lie beside the encoder's files; `config.json` tells the decoder's arguments under `decoder`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ssl_transfer.encoders.config import read_config, versions
from ssl_transfer.encoders.decoders import Decoder
from ssl_transfer.encoders.encoder import Encoder
from ssl_transfer.encoders.folder import (
    RTOL,
    close,
    difference,
    golden_images,
    load_encoder,
    read_tensors,
    rounding,
    sha256,
)
from ssl_transfer.encoders.network import device_of, quiet

DECODER, GOLDEN = "decoder.safetensors", "decoder_golden.safetensors"


class Reconstructor(nn.Module):
    """An encoder and the decoder that was trained with it: images `(B, C, H, W)` to restored ones of the same shape.

    Args:
        encoder: with maps.
        decoder: what `mirrored_decoder(encoder)` makes.

    >>> from ssl_transfer.encoders import build_encoder
    >>> encoder = build_encoder("small_resnet", (1, 28, 28), [0.5], [0.5])
    >>> Reconstructor(encoder, mirrored_decoder(encoder)).reconstruct(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 1, 28, 28])
    """

    def __init__(self, encoder: Encoder, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def reconstruct(self, images: Tensor) -> Tensor:
        """Restored images, float in [0, 1] up to over- and undershoot, of images uint8, or float in [0, 1]."""
        return reconstruct(self.encoder, self.decoder, images)

    def forward(self, images: Tensor) -> Tensor:
        """The same as `reconstruct`."""
        return self.reconstruct(images)


def reconstruct(encoder: Encoder, decoder: nn.Module, images: Tensor) -> Tensor:
    """Images `(B, C, H, W)` restored from their code, in [0, 1] up to over- and undershoot.

    Raises:
        ValueError: the images have another size than the encoder was built for.
    """
    if images.ndim == 4 and images.shape[2:] != encoder.shape[1:]:
        raise ValueError(
            f"images must be {_by(encoder.shape[1:])} to be reconstructed, not {_by(images.shape[2:])}: the decoder "
            "gives that size only; resize them"
        )
    return denormalise(decoder(code(encoder, images)), encoder)


def code(encoder: Encoder, images: Tensor) -> Tensor:
    """What a decoder sees: the bottleneck `(B, K)`, or the maps `(B, D, h, w)` without one."""
    return encoder(images) if encoder.spec.bottleneck else encoder.maps(images)


def denormalise(x: Tensor, encoder: Encoder) -> Tensor:
    """From the encoder's normalised space back to [0, 1]."""
    return x.float() * encoder.std.view(-1, 1, 1) + encoder.mean.view(-1, 1, 1)


def mirrored_decoder(encoder: Encoder) -> Decoder:
    """A decoder from the encoder's bottleneck, if it has one, else from its maps, to its input's shape."""
    return Decoder(**decoder_arguments(encoder))


def decoder_arguments(encoder: Encoder) -> dict[str, Any]:
    """The arguments of an encoder's mirrored decoder. ValueError if there are no maps."""
    if encoder.map_dim is None:
        raise ValueError(f"{encoder.spec.name} has no feature maps to decode from: choose a convolutional network")
    assert encoder.map_size is not None
    return {
        "map_dim": encoder.map_dim,
        "map_size": tuple(encoder.map_size),
        "out_shape": tuple(encoder.shape),
        "from_features": encoder.spec.bottleneck,
    }


def load_autoencoder(path: str | Path, trust: Sequence[str] = ()) -> Reconstructor:
    """Rebuild encoder and decoder from an encoder folder, on the CPU and in eval mode, and check them.

    Args:
        path: the `encoder` folder of a fit of `Autoencoder` or `DenoisingAutoencoder`.
        trust: see `load_encoder`.

    Raises:
        ValueError: what `load_encoder` refuses; the folder holds no decoder, or one that is damaged or altered.
    """
    path = Path(path).expanduser()
    encoder, config = load_encoder(path, trust), read_config(path)
    if config.get("decoder") is None:
        raise ValueError(
            f"encoder folder {path} (trained by {config.get('objective')}) holds no decoder to reconstruct images "
            "with: pretrain with Autoencoder or DenoisingAutoencoder, and give the encoder folder of that fit"
        )
    for name in (DECODER, GOLDEN):
        if not (path / name).is_file():
            raise ValueError(f"encoder folder {path} lacks {name}: copy the whole folder again")
    if encoder.map_dim is None or config["decoder"] != _plain(decoder_arguments(encoder)):
        raise ValueError(f"encoder folder {path}: the decoder in config.json does not fit; copy the folder again")
    decoder = _fresh_decoder(encoder)
    state = read_tensors(path / DECODER)
    if differs := difference(decoder, state):
        raise ValueError(f"encoder folder {path}: in {DECODER} {differs}; copy the folder again")
    decoder.load_state_dict(state)
    for name in (DECODER, GOLDEN):
        if config.get("sha256", {}).get(name) != sha256(path / name):
            raise ValueError(f"encoder folder {path}: {name} has changed since it was written; copy it again")
    reconstructor = Reconstructor(encoder, decoder).eval()
    _check_golden(reconstructor, read_tensors(path / GOLDEN), path)
    return reconstructor


def savable_decoder(module: nn.Module) -> Decoder | None:
    """The decoder of a module with `encoder` and `decoder`, if the encoder's shapes rebuild it; otherwise `None`."""
    encoder, decoder = getattr(module, "encoder", None), getattr(module, "decoder", None)
    if not isinstance(encoder, Encoder) or not isinstance(decoder, Decoder) or encoder.map_dim is None:
        return None
    return None if difference(_fresh_decoder(encoder), decoder.state_dict(), types=False) else decoder


def write_decoder(folder: Path, encoder: Encoder, twin: Encoder, decoder: nn.Module) -> dict[str, Any]:
    """Write a decoder's files into a new encoder folder; returns what `config.json` is to tell of it.

    Args:
        folder: to write into.
        encoder, decoder: as they were trained; they are left as they are.
        twin: the encoder as loading will build it.

    Raises:
        ValueError: the encoder's shapes do not rebuild the decoder.
    """
    cure = "make it by mirrored_decoder(encoder), or leave it out"
    rebuilt = _fresh_decoder(twin)
    state = {key: value.detach().cpu() for key, value in decoder.state_dict().items()}
    if differs := difference(rebuilt, state, types=False):
        raise ValueError(f"the decoder cannot be saved: rebuilt from the encoder's shapes, {differs}; {cure}")
    rebuilt.load_state_dict(state)
    images = golden_images(twin.shape)
    restored = _restored(Reconstructor(twin, rebuilt), images)
    own = _restored(Reconstructor(encoder, decoder), images.to(device_of(encoder))).float().cpu()
    if not close(own, restored, rounding(encoder)):
        raise ValueError(f"the decoder cannot be saved: rebuilt, it gives other images; {cure}")
    save_file({key: value.clone().contiguous() for key, value in rebuilt.state_dict().items()}, folder / DECODER)
    save_file({"images": images, "reconstructions": restored}, folder / GOLDEN)
    return _plain(decoder_arguments(twin))


def _fresh_decoder(encoder: Encoder) -> Decoder:
    """The encoder's mirrored decoder on the CPU; the random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        return mirrored_decoder(encoder)


def _plain(arguments: dict[str, Any]) -> dict[str, Any]:
    """As JSON gives them back."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in arguments.items()}


def _restored(reconstructor: Reconstructor, images: Tensor) -> Tensor:
    with quiet(reconstructor):
        return reconstructor.reconstruct(images).contiguous()


def _check_golden(reconstructor: Reconstructor, golden: dict[str, Tensor], path: Path) -> None:
    if set(golden) != {"images", "reconstructions"}:
        raise ValueError(f"encoder folder {path}: {GOLDEN} must hold images and reconstructions; copy the folder again")
    if not close(_restored(reconstructor, golden["images"]), golden["reconstructions"], RTOL):
        raise ValueError(
            f"encoder folder {path} has changed since it was written: its decoder no longer gives its golden "
            f"reconstructions; copy it again, or use the versions it was written with ({versions()} are here, "
            "config.json tells the others)"
        )


def _by(size: Sequence[int]) -> str:
    return "x".join(str(side) for side in size)
