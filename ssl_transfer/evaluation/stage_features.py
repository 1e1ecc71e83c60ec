"""Features of every stage of an encoder, and a linear head on those of them that matter (Head2Toe)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_transfer.data.batch import Batch
from ssl_transfer.encoders.encoder import Encoder, pool_maps
from ssl_transfer.encoders.network import quiet
from ssl_transfer.encoders.stage_maps import stage_shapes
from ssl_transfer.evaluation.features import Features
from ssl_transfer.evaluation.folds import stratified_folds
from ssl_transfer.evaluation.probes import LinearHead, Rotated, select_logistic, solve_logistic

SHARES = (0.02, 0.05, 0.1, 0.25, 0.5, 1.0)


@dataclass
class StageFeatures:
    """Features of N images by the stages of an encoder, side by side.

    `features (N, F)` float32, each stage's of unit length; `columns` says where they stand, the encoder's own under
    "features", last. `own`: the encoder's as they are.
    """

    features: Tensor
    columns: dict[str, slice]
    own: Features


@torch.inference_mode()
def stage_features(
    encoder: Encoder, batches: Iterable[Batch], device: torch.device | str = "cpu", pool: int = 1
) -> StageFeatures:
    """Encode batches in evaluation mode, on `device`, reading every stage's maps on the way: one pass over the images.

    Maps are averaged over a `pool x pool` grid (over fewer cells where they have fewer), and each stage's values are
    brought to unit length, as the encoder's own features are: so no stage outweighs another. A last stage that is but
    the encoder's features again is left out; networks without maps give these alone.

    >>> from ssl_transfer.encoders import build_encoder
    >>> encoder = build_encoder("small_resnet", (1, 28, 28), [0.5], [0.5])
    >>> images = torch.randint(0, 256, (4, 1, 28, 28), dtype=torch.uint8)
    >>> found = stage_features(encoder, [Batch(images, torch.zeros(4).long(), torch.arange(4))])
    >>> {name: part.stop - part.start for name, part in found.columns.items()}
    {'stem': 32, 'stage1': 64, 'features': 128}
    """
    rows: list[dict[str, Tensor]] = []
    targets, index = [], []
    with quiet(encoder), _listening(encoder) as heard:
        for batch in batches:
            heard.clear()
            features = encoder(batch.images.to(device))
            pooled = {name: pool_maps(m.float(), min(pool, *m.shape[2:])) for name, m in heard.items()}
            rows.append(pooled | {"features": features.float()})
            targets.append(batch.targets.to(device))
            index.append(batch.index.to(device))
    if not rows:
        raise ValueError("no images to encode: the split is empty")
    own = Features(torch.cat([row["features"] for row in rows]), torch.cat(targets), torch.cat(index))
    return StageFeatures(*_joined(rows), own)


def _joined(rows: Sequence[dict[str, Tensor]]) -> tuple[Tensor, dict[str, slice]]:
    """The parts of all batches, each of unit length, side by side, and the columns of each."""
    parts = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
    *earlier, last = parts
    if earlier and parts[earlier[-1]].shape == parts[last].shape and torch.allclose(parts[earlier[-1]], parts[last]):
        del parts[earlier[-1]]
    columns, start = {}, 0
    for name, part in parts.items():
        columns[name] = slice(start, start + part.shape[1])
        start += part.shape[1]
    return torch.cat([F.normalize(part, dim=1) for part in parts.values()], dim=1), columns


@contextmanager
def _listening(encoder: Encoder) -> Iterator[dict[str, Tensor]]:
    """What the stages give within an encoder's forward pass, by stage: maps `(B, D, h, w)`, in order."""
    heard: dict[str, Tensor] = {}

    def keeper(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim == 4:
                heard[name] = output.clone()  # what follows may change it in place

        return keep

    try:
        names = list(stage_shapes(encoder))
    except ValueError:
        names = []  # no stage gives maps
    stages = [(name, stage) for name, stage in encoder.stages() if name in names]
    ends = [(name, list(s)[-1] if isinstance(s, nn.ModuleList) else s) for name, s in stages]  # lists are not called
    hooks = [part.register_forward_hook(keeper(name)) for name, part in ends]
    try:
        yield heard
    finally:
        for hook in hooks:
            hook.remove()


@dataclass
class AllLayerHead:
    """A linear head on some columns of features: `head` reads `features[:, kept]`; `share` of all that these are."""

    head: LinearHead
    kept: Tensor
    share: float

    def __call__(self, features: Tensor) -> Tensor:
        return self.head(features[:, self.kept])


def all_layer_probe(
    features: Tensor, targets: Tensor, classes: int, shares: Sequence[float] = SHARES, folds: int = 3
) -> AllLayerHead:
    """A linear classifier on the best share of all stages' features (Head2Toe: Evci et al. 2022,
    https://arxiv.org/abs/2201.03529).

    features `(N, F)` of `stage_features`, targets `(N,)`. A feature counts what a logistic head on all of them gives
    it: the norm of its weights over the classes, at unit variance. The share of the features that are kept, those that
    count most, is chosen by cross-validation, the choice of features included; then a head is solved on these. The
    penalty of all these heads is the one that cross-validation prefers on all features.
    """
    l2 = select_logistic((features, targets), None, classes)[1]
    ordered = sorted(shares)
    share = ordered[0] if len(ordered) == 1 else _best_share(features, targets, classes, ordered, folds, l2)
    kept = _first(relevance(features, targets, classes, l2), share)
    return AllLayerHead(solve_logistic(features[:, kept], targets, classes, l2), kept, share)


def relevance(features: Tensor, targets: Tensor, classes: int, l2: float = 1e-2) -> Tensor:
    """What each feature counts `(F,)`: the norm over classes of its weights in a logistic head, at unit variance.

    >>> x = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
    >>> int(relevance(x, (x[:, 1] > 0).long(), 2).argmax())
    1
    """
    rotated = Rotated.of(features)
    return (solve_logistic(rotated, targets, classes, l2).weight * rotated.scale).norm(dim=0)


def _first(relevance: Tensor, share: float) -> Tensor:
    """Columns of the `share` of features that count most, ascending; at least one."""
    count = max(1, round(share * len(relevance)))
    return relevance.topk(count).indices.sort().values


def _best_share(
    features: Tensor, targets: Tensor, classes: int, shares: Sequence[float], folds: int, l2: float
) -> float:
    """The share with the most held-out rows right; the largest of those that are equally good."""
    fold = torch.from_numpy(stratified_folds(targets.cpu(), folds)).to(targets.device)
    right = [0] * len(shares)
    for held_out in range(folds):
        inside, outside = fold != held_out, fold == held_out
        if not inside.any() or not outside.any():
            continue
        x, y = features[inside], targets[inside]
        counts = relevance(x, y, classes, l2)
        for number, share in enumerate(shares):
            kept = _first(counts, share)
            head = solve_logistic(x[:, kept], y, classes, l2)
            right[number] += int((head(features[outside][:, kept]).argmax(1) == targets[outside]).sum())
    return max(zip(right, shares, strict=True))[1]
