"""An autoencoder on vectors: squeezed through a narrow code and restored from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from ssl_transfer.downstream.reductions.base import coordinates
from ssl_transfer.downstream.reductions.learned import BLOCK, LearnedReduction
from ssl_transfer.downstream.reductions.networks import Standardise, StandardisedMLP, train
from ssl_transfer.downstream.reductions.whiten import DIRECTIONS, Restore, Whitened
from ssl_transfer.downstream.vectors import ABOVE_0, BELOW_1, check_real, check_whole
from ssl_transfer.optimisation import Optimisation

DECODER = "decoder."  # begins the names of the decoder's tensors


class BottleneckAutoencoder(LearnedReduction):
    """Autoencoder (Hinton and Salakhutdinov 2006, https://doi.org/10.1126/science.1127647) on vectors `(N, D)`.

    An encoder of `layers` hidden layers squeezes a vector into `n_components` numbers, a mirrored decoder restores it,
    and both learn by the squared error along the principal directions of the vectors, each divided by its variance to
    the power `whitening`: otherwise the few largest say all. The code has mean zero and variance one. With `noise` or
    `masking` the undamaged vector is restored from a damaged one (Vincent et al. 2008,
    https://doi.org/10.1145/1390156.1390294).

    Args:
        n_components: width of the code.
        hidden_dim, layers: width and number of the hidden layers of the encoder, and of the decoder.
        epochs, batch_size, learning_rate: of the training.
        whitening: 0 for the features as they are, 0.5 for all directions alike; at most 256 directions are read.
        noise: standard deviation of Gaussian noise, in units of the features' own, 0 for none.
        masking: share of the features that is replaced by their mean, 0 for none.
        seed: of weights, order and damage: the same numbers twice.

    Attributes:
        network_: vectors `(B, D)` to codes `(B, n_components)`, standardisation included.
        decoder_: codes to vectors, in the features' own units.

    Example:
        >>> x = torch.randn(200, 1, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 2.0, 3.0])
        >>> reduction = BottleneckAutoencoder(n_components=1, hidden_dim=16).fit(x)
        >>> reduction.transform(x).shape, reduction.inverse_transform(reduction.transform(x)).shape
        ((200, 1), (200, 3))
    """

    decoder_: nn.Sequential

    def __init__(
        self,
        n_components: int = 2,
        hidden_dim: int = 512,
        layers: int = 2,
        epochs: int = 20,
        batch_size: int = 256,
        learning_rate: float = 1e-3,
        whitening: float = 0.25,
        noise: float = 0.0,
        masking: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.n_components = n_components
        self.hidden_dim = hidden_dim
        self.layers = layers
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.whitening = whitening
        self.noise = noise
        self.masking = masking
        self.seed = seed

    def check(self, count: int, width: int) -> None:
        super().check(count, width)
        for name, least in (("hidden_dim", 1), ("layers", 0), ("epochs", 1), ("batch_size", 2)):
            check_whole(self, name, least)
        check_real(self, "learning_rate", ABOVE_0, rule="must be above 0")
        check_real(self, "whitening", 0, 0.5, rule="is a power, 0 to 0.5")
        check_real(self, "noise", 0, rule="is a standard deviation, 0 or more")
        check_real(self, "masking", 0, BELOW_1, rule="is a share, 0 or more and below 1")

    def fit(self, X: ArrayLike | Tensor, y: object = None) -> Self:
        """Train on vectors `(N, D)`, on their device; y is ignored.

        Raises:
            ValueError: an argument outside its range, too few vectors or features, all alike, NaN or infinite values.
        """
        x = self.read(X, fitting=True)
        with torch.inference_mode(False), torch.random.fork_rng():
            torch.manual_seed(self.seed)
            network, decoder = self.build(x.shape[1]).to(x.device), self._decoder(x.shape[1]).to(x.device)
            network.measure(x)
            self._train(network, decoder, x)
        self.decoder_ = decoder
        return self.adopt(network)

    def build(self, width: int) -> Whitened:
        """The encoder, untrained: vectors `(B, width)` to codes `(B, n_components)`."""
        layers = StandardisedMLP(min(width, DIRECTIONS), self.hidden_dim, self.layers, self.n_components)
        return Whitened(width, self.whitening, *list(layers)[1:], nn.BatchNorm1d(self.n_components, affine=False))

    def inverse_transform(self, X: ArrayLike | Tensor) -> NDArray[np.float32]:
        """Vectors `(N, D)` restored from codes `(N, n_components)`.

        Raises:
            ValueError: codes of another width; or it was learned together with an encoder, which leaves no decoder.
        """
        check_is_fitted(self)
        if not hasattr(self, "decoder_"):
            raise ValueError(
                "this BottleneckAutoencoder was learned together with its encoder and restores no vectors: fit it on "
                "vectors, with a frozen encoder"
            )
        codes = torch.as_tensor(X, dtype=torch.float32)
        if codes.ndim != 2 or codes.shape[1] != self.n_components:
            raise ValueError(
                f"BottleneckAutoencoder restores codes (N, {self.n_components}), not an array of shape "
                f"{tuple(codes.shape)}"
            )
        device = next(self.decoder_.parameters()).device
        with torch.inference_mode(), torch.autocast(device.type, enabled=False):
            return coordinates(torch.cat([self.decoder_(part.to(device)) for part in codes.split(BLOCK)]))

    def state(self) -> dict[str, Tensor]:
        decoder = self.decoder_.state_dict() if hasattr(self, "decoder_") else {}
        kept = {DECODER + name: value.detach().cpu().contiguous() for name, value in decoder.items()}
        return super().state() | kept

    def load_state(self, state: Mapping[str, Tensor]) -> Self:
        decoder = {name.removeprefix(DECODER): value for name, value in state.items() if name.startswith(DECODER)}
        super().load_state({name: value for name, value in state.items() if not name.startswith(DECODER)})
        if decoder:
            self.decoder_ = self._decoder(self.n_features_in_).eval()
            self.decoder_.load_state_dict(decoder)
        return self

    def to(self, device: str | torch.device) -> Self:
        if hasattr(self, "decoder_"):
            self.decoder_.to(device)
        return super().to(device)

    def _decoder(self, width: int) -> nn.Sequential:
        read = min(width, DIRECTIONS)
        return nn.Sequential(StandardisedMLP(self.n_components, self.hidden_dim, self.layers, read), Restore(width))

    def _train(self, network: Whitened, decoder: nn.Sequential, x: Tensor) -> None:
        standardise, restore = network[0], decoder[1]
        assert isinstance(standardise, Standardise) and isinstance(restore, Restore)
        restore.adopt(network)
        random = torch.Generator(x.device).manual_seed(self.seed)

        def loss_of(rows: Tensor) -> Tensor:
            clean = x[rows]
            restored = decoder[0](network(self._damaged(clean, standardise, random)))
            return F.mse_loss(restored, network.reading(clean))

        modules, optimisation = [network, decoder], Optimisation(lr=self.learning_rate)
        train(modules, loss_of, len(x), optimisation, self.epochs, self.batch_size, self.seed, "training")

    def _damaged(self, x: Tensor, units: Standardise, random: torch.Generator) -> Tensor:
        if self.noise:
            x = x + self.noise * units.scale * torch.empty_like(x).normal_(generator=random)
        if self.masking:
            masked = torch.empty_like(x).uniform_(generator=random) < self.masking
            x = torch.where(masked, units.mean, x)
        return x
