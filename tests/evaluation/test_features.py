"""Encoding: batch by batch equal to image by image, in evaluation mode, leaving the encoder as it was."""

from __future__ import annotations

import pytest
import torch

from ssl_transfer.data.batch import Batch
from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.encoders import EncoderSpec, build_encoder
from ssl_transfer.evaluation.features import Features, encode


@pytest.fixture(scope="module")
def data() -> ImageDataModule:
    data = ImageDataModule("digits", batch_size=100)
    data.setup()
    return data


def test_features_are_the_encoder_s_row_by_row(data: ImageDataModule) -> None:
    encoder = build_encoder(EncoderSpec(arguments={"widths": [8, 16], "strides": [1, 2]}), data.shape, [0.3], [0.3])
    encoder.train()
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    found = encode(encoder, data.loader("test"))
    assert encoder.training  # its mode is given back
    assert all(torch.equal(before[key], value) for key, value in encoder.state_dict().items())
    assert found.features.shape == (539, 16) and found.features.dtype == torch.float32
    assert found.index.tolist() == data.indices("test").tolist()
    assert found.targets.tolist() == data.table.targets[data.indices("test")].tolist()
    encoder.eval()
    batch = next(iter(data.loader("test")))
    with torch.no_grad():
        one_by_one = torch.cat([encoder(image[None]) for image in batch.images[:5]])
    torch.testing.assert_close(found.features[:5], one_by_one)


def test_only_the_labelled_ones() -> None:
    features = Features(torch.eye(4), torch.tensor([1, -1, 0, -1]), torch.tensor([5, 6, 7, 8]))
    kept = features.labelled()
    assert kept.index.tolist() == [5, 7] and kept.targets.tolist() == [1, 0] and kept.features.shape == (2, 4)


def test_nothing_to_encode() -> None:
    with pytest.raises(ValueError, match="no images to encode"):
        encode(torch.nn.Flatten(), [])


def test_the_mode_is_given_back_after_a_failure() -> None:
    class Broken(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("broken")

    encoder = Broken().train()
    batch = Batch(torch.zeros(1, 1, 2, 2, dtype=torch.uint8), torch.zeros(1), torch.zeros(1))
    with pytest.raises(RuntimeError, match="broken"):
        encode(encoder, [batch])
    assert encoder.training
