"""Rotation prediction: the turns, the loss by hand and in closed form, what is refused, and learning."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ssl_transfer.data.batch import Batch
from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.data.views import Views
from ssl_transfer.encoders import EncoderSpec
from ssl_transfer.optimisation import Optimisation
from ssl_transfer.pretraining import Objective, RotationPrediction
from ssl_transfer.pretraining.rotation import quarter_turns
from ssl_transfer.running.fit import fit
from ssl_transfer.running.folder import RunFolder

Build = Callable[[Objective], RotationPrediction]
SMALL = EncoderSpec(arguments={"widths": [8, 16], "strides": [1, 2]}, pool=2)
NOTHING = Views(crop_scale=(1, 1), crop_ratio=(1, 1), horizontal_flip=0, jitter=0, grey=0, blur=0)


def test_turns_pixel_by_pixel(batch: Batch) -> None:
    """A quarter turn counter-clockwise brings the last column on top; four bring back the image."""
    turned = quarter_turns(batch.images).view(4, 8, 3, 12, 12)
    assert torch.equal(turned[0], batch.images)
    for k in range(4):
        after = turned[(k + 1) % 4]
        for row in range(12):
            assert torch.equal(after[:, :, row], turned[k][:, :, :, 11 - row])


@pytest.mark.parametrize("hidden_dim", [16, None])
def test_the_loss_by_hand(batch: Batch, built: Build, hidden_dim: int | None) -> None:
    """Image by image and turn by turn: minus the log-probability of the turn that was made, in double precision."""
    module = built(RotationPrediction(SMALL, hidden_dim=hidden_dim)).eval()
    views = module.views(batch.images, module.random(batch, epoch=2, stream=1))
    total, right = 0.0, 0
    with torch.no_grad():
        for image in views:
            for k in range(4):
                logits = module.head(module.encoder(torch.rot90(image, k, (1, 2))[None]))[0].double()
                total -= math.log(float(logits[k].exp() / logits.exp().sum()))
                right += int(logits.argmax()) == k
    loss, figures = module.loss(batch, epoch=2)
    assert loss.item() == pytest.approx(total / 32, rel=1e-4)
    assert figures.keys() == {"accuracy"} and figures["accuracy"].item() == pytest.approx(right / 32)
    module.train().loss(batch, epoch=2)[0].backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in module.encoder.parameters())


class _Corner(nn.Module):
    """Logits from the four corners of an image, in the order in which counter-clockwise turns bring them on top."""

    def forward(self, images: Tensor) -> Tensor:
        x = images[:, 0].float()
        return torch.stack([x[:, 0, 0], x[:, -1, 0], x[:, -1, -1], x[:, 0, -1]], dim=1)


def test_closed_forms(batch: Batch, built: Build) -> None:
    """Blank images: log 4, which is a guess. A corner that is lit: the loss and the accuracy follow from it."""
    module = built(RotationPrediction(SMALL, views=NOTHING))
    module.encoder, module.head = _Corner(), nn.Identity()  # type: ignore[assignment]
    blank = batch._replace(images=torch.zeros_like(batch.images))
    assert module.loss(blank, 0)[0].item() == pytest.approx(math.log(4)) == module.chance_loss(7)
    lit = blank.images.clone()
    lit[:, :, 0, 0] = 255  # upper left; a turn counter-clockwise brings it to the lower left
    loss, figures = module.loss(batch._replace(images=lit), 0)
    assert loss.item() == pytest.approx(math.log(1 + 3 * math.exp(-1)), rel=1e-6) and figures["accuracy"] == 1.0
    lit = blank.images.clone()
    lit[:, :, 0, -1] = 255  # upper right, which the corners name the third turn
    loss, figures = module.loss(batch._replace(images=lit), 0)
    assert loss.item() == pytest.approx(1 + math.log(1 + 3 * math.exp(-1)), rel=1e-6) and figures["accuracy"] == 0.0


def test_labels_are_never_read(batch: Batch, built: Build) -> None:
    module = built(RotationPrediction(SMALL)).eval()
    first = module.loss(batch, 1)[0]
    for targets in (torch.full((8,), -1), torch.zeros(8), None):
        assert torch.equal(first, module.loss(batch._replace(targets=targets), 1)[0])  # type: ignore[arg-type]


def test_views_are_a_function_of_image_and_epoch(batch: Batch, built: Build) -> None:
    module = built(RotationPrediction(SMALL)).eval()
    assert torch.equal(module.loss(batch, 1)[0], module.loss(batch, 1)[0])
    assert not torch.equal(module.loss(batch, 1)[0], module.loss(batch, 2)[0])
    parts = [module.loss(Batch(*(column[rows] for column in batch[:3])), 1) for rows in (slice(0, 4), slice(4, 8))]
    whole = module.loss(batch, 1)
    torch.testing.assert_close((parts[0][0] + parts[1][0]) / 2, whole[0])
    torch.testing.assert_close((parts[0][1]["accuracy"] + parts[1][1]["accuracy"]) / 2, whole[1]["accuracy"])


def test_the_head(built: Build) -> None:
    module = built(RotationPrediction(SMALL, hidden_dim=24))
    assert module.head(torch.randn(4, module.encoder.feature_dim)).shape == (4, 4)
    assert next(module.head.parameters()).shape == (24, 16 * 4)
    linear = built(RotationPrediction(SMALL, hidden_dim=None)).head
    assert [parameter.shape for parameter in linear.parameters()] == [(4, 16 * 4), (4,)]


def test_images_that_are_not_square(tmp_path: Path, photos: Path) -> None:
    options = {"max_epochs": 1, "enable_progress_bar": False, "verbose": False}
    with pytest.raises(ValueError, match=r"must be square, not 16x24: make them so with data\.size, say 16") as caught:
        fit(RotationPrediction(SMALL), ImageDataModule(str(photos)), tmp_path / "run", **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"hidden_dim": 0}, r"model\.hidden_dim must be at least 1, or null for a linear layer, not 0"),
        ({"views": Views(vertical_flip=0.5)}, r"model\.views\.vertical_flip must be 0, not 0\.5"),
        ({"views": Views(rotate=90)}, r"model\.views\.rotate must be below 45 degrees, not 90"),
    ],
)
def test_bad_arguments(arguments: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RotationPrediction(**arguments)  # type: ignore[arg-type]


def test_learning(gain: Callable[..., float], spec: EncoderSpec, tmp_path: Path) -> None:
    views = Views(crop_scale=(0.5, 1.0), horizontal_flip=0.0, rotate=15.0, translate=0.1)
    module = RotationPrediction(spec, views=views, optimisation=Optimisation(lr=5e-3))
    assert gain(module, 25, spec) > 0.02
    assert RunFolder(tmp_path / "run").metrics()["val/accuracy"] > 0.8
