"""A memory of normal patches, and the distance of each patch of an image from it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal, Self

import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from ssl_transfer.downstream.detectors.base import Detector, Scores, scores_of
from ssl_transfer.downstream.detectors.coreset import greedy_k_centre
from ssl_transfer.downstream.detectors.forecast import (
    GIB,
    MemoryForecast,
    duration,
    free_bytes,
    largest_share,
    matmul_rate,
    size,
)
from ssl_transfer.downstream.detectors.nearest import Nearest
from ssl_transfer.downstream.detectors.patches import Collected, candidates, pooled, rows_of
from ssl_transfer.downstream.detectors.smoothing import smooth

BATCH = 32  # images pooled at once where all maps are given at once
WHOLE = 50  # images that the threshold of `predict` is found with
NEIGHBOURS = 9  # rows about the nearest that re-weighting looks at


class PatchMemoryBank(Detector):
    """Distance of an image's patches from a coreset of normal patches (PatchCore: Roth et al. 2022,
    https://arxiv.org/abs/2106.08265).

    It reads feature maps `(N, D, h, w)`, those of several stages brought to one grid and stacked. A patch's anomaly is
    its mean distance to the nearest patches of the bank; an image's is that of its worst patch in the smoothed map.
    The bank is chosen among candidates drawn at random from each image, at most `candidates_per_centre` for each patch
    it will hold, so that memory and time fall with `coreset`. `offset_` comes from some 50 of the fitted images, each
    scored without its own patches.

    Args:
        coreset: share of all patches that the bank holds.
        n_neighbors: nearest patches whose distances are averaged.
        projection_dim: width of the random projection in which the coreset is chosen.
        neighbourhood: patches are averaged over so many cells a side, an odd number; 1 leaves them as they are.
        smoothing: standard deviation of the Gaussian over the anomaly map, in cells of the map; 0 for none.
        image_score: `max` of the map; `reweighted`, the same times PatchCore's weight, which is smaller where the
            nearest patch of the bank lies in a crowd.
        candidates_per_centre: see above.
        precision: of the patches in memory.
        memory: GiB that fitting may take; None for what is free.
        seed: of the candidates, the projection and the first patch chosen.
        false_alarm_rate: share of normal images that `predict` may call anomalies.

    Example:
        >>> normal = torch.randn(20, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> broken = normal[:1].clone()
        >>> broken[0, :, 2:5, 3:6] += 9
        >>> bank = PatchMemoryBank().fit(normal)
        >>> bank.predict(broken), divmod(int(bank.anomaly_maps(broken).argmax()), 8)
        (array([-1]), (3, 4))
    """

    reads: ClassVar[Literal["features", "maps", "images"]] = "maps"

    def __init__(
        self,
        coreset: float = 0.1,
        n_neighbors: int = 1,
        projection_dim: int = 128,
        neighbourhood: int = 3,
        smoothing: float = 1.0,
        image_score: Literal["max", "reweighted"] = "max",
        candidates_per_centre: int = 20,
        precision: Literal["float32", "float16"] = "float32",
        memory: float | None = None,
        seed: int = 0,
        false_alarm_rate: float = 0.05,
    ) -> None:
        self.coreset = coreset
        self.n_neighbors = n_neighbors
        self.projection_dim = projection_dim
        self.neighbourhood = neighbourhood
        self.smoothing = smoothing
        self.image_score = image_score
        self.candidates_per_centre = candidates_per_centre
        self.precision = precision
        self.memory = memory
        self.seed = seed
        self.false_alarm_rate = false_alarm_rate

    # fitting

    def fit(self, X: Tensor, y: object = None) -> Self:  # type: ignore[override]
        """Build the bank from maps `(N, D, h, w)` of N normal images. Raises as `fit_batches`."""
        return self.fit_batches(self._read(X, None).split(BATCH), count=len(X))

    def fit_batches(self, batches: Iterable[Tensor], count: int | None = None) -> Self:
        """Build the bank from batches of maps `(n, D, h, w)`, of which only the drawn candidates are kept.

        count: images in all batches; if it is given, a bank that cannot fit is refused at the first.

        Raises:
            ValueError: an argument outside its range, too few images, maps of another shape, NaN, patches all alike,
                or more memory than there is.
        """
        self._check_arguments()
        dtype = torch.float16 if self.precision == "float16" else torch.float32
        collected = Collected(self._share(self.coreset), WHOLE, dtype, self.seed)
        for maps in batches:
            maps = self._read(maps.detach(), collected.grid)
            if count is not None and collected.images == 0:
                self._refuse_too_much(count, maps.shape[1], maps.shape[2], maps.shape[3], maps.device)
            collected.add(pooled(maps, self.neighbourhood))
        self.check_count(collected.images, 2)
        assert collected.grid is not None, "there are images"
        depth, height, width = collected.grid
        points, images = collected.finish()
        self.check_varied(points)
        held = self._held(collected.images, height * width)
        chosen = greedy_k_centre(points, held, self.projection_dim, self.seed)
        self.bank_, self.bank_image_ = points[chosen], images[chosen]
        self.depth_, self.height_, self.width_ = depth, height, width
        self._set_offset_by(collected.kept)
        return self

    def forecast(
        self, count: int, depth: int, height: int, width: int, device: torch.device | str = "cpu"
    ) -> MemoryForecast:
        """Peak memory and time of fitting on `count` images with maps `(depth, height, width)`, before it begins.

        The time is that of the coreset and of the threshold, on this machine; the encoder's is not in it.
        """
        patches = height * width
        held, drawn = self._held(count, patches), count * candidates(self._share(self.coreset), patches)
        needed = self._bytes(self.coreset, count, depth, patches)
        project = drawn * depth * self.projection_dim if depth > self.projection_dim else 0
        select = drawn * held * min(depth, self.projection_dim) * 1.5
        score = min(WHOLE, count) * patches * held * depth * 1.5
        seconds = 2 * (project + select + score) / matmul_rate(torch.device(device))
        text = (
            f"memory bank: {held:,} of {count * patches:,} patches, chosen among {drawn:,}; at most {size(needed)} of "
            f"memory, and about {duration(seconds)}"
        )
        return MemoryForecast(needed, seconds, text)

    def _check_arguments(self) -> None:
        self.check_rate()
        rules = (
            ("coreset", 0 < self.coreset <= 1, "a share above 0 and at most 1"),
            ("n_neighbors", self.n_neighbors >= 1, "1 or more"),
            ("projection_dim", self.projection_dim >= 1, "1 or more"),
            ("neighbourhood", self.neighbourhood >= 1 and self.neighbourhood % 2 == 1, "an odd number of cells"),
            ("smoothing", self.smoothing >= 0, "0 or more cells"),
            ("image_score", self.image_score in ("max", "reweighted"), "max or reweighted"),
            ("candidates_per_centre", self.candidates_per_centre >= 1, "1 or more"),
            ("precision", self.precision in ("float32", "float16"), "float32 or float16"),
            ("memory", self.memory is None or self.memory > 0, "above 0 GiB, or None for what is free"),
        )
        for name, holds, rule in rules:
            if not holds:
                raise ValueError(f"{name} must be {rule}, not {getattr(self, name)!r}")

    def _share(self, coreset: float) -> float:
        """Share of an image's patches that are candidates."""
        return min(1.0, self.candidates_per_centre * coreset)

    def _held(self, count: int, patches: int) -> int:
        """Patches in the bank: never fewer than the neighbours that are asked for."""
        drawn = count * candidates(self._share(self.coreset), patches)
        if drawn <= self.n_neighbors:
            raise ValueError(
                f"n_neighbors={self.n_neighbors} needs more patches than the {drawn} of {count} images: give more "
                f"images, or set n_neighbors lower"
            )
        return min(drawn, max(self.n_neighbors + 1, round(self.coreset * count * patches)))

    def _bytes(self, coreset: float, count: int, depth: int, patches: int) -> int:
        """Peak memory: candidates with their projection, the bank, whole images, and blocks in passing."""
        drawn = count * candidates(self._share(coreset), patches)
        each = depth * (2 if self.precision == "float16" else 4)
        projection = drawn * (4 * min(depth, self.projection_dim) + 24)
        batch = 3 * BATCH * patches * depth * 4
        return int(drawn * each + projection + coreset * count * patches * each + batch) + (
            min(WHOLE, count) * patches * depth * 4
        )

    def _refuse_too_much(self, count: int, depth: int, height: int, width: int, device: torch.device) -> None:
        allowed, which = (free_bytes(device), "free") if self.memory is None else (self.memory * GIB, "allowed")
        patches = height * width
        needed = self._bytes(self.coreset, count, depth, patches)
        if needed <= allowed:
            return
        smaller = largest_share(lambda share: self._bytes(share, count, depth, patches) <= allowed, self.coreset)
        cure = f"set coreset to {smaller:g}" if smaller else "give fewer images or coarser maps"
        raise ValueError(
            f"a memory bank with coreset={self.coreset:g} of {count:,} images with {height}×{width} patches of {depth} "
            f"values needs {size(needed)}, and {size(allowed)} is {which}; {cure}"
        )

    def _set_offset_by(self, kept: list[tuple[int, Tensor]]) -> None:
        """`offset_` from images kept whole, each without what the bank has of it."""
        nearest = Nearest(self.bank_)
        scores = []
        for image, patches in kept:
            allowed = self.bank_image_ != image
            if int(allowed.sum()) >= self.n_neighbors:
                scores.append(self._score(patches, nearest, allowed)[0])
        if not scores:
            raise ValueError(
                f"a coreset of {len(self.bank_)} patches is too small to compare images by n_neighbors="
                f"{self.n_neighbors}; raise coreset above {self.coreset:g}"
            )
        self.set_offset(scores_of(torch.stack(scores)))

    # scoring

    def score_samples(self, X: Tensor) -> Scores:  # type: ignore[override]
        """Minus the anomaly of the worst patch, float64 `(N,)`, of maps `(N, D, h, w)`."""
        return scores_of(self.score_maps(X)[0])

    def anomaly_maps(self, maps: Tensor) -> Tensor:
        """The anomaly of each patch, `(N, h, w)` float32, smoothed; high is abnormal."""
        return self.score_maps(maps)[1]

    @torch.no_grad()
    def score_maps(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Anomaly scores `(N,)` and anomaly maps `(N, h, w)`, float32, of maps `(N, D, h, w)`; high is abnormal."""
        check_is_fitted(self)
        maps = self._read(maps, (self.depth_, self.height_, self.width_)).to(self.bank_.device)
        nearest = Nearest(self.bank_)
        found = [self._score(patches, nearest) for part in maps.split(BATCH) for patches in self._patches(part)]
        if not found:
            return maps.new_zeros(0), maps.new_zeros(0, self.height_, self.width_)
        return torch.stack([score for score, _ in found]), torch.stack([anomaly for _, anomaly in found])

    def _patches(self, maps: Tensor) -> Tensor:
        return rows_of(pooled(maps, self.neighbourhood))

    def _score(self, patches: Tensor, nearest: Nearest, allowed: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Anomaly score and smoothed map `(h, w)` of one image's patches `(h·w, D)`."""
        distances, indices = nearest(patches.clone(), self.n_neighbors, allowed)  # cloned: aligned alike in any batch
        anomaly = distances.mean(1)
        smoothed = smooth(anomaly.view(1, self.height_, self.width_), self.smoothing)[0]
        score = smoothed.max()
        if self.image_score == "reweighted":
            worst = int(anomaly.argmax())
            score = score * self._weight(patches[worst], indices[worst, 0], nearest)
        return score, smoothed

    def _weight(self, patch: Tensor, closest: Tensor, nearest: Nearest) -> Tensor:
        """1 − softmax of the patch's distances to its nearest bank row and that row's neighbours (Roth, equation 7)."""
        around = nearest(self.bank_[closest].float()[None], min(NEIGHBOURS, len(self.bank_)))[1][0]  # itself first
        around = torch.cat([closest[None], around[around != closest]])
        distances = (self.bank_[around].float() - patch).square().sum(1).sqrt()
        return 1 - distances.softmax(0)[0] if len(around) > 1 else distances.new_ones(())

    def _read(self, maps: Tensor, grid: tuple[int, int, int] | None) -> Tensor:
        """Check maps `(N, D, h, w)`: their shape `grid`, and that all is finite."""
        if maps.ndim != 4 or (grid is not None and tuple(maps.shape[1:]) != grid):
            wanted = "(N, D, h, w)" if grid is None else f"(N, {grid[0]}, {grid[1]}, {grid[2]})"
            raise ValueError(f"PatchMemoryBank reads maps of shape {wanted}, not {tuple(maps.shape)}")
        self.check_finite(maps, "feature maps")
        return maps
