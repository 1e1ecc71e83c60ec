"""The moving average of weights: against a loop, through a fit, and through a checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.downstream import Classifier, Full, load_model
from ssl_transfer.downstream.weight_average import WeightAverage
from ssl_transfer.running.fit import fit


def test_against_a_loop() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    network[0].bias.requires_grad_(False)
    average = WeightAverage(0.9, network)
    expected = network[0].weight.detach().clone()
    for update in range(200):
        with torch.no_grad():
            network[0].weight.add_(torch.randn(3, 2))
        average.update(network)
        kept = min(0.9, (1 + update) / (10 + update))
        expected = kept * expected + (1 - kept) * network[0].weight.detach()
    torch.testing.assert_close(average.values["0.weight"], expected)
    assert "0.bias" not in average.values and "1.running_mean" in average.values
    raw = network[0].weight.detach().clone()
    average.swap(network)
    assert average.swapped
    torch.testing.assert_close(network[0].weight.detach(), expected)
    average.swap(network)
    assert torch.equal(network[0].weight, raw) and not average.swapped


@pytest.mark.parametrize("swapped", [False, True])
def test_a_checkpoint_holds_the_average_and_goes_on_from_the_weights(swapped: bool) -> None:
    network = nn.Linear(2, 2)
    average = WeightAverage(0.9, network)
    with torch.no_grad():
        network.weight.add_(1)
    average.update(network)
    raw, mean = network.weight.detach().clone(), average.values["weight"].clone()
    if swapped:
        average.swap(network)
    checkpoint: dict[str, object] = {"state_dict": network.state_dict()}
    average.save(checkpoint)
    assert torch.equal(checkpoint["state_dict"]["weight"], mean)  # type: ignore[index]
    again, other = nn.Linear(2, 2), WeightAverage(0.9, nn.Linear(2, 2))
    other.resume(checkpoint)
    again.load_state_dict(checkpoint["state_dict"])  # type: ignore[arg-type]
    assert torch.equal(again.weight, raw) and torch.equal(other.values["weight"], mean) and other.updates == 1


def test_the_average_is_scored_and_kept(digits: ImageDataModule, encoder_folder: Path, tmp_path: Path) -> None:
    module = Classifier(str(encoder_folder), tuning=Full(), weight_average=0.95)
    run = fit(module, digits, tmp_path / "run", max_epochs=2, enable_progress_bar=False, verbose=False)
    best = torch.load(run.best, weights_only=True)
    kept = load_model(run.model)
    assert torch.equal(kept.head.weight, best["state_dict"]["head.weight"])  # type: ignore[attr-defined]
    assert not torch.equal(best["weight_average"]["raw"]["head.weight"], best["state_dict"]["head.weight"])
    batch = next(iter(digits.loader("val")))
    assert torch.allclose(module.eval()(batch.images), kept.predict(batch.images).scores, atol=1e-6)
