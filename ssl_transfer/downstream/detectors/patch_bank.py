"""A memory of normal patches, and the distance of each patch of an image from it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, Literal, Self

import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from ssl_transfer.downstream.detectors.bank_plan import BATCH, WHOLE, BankPlan, candidate_share
from ssl_transfer.downstream.detectors.base import Detector, Scores, scores_of
from ssl_transfer.downstream.detectors.coreset import greedy_k_centre
from ssl_transfer.downstream.detectors.forecast import MemoryForecast
from ssl_transfer.downstream.detectors.nearest import Nearest
from ssl_transfer.downstream.detectors.patches import Collected, pooled, rows_of
from ssl_transfer.downstream.detectors.places import Usual, unusual, unusual_among_others, usual
from ssl_transfer.downstream.detectors.smoothing import smooth
from ssl_transfer.downstream.detectors.whitening import ROWS, whitening
from ssl_transfer.downstream.detectors.whole_image import distance, distances_from_others, image_vector, remember

NEIGHBOURS = 9  # rows about the nearest that re-weighting looks at


class PatchMemoryBank(Detector):
    """Distance of an image's patches from a coreset of normal patches (PatchCore: Roth et al. 2022,
    https://arxiv.org/abs/2106.08265), whitened, and judged by what is usual at their place.

    It reads feature maps `(N, D, h, w)`, those of several stages brought to one grid and stacked. A patch's anomaly is
    its mean distance to the nearest patches of the bank; an image's is that of its worst patch in the smoothed map.
    The bank is chosen among candidates drawn at random from each image, at most `candidates_per_centre` for each patch
    it will hold, so that memory and time fall with `coreset`. What is usual, and `offset_`, come from up to 150 of the
    fitted images, each scored without its own patches.

    Args:
        coreset: share of all patches that the bank holds.
        n_neighbors: nearest patches whose distances are averaged.
        projection_dim: width of the random projection in which the coreset is chosen.
        neighbourhood: patches are averaged over so many cells a side, an odd number; 1 leaves them as they are.
        smoothing: standard deviation of the Gaussian over the anomaly map, in cells of the map; 0 for none.
        image_score: `standardised`, the maximum of the map counted in deviations from what is usual at each place;
            `max` of the map itself; `reweighted`, the latter times PatchCore's weight, which is smaller where the
            nearest patch of the bank lies in a crowd.
        whiten: shrinkage of the patches' whitening, which gives their principal axes equal weight; None for none.
        position: weight of a patch's place among its values, where objects always lie alike; whitened patches are
            about 1 apart, and opposite sides of an image `position`.
        whole_image: weight of an image's distance, as a whole in 4×4 cells, from the nearest normal image; it is added
            to the image's score, each counted in its own deviations. For images that resemble one another closely.
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
        neighbourhood: int = 1,
        smoothing: float = 1.0,
        image_score: Literal["standardised", "max", "reweighted"] = "standardised",
        whiten: float | None = 0.1,
        position: float = 0.0,
        whole_image: float = 0.0,
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
        self.whiten = whiten
        self.position = position
        self.whole_image = whole_image
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
        share = candidate_share(self.coreset, self.candidates_per_centre)
        collected = Collected(share, WHOLE, dtype, self.seed, self.position)
        vectors: list[Tensor] = []
        for maps in batches:
            maps = self._read(maps.detach(), collected.grid)
            if count is not None and collected.images == 0:
                self._plan(count, maps.shape[1:]).check_memory(maps.device, self.memory)
            maps = pooled(maps, self.neighbourhood)
            collected.add(maps)
            vectors += [image_vector(one) for one in maps] if self.whole_image else []
        self.check_count(collected.images, 3 if self.whole_image else 2)
        assert collected.grid is not None, "there are images"
        plan = self._plan(collected.images, collected.grid)
        self.depth_, self.height_, self.width_ = collected.grid
        self._build(*collected.finish(), plan.held)
        wholes = self._remember_wholes(vectors, [image for image, _ in collected.kept])
        self._calibrate(collected.kept, wholes)
        return self

    def forecast(
        self, count: int, depth: int, height: int, width: int, device: torch.device | str = "cpu"
    ) -> MemoryForecast:
        """Peak memory and time of fitting on `count` images with maps `(depth, height, width)`, before it begins.

        The time is that of the coreset and of the threshold, on this machine; the encoder's is not in it.
        """
        return self._plan(count, (depth, height, width)).forecast(torch.device(device))

    def _plan(self, count: int, grid: Sequence[int]) -> BankPlan:
        depth, height, width = grid
        return BankPlan(
            count,
            depth,
            height,
            width,
            coreset=self.coreset,
            n_neighbors=self.n_neighbors,
            projection_dim=self.projection_dim,
            per_centre=self.candidates_per_centre,
            bytes_each=2 if self.precision == "float16" else 4,
            whole_image=self.whole_image > 0,
        )

    def _check_arguments(self) -> None:
        self.check_rate()
        scores = ("standardised", "max", "reweighted")
        rules = (
            ("coreset", 0 < self.coreset <= 1, "a share above 0 and at most 1"),
            ("n_neighbors", self.n_neighbors >= 1, "1 or more"),
            ("projection_dim", self.projection_dim >= 1, "1 or more"),
            ("neighbourhood", self.neighbourhood >= 1 and self.neighbourhood % 2 == 1, "an odd number of cells"),
            ("smoothing", self.smoothing >= 0, "0 or more cells"),
            ("image_score", self.image_score in scores, "standardised, max or reweighted"),
            ("whiten", self.whiten is None or self.whiten > 0, "above 0, or None for no whitening"),
            ("position", self.position >= 0, "a weight of 0 or more"),
            ("whole_image", self.whole_image >= 0, "a weight of 0 or more"),
            ("candidates_per_centre", self.candidates_per_centre >= 1, "1 or more"),
            ("precision", self.precision in ("float32", "float16"), "float32 or float16"),
            ("memory", self.memory is None or self.memory > 0, "above 0 GiB, or None for what is free"),
        )
        for name, holds, rule in rules:
            if not holds:
                raise ValueError(f"{name} must be {rule}, not {getattr(self, name)!r}")

    def _build(self, points: Tensor, images: Tensor, held: int) -> None:
        """Whiten the candidates `(C, D)` or `(C, D + 2)`, in place, and choose the bank."""
        features = points[:, : self.depth_]
        self.check_varied(features)
        if self.whiten is not None:
            self.centre_, self.axes_ = whitening(features, self.whiten)
            for part in points.split(ROWS):
                self._whiten(part)
        if held < len(points):
            chosen = greedy_k_centre(points, held, self.projection_dim, self.seed)
            points, images = points[chosen], images[chosen]
        self.bank_, self.bank_image_ = points, images

    def _whiten(self, patches: Tensor) -> Tensor:
        """Patches `(P, D)` or `(P, D + 2)`, changed in place; where they have fewer axes than D, zeros follow."""
        if self.whiten is not None:
            turned = (patches[:, : self.depth_].float() - self.centre_) @ self.axes_
            patches[:, : turned.shape[1]] = turned
            patches[:, turned.shape[1] : self.depth_] = 0
        return patches

    def _remember_wholes(self, vectors: list[Tensor], kept: list[int]) -> Tensor | None:
        """Remember the images as wholes, and tell how far those that are `kept` are from the others."""
        if not vectors:
            return None
        stacked = torch.cat(vectors)
        vectors.clear()
        self.whole_centre_, self.whole_axes_, self.whole_ = remember(stacked)
        return distances_from_others(stacked, kept)

    def _calibrate(self, kept: list[tuple[int, Tensor]], wholes: Tensor | None) -> None:
        """What is usual, and `offset_`, from images kept whole, each without what the memory has of it."""
        nearest = Nearest(self.bank_)
        maps, weights, rows = [], [], []
        for row, (image, patches) in enumerate(kept):
            allowed = self.bank_image_ != image
            if int(allowed.sum()) >= self.n_neighbors:
                rows.append(row)
                found, weight = self._distances(patches, nearest, allowed)
                maps.append(found)
                weights.append(weight)
        if len(maps) < 2:
            raise ValueError(
                f"a coreset of {len(self.bank_)} patches is too small to compare images by n_neighbors="
                f"{self.n_neighbors}; raise coreset above {self.coreset:g}"
            )
        stacked = torch.stack(maps)
        self.usual_mean_, self.usual_deviation_ = usual(stacked)
        judged = unusual_among_others(stacked) if self.image_score == "standardised" else stacked
        scores = torch.stack(weights) * smooth(judged, self.smoothing).flatten(1).amax(1)
        if wholes is not None:
            both = torch.stack([scores, wholes[rows]])
            self.both_mean_, self.both_deviation_ = both.mean(1), both.std(1).clamp_min(1e-6)
            scores = self._joined(*both)
        self.set_offset(scores_of(scores))

    # scoring

    def score_samples(self, X: Tensor) -> Scores:  # type: ignore[override]
        """Minus the anomaly of each image, float64 `(N,)`, of maps `(N, D, h, w)`."""
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
        found = [
            self._score(patches, nearest)
            for part in maps.split(BATCH)
            for patches in rows_of(pooled(part, self.neighbourhood), self.position)
        ]
        if not found:
            return maps.new_zeros(0), maps.new_zeros(0, self.height_, self.width_)
        return torch.stack([score for score, _ in found]), torch.stack([anomaly for _, anomaly in found])

    def _score(self, patches: Tensor, nearest: Nearest) -> tuple[Tensor, Tensor]:
        """Anomaly score and smoothed map `(h, w)` of one image's patches."""
        patches = patches.clone()  # aligned alike in any batch
        whole = self._whole_distance(patches)
        distances, weight = self._distances(patches, nearest)
        smoothed = smooth(distances[None], self.smoothing)[0]
        judged = smoothed
        if self.image_score == "standardised":
            by = Usual(self.usual_mean_, self.usual_deviation_)
            judged = smooth(unusual(distances, by)[None], self.smoothing)[0]
        score = weight * judged.max()
        return (self._joined(score, whole) if self.whole_image else score), smoothed

    def _joined(self, patch: Tensor, whole: Tensor) -> Tensor:
        """The sum of patch scores and distances of whole images, each in its own deviations."""
        both = (torch.stack([patch, whole], dim=-1) - self.both_mean_) / self.both_deviation_
        return both[..., 0] + self.whole_image * both[..., 1]

    def _whole_distance(self, patches: Tensor) -> Tensor:
        """How far an image as a whole is from the nearest fitted one, 0 if that does not count."""
        if not self.whole_image:
            return patches.new_zeros(())
        maps = patches[:, : self.depth_].T.reshape(self.depth_, self.height_, self.width_)
        return distance((image_vector(maps) - self.whole_centre_) @ self.whole_axes_, self.whole_)

    def _distances(self, patches: Tensor, nearest: Nearest, allowed: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Distances `(h, w)` of an image's patches, which it may change, and the weight of the worst."""
        patches = self._whiten(patches)
        distances, indices = nearest(patches, self.n_neighbors, allowed)
        anomaly = distances.mean(1)
        weight = anomaly.new_ones(())
        if self.image_score == "reweighted":
            worst = int(anomaly.argmax())
            weight = self._weight(patches[worst], indices[worst, 0], nearest)
        return anomaly.view(self.height_, self.width_), weight

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
