"""Features of all stages: what they are, in one pass, and a head on those that matter."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from ssl_transfer.data.batch import Batch
from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.encoders import Encoder, EncoderSpec, build_encoder
from ssl_transfer.encoders.stage_maps import stage_maps
from ssl_transfer.evaluation.probes import accuracy, select_logistic
from ssl_transfer.evaluation.stage_features import all_layer_probe, relevance, stage_features


def build(name: str | EncoderSpec, side: int = 32) -> Encoder:
    torch.manual_seed(0)
    return build_encoder(name, (3, side, side), [0.5] * 3, [0.25] * 3)


def batches(side: int = 32) -> list[Batch]:
    images = torch.randint(0, 256, (5, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return [
        Batch(part, torch.zeros(len(part)).long(), index)
        for part, index in zip(images.split(3), torch.arange(5).split(3), strict=True)
    ]


@torch.inference_mode()
def test_each_stage_s_maps_pooled_and_of_unit_length() -> None:
    encoder = build("small_resnet")
    found = stage_features(encoder, batches(), pool=2)
    assert encoder.training  # given back as it was
    encoder.eval()
    images = torch.cat([batch.images for batch in batches()])
    assert list(found.columns) == ["stem", "stage1", "stage2", "features"] and found.own.index.tolist() == list(
        range(5)
    )
    for name in ("stem", "stage1", "stage2"):
        pooled = F.adaptive_avg_pool2d(stage_maps(encoder, images, [name])[0], 2).flatten(1)
        torch.testing.assert_close(found.features[:, found.columns[name]], F.normalize(pooled, dim=1))
    torch.testing.assert_close(found.own.features, encoder(images))
    torch.testing.assert_close(found.features[:, found.columns["features"]], F.normalize(encoder(images), dim=1))


def test_it_is_one_pass() -> None:
    encoder = build("resnet18")
    calls: list[int] = []
    encoder.network.register_forward_hook(lambda *_: calls.append(1))
    encoder.network.network.conv1.register_forward_hook(lambda *_: calls.append(1))  # type: ignore[union-attr]
    with torch.inference_mode():
        found = stage_features(encoder, batches())
    assert len(calls) == 1 + 2  # a dry run that tells the stages, then each batch
    assert list(found.columns) == ["conv1", "layer1", "layer2", "layer3", "features"]  # layer4 is the features
    assert found.features.shape == (5, 64 + 64 + 128 + 256 + 512)


@pytest.mark.parametrize("name", ["densenet121", "mobilenet_v3_small", "oriented_gradients"])
def test_other_networks(name: str) -> None:
    encoder = build(name)
    found = stage_features(encoder, batches())
    assert list(found.columns)[-1] == "features"
    assert found.features.isfinite().all()
    assert found.columns["features"].stop == found.features.shape[1]


def test_a_network_without_maps_gives_its_features_alone() -> None:
    spec = EncoderSpec("torch.nn.Flatten")
    encoder = build(spec, side=8)
    found = stage_features(encoder, batches(8))
    assert list(found.columns) == ["features"] and found.features.shape == (5, encoder.feature_dim)


def test_no_image() -> None:
    with pytest.raises(ValueError, match="no images to encode"):
        stage_features(build("small_resnet"), [])


def test_relevance_finds_what_tells_the_classes() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(300, 40, generator=generator), torch.arange(300) % 3
    x[:, 7] += 2 * (y == 1)
    x[:, 21] -= 2 * (y == 2)
    assert set(relevance(x, y, 3).topk(2).indices.tolist()) == {7, 21}


def test_the_probe_keeps_the_few_features_that_matter() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(400, 300, generator=generator), torch.arange(400) % 4
    x[:, :4] += 2 * F.one_hot(y, 4)
    (few, labels), (rest, truth) = (x[:80], y[:80]), (x[80:], y[80:])
    probe = all_layer_probe(few, labels, 4)
    assert probe.share < 0.2 and {0, 1, 2, 3} <= set(probe.kept.tolist())
    all_of_them, _ = select_logistic((few, labels), None, 4)
    assert accuracy(probe(rest), truth) > accuracy(all_of_them(rest), truth) + 0.05


def test_earlier_stages_help_where_the_last_has_lost_what_matters(digits: ImageDataModule) -> None:
    spec = EncoderSpec(arguments={"strides": [1, 2, 2]})
    torch.manual_seed(0)
    encoder = build_encoder(spec, digits.shape, digits.mean, digits.std)
    found = stage_features(encoder, digits.loader("all"), pool=2)
    train, test = digits.indices("train")[:300], digits.indices("test")
    probe = all_layer_probe(found.features[train], found.own.targets[train], 10)
    final = found.own.features
    linear, _ = select_logistic((final[train], found.own.targets[train]), None, 10)
    ours, theirs = (
        accuracy(head(x[test]), found.own.targets[test]) for head, x in ((probe, found.features), (linear, final))
    )
    assert ours > theirs + 0.01, (ours, theirs)
