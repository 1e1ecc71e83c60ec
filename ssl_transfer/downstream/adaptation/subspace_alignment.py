"""Subspace Alignment: the principal directions of one domain are turned onto those of the other."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_transfer.downstream.adaptation.base import Adaptation, Map, check_images


class SubspaceAlignment(Adaptation):
    """The source's principal directions are turned onto the target's (Fernando et al. 2013,
    https://doi.org/10.1109/ICCV.2013.368).

    Source features become X_S P_S P_Sᵀ P_T, target features X_T P_T, with P the first d principal directions; a linear
    classifier learns in that space.

    Args:
        n_components: d. None: as many as keep 90 % of the variance in both domains, which asks for no label (the
            published results choose d by the target's test accuracy).

    >>> maps = SubspaceAlignment(2).align(torch.randn(50, 4), torch.randn(60, 4))
    >>> [tuple(matrix.shape) for matrix, shift in maps]
    [(4, 2), (4, 2)]
    """

    spread = "give --model.method.n_components, or take CORAL or an encoder pretrained on both domains"

    def __init__(self, n_components: int | None = None) -> None:
        if n_components is not None and n_components < 1:
            raise ValueError(f"method.n_components must be at least 1, not {n_components}")
        self.n_components = n_components

    def align(self, source: Tensor, target: Tensor) -> tuple[Map, Map]:
        check_images(self, source, target)
        width, fewest = source.shape[1], min(len(source), len(target))
        if self.n_components is not None and self.n_components > min(width, fewest):
            raise ValueError(
                f"method.n_components is {self.n_components}, and {fewest} images of {width} features have at most "
                f"{min(width, fewest)} directions: give fewer"
            )
        own, other = principal(source), principal(target)
        d = self.n_components or min(min(width, fewest), max(enough(own[1]), enough(other[1])))
        p_source, p_target = own[0][:, :d], other[0][:, :d]
        to_target = p_source @ (p_source.T @ p_target)  # (D, d)
        return _centred(to_target, source), _centred(p_target, target)


def principal(features: Tensor) -> tuple[Tensor, Tensor]:
    """Principal directions `(D, min(N, D))` as columns and their variances, falling."""
    centred = features - features.mean(0)
    if len(features) > features.shape[1]:  # the smaller matrix: three times as fast
        variances, rising = torch.linalg.eigh(centred.T @ centred / (len(features) - 1))
        return rising.flip(1), variances.flip(0).clamp(min=0)
    _, singular, directions = torch.linalg.svd(centred, full_matrices=False)
    return directions.T, singular.square() / max(1, len(features) - 1)


def enough(variances: Tensor, share: float = 0.9) -> int:
    """How many of the falling `variances` make up a share of their sum.

    >>> enough(torch.tensor([6.0, 3.0, 1.0]))
    2
    """
    total = variances.cumsum(0) / variances.sum()
    return min(len(variances), int((total < share - 1e-6).sum()) + 1)


def _centred(matrix: Tensor, features: Tensor) -> Map:
    return matrix, -features.mean(0) @ matrix
