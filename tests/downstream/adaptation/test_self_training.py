"""Self-training: what is taken, how it is balanced, and what flows back."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_transfer.downstream.adaptation.base import Reading
from ssl_transfer.downstream.adaptation.self_training import SelfTraining, eased, rebalanced


def _reading(logits: Tensor, plain: Tensor | None = None) -> Reading:
    return Reading(torch.zeros(len(logits), 2), logits, plain)


def test_the_loss_is_that_of_the_confident_images_alone() -> None:
    source = _reading(torch.tensor([[9.0, 0.0], [0.0, 9.0]]))
    plain = torch.tensor([[8.0, 0.0], [0.1, 0.0], [0.0, 8.0]])
    strong = torch.randn(3, 2)
    method = SelfTraining(threshold=0.9, warmup=0.0, balance="none")
    loss, figures = method.loss(method.heads(2, 2), source, _reading(strong, plain), progress=1.0)
    wanted = (F.cross_entropy(strong[:1], torch.tensor([0])) + F.cross_entropy(strong[2:], torch.tensor([1]))) / 3
    torch.testing.assert_close(loss, wanted)
    assert float(figures["taken"]) == pytest.approx(2 / 3)


def test_the_threshold_is_a_share_of_how_sure_the_source_is() -> None:
    plain = torch.tensor([[1.0, 0.0]])  # .73
    method = SelfTraining(threshold=0.9, warmup=0.0, balance="none")
    for logits, taken in ((torch.tensor([[9.0, 0.0]]), 0.0), (torch.tensor([[0.5, 0.0]]), 1.0)):
        _, figures = method.loss(method.heads(2, 2), _reading(logits), _reading(plain, plain), progress=1.0)
        assert float(figures["taken"]) == taken


def test_no_gradient_flows_through_the_labels() -> None:
    plain = torch.randn(4, 3).requires_grad_()
    strong, known = torch.randn(4, 3).requires_grad_(), torch.randn(4, 3).requires_grad_()
    method = SelfTraining(threshold=0.0, warmup=0.0)
    method.loss(method.heads(2, 3), _reading(known), _reading(strong, plain), progress=1.0)[0].backward()
    assert plain.grad is None and known.grad is None
    assert strong.grad is not None and strong.grad.abs().sum() > 0


def test_classes_that_are_answered_too_often_are_held_back() -> None:
    """Of ten doubtful answers nine go to class 0; drawn to equal frequencies, they go to class 1."""
    method = SelfTraining(threshold=0.0, warmup=0.0, memory=0.0)
    plain = torch.cat([torch.tensor([[0.1, 0.0]]).repeat(9, 1), torch.tensor([[9.0, 0.0]])])
    strong = torch.zeros(10, 2).requires_grad_()
    method.loss(method.heads(2, 2), _reading(torch.zeros(2, 2)), _reading(strong, plain), progress=1.0)[0].backward()
    assert strong.grad is not None
    assert strong.grad.argmin(1).tolist() == [1] * 9 + [0]  # the gradient lifts a label's own logit


def test_rebalancing_to_what_is_leaves_answers_alone() -> None:
    answers, frequencies = torch.tensor([[0.8, 0.2], [0.2, 0.8]]), torch.tensor([0.7, 0.3])
    torch.testing.assert_close(rebalanced(answers, frequencies, frequencies), answers)


def test_a_class_that_is_seldom_sure_has_a_lower_threshold() -> None:
    """All answers of class 0 are sure and none of class 1, which would never be learnt."""
    plain = torch.cat([torch.tensor([[9.0, 0.0]]).repeat(10, 1), torch.tensor([[0.0, 1.0]]).repeat(10, 1)])
    source = _reading(torch.tensor([[9.0, 0.0], [0.0, 9.0]]))
    for curriculum, taken in ((True, 1.0), (False, 0.5)):
        method = SelfTraining(0.9, warmup=0.0, memory=0.0, curriculum=curriculum)
        _, figures = method.loss(method.heads(2, 2), source, _reading(plain, plain), progress=1.0)
        assert float(figures["taken"]) == taken


def test_easing_is_the_convex_map_of_the_share_of_the_surest_class() -> None:
    """A class at a time."""
    sure, wanted = [0.25, 0.1, 0.0], 1 / 3
    shares = [n / max(sure) for n in sure]
    slow = torch.tensor([share / (2 - share) for share in shares])
    torch.testing.assert_close(eased(torch.tensor(sure), torch.full((3,), wanted)), slow)


def test_easing_takes_classes_for_what_is_wanted_of_them() -> None:
    """A rare class with all of its images sure is no class that was left behind."""
    assert eased(torch.tensor([0.9, 0.1]), torch.tensor([0.9, 0.1])).tolist() == pytest.approx([1.0, 1.0])
    assert eased(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0])).tolist() == [0.0, 1.0]  # a class that never came


def test_a_class_that_is_answered_too_often_opens_no_other_threshold() -> None:
    """As of a rare class that has swallowed some of another: the rest has all its sure answers but a tenth."""
    sure, wanted = torch.tensor([0.45, 0.45, 0.01]), torch.tensor([0.4995, 0.4995, 0.001])
    assert eased(sure, wanted).tolist() == pytest.approx([0.82, 0.82, 1.0], abs=0.01)


def test_a_fit_begins_with_the_whole_threshold() -> None:
    """Before anything is known of the classes, only what is sure is taken."""
    method = SelfTraining(0.9, warmup=0.0, curriculum=True)
    plain, source = torch.tensor([[0.5, 0.0], [0.0, 0.5]]), _reading(torch.tensor([[9.0, 0.0], [0.0, 9.0]]))
    heads = method.heads(2, 2)
    for _ in range(20):
        _, figures = method.loss(heads, source, _reading(plain, plain), progress=1.0)
        assert float(figures["taken"]) == 0


def test_the_weight_waits_and_then_rises() -> None:
    method = SelfTraining(warmup=0.1)
    assert [round(method.rise(p), 2) for p in (0.0, 0.1, 0.15, 0.2, 1.0)] == [0, 0, 0.5, 1, 1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"threshold": 1.5}, "method.threshold is a share"),
        ({"weight": 0}, "method.weight must be above 0"),
        ({"warmup": 0.5}, "method.warmup is a share"),
        ({"balance": "even"}, "method.balance must be uniform, source or none"),
        ({"memory": 1.0}, "method.memory is a share"),
        ({"curriculum": True, "balance": "none"}, "method.curriculum needs to know how frequent classes should be"),
    ],
)
def test_bad_arguments(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SelfTraining(**arguments)  # type: ignore[arg-type]
