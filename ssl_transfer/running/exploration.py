"""What a page of all images shows: a map of them, their neighbours, oddities, and how far the map can be trusted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich import get_console
from rich.progress import track
from torch import Tensor

from ssl_transfer.data.batch import Batch
from ssl_transfer.data.joined import joined_columns, unique_names
from ssl_transfer.downstream import load_model, reductions
from ssl_transfer.downstream.fitted_reducer import FittedReducer
from ssl_transfer.encoders import Encoder, load_encoder
from ssl_transfer.encoders.config import read_config
from ssl_transfer.evaluation.features import encode, pixel_features
from ssl_transfer.evaluation.map_quality import FEWEST, map_quality
from ssl_transfer.evaluation.neighbours import nearest
from ssl_transfer.evaluation.oddities import exact_duplicates, isolation, near_duplicates, write_oddities
from ssl_transfer.reporting.atlas import thumbnail_side
from ssl_transfer.reporting.embedding_atlas import write_atlas_table
from ssl_transfer.reporting.explorer import Explorer, write_explorer
from ssl_transfer.reporting.images import shrink, to_pixels
from ssl_transfer.reporting.projector import write_projector

MOST_IMAGES = 100_000  # on a page
NEIGHBOURS = 10
WIDEST = 256  # features beyond which neighbours are found among principal components
WRITTEN = frozenset({"explore.html", "oddities.csv", "map.parquet", "projector"})
METHODS = ("ParametricMap", "PCA", "UMAP", "TSNE", "PaCMAP")


@dataclass
class MapMaker:
    """What draws a map: an encoder, how its images were prepared, a reduction, and whether it is fitted already."""

    encoder: Encoder
    trained_on: dict[str, Any]
    reduction: Any
    fitted: bool


@dataclass
class Seen:
    """What is known of N images: features `(N, D)`, coordinates `(N, 2)`, distances and rows of neighbours `(N, k)`."""

    features: Tensor
    coordinates: Tensor
    distances: Tensor
    neighbours: Tensor


def map_maker(model: str, method: str | None, seed: int) -> MapMaker:
    """From the folder of a Reducer's model or run, or of an encoder, for which `method` is to draw a map."""
    path = Path(model).expanduser()
    if (path / "model").is_dir():
        path = path / "model"  # the run's folder will do
    if (path / "encoder").is_dir() and (path / "golden.safetensors").exists():
        return _fitted(path, method)
    method = {name.lower(): name for name in METHODS}.get((method or METHODS[0]).lower(), method)
    if method not in METHODS:
        raise ValueError(f"--method must be {', '.join(METHODS[:-1])} or {METHODS[-1]}, not {method!r}")
    path = path / "encoder" if (path / "encoder").is_dir() else path
    encoder = load_encoder(path)
    return MapMaker(encoder, read_config(path)["data"], getattr(reductions, method)(seed=seed), fitted=False)


def _fitted(path: Path, method: str | None) -> MapMaker:
    fitted = load_model(path)
    if not isinstance(fitted, FittedReducer):
        raise ValueError(f"{path} holds a {fitted.kind}: give the model folder of a Reducer, or an encoder folder")
    if fitted.method.n_components != 2:
        raise ValueError(
            f"{path} gives {fitted.method.n_components} coordinates and a page has two: fit a Reducer with "
            "--model.n_components 2, or give its encoder folder"
        )
    if method is not None:
        raise ValueError(
            f"--method {method}: {path} draws its own map, a {type(fitted.method).__name__}: leave it out, or give an "
            "encoder folder"
        )
    return MapMaker(fitted.encoder, fitted.config["data"], fitted.method, fitted=True)


def check_count(maker: MapMaker, count: int, limit: int | None) -> None:
    """Raise ValueError unless a page can show, and the method map, `count` images or `limit` of them."""
    if limit is not None and limit < 1:
        raise ValueError(f"--limit must be 1 or more, not {limit}")
    most = min(count, limit or count)
    if most > MOST_IMAGES:
        raise ValueError(
            f"{most:,} images are too many for a page, which holds {MOST_IMAGES:,}: give --limit {MOST_IMAGES}"
        )
    fewest = FEWEST if maker.fitted else max(FEWEST, maker.reduction.fewest_points())
    if most < fewest:
        cure = "" if fewest == FEWEST else f", or --method PCA, which draws a map of {FEWEST}"
        raise ValueError(f"a map needs at least {fewest} images here, and there are {most}: give more{cure}")
    if not maker.fitted:
        maker.reduction.check(most, maker.encoder.feature_dim)


def chosen_rows(count: int, limit: int | None) -> Any:
    """Rows of at most `limit` images, spread evenly over `count`."""
    return np.linspace(0, count - 1, min(count, limit or count)).round().astype(np.int64)


def colouring(data: Any, tables: str | None, rows: Any) -> dict[str, list[Any]]:
    """Everything that may colour the map: what was asked for first, then label, split and a manifest's own."""
    paths = [str(data.table.paths[row]) for row in rows]
    own = _own_columns(data, rows)
    asked = [(table.parent.name or table.stem, _joined(table, paths, own)) for table in named_tables(tables)]
    return unique_names([*asked, ("source", own), ("manifest", data.columns(rows))])


def named_tables(tables: str | None) -> list[Path]:
    """The paths of `--columns`. ValueError for one that does not exist."""
    paths = [Path(table.strip()).expanduser() for table in tables.split(",")] if tables else []
    for path in paths:
        if not path.is_file():
            raise ValueError(f"--columns {path}: no such file; give CSV or Parquet tables with a column 'path'")
    return paths


def _joined(table: Path, paths: list[str], own: dict[str, list[Any]]) -> dict[str, list[Any]]:
    try:
        return joined_columns(table, paths, own)
    except ValueError as error:
        raise ValueError(f"--columns {error}") from error


def _own_columns(data: Any, rows: Any) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {}
    targets = np.asarray(data.table.targets)[rows]
    if targets.ndim == 2 and data.classes:
        columns["label"] = [" + ".join(data.classes[k] for k in np.flatnonzero(row == 1)) or None for row in targets]
    elif targets.ndim == 1 and data.classes:
        columns["label"] = [data.classes[t] if t >= 0 else None for t in targets]
    elif targets.ndim == 1 and np.issubdtype(targets.dtype, np.floating):
        columns["label"] = [float(t) if np.isfinite(t) else None for t in targets]
    columns["split"] = [str(data.table.splits[row]) or None for row in rows]
    return columns


def look(maker: MapMaker, data: Any, rows: Any, device: Any) -> Seen:
    """Encode every image once, draw the map if it is not drawn yet, and find the nearest images of each."""
    started = time.monotonic()
    features = encode(maker.encoder.to(device), _batches(data, rows), device).features
    _say("encoded", len(rows), started)
    started = time.monotonic()
    reduction = maker.reduction.to(device) if maker.fitted else maker.reduction
    coordinates = reduction.transform(features) if maker.fitted else reduction.fit_transform(features)
    _say("placed" if maker.fitted else f"drew a {type(reduction).__name__} of", len(rows), started)
    started = time.monotonic()
    distances, neighbours = nearest(_narrow(features), min(NEIGHBOURS, len(rows) - 1))
    _say("found the neighbours of", len(rows), started)
    return Seen(features.cpu(), torch.as_tensor(coordinates), distances.cpu(), neighbours.cpu())


def _narrow(features: Tensor) -> Tensor:
    """Features by their first WIDEST principal components where they are wider: what is left out hardly moves a row."""
    if features.shape[1] <= WIDEST or len(features) <= WIDEST:
        return features
    return torch.from_numpy(reductions.PCA(WIDEST).fit_transform(features)).to(features.device)


def _batches(data: Any, rows: Any) -> Iterator[Any]:
    """Batches of the images of some rows, with a progress bar."""
    starts = range(0, len(rows), data.batch_size)
    for start in track(starts, "encoding", transient=True, disable=not get_console().is_terminal):
        part = rows[start : start + data.batch_size]
        index = torch.from_numpy(part)
        yield Batch(torch.from_numpy(data.images(part)), torch.full_like(index, -1), index)


def _say(what: str, count: int, started: float) -> None:
    seconds = time.monotonic() - started
    print(f"{what} {count:,} images in {seconds:.1f} s", flush=True)


def write_exploration(
    folder: Path, title: str, data: Any, rows: Any, seen: Seen, columns: dict[str, Any], seed: int
) -> None:
    """Write the page and the tables that go with it."""
    paths = [str(data.table.paths[row]) for row in rows]
    duplicates = near_duplicates(seen.distances, seen.neighbours)
    isolated = isolation(seen.distances)
    thumbnails = _thumbnails(data, rows)
    coordinates = seen.coordinates.numpy()
    page = Explorer(
        title=title,
        points=coordinates,
        paths=paths,
        columns=unique_names([("source", columns), ("by neighbours", {"isolation": isolated.tolist()})]),
        thumbnails=thumbnails,
        neighbours=seen.neighbours.numpy(),
        duplicates=duplicates,
        isolation=isolated.numpy(),
        figures=_figures(seen, data, rows, seed),
    )
    write_explorer(page, folder / "explore.html")
    write_oddities(
        folder / "oddities.csv", paths, duplicates, isolated, exact_duplicates(seen.distances, seen.neighbours)
    )
    near = (seen.distances.numpy(), seen.neighbours.numpy())
    write_atlas_table(folder / "map.parquet", coordinates, columns, paths, thumbnails, near)
    write_projector(folder / "projector", seen.features.numpy(), {"path": paths, **columns}, thumbnails)
    groups = sum(map(len, duplicates))
    far = int((isolated > 2).sum())
    print(f"{groups} near-duplicates in {len(duplicates)} groups; {far} images twice as isolated as is usual")


def _figures(seen: Seen, data: Any, rows: Any, seed: int) -> dict[str, str]:
    """How far the map can be trusted, against features and pixels."""
    targets = np.asarray(data.table.targets)[rows]
    labels = targets if data.classes and targets.ndim == 1 else None
    figures = map_quality(seen.features, seen.coordinates, labels, seed=seed)
    pixels = map_quality(pixel_features(data, rows), seen.coordinates, seed=seed)
    shown = figures | {f"pixels_{name}": pixels[name] for name in pixels if name.startswith(("trust", "continuity"))}
    return {name: f"{value:.3f}" for name, value in shown.items()}


def _thumbnails(data: Any, rows: Any) -> Any:
    """Small pictures of all images, uint8 `(N, C, h, w)`: the smaller, the more there are."""
    side = thumbnail_side(len(rows))
    parts = [rows[start : start + 512] for start in range(0, len(rows), 512)]
    small = np.concatenate([shrink(to_pixels(data.images(part)), side) for part in parts])  # (N, h, w, 3)
    grey = bool((small[..., :1] == small).all())
    return np.ascontiguousarray(small.transpose(0, 3, 1, 2)[:, : 1 if grey else 3])
