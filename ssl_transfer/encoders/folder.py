"""The encoder folder: what pretraining writes and everything downstream reads.

`model.safetensors` (weights), `config.json` (all else that is needed to rebuild the encoder), `README.md` (a model
card) and `golden.safetensors` (made-up images and their features, which loading must reproduce). Nothing is pickled.
Autoencoders leave their decoder beside it: see `reconstruction`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ssl_transfer.encoders.card import card
from ssl_transfer.encoders.config import FORMAT, make_config, read_config, rebuild_spec, spec_from, versions
from ssl_transfer.encoders.encoder import Encoder
from ssl_transfer.encoders.network import device_of, quiet
from ssl_transfer.encoders.networks import build_network
from ssl_transfer.encoders.trust import check_trust
from ssl_transfer.files import whole_folder

MODEL, CONFIG, CARD, GOLDEN = "model.safetensors", "config.json", "README.md", "golden.safetensors"
RTOL = 1e-4


def save_encoder(
    encoder: Encoder,
    path: str | Path,
    *,
    objective: str,
    data: dict[str, Any],
    metrics: dict[str, float] | None = None,
    training: dict[str, Any] | None = None,
    decoder: nn.Module | None = None,
) -> Path:
    """Write an encoder folder, whole or not at all. An encoder folder already there is replaced.

    Args:
        encoder: on any device; it is left as it is.
        path: the folder.
        objective: what the encoder was trained for, in a word (`SimCLR`).
        data: the training data in plain types, as `ImageDataModule.describe()` gives it.
        metrics: measured figures, for the card.
        training: settings worth telling in the card (epochs, optimiser), in plain types.
        decoder: the encoder's `mirrored_decoder`, if it was trained with one, for `load_autoencoder` to open.

    Raises:
        ValueError: something else lies at `path`, or the spec does not rebuild the encoder and its decoder.
    """
    path = Path(path).expanduser().absolute()
    if path.exists() and not (is_encoder_folder(path) or (path.is_dir() and not any(path.iterdir()))):
        raise ValueError(f"{path} exists and is no encoder folder: remove it or choose another path")
    twin = _rebuilt(encoder)
    images = golden_images(encoder.shape)
    features = _features(twin, images)
    _check_twin(encoder, images, features)
    state = {key: value.clone().contiguous() for key, value in twin.state_dict().items()}
    with whole_folder(path) as new:
        save_file(state, new / MODEL)
        save_file({"images": images, "features": features}, new / GOLDEN)
        config = make_config(encoder, objective, data, metrics or {}, training or {})
        if decoder is not None:
            from ssl_transfer.encoders.reconstruction import write_decoder  # which imports this file

            config["decoder"] = write_decoder(new, encoder, twin, decoder)
        config["sha256"] = {file.name: sha256(file) for file in sorted(new.glob("*.safetensors"))}
        (new / CONFIG).write_text(json.dumps(config, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        (new / CARD).write_text(card(config, path.name), encoding="utf-8")
    return path


def load_encoder(path: str | Path, trust: Sequence[str] = ()) -> Encoder:
    """Rebuild an encoder from its folder, on the CPU and in eval mode, and check that it is what was written.

    Only classes of ssl_transfer, torchvision and timm are built. Name other packages in `trust`, or in the
    environment variable `SSL_TRANSFER_TRUST` (comma-separated), after reading their code.

    Raises:
        ValueError: a file is missing, damaged or altered, a key or shape differs, or a class is not trusted.
    """
    path = Path(path).expanduser()
    config = read_config(path)
    for name in (MODEL, GOLDEN):
        if not (path / name).is_file():
            raise ValueError(f"encoder folder {path} lacks {name}: copy the whole folder again")
    spec = spec_from(config, path)
    check_trust(spec, trust, path)
    try:
        shape = tuple(int(side) for side in config["pretrained_cfg"]["input_size"])
        mean, std = config["pretrained_cfg"]["mean"], config["pretrained_cfg"]["std"]
        with torch.random.fork_rng(devices=[]):
            network = build_network(spec, shape).network  # type: ignore[arg-type]
            own_classes = config.get("own_classes")  # older folders have none
            encoder = Encoder(spec, network, shape, mean, std, own_classes)  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError) as error:
        reason = f"config.json lacks {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"encoder folder {path} cannot be rebuilt: {reason}") from error
    state = read_tensors(path / MODEL)
    normalisation = {name: encoder.get_buffer(name).clone() for name in ("mean", "std")}
    _load_state(encoder, state, path)
    for name in (MODEL, GOLDEN):
        if config.get("sha256", {}).get(name) != sha256(path / name):
            raise ValueError(f"encoder folder {path}: {name} has changed since it was written; copy it again")
    for name, value in normalisation.items():
        if not torch.equal(state[name], value):
            raise ValueError(f"encoder folder {path}: config.json and {MODEL} differ in {name}; copy the folder again")
    _check_golden(encoder, read_tensors(path / GOLDEN), path)
    return encoder.eval()


def is_encoder_folder(path: str | Path) -> bool:
    """Whether `path` holds the configuration of an encoder."""
    try:
        config = json.loads((Path(path) / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("format") == FORMAT


def golden_images(shape: Sequence[int]) -> Tensor:
    """Four made-up images: seeded noise over ramps of brightness. uint8 `(4, C, H, W)`."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 128, (4, *shape), generator=generator)
    ramp = torch.linspace(0, 127, shape[2]).round().long()
    return (noise + ramp).to(torch.uint8)


def _rebuilt(encoder: Encoder) -> Encoder:
    """What loading will build, with the encoder's weights: float32, CPU, eval mode."""
    spec, shape = rebuild_spec(encoder.spec), encoder.shape
    cure = "build the encoder from an EncoderSpec(name, arguments) that makes this very network"
    try:
        with torch.random.fork_rng(devices=[]):
            network = build_network(spec, shape).network
            twin = Encoder(spec, network, shape, encoder.mean.float().tolist(), encoder.std.float().tolist())
    except ValueError as error:
        raise ValueError(f"encoder {spec.name} cannot be saved, as it cannot be rebuilt: {error}; {cure}") from error
    state = {key: value.detach().cpu() for key, value in encoder.state_dict().items()}
    if differs := difference(twin, state, types=False):
        raise ValueError(f"encoder {spec.name} cannot be saved: rebuilt from its spec, {differs}; {cure}")
    twin.load_state_dict(state)
    return twin.eval()


def _check_twin(encoder: Encoder, images: Tensor, features: Tensor) -> None:
    """Same keys and shapes are not yet the same network: compare the features too."""
    with quiet(encoder):
        own = encoder(images.to(device_of(encoder))).float().cpu()
    if not close(own, features, rounding(encoder)):
        raise ValueError(
            f"encoder {encoder.spec.name} cannot be saved: rebuilt from its spec it gives other features; "
            "build it from an EncoderSpec(name, arguments) that makes this very network"
        )


def rounding(encoder: Encoder) -> float:
    """By how much a trained encoder may differ from what loading builds: other devices and half precision round."""
    return 1e-3 if device_of(encoder).type == "cpu" and encoder.mean.dtype == torch.float32 else 5e-2


def _load_state(encoder: Encoder, state: dict[str, Tensor], path: Path) -> None:
    if differs := difference(encoder, state):
        raise ValueError(f"encoder folder {path}: in {MODEL} {differs}; copy the folder again")
    encoder.load_state_dict(state)


def difference(module: nn.Module, state: dict[str, Tensor], types: bool = True) -> str:
    """The first key in which `state` differs from what `module` needs, in words; empty if none does."""
    expected = module.state_dict()
    for key, value in expected.items():
        if key not in state:
            return f"key {key!r} is missing"
        if state[key].shape != value.shape:
            return f"key {key!r} has shape {tuple(state[key].shape)} instead of {tuple(value.shape)}"
        if types and state[key].dtype != value.dtype:
            return f"key {key!r} has type {state[key].dtype} instead of {value.dtype}"
    return next((f"key {key!r} is unexpected" for key in state if key not in expected), "")


def _check_golden(encoder: Encoder, golden: dict[str, Tensor], path: Path) -> None:
    if set(golden) != {"images", "features"}:
        raise ValueError(f"encoder folder {path}: {GOLDEN} must hold images and features; copy the folder again")
    if not close(_features(encoder, golden["images"]), golden["features"], RTOL):
        raise ValueError(
            f"encoder folder {path} has changed since it was written: it no longer gives its golden features; copy it "
            f"again, or use the versions it was written with ({versions()} are here, config.json tells the others)"
        )


def close(ours: Tensor, theirs: Tensor, rtol: float) -> bool:
    """Whether two tensors of golden values are the same, but for rounding."""
    if ours.shape != theirs.shape:
        return False
    finite = theirs[theirs.isfinite()].abs()
    atol = 0.1 * rtol * float(finite.max()) if len(finite) else 0.0
    return torch.allclose(ours, theirs, rtol=rtol, atol=atol, equal_nan=True)


def _features(encoder: Encoder, images: Tensor) -> Tensor:
    with quiet(encoder):
        features: Tensor = encoder(images)
    return features.contiguous()


def read_tensors(path: Path) -> dict[str, Tensor]:
    """A safetensors file of an encoder folder. ValueError if it is damaged."""
    try:
        return load_file(path)
    except Exception as error:  # SafetensorError derives from Exception directly
        raise ValueError(f"encoder folder {path.parent}: {path.name} is damaged ({error}); copy it again") from error


def sha256(path: Path) -> str:
    """The checksum of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
