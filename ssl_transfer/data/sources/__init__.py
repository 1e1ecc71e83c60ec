"""Where images come from: one small file a kind of source, and the one place that tells them apart."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from ssl_transfer.data.sources.arrays import open_arrays, open_digits
from ssl_transfer.data.sources.base import FileSource, Source
from ssl_transfer.data.sources.folder import SUFFIXES, list_files, open_folder
from ssl_transfer.data.sources.manifest import open_csv
from ssl_transfer.data.sources.mnistm import is_blended, open_blended
from ssl_transfer.data.sources.named import NAMES, open_named
from ssl_transfer.data.sources.parquet import open_parquet

__all__ = ["FileSource", "Source", "open_source"]


def open_source(
    source: str, root: str | None = None, pattern: str = "*", cache_dir: str | Path | None = None
) -> Source:
    """The images that `source` names: a path, the name of a torchvision data set, "digits", or MNISTM:PHOTOGRAPHS.

    Args:
        source: a folder, a manifest (.csv, .parquet), Parquet with images, .npy, .npz, or a name. A name wins over a
            folder of the same name; write `./digits` for the folder. A name with an M and a folder of photographs are
            that data set's grey images over the photographs.
        root: where torchvision data sets lie.
        pattern: which files of a folder or manifest.
        cache_dir: where images made of others are kept; by default SSL_TRANSFER_CACHE or ~/.cache/ssl_transfer.

    Raises ValueError, with close matches, for what is none of these.
    """
    if source == "digits":
        return open_digits()
    if source in NAMES:
        return open_named(source, root)
    if is_blended(source):
        return open_blended(source, root, cache_dir)
    path = Path(source).expanduser()
    if path.is_dir():
        return _open_directory(path, pattern)
    if not path.is_file():
        raise ValueError(_unknown(source, path))
    match path.suffix.lower():
        case ".csv":
            return open_csv(path, pattern)
        case ".parquet":
            return open_parquet([path], pattern=pattern)
        case ".npy" | ".npz":
            return open_arrays(path)
    raise ValueError(
        f"data.source: {source} is a file of an unknown kind; give a folder, .csv, .parquet, .npy, .npz or a name"
    )


def _open_directory(folder: Path, pattern: str) -> Source:
    """Images, or Parquet files where there are no images."""
    files = list_files(folder)
    parquet = [folder / file for file in files if file.suffix.lower() == ".parquet"]
    if parquet and not any(file.suffix.lower() in SUFFIXES for file in files):
        return open_parquet(parquet, folder)
    return open_folder(folder, pattern, files)


def _unknown(source: str, path: Path) -> str:
    siblings = [str(path.parent / p.name) for p in path.parent.iterdir()] if path.parent.is_dir() else []
    known = ["digits", *NAMES, "MNISTM:PHOTOGRAPHS"]
    folded = {name.lower(): name for name in [*siblings, *known]}
    close = [folded[name] for name in get_close_matches(source.lower(), folded, n=3, cutoff=0.75)]
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    return f"data.source: no folder, file or data set named {source!r}; {hint}known names: {', '.join(known)}"
