"""A map of two or more dimensions drawn by a small network, which places new images at the encoder's speed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ssl_transfer.downstream.reductions.base import METRICS, Coordinates
from ssl_transfer.downstream.reductions.landmarks import LandmarkNetwork
from ssl_transfer.downstream.reductions.learned import LearnedReduction
from ssl_transfer.downstream.reductions.networks import Standardised, StandardisedMLP, train
from ssl_transfer.downstream.reductions.parametric_loss import neighbour_graph, neighbour_loss
from ssl_transfer.downstream.vectors import ABOVE_0, check_real, check_whole
from ssl_transfer.optimisation import Optimisation

LEARNT_FROM = 200_000  # points: the exact graph of all neighbours takes time by the square of their number
STEPS, FEWEST_EPOCHS = 1500, 40  # where epochs are not given
SPREAD = 0.3  # of the first map, by the square root of the batch
BLOCK = 2**10  # points placed at once: each has its distances to all landmarks


class ParametricMap(LearnedReduction):
    """A network from vectors `(N, D)` to `n_components`, trained so that neighbours lie together.

    An epoch visits every point once, with a random one of its `n_neighbors` nearest; the loss is InfoNC-t-SNE
    (`neighbour_loss`), with the rest of the batch as what lies apart. Of more than 200,000 points the map is learnt
    from 200,000, drawn by seed, since finding exact neighbours takes time by the square of their number; `transform`
    places any number.

    The network places a vector among landmarks, points whose coordinates are learnt (`LandmarkNetwork`): new points
    lie far truer than where a perceptron puts them. `landmarks=0` is the perceptron, for a small file and for inputs
    with much that does not matter; it is also the head where the encoder learns with the map.

    Args:
        n_components: coordinates.
        n_neighbors: neighbours of a point that it is drawn to.
        epochs: passes over all points; None: as many as make 1,500 steps, and 40 or more.
        landmarks: how many; all points, where there are fewer. 0: a perceptron.
        hidden_dim, layers: width and number of the perceptron's hidden layers.
        batch_size: pairs of neighbours a step, a quarter of the points at most; each point is told apart from all
            others of the batch.
        learning_rate: the peak, after a warm-up; it falls to zero by a cosine. None: 0.5 for landmarks, in units of
            the map, and 0.002 for the perceptron.
        metric: `euclidean` or `cosine`, of the neighbours and of the landmarks.
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
        epochs: int | None = None,
        landmarks: int = 8192,
        hidden_dim: int = 512,
        layers: int = 3,
        batch_size: int = 1024,
        learning_rate: float | None = None,
        metric: Literal["euclidean", "cosine"] = "euclidean",
        seed: int = 0,
    ) -> None:
        self.n_components = n_components
        self.n_neighbors = n_neighbors
        self.epochs = epochs
        self.landmarks = landmarks
        self.hidden_dim = hidden_dim
        self.layers = layers
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.metric = metric
        self.seed = seed

    def check(self, count: int, width: int) -> None:
        least = {"n_neighbors": 1, "epochs": 1, "landmarks": 0, "hidden_dim": 1, "layers": 0, "batch_size": 2}
        for name, limit in least.items():
            check_whole(self, name, limit, none="for the usual number" if name == "epochs" else "")
        if self.learning_rate is not None:
            check_real(self, "learning_rate", ABOVE_0, rule="must be above 0")
        if self.metric not in METRICS:
            raise ValueError(f"ParametricMap: metric must be {' or '.join(METRICS)}, not {self.metric!r}")
        super().check(count, width)

    def fewest_points(self) -> int:
        return self.n_neighbors + 1

    def fit(
        self, X: ArrayLike | Tensor, y: object = None, graph_of: ArrayLike | Tensor | tuple[Tensor, ...] | None = None
    ) -> Self:
        """Learn from vectors `(N, D)`; y is ignored.

        graph_of: other vectors `(N, E)` of the same N images whose neighbours count (raw pixels, say); None: X. A tuple
            of several: the `n_neighbors` nearest by each of them. Landmarks are near by X all the same, so X should
            hold what the neighbours differ in; only the perceptron can learn to look past the rest of X.
        """
        x = self.read(X, fitting=True)
        given = graph_of if isinstance(graph_of, tuple) else (x if graph_of is None else graph_of,)
        compared = [self._compared(vectors, x) for vectors in given]
        order = torch.Generator().manual_seed(self.seed)
        if len(x) > LEARNT_FROM:
            kept = torch.randperm(len(x), generator=order)[:LEARNT_FROM].to(x.device)
            x, compared = x[kept], [vectors[kept] for vectors in compared]
        graphs = [neighbour_graph(vectors, self.n_neighbors, self.metric) for vectors in compared]
        graph = torch.cat(graphs, dim=1)  # (N, n_neighbors of each)
        batch_size = max(2, min(self.batch_size, len(x) // 4))
        network = self._landmarks_for(x, order, batch_size) if self.landmarks else self._perceptron_for(x)
        placed = network.placing(x) if isinstance(network, LandmarkNetwork) else lambda rows: network(x[rows])

        def loss_of(rows: Tensor) -> Tensor:
            column = torch.randint(graph.shape[1], (len(rows),), generator=order).to(rows.device)
            a, b = placed(torch.cat([rows, graph[rows, column]])).chunk(2)
            return neighbour_loss(a, b)

        optimisation = self._optimisation()
        epochs = self.epochs or max(FEWEST_EPOCHS, STEPS * batch_size // len(x))
        train([network], loss_of, len(x), optimisation, epochs, batch_size, self.seed, "drawing the map")
        return self.adopt(network)

    def _optimisation(self) -> Optimisation:
        if self.landmarks:  # the rate is in units of the map, and coordinates need no decay
            return Optimisation(lr=self.learning_rate or 0.5, weight_decay=0.0)
        return Optimisation(lr=self.learning_rate or 2e-3)

    def _perceptron_for(self, x: Tensor) -> Standardised:
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            network = self.build(x.shape[1]).to(x.device)
        network.measure(x)
        return network

    def _landmarks_for(self, x: Tensor, generator: torch.Generator, batch_size: int) -> LandmarkNetwork:
        network = self._landmark_network(x.shape[1], min(self.landmarks, len(x))).to(x.device)
        network.measure(x)
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            network.landmarks.choose(network.prepare(x), spread=SPREAD * batch_size**0.5, generator=generator)
        return network

    def _landmark_network(self, width: int, count: int) -> LandmarkNetwork:
        return LandmarkNetwork(width, count, self.n_components, unit=self.metric == "cosine")

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
        """The perceptron, untrained: the head of an encoder that learns with it, and of `landmarks=0`."""
        return StandardisedMLP(width, self.hidden_dim, self.layers, self.n_components)

    def load_state(self, state: Mapping[str, Tensor]) -> Self:
        if (vectors := state.get("1.vectors")) is None:
            return super().load_state(state)
        network = self._landmark_network(len(state["0.mean"]), len(vectors))
        network.load_state_dict(dict(state))
        return self.adopt(network)

    def transform(self, X: ArrayLike | Tensor) -> Coordinates:
        x = self.read(X)
        return np.concatenate([super(ParametricMap, self).transform(part) for part in x.split(BLOCK)])
