"""Heads that are counted or averaged from labelled images, without a descent."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ssl_transfer.encoders import Encoder
from ssl_transfer.evaluation.probes import LinearHead

LEAST_SCALE = 1e-4  # a feature that hardly varies is not blown up
NEVER = -1e30  # the logit of a class that no image has


def nearest_mean(features: Tensor, targets: Tensor, classes: int) -> LinearHead:
    """The classifier that takes the class with the nearest mean, as an affine map to logits.

    Features are standardised first; the logits are −½‖x − μₖ‖² but for what all classes share, so that their softmax
    is the posterior of classes of equal frequency and unit spread (Mensink et al. 2013, Distance-based image
    classification, https://doi.org/10.1109/TPAMI.2013.83). A class without an image is never taken.

    Args:
        features: `(N, D)`.
        targets: `(N,)`, in 0 … classes − 1; −1 is left out.

    Raises:
        ValueError: no row has a target.

    >>> head = nearest_mean(torch.tensor([[0.0], [1.0], [9.0]]), torch.tensor([0, 0, 1]), classes=2)
    >>> head(torch.tensor([[4.0], [5.5]])).argmax(1)
    tensor([0, 1])
    """
    known = targets >= 0
    if not known.any():
        raise ValueError("the means of the classes need labelled images, and there are none: label some")
    x, targets = features[known].double(), targets[known]
    mean, scale = x.mean(0), x.std(0, correction=0).clamp(min=LEAST_SCALE)
    counts = torch.bincount(targets, minlength=classes)  # (K,)
    sums = torch.zeros(classes, x.shape[1], dtype=x.dtype, device=x.device).index_add_(0, targets, (x - mean) / scale)
    means = sums / counts.clamp(min=1)[:, None]  # (K, D)
    weight = means / scale
    bias = -0.5 * means.square().sum(1) - weight @ mean
    weight, bias = weight.float(), bias.float()
    return LinearHead(weight, bias.masked_fill(counts == 0, NEVER))


class Translation(nn.Module):
    """From the class logits of a network's own head `(B, Z)` to log-probabilities `(B, K)` of other classes.

    The expected empirical predictor of LEEP (Nguyen et al. 2020, https://arxiv.org/abs/2002.12462): the probability of
    a class is Σ_z P(y | z) p(z | x), with P(y | z) counted on labelled images, each counting for every z by p(z | x).
    Nothing is learned by gradient.

    Args:
        own: number Z of the network's own classes.
        classes: number K of the classes to tell apart.
        smoothing: images that are added to each own class, spread over the classes about as all images are; an own
            class that no image looks like then says no more than how frequent they are.

    >>> table = Translation(2, 3).fit(torch.tensor([[9.0, 0.0], [0.0, 9.0]]), torch.tensor([2, 0]))
    >>> table(torch.tensor([[9.0, 0.0]])).argmax(1)
    tensor([2])
    """

    table: Tensor  # (Z, K), log P(y | z)

    def __init__(self, own: int, classes: int, smoothing: float = 0.1) -> None:
        super().__init__()
        if smoothing <= 0:
            raise ValueError(f"smoothing must be above 0 images, not {smoothing}: an own class may be seen in none")
        self.smoothing = smoothing
        self.register_buffer("table", torch.full((own, classes), 1 / classes).log())

    def rename(self, own: Sequence[str], classes: Sequence[str]) -> Translation:
        """Take own classes for those of the same names: for another order of the same classes."""
        same = torch.tensor([[name == wanted for wanted in classes] for name in own])
        self.table.copy_(torch.where(same, 0.0, NEVER))
        return self

    def fit(self, logits: Tensor, targets: Tensor) -> Translation:
        """Count on own class logits `(N, Z)` of images with targets `(N,)`; −1 is left out."""
        classes = self.table.shape[1]
        known = targets >= 0
        if not known.any():
            raise ValueError("P(class | own class) is counted on labelled images, and there are none: label some")
        own_classes = logits[known].double().softmax(1)  # (N, Z)
        labels = nn.functional.one_hot(targets[known], classes).to(own_classes)  # (N, K)
        frequency = (labels.sum(0) + 1) / (len(labels) + classes)  # (K,), of no class zero
        joint = own_classes.T @ labels + self.smoothing * frequency  # (Z, K)
        self.table.copy_((joint / joint.sum(1, keepdim=True)).log())
        return self

    def forward(self, logits: Tensor) -> Tensor:  # (B, Z) -> (B, K)
        """Log-probabilities of the classes."""
        with torch.autocast(logits.device.type, enabled=False):  # half precision would make sums other than one
            probabilities = logits.float().softmax(1) @ self.table.exp()
        return probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log()


def as_is_head(encoder: Encoder, classes: int) -> nn.Module:
    """The head for an encoder that is used as it is: of its own answers if it has a head, else of its features."""
    if encoder.spec.own_head:
        return Translation(encoder.feature_dim, classes)
    return nn.Linear(encoder.feature_dim, classes)


@torch.no_grad()
def read_off(head: nn.Module, encoder: Encoder, features: Tensor, targets: Tensor, classes: Sequence[str]) -> nn.Module:
    """Fit a head of `as_is_head` to features `(N, D)` of images with targets `(N,)`, without a descent."""
    if isinstance(head, nn.Linear):
        found = nearest_mean(features, targets, len(classes))
        head.weight.copy_(found.weight)
        head.bias.copy_(found.bias)
        return head
    assert isinstance(head, Translation)
    own = encoder.own_classes
    if own is not None and set(own) == set(classes):
        return head.rename(own, classes)
    return head.fit(features, targets)
