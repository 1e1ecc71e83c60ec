"""The floors: what they compute, and that the comparison at a label budget is fair and repeatable."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.data.splits import draw_label_budget
from ssl_transfer.encoders import EncoderSpec
from ssl_transfer.evaluation.features import Features
from ssl_transfer.evaluation.floors import RawPixels, encode_all, few_label_accuracies, floor_features, random_encoder

SPEC = EncoderSpec(arguments={"widths": [8, 16], "strides": [1, 2]}, pool=2)


@pytest.fixture(scope="module")
def data() -> ImageDataModule:
    data = ImageDataModule("digits")
    data.setup()
    return data


@pytest.fixture(scope="module")
def floors(data: ImageDataModule) -> dict[str, Features]:
    return floor_features(data, SPEC, seed=0)


def test_raw_pixels_are_the_pixels(data: ImageDataModule, floors: dict[str, Features]) -> None:
    pixels = floors["Raw pixels"]
    images = torch.cat([batch.images for batch in data.loader("all")])
    assert torch.equal(pixels.features, images.flatten(1) / 255) and pixels.features.shape == (1797, 64)
    assert pixels.index.tolist() == list(range(1797))
    assert RawPixels()(images[:2]).max() <= 1


def test_pca_is_fitted_on_train_alone(data: ImageDataModule, floors: dict[str, Features]) -> None:
    pixels = floors["Raw pixels"].features.numpy()
    reference = PCA(0.95).fit(pixels[data.indices("train")])
    ours = floors["PCA"].features
    assert ours.shape[1] == reference.n_components_ < 64
    np.testing.assert_allclose(np.abs(ours.numpy()), np.abs(reference.transform(pixels)), atol=1e-4)


def test_the_random_encoder_is_the_seed_s(data: ImageDataModule, floors: dict[str, Features]) -> None:
    again = encode_all(random_encoder(data, SPEC, seed=0), data)
    assert torch.equal(again.features, floors["Random encoder"].features)
    assert not torch.equal(again.features, encode_all(random_encoder(data, SPEC, seed=1), data).features)


def test_a_label_budget_reads_no_other_labels(data: ImageDataModule, floors: dict[str, Features]) -> None:
    features = floors["Raw pixels"]
    rows = draw_label_budget(data.table, data.indices("train"), 10, seed=4)
    [value] = few_label_accuracies(features, data, 10, seeds=[4])
    blinded = features.targets.clone()
    unseen = np.setdiff1d(np.arange(len(blinded)), np.concatenate([rows, data.indices("test")]))
    blinded[torch.from_numpy(unseen)] = 0
    assert few_label_accuracies(replace(features, targets=blinded), data, 10, [4]) == [value]
    assert 0.8 < value < 0.96


def test_draws_differ_and_labels_help(data: ImageDataModule, floors: dict[str, Features]) -> None:
    few = few_label_accuracies(floors["PCA"], data, 3, seeds=[0, 1, 2])
    more = few_label_accuracies(floors["PCA"], data, 30, seeds=[0, 1, 2])
    assert len(set(few)) > 1 and min(more) > max(few)
