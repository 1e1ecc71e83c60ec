"""A map of two or more dimensions drawn by a small network, which places new images at the encoder's speed."""

from __future__ import annotations

from typing import Literal, Self

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ssl_transfer.downstream.reductions.learned import LearnedReduction
from ssl_transfer.downstream.reductions.networks import StandardisedMLP, train
from ssl_transfer.downstream.reductions.parametric_loss import METRICS, neighbour_graph, neighbour_loss
from ssl_transfer.optimisation import Optimisation

LEARNT_FROM = 200_000  # points: the exact graph of all neighbours takes time by the square of their number


class ParametricMap(LearnedReduction):
    """A small network from vectors `(N, D)` to `n_components`, trained so that neighbours lie together.

    An epoch visits every point once, with a random one of its `n_neighbors` nearest; the loss is InfoNC-t-SNE
    (`neighbour_loss`), with the rest of the batch as what lies apart. Of more than 200,000 points the map is learnt
    from 200,000, drawn by seed, since finding exact neighbours takes time by the square of their number; `transform`
    places any number.

    Args:
        n_components: coordinates.
        n_neighbors: neighbours of a point that it is drawn to.
        epochs: passes over all points.
        hidden_dim, layers: width and number of the hidden layers.
        batch_size: pairs of neighbours a step; each point is told apart from all others of the batch.
        learning_rate: the peak, after a warm-up; it falls to zero by a cosine.
        metric: `euclidean` or `cosine`, of the neighbours.
        seed: of weights, order and neighbours.

    Attributes:
        network_: module from vectors `(B, D)`, as they are, to `(B, n_components)`.

    >>> vectors = torch.rand(50, 4, generator=torch.Generator().manual_seed(0))
    >>> ParametricMap(epochs=2).fit(vectors).transform(vectors[:3]).shape
    (3, 2)
    """

    def __init__(
        self,
        n_components: int = 2,
        n_neighbors: int = 15,
        epochs: int = 40,
        hidden_dim: int = 512,
        layers: int = 2,
        batch_size: int = 1024,
        learning_rate: float = 2e-3,
        metric: Literal["euclidean", "cosine"] = "euclidean",
        seed: int = 0,
    ) -> None:
        self.n_components = n_components
        self.n_neighbors = n_neighbors
        self.epochs = epochs
        self.hidden_dim = hidden_dim
        self.layers = layers
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.metric = metric
        self.seed = seed

    def check(self, count: int, width: int) -> None:
        for name, least in (("n_neighbors", 1), ("epochs", 1), ("hidden_dim", 1), ("layers", 0), ("batch_size", 2)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise ValueError(f"ParametricMap: {name} must be {least} or more, not {value!r}")
        if self.learning_rate <= 0:
            raise ValueError(f"ParametricMap: learning_rate must be above 0, not {self.learning_rate}")
        if self.metric not in METRICS:
            raise ValueError(f"ParametricMap: metric must be {' or '.join(METRICS)}, not {self.metric!r}")
        super().check(count, width)

    def fewest_points(self) -> int:
        return self.n_neighbors + 1

    def fit(self, X: ArrayLike | Tensor, y: object = None, graph_of: ArrayLike | Tensor | None = None) -> Self:
        """Learn from vectors `(N, D)`; y is ignored.

        graph_of: other vectors `(N, E)` of the same N images whose neighbours count (raw pixels, say); None: X.
        """
        x = self.read(X, fitting=True)
        compared = x if graph_of is None else self._compared(graph_of, x)
        order = torch.Generator().manual_seed(self.seed)
        if len(x) > LEARNT_FROM:
            kept = torch.randperm(len(x), generator=order)[:LEARNT_FROM].to(x.device)
            x, compared = x[kept], compared[kept]
        graph = neighbour_graph(compared, self.n_neighbors, self.metric)

        def loss_of(rows: Tensor) -> Tensor:
            column = torch.randint(self.n_neighbors, (len(rows),), generator=order).to(rows.device)
            pairs = torch.cat([rows, graph[rows, column]])
            a, b = network(x[pairs]).chunk(2)
            return neighbour_loss(a, b)

        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            network = self.build(x.shape[1]).to(x.device)
        network.measure(x)
        optimisation = Optimisation(lr=self.learning_rate)
        train([network], loss_of, len(x), optimisation, self.epochs, self.batch_size, self.seed, "drawing the map")
        return self.adopt(network)

    def _compared(self, graph_of: ArrayLike | Tensor, x: Tensor) -> Tensor:
        compared = torch.as_tensor(graph_of).detach().float().to(x.device)
        if compared.ndim != 2 or len(compared) != len(x):
            raise ValueError(
                f"ParametricMap: graph_of must hold other vectors of the same {len(x)} images, not an array of shape "
                f"{tuple(compared.shape)}"
            )
        if not bool(torch.isfinite(compared).all()):
            raise ValueError("ParametricMap: graph_of holds NaN or inf; look at where it comes from")
        return compared

    def build(self, width: int) -> StandardisedMLP:
        return StandardisedMLP(width, self.hidden_dim, self.layers, self.n_components)
