"""What features look like without any label: their rank, their spread, and how views and images are laid out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def rankme(features: Tensor) -> float:
    """Effective rank of features `(N, D)`: from 1 (all on one line through the origin) to min(N, D).

    The exponential of the entropy of the singular values (RankMe: Garrido et al. 2023,
    https://arxiv.org/abs/2210.02885), taken from the smaller of the D×D and N×N products of the features in double
    precision. Features that are all zero have rank 0.

    >>> round(rankme(torch.eye(8)), 3), round(rankme(torch.ones(8, 4)), 3)
    (8.0, 1.0)
    """
    x = features.double()
    product = x.T @ x if x.shape[1] <= len(x) else x @ x.T
    singular = torch.linalg.eigvalsh(product).clamp(min=0).sqrt()
    total = float(singular.sum())
    if total == 0:
        return 0.0
    share = singular / total
    share = share[share > 1e-7]  # of the square roots of rounding errors nothing is left
    return float(torch.exp(-(share * share.log()).sum()))


def feature_std(features: Tensor) -> float:
    """Mean standard deviation of a dimension of the L2-normalised features `(N, D)`, times √D.

    0 where all images share one feature (collapse); 1 where features point everywhere alike (Chen and He 2021,
    https://arxiv.org/abs/2011.10566). A network that ends in a ReLU lies between: its features share a direction.

    >>> feature_std(torch.ones(10, 4))
    0.0
    """
    z = F.normalize(features.float(), dim=1)
    return float(z.std(0, correction=0).mean() * z.shape[1] ** 0.5)


def alignment(first: Tensor, second: Tensor) -> float:
    """Mean squared distance of two views' L2-normalised features `(N, D)`: 0 where views of an image agree.

    Wang and Isola 2020, https://arxiv.org/abs/2005.10242.
    """
    return float((F.normalize(first.float(), dim=1) - F.normalize(second.float(), dim=1)).square().sum(1).mean())


def uniformity(features: Tensor) -> float:
    """Log of the mean of exp(−2 d²) over all pairs of L2-normalised features `(N, D)`, N ≥ 2: 0 for one point only.

    It falls towards −4 as features spread over the sphere (Wang and Isola 2020). Memory is N × N: give a thousand or
    two.
    """
    distances = torch.pdist(F.normalize(features.float(), dim=1))
    return float(distances.square().mul(-2).exp().mean().log())
