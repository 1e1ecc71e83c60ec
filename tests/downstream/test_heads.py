from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ssl_transfer.downstream.heads import Translation, nearest_mean


def test_nearest_mean_is_the_nearest_of_standardised_means() -> None:
    torch.manual_seed(0)
    features = torch.randn(40, 5) * torch.tensor([1.0, 10.0, 0.1, 3.0, 1.0]) + 7
    targets = torch.arange(40) % 3
    head = nearest_mean(features, targets, 3)
    x = (features - features.mean(0)) / features.std(0, correction=0)
    means = torch.stack([x[targets == k].mean(0) for k in range(3)])
    expected = -0.5 * (torch.cdist(x, means) ** 2 - (x**2).sum(1, keepdim=True))
    torch.testing.assert_close(head(features), expected, rtol=1e-3, atol=1e-3)
    assert torch.equal(head(features).argmax(1), torch.cdist(x, means).argmin(1))


def test_classes_and_images_without_labels_do_not_count() -> None:
    features = torch.tensor([[0.0, 0.0], [2.0, 0.0], [50.0, 50.0]])
    head = nearest_mean(features, torch.tensor([0, 2, -1]), 3)
    assert head(features[:2]).argmax(1).tolist() == [0, 2]
    assert (head(features).softmax(1)[:, 1] == 0).all()
    assert head.weight.isfinite().all()  # a constant feature too
    with pytest.raises(ValueError, match="there are none: label some"):
        nearest_mean(features, torch.full((3,), -1), 3)


def test_translation_is_the_expected_empirical_predictor() -> None:
    torch.manual_seed(1)
    logits, targets = torch.randn(30, 4), torch.arange(30) % 3
    own = logits.softmax(1).double()
    joint = torch.zeros(4, 3, dtype=torch.float64)
    for row, target in zip(own, targets, strict=True):
        joint[:, target] += row
    joint += 0.5 / 3  # classes are equally frequent
    conditional = joint / joint.sum(1, keepdim=True)
    expected = (own @ conditional).log().float()
    translation = Translation(4, 3, smoothing=0.5).fit(logits, targets)
    torch.testing.assert_close(translation(logits), expected)
    torch.testing.assert_close(translation(logits).exp().sum(1), torch.ones(30))


def test_an_own_class_that_stands_for_one_class_says_that_class() -> None:
    logits = torch.eye(3) * 200
    translation = Translation(3, 3, smoothing=1e-6).fit(logits, torch.tensor([2, 0, 1]))
    torch.testing.assert_close(translation(logits).exp(), torch.eye(3)[[2, 0, 1]], atol=1e-4, rtol=0)


def test_what_no_image_looks_like_says_how_frequent_classes_are() -> None:
    logits = torch.tensor([[100.0, 0, 0]]).expand(4, 3)
    translation = Translation(3, 2).fit(logits, torch.tensor([0, 0, 0, -1]))
    unseen = translation(torch.tensor([[0.0, 0, 100.0]])).exp()
    torch.testing.assert_close(unseen, torch.tensor([[0.8, 0.2]]))


def test_the_table_is_the_state() -> None:
    translation = Translation(5, 2)
    assert {key: tuple(value.shape) for key, value in translation.state_dict().items()} == {"table": (5, 2)}
    torch.testing.assert_close(translation(torch.zeros(1, 5)).exp(), torch.full((1, 2), 0.5))
    assert not list(translation.parameters())
    with pytest.raises(ValueError, match="smoothing must be above 0"):
        Translation(5, 2, smoothing=0)
    with pytest.raises(ValueError, match="there are none"):
        translation.fit(torch.zeros(1, 5), torch.tensor([-1]))


class Largest(TorchDispatchMode):
    """Notes how many numbers the largest tensor holds."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        self.numbers = max(self.numbers, output.numel())
        return output


def test_a_translation_takes_no_more_memory_than_it_reads() -> None:
    translation, logits = Translation(30, 20), torch.randn(50, 30)
    with Largest() as largest:
        translation(logits)
    assert largest.numbers == 50 * 30


def test_a_translation_is_exact_and_finite() -> None:
    torch.manual_seed(0)
    translation = Translation(40, 3).fit(torch.randn(90, 40), torch.arange(90) % 3)
    logits = torch.randn(20, 40)
    exact = translation(logits)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(translation(logits), exact)
    renamed = Translation(3, 3).rename("bca", "abc")(torch.tensor([[0.0, 300.0, -300.0]]))
    assert renamed.isfinite().all() and renamed.exp()[0].tolist() == pytest.approx([0.0, 0.0, 1.0])
