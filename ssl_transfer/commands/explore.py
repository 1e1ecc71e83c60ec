"""`explore`: a page to walk through all images of a source, and the tables that go with it."""

from __future__ import annotations

from pathlib import Path

from ssl_transfer.commands.sources import device_of, images_for
from ssl_transfer.data.sources import open_source
from ssl_transfer.files import whole_folder
from ssl_transfer.running.exploration import (
    WRITTEN,
    check_count,
    chosen_rows,
    colouring,
    look,
    map_maker,
    named_tables,
    write_exploration,
)


def explore(
    model: str,
    source: str,
    out: str = "explore",
    method: str | None = None,
    columns: str | None = None,
    limit: int | None = None,
    root: str | None = None,
    size: int | None = None,
    resize: str | None = None,
    pattern: str = "*",
    on_bad_image: str = "refuse",
    batch_size: int = 512,
    device: str = "auto",
    seed: int = 0,
    overwrite: bool = False,
) -> int:
    """Make a map of every image of a source: one HTML page to walk through, and tables for other viewers.

    Example: ssl-transfer explore runs/map/model photos/ --columns runs/odd/predictions.parquet --out explore/

    Writes to `out`: `explore.html` (one file, no network), `oddities.csv` (near-duplicates and isolated images),
    `map.parquet` (opened by embedding-atlas) and `projector/` (opened by `tensorboard --logdir out/projector`).

    Args:
        model: the model folder of a Reducer with two components, or an encoder folder, for which a map is drawn first.
        source: a folder, manifest, Parquet, array file, torchvision data set or `digits`, as for `--data.source`.
        out: the folder to write.
        method: draws the map of an encoder folder: ParametricMap (default), PCA, UMAP, TSNE or PaCMAP.
        columns: tables with a column `path`, separated by commas, whose other columns colour the map:
            predictions.parquet of any run (clusters, classes, anomaly scores), or one of your own. Those of a manifest
            are taken anyway.
        limit: at most so many images, spread evenly over the source, which is decoded all the same.
        root: where torchvision data sets lie.
        size: side in pixels; by default the one the encoder was trained on.
        resize: crop, pad or stretch; by default as the encoder was trained.
        pattern: which files of a folder, such as "*.jpg".
        on_bad_image: refuse, or skip and say which.
        batch_size: images at a time.
        device: cpu, cuda, mps, or auto.
        seed: of the map and of its measurement.
        overwrite: replace what stands in `out`.
    """
    folder = Path(out).expanduser().absolute()
    _check_folder(folder, out, overwrite)
    maker = map_maker(model, method, seed)
    where = device_of(device)
    named_tables(columns)
    check_count(maker, len(open_source(source, root, pattern)), limit)
    data = images_for(maker.encoder, maker.trained_on, source, root, size, resize, pattern, on_bad_image, batch_size)
    data.setup()
    check_count(maker, len(data.table), limit)
    rows = chosen_rows(len(data.table), limit)
    found = colouring(data, columns, rows)
    seen = look(maker, data, rows, where)
    with whole_folder(folder) as new:
        write_exploration(new, source, data, rows, seen, found, seed)
    sizes = ", ".join(f"{path.name} {path.stat().st_size / 1e6:.1f} MB" for path in sorted(folder.glob("*.*")))
    print(f"wrote {folder}: {sizes}\nopen {folder / 'explore.html'} in a browser")
    return 0


def _check_folder(folder: Path, asked: str, overwrite: bool) -> None:
    """Raise ValueError unless `folder` is new, or holds an exploration and nothing else that may be replaced."""
    if folder == Path.cwd():
        raise ValueError(f"--out {asked} is the folder you are in: give another, such as explore")
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"--out {asked} is a file: give a folder")
    there = {path.name for path in folder.iterdir()}
    if foreign := sorted(there - WRITTEN):
        raise ValueError(f"--out {asked} holds other files ({', '.join(foreign[:3])}): give another folder")
    if there and not overwrite:
        raise ValueError(f"--out {asked} holds files already: give --overwrite or another --out")
