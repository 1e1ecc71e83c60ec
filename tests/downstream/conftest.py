"""What the downstream tests share: the digits, and the folder of a small encoder with statistics in its BatchNorm."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.encoders import EncoderSpec, build_encoder, save_encoder

SPEC = EncoderSpec(arguments={"widths": [8, 16], "strides": [1, 2]}, pool=2)


@pytest.fixture(scope="session")
def encoder_folder(digits: ImageDataModule, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(7)
    encoder = build_encoder(SPEC, digits.shape, digits.mean, digits.std).train()
    with torch.no_grad():
        for batch in digits.loader("train"):
            encoder(batch.images)
    path = tmp_path_factory.mktemp("pretrained") / "encoder"
    return save_encoder(encoder.eval(), path, objective="SimCLR", data=digits.describe())
