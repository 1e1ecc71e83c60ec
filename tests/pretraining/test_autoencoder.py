"""Autoencoders: the loss against a loop over pixels and closed forms, the code's width, sparsity, and learning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ssl_transfer.data.batch import Batch
from ssl_transfer.encoders import EncoderSpec, save_encoder
from ssl_transfer.optimisation import Optimisation
from ssl_transfer.pretraining import Autoencoder, Objective

Build = Callable[[Objective], Autoencoder]
SMALL = EncoderSpec(arguments={"widths": [8, 16], "strides": [1, 2]})


def pixelwise(restored: Tensor, images: Tensor, std: Tensor) -> float:
    """Mean squared error in units of the channels' standard deviations, pixel by pixel; restored in [0, 1]."""
    total, count = 0.0, 0
    for b in range(len(images)):
        for c in range(images.shape[1]):
            for restored_row, row in zip(restored[b, c].tolist(), images[b, c].tolist(), strict=True):
                for value, pixel in zip(restored_row, row, strict=True):
                    total += ((value - pixel / 255) / float(std[c])) ** 2
                    count += 1
    return total / count


@pytest.mark.parametrize(("bottleneck", "sparsity"), [(5, 0.0), (None, 0.0), (5, 0.3), (None, 2.0)])
def test_the_loss_is_the_mean_over_pixels(batch: Batch, built: Build, bottleneck: int | None, sparsity: float) -> None:
    module = built(Autoencoder(SMALL, bottleneck=bottleneck, sparsity=sparsity)).eval()
    loss, figures = module.loss(batch, epoch=0)
    error = pixelwise(module.reconstruct(batch.images).detach(), batch.images, module.encoder.std)
    assert figures["reconstruction_error"].item() == pytest.approx(error, rel=1e-4)
    code = module.code(batch.images).detach().flatten().tolist()
    activation = sum(abs(value) for value in code) / len(code)
    assert figures["mean_activation"].item() == pytest.approx(activation, rel=1e-4)
    assert loss.item() == pytest.approx(error + sparsity * activation, rel=1e-4)


class _Constant(nn.Module):
    """A decoder that always says the same."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, code: Tensor) -> Tensor:
        return self.answer


def test_closed_forms(batch: Batch, built: Build) -> None:
    """A decoder of zeros restores the mean: the error is the images' own spread. A perfect one: 0."""
    module = built(Autoencoder(SMALL, bottleneck=5)).eval()
    x = module.encoder.normalise(batch.images)
    module.decoder = _Constant(torch.zeros_like(x))  # type: ignore[assignment]
    assert module.loss(batch, 0)[0].item() == pytest.approx(float((x**2).mean()), rel=1e-5)
    torch.testing.assert_close(module.reconstruct(batch.images)[0, :, 0, 0], torch.tensor([0.4, 0.5, 0.6]))
    module.decoder = _Constant(x)  # type: ignore[assignment]
    assert module.loss(batch, 0)[0].item() == 0.0
    torch.testing.assert_close(module.reconstruct(batch.images), batch.images / 255, rtol=0, atol=1e-5)


def test_the_code_s_width(batch: Batch, built: Build) -> None:
    narrow = built(Autoencoder(SMALL, bottleneck=5))
    assert narrow.code(batch.images).shape == (8, 5) and narrow.encoder.feature_dim == 5
    wide = built(Autoencoder(SMALL, bottleneck=None))
    assert wide.code(batch.images).shape == (8, 16, 6, 6)  # 576 values, of 432 pixels: overcomplete
    own = built(Autoencoder(replace(SMALL, bottleneck=7), bottleneck=5))
    assert own.encoder.feature_dim == 7  # a bottleneck of the encoder's own wins
    assert built(Autoencoder("resnet18", bottleneck=4)).encoder.feature_dim == 4


def test_going_on_from_an_encoder_folder(built: Build, tmp_path: Path) -> None:
    first = built(Autoencoder(SMALL, bottleneck=5))
    path = save_encoder(first.encoder, tmp_path / "encoder", objective="Autoencoder", data={})
    second = built(Autoencoder(str(path), bottleneck=64))
    assert second.encoder.feature_dim == 5
    for key, value in first.encoder.state_dict().items():
        assert torch.equal(value, second.encoder.state_dict()[key])


def test_labels_are_never_read(batch: Batch, built: Build) -> None:
    module = built(Autoencoder(SMALL, bottleneck=5)).eval()
    unlabelled = batch._replace(targets=torch.full((8,), -1))
    assert torch.equal(module.loss(batch, 0)[0], module.loss(unlabelled, 0)[0])


@pytest.mark.parametrize(("arguments", "words"), [({"bottleneck": 0}, "bottleneck"), ({"sparsity": -1.0}, "sparsity")])
def test_bad_arguments(arguments: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=f"{words} must be"):
        Autoencoder(**arguments)  # type: ignore[arg-type]


def test_a_network_without_maps_is_refused(built: Build) -> None:
    with pytest.raises(ValueError, match="maps"):
        built(Autoencoder(EncoderSpec("torch.nn.Flatten"), bottleneck=None))


def test_learning_undercomplete(gain: Callable[..., float], spec: EncoderSpec) -> None:
    narrow = replace(spec, pool=1, bottleneck=16)
    assert gain(Autoencoder(narrow, optimisation=Optimisation(lr=5e-3)), 15, narrow) > 0.05
