"""Autoencoders kept in the encoder folder: what is restored, what is written, what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.encoders import (
    EncoderSpec,
    Reconstructor,
    build_encoder,
    load_autoencoder,
    load_encoder,
    save_encoder,
)
from ssl_transfer.encoders.folder import sha256
from ssl_transfer.encoders.reconstruction import (
    code,
    decoder_arguments,
    denormalise,
    mirrored_decoder,
    reconstruct,
    savable_decoder,
)
from ssl_transfer.pretraining import Autoencoder, DenoisingAutoencoder, Objective
from ssl_transfer.running.fit import fit

SMALL = EncoderSpec(arguments={"widths": [8, 16], "strides": [1, 2]})
FILES = {"model.safetensors", "config.json", "README.md", "golden.safetensors"}
OURS = ("decoder.safetensors", "decoder_golden.safetensors")
KEY = "last.weight"


def trained(bottleneck: int | None = None) -> Reconstructor:
    """An autoencoder whose weights and statistics are not those of its birth."""
    torch.manual_seed(1)
    spec = EncoderSpec(SMALL.name, SMALL.arguments, bottleneck=bottleneck)
    encoder = build_encoder(spec, (3, 16, 12), [0.1, 0.3, 0.7], [0.2, 0.3, 0.4])
    module = Reconstructor(encoder, mirrored_decoder(encoder))
    module.train()(torch.rand(8, 3, 16, 12))
    return module


def save(path: Path, module: Reconstructor, decoder: nn.Module | None = None) -> Path:
    return save_encoder(module.encoder, path, objective="Autoencoder", data={}, decoder=decoder or module.decoder)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("saved") / "encoder", trained())


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "encoder"))


@pytest.mark.parametrize("bottleneck", [None, 5])
def test_what_is_restored(bottleneck: int | None) -> None:
    """Code, decoder and denormalisation by hand, for uint8 and floats; an identity in between gives the images back."""
    module = trained(bottleneck).eval()
    images = torch.randint(0, 256, (4, 3, 16, 12), dtype=torch.uint8)
    with torch.no_grad():
        restored = module.reconstruct(images)
        maps = module.encoder.maps(images)
        expected = module.decoder(maps if bottleneck is None else module.encoder.bottleneck(maps.flatten(1)))
        for channel, (mean, std) in enumerate(zip((0.1, 0.3, 0.7), (0.2, 0.3, 0.4), strict=True)):
            torch.testing.assert_close(restored[:, channel], expected[:, channel] * std + mean)
        assert torch.equal(module(images), restored)
        torch.testing.assert_close(module.reconstruct(images / 255), restored)
    assert code(module.encoder, images).shape == ((4, 16, 8, 6) if bottleneck is None else (4, 5))
    torch.testing.assert_close(denormalise(module.encoder.normalise(images), module.encoder), images / 255)


@pytest.mark.parametrize("bottleneck", [None, 5])
def test_round_trip_to_the_bit(bottleneck: int | None, tmp_path: Path) -> None:
    module = trained(bottleneck)
    random = torch.get_rng_state()
    again = load_autoencoder(save(tmp_path / "encoder", module))
    assert torch.equal(torch.get_rng_state(), random)
    assert module.decoder.training and not again.training and not again.decoder.training
    state = again.state_dict()
    assert state.keys() == module.state_dict().keys()
    assert all(torch.equal(value, state[key]) for key, value in module.state_dict().items())
    images = torch.randint(0, 256, (5, 3, 16, 12), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(again.reconstruct(images), module.eval().reconstruct(images))


def test_contents(saved: Path) -> None:
    assert {file.name for file in saved.iterdir()} == FILES | set(OURS)
    config = json.loads((saved / "config.json").read_text())
    assert config["decoder"] == {"map_dim": 16, "map_size": [8, 6], "out_shape": [3, 16, 12], "from_features": None}
    assert set(config["sha256"]) == {"model.safetensors", "golden.safetensors", *OURS}
    golden = load_file(saved / "decoder_golden.safetensors")
    assert golden["images"].dtype == torch.uint8 and golden["reconstructions"].shape == (4, 3, 16, 12)


def test_the_encoder_is_the_same_with_and_without(saved: Path, tmp_path: Path) -> None:
    module = trained()
    alone = save_encoder(module.encoder, tmp_path / "alone", objective="Autoencoder", data={})
    assert {file.name for file in alone.iterdir()} == FILES
    for name in ("model.safetensors", "golden.safetensors"):
        assert (alone / name).read_bytes() == (saved / name).read_bytes()
    for name in OURS:  # the encoder does not need them
        shutil.copytree(saved, tmp_path / name)
        (tmp_path / name / name).unlink()
        assert load_encoder(tmp_path / name).feature_dim == 16


def refused(path: Path, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load_autoencoder(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_a_folder_without_a_decoder(tmp_path: Path) -> None:
    path = save_encoder(trained().encoder, tmp_path / "encoder", objective="SimCLR", data={})
    refused(path, r"\(trained by SimCLR\) holds no decoder .* pretrain with Autoencoder or DenoisingAutoencoder")
    save(path, trained())
    assert load_autoencoder(path).encoder.feature_dim == 16
    save_encoder(trained().encoder, path, objective="SimCLR", data={})
    assert {file.name for file in path.iterdir()} == FILES  # none of another encoder's is left
    refused(tmp_path / "none", "does not exist")


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("position", [0, 3, 40, -1, -101])
def test_a_flipped_bit_is_found(copy: Path, name: str, position: int) -> None:
    content = bytearray((copy / name).read_bytes())
    content[position] ^= 1
    (copy / name).write_bytes(content)
    refused(copy, "changed since it was written|damaged|key|must hold")


@pytest.mark.parametrize("name", OURS)
def test_a_missing_or_truncated_file_is_found(copy: Path, name: str) -> None:
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[: len(content) // 2])
    refused(copy, "damaged|changed since it was written")
    (copy / name).unlink()
    refused(copy, f"lacks {name}")


def edit(path: Path, **changes: Any) -> None:
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | changes))


def test_wrong_keys_are_named(copy: Path) -> None:
    state = load_file(copy / OURS[0])
    state[KEY] = state[KEY].half()
    save_file(state, copy / OURS[0])
    refused(copy, f"in decoder.safetensors key '{KEY}' has type torch.float16")
    del state[KEY]
    save_file(state, copy / OURS[0])
    refused(copy, f"in decoder.safetensors key '{KEY}' is missing")


def test_the_golden_pair_stands_behind_the_checksums(copy: Path) -> None:
    state = load_file(copy / OURS[0])
    state[KEY] = state[KEY] * 1.1
    save_file(state, copy / OURS[0])
    edit(copy, sha256={file.name: sha256(file) for file in copy.glob("*.safetensors")})
    refused(copy, "its decoder no longer gives its golden reconstructions")


@pytest.mark.parametrize("told", [{}, [], "Decoder", {"map_dim": 10**9, "map_size": [8, 6], "out_shape": [3, 16, 12]}])
def test_a_wrong_config_builds_nothing(copy: Path, told: Any) -> None:
    edit(copy, decoder=told)
    refused(copy, "the decoder in config.json does not fit")


def test_images_of_another_size_are_refused() -> None:
    module = trained().eval()
    with pytest.raises(ValueError, match="images must be 16x12 to be reconstructed, not 24x24"):
        module.reconstruct(torch.zeros(2, 3, 24, 24))
    with pytest.raises(ValueError, match="add a batch dimension"):
        reconstruct(module.encoder, module.decoder, torch.zeros(3, 16, 12))


def test_a_decoder_that_cannot_be_rebuilt_is_not_saved(tmp_path: Path) -> None:
    module = trained()
    assert savable_decoder(module) is module.decoder
    with pytest.raises(ValueError, match=r"the decoder cannot be saved: .* make it by mirrored_decoder\(encoder\)"):
        save(tmp_path / "encoder", module, nn.Linear(2, 2))
    module.decoder.blocks[0][2].eps = 10.0  # type: ignore[index, union-attr]
    with pytest.raises(ValueError, match="rebuilt, it gives other images"):
        save(tmp_path / "encoder", module)
    assert not (tmp_path / "encoder").exists() and list(tmp_path.iterdir()) == []
    module.decoder.blocks[0][2] = nn.Identity()  # type: ignore[index, operator]
    assert savable_decoder(module) is None and savable_decoder(module.encoder) is None


def test_a_network_without_maps_has_no_decoder() -> None:
    encoder = build_encoder(EncoderSpec("torch.nn.Flatten"), (3, 8, 8), [0.5] * 3, [0.5] * 3)
    with pytest.raises(ValueError, match="has no feature maps to decode from"):
        decoder_arguments(encoder)


@pytest.mark.parametrize("objective", [Autoencoder, DenoisingAutoencoder])
@pytest.mark.parametrize("bottleneck", [None, 5])
def test_a_fit_leaves_its_decoder(
    objective: type[Objective], bottleneck: int | None, digits: ImageDataModule, tmp_path: Path
) -> None:
    module = objective(EncoderSpec(SMALL.name, SMALL.arguments, bottleneck=bottleneck))
    options = {"limit_train_batches": 2, "enable_progress_bar": False, "verbose": False, "precision": "32-true"}
    run = fit(module, digits, tmp_path / "run", max_epochs=1, **options)
    batch = next(iter(digits.loader("test")))
    with torch.no_grad():
        restored = load_autoencoder(run.encoder).reconstruct(batch.images)
        assert torch.equal(restored, module.eval().reconstruct(batch.images))
