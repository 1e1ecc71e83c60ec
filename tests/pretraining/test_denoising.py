"""The denoising autoencoder: what it restores, from what, its loss by the pixel, and learning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from ssl_transfer.data.batch import Batch
from ssl_transfer.data.corruptions import Corruption
from ssl_transfer.encoders import EncoderSpec
from ssl_transfer.optimisation import Optimisation
from ssl_transfer.pretraining import DenoisingAutoencoder, Objective

Build = Callable[[Objective], DenoisingAutoencoder]
SMALL = EncoderSpec(arguments={"widths": [8, 16], "strides": [1, 2]}, pool=2)


def test_the_loss_compares_with_the_undamaged_image(batch: Batch, built: Build) -> None:
    module = built(DenoisingAutoencoder(SMALL)).eval()
    restored = module.reconstruct(module.corrupt(batch, epoch=3)).detach()
    errors = [
        ((restored[b, c, y, x] - float(batch.images[b, c, y, x]) / 255) / float(module.encoder.std[c])) ** 2
        for b in range(8)
        for c in range(3)
        for y in range(12)
        for x in range(12)
    ]
    loss, _ = module.loss(batch, epoch=3)
    assert loss.item() == pytest.approx(float(sum(errors)) / len(errors), rel=1e-4)


def test_closed_form_of_a_decoder_that_returns_what_it_was_given(batch: Batch, built: Build) -> None:
    """Gaussian noise of deviation s, left as it is, costs s² / std² a channel."""
    module = built(DenoisingAutoencoder(SMALL, corruption=Corruption(gaussian=0.1, masking=0.0)))
    images = torch.randint(0, 256, (400, 3, 12, 12), dtype=torch.uint8)
    many = Batch(images, torch.zeros(400), torch.arange(400))
    module.reconstruct = lambda damaged: damaged  # type: ignore[method-assign]
    expected = float((0.1**2 / module.encoder.std**2).mean())
    assert module.loss(many, 0)[0].item() == pytest.approx(expected, rel=0.02)


def test_masked_patches_take_the_mean_colour(batch: Batch, built: Build) -> None:
    module = built(DenoisingAutoencoder(SMALL, corruption=Corruption(gaussian=0.0, masking=1.0)))
    damaged = module.corrupt(batch, epoch=0)
    torch.testing.assert_close(damaged, module.encoder.mean.view(3, 1, 1).expand(8, 3, 12, 12))
    assert float(module.encoder.normalise(damaged).abs().max()) < 1e-6


def test_damage_is_the_image_s_and_the_epoch_s(batch: Batch, built: Build) -> None:
    module = built(DenoisingAutoencoder(SMALL))
    part = Batch(batch.images[5:6], batch.targets[5:6], batch.index[5:6])
    whole = module.corrupt(batch, epoch=1)
    torch.testing.assert_close(module.corrupt(part, epoch=1), whole[5:6], rtol=0, atol=1e-6)
    assert not torch.equal(whole, module.corrupt(batch, epoch=2))


def test_labels_are_never_read(batch: Batch, built: Build) -> None:
    module = built(DenoisingAutoencoder(SMALL)).eval()
    unlabelled = batch._replace(targets=torch.full((8,), -1))
    assert torch.equal(module.loss(batch, 0)[0], module.loss(unlabelled, 0)[0])


def test_it_decodes_from_maps_or_from_a_bottleneck(batch: Batch, built: Build) -> None:
    for spec, width in ((SMALL, 64), (replace(SMALL, pool=1, bottleneck=9), 9)):
        module = built(DenoisingAutoencoder(spec))
        assert module.encoder.feature_dim == width
        assert module.reconstruct(batch.images).shape == batch.images.shape


def test_learning(gain: Callable[..., float], spec: EncoderSpec) -> None:
    corruption = Corruption(gaussian=0.1, masking=0.5, patch=2)
    module = DenoisingAutoencoder(spec, corruption=corruption, optimisation=Optimisation(lr=5e-3))
    assert gain(module, 20, spec) > 0.025
