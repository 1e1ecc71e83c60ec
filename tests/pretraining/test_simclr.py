"""SimCLR: its loss against the paper's double sum and closed forms; views, labels, and learning."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightly.loss import NTXentLoss
from torch import Tensor, nn

from ssl_transfer.data.batch import Batch
from ssl_transfer.data.views import Views
from ssl_transfer.encoders import EncoderSpec, build_encoder
from ssl_transfer.optimisation import Optimisation
from ssl_transfer.pretraining import Objective, SimCLR
from ssl_transfer.pretraining.simclr import turned

Build = Callable[[Objective], SimCLR]
SMALL = EncoderSpec(arguments={"widths": [8, 16], "strides": [1, 2]}, pool=2)


def nt_xent(z0: Tensor, z1: Tensor, temperature: float) -> float:
    """Equation 1 of Chen et al. 2020, term by term, in double precision."""
    z = torch.cat([z0, z1]).double()
    count = len(z0)

    def similarity(i: int, j: int) -> float:
        return float(z[i] @ z[j] / (z[i].norm() * z[j].norm())) / temperature

    total = 0.0
    for i in range(2 * count):
        positive = i + count if i < count else i - count
        rest = sum(math.exp(similarity(i, k)) for k in range(2 * count) if k != i)
        total -= math.log(math.exp(similarity(i, positive)) / rest)
    return total / (2 * count)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_the_loss_is_the_paper_s_double_sum(batch: Batch, built: Build, temperature: float) -> None:
    module = built(SimCLR(SMALL, temperature=temperature, hidden_dim=16, output_dim=8))
    module.train()
    loss, figures = module.loss(batch, epoch=0)
    views = torch.cat(module.two_views(batch, epoch=0))
    z0, z1 = module.projector(module.encoder(views)).detach().chunk(2)
    assert loss.item() == pytest.approx(nt_xent(z0, z1, temperature), abs=1e-4)
    assert figures == {}
    loss.backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in module.encoder.parameters())


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_closed_forms(built: Build, temperature: float) -> None:
    """All embeddings equal: log(2B − 1). Each pair equal and orthogonal to the rest: log(1 + (2B − 2) e^(−1/t))."""
    criterion = built(SimCLR(SMALL, temperature=temperature)).criterion
    same = torch.ones(8, 4)
    assert float(criterion(same, same)) == pytest.approx(math.log(15), abs=1e-5)
    pairs = torch.eye(8)
    expected = math.log(1 + 14 * math.exp(-1 / temperature))
    assert float(criterion(pairs, pairs)) == pytest.approx(expected, abs=1e-5)
    assert float(criterion(pairs, 3 * pairs)) == pytest.approx(expected, abs=1e-5)  # length does not matter


def test_without_projector_and_changes_the_views_of_an_image_agree(batch: Batch, built: Build) -> None:
    """Views that are the images themselves, read by their pixels: the loss follows from the images alone."""
    nothing = Views(crop_scale=(1, 1), crop_ratio=(1, 1), horizontal_flip=0, jitter=0, grey=0, blur=0)
    module = built(SimCLR(SMALL, views=nothing, temperature=0.5))
    module.projector = nn.Identity()  # type: ignore[assignment]
    module.encoder = nn.Flatten()  # type: ignore[assignment]
    pixels = batch.images.flatten(1) / 255
    assert module.loss(batch, 0)[0].item() == pytest.approx(nt_xent(pixels, pixels, 0.5), abs=1e-4)


def test_labels_are_never_read(batch: Batch, built: Build) -> None:
    module = built(SimCLR(SMALL)).eval()
    first = module.loss(batch, 1)[0]
    for targets in (torch.full((8,), -1), torch.zeros(8), None):
        assert torch.equal(first, module.loss(batch._replace(targets=targets), 1)[0])  # type: ignore[arg-type]


def test_views_differ_from_each_other_and_by_epoch(batch: Batch, built: Build) -> None:
    module = built(SimCLR(SMALL))
    first, second = module.two_views(batch, epoch=0)
    assert first.shape == second.shape == batch.images.shape and not torch.equal(first, second)
    again, later = module.two_views(batch, epoch=0)[0], module.two_views(batch, epoch=1)[0]
    assert torch.equal(first, again) and not torch.equal(first, later)


def test_every_process_evaluates_equally_many_images(
    batch: Batch, built: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 125 images on three processes the third has 41, one fewer than the others; of 122 the first two have 41."""
    module = built(SimCLR(SMALL))
    seen: list[int] = []
    monkeypatch.setattr(SimCLR, "_evaluate", lambda self, split, part: seen.append(len(part.index)))
    data = SimpleNamespace(batch_size=4, indices=lambda split: np.arange(125))
    monkeypatch.setattr(SimCLR, "trainer", SimpleNamespace(datamodule=data, world_size=3))
    for number in (0, 9, 10):
        module.validation_step(Batch(*(x[:4] if number < 10 else x[:2] for x in batch[:3])), number)
    assert seen == [4, 4, 1]
    data.indices = lambda split: np.arange(122)  # 41, 41 and 40
    module.test_step(Batch(*(x[:1] for x in batch[:3])), 10)
    assert seen == [4, 4, 1]


def test_the_projector_s_widths(built: Build) -> None:
    module = built(SimCLR(SMALL, hidden_dim=24, output_dim=6))
    assert module.projector(torch.randn(4, module.encoder.feature_dim)).shape == (4, 6)
    assert module.projector[0].out_features == 24 and module.encoder.feature_dim == 16 * 4


NOTHING = Views(crop_scale=(1, 1), crop_ratio=(1, 1), horizontal_flip=0, jitter=0, grey=0, blur=0)


def test_rotations_are_images_of_their_own(batch: Batch, built: Build) -> None:
    """With distribution augmentation: the paper's double sum over 4B images, and lightly's loss of the same."""
    module = built(SimCLR(SMALL, views=NOTHING, temperature=0.5, distribution_augmentation=True))
    module.projector = nn.Identity()  # type: ignore[assignment]
    module.encoder = nn.Flatten()  # type: ignore[assignment]
    copies = [image.rot90(k, (1, 2)) for k in range(4) for image in batch.images / 255]
    pixels = torch.stack(copies).flatten(1)
    loss = module.loss(batch, 0)[0].item()
    assert loss == pytest.approx(nt_xent(pixels, pixels, 0.5), abs=1e-4)
    assert loss == pytest.approx(float(NTXentLoss(temperature=0.5)(pixels, pixels)), abs=1e-6)


def test_rotations_of_an_image_repel_each_other(batch: Batch, built: Build) -> None:
    """An encoder that is blind to rotation pays for it: each image then has three others that look like itself."""

    class Blind(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return nn.functional.one_hot(images.mean((1, 2, 3)).mul(255).round().long() // 10, 8).float()

    def loss(augmented: bool) -> float:
        module = built(SimCLR(SMALL, views=NOTHING, temperature=0.5, distribution_augmentation=augmented))
        module.projector, module.encoder = nn.Identity(), Blind()  # type: ignore[assignment]
        flat = torch.arange(8, dtype=torch.uint8)[:, None, None, None].expand(8, 3, 12, 12) * 10 + 5
        return module.loss(batch._replace(images=flat), 0)[0].item()

    # Each embedding has its partner and `same` others at similarity 1, and the rest at 0.
    def expected(same: int, rest: int) -> float:
        return math.log(1 + same + rest * math.exp(-2))

    assert loss(False) == pytest.approx(expected(0, 14), abs=1e-5)
    assert loss(True) == pytest.approx(expected(6, 56), abs=1e-5)


def test_distribution_augmentation_sees_four_times_as_many(batch: Batch, built: Build) -> None:
    seen: list[torch.Size] = []
    for augmented in (False, True):
        module = built(SimCLR(SMALL, hidden_dim=16, output_dim=8, distribution_augmentation=augmented))
        module.encoder.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape))
        module.loss(batch, epoch=0)
        assert module.chance_loss(8) == pytest.approx(math.log(2 * (32 if augmented else 8) - 1))
    assert [shape[0] for shape in seen] == [16, 64]


def test_every_rotation_has_views_of_its_own(batch: Batch) -> None:
    """Four turned copies are augmented by different numbers, which hang on image and turn alone."""
    module = SimCLR(SMALL, views=Views(horizontal_flip=0.0, jitter=0.0))
    whole = turned(batch)
    assert len(whole.index.unique()) == 32 == len(whole.images)
    boxes = module.views.resolve(12, 3)._boxes(module.random(whole, epoch=1), 12, 12)
    assert len(boxes.unique(dim=0)) == 32
    parts = [turned(Batch(*(column[rows] for column in batch[:3]))) for rows in (slice(0, 4), slice(4, 8))]
    for part, rows in zip(parts, (slice(0, 4), slice(4, 8)), strict=True):
        assert torch.equal(part.index, whole.index.view(4, 8)[:, rows].flatten())
        views, expected = (module.two_views(given, epoch=1)[0] for given in (part, whole))
        assert torch.equal(views, expected.view(4, 8, 3, 12, 12)[:, rows].flatten(0, 1))


def test_without_distribution_augmentation_all_stays_as_it_was(batch: Batch, built: Build) -> None:
    module = built(SimCLR(SMALL, hidden_dim=16, output_dim=8, distribution_augmentation=False))
    views = torch.cat(module.two_views(batch, epoch=0))
    z0, z1 = module.projector(module.encoder(views)).chunk(2)
    assert torch.equal(module.loss(batch, epoch=0)[0], module.criterion(z0, z1))
    assert torch.equal(built(SimCLR(SMALL, hidden_dim=16, output_dim=8)).loss(batch, 0)[0], module.criterion(z0, z1))


def test_rotations_need_square_images(built: Build) -> None:
    module = SimCLR(SMALL, distribution_augmentation=True)
    module.encoder = build_encoder(SMALL, (3, 12, 16), [0.5] * 3, [0.5] * 3)
    with pytest.raises(ValueError, match="SimCLR with distribution_augmentation turns images by quarters"):
        module.build_heads()


def test_bad_temperature() -> None:
    with pytest.raises(ValueError, match=r"model\.temperature must be above 0, not 0"):
        SimCLR(temperature=0)


def test_learning(gain: Callable[..., float], spec: EncoderSpec) -> None:
    views = Views(crop_scale=(0.5, 1.0), horizontal_flip=0.0, rotate=15.0, translate=0.1)
    assert gain(SimCLR(spec, views=views, optimisation=Optimisation(lr=5e-3)), 25, spec) > 0.035
