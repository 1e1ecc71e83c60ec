"""The network of "Domain-adversarial training of neural networks" for MNIST → MNIST-M (Ganin et al. 2016, figure 4)."""

from __future__ import annotations

from torch import Tensor, nn

from ssl_transfer import DomainAdapter


class Convolutions(nn.Module):
    """conv 5×5×32 → pool → conv 5×5×48 → pool: features `(B, 768)` of 28×28 images, which the domain head reads.

    batch_norm: after each convolution, as the implementations do that report .89 to .925; the paper has none.
    """

    def __init__(self, batch_norm: bool = True) -> None:
        super().__init__()
        self.layers = nn.Sequential()
        for before, width in ((3, 32), (32, 48)):
            self.layers.append(nn.Conv2d(before, width, 5))
            if batch_norm:
                self.layers.append(nn.BatchNorm2d(width))
            self.layers.extend([nn.ReLU(), nn.MaxPool2d(2)])

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, 28, 28) -> (B, 768)
        """Features."""
        features: Tensor = self.layers(x).flatten(1)
        return features


class PublishedAdapter(DomainAdapter):
    """A `DomainAdapter` whose label head is the published one, 100-100-10, where it learns by gradient."""

    def _new_head(self) -> nn.Module:
        if self.solves:
            return super()._new_head()
        return label_head(self.encoder.feature_dim, self.targets.width)


def label_head(feature_dim: int, classes: int) -> nn.Module:
    """Two hidden layers of 100."""
    hidden = [nn.Linear(feature_dim, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(100, classes))
