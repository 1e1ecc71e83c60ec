"""Data sets of torchvision by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ssl_transfer.data.records import Records
from ssl_transfer.data.sources.arrays import from_arrays
from ssl_transfer.data.sources.base import Source, read_file

_BOOLEAN: dict[str, dict[str, Any]] = {"train": {"train": True}, "test": {"train": False}}


def _by_name(*splits: str) -> dict[str, dict[str, Any]]:
    """Arguments by split for the data sets that take `split="train"` and so on; "valid" means val, "trainval" train."""
    ours = {"valid": "val", "trainval": "train", "train+unlabeled": "train"}
    return {ours.get(split, split): {"split": split} for split in splits}


# name: our split → arguments of torchvision's constructor
_ARRAYS = {
    **dict.fromkeys(("MNIST", "FashionMNIST", "KMNIST", "QMNIST", "USPS", "CIFAR10", "CIFAR100"), _BOOLEAN),
    "EMNIST": {split: {"split": "balanced", **arguments} for split, arguments in _BOOLEAN.items()},
    "SVHN": _by_name("train", "test"),
    "STL10": _by_name("train+unlabeled", "test"),
}
_FILES: dict[str, dict[str, dict[str, Any]]] = {
    "Country211": _by_name("train", "valid", "test"),
    "DTD": _by_name("train", "val", "test"),
    "EuroSAT": {"": {}},
    "FGVCAircraft": _by_name("train", "val", "test"),
    "Flowers102": _by_name("train", "val", "test"),
    "Food101": _by_name("train", "test"),
    "Imagenette": _by_name("train", "val"),
    "RenderedSST2": _by_name("train", "val", "test"),
}
NAMES = sorted([*_ARRAYS, *_FILES])


def open_named(name: str, root: str | None) -> Source:
    """A torchvision data set below `root` ("data" by default), downloaded only if it is not there.

    Its test split is the test split; a validation split is drawn from train unless it has one. EMNIST is "balanced";
    STL10's unlabelled images join train.
    """
    import torchvision.datasets  # costs a second

    build = getattr(torchvision.datasets, name)
    folder = root or "data"
    if name in _ARRAYS:
        sets = {split: _open(build, folder, name, arguments) for split, arguments in _ARRAYS[name].items()}
        return _array_source(name, sets)
    loading = {"loader": read_file}
    sets = {split: _open(build, folder, name, arguments | loading) for split, arguments in _FILES[name].items()}
    return NamedSource(name, sets)


def _open(build: Callable[..., Any], root: str, name: str, arguments: dict[str, Any]) -> Any:
    """The data set, with torchvision's download as the second attempt."""
    try:
        return build(root, **arguments)
    except RuntimeError:  # torchvision's "not found or corrupted"
        pass
    try:
        return build(root, download=True, **arguments)
    except (RuntimeError, OSError) as error:
        raise ValueError(
            f"data.source: {name} is not in data.root {root!r} and could not be downloaded ({error}); "
            "give the folder that holds it as --data.root"
        ) from error


def _array_source(name: str, sets: dict[str, Any]) -> Source:
    pairs = {}
    for split, data in sets.items():
        images = np.asarray(data.data)
        images = images.transpose(0, 2, 1) if name == "EMNIST" else images  # stored on its side
        labels = np.asarray(_targets(data))
        pairs[split] = (images, labels[:, 0] if labels.ndim == 2 else labels)  # QMNIST's first column is the class
    classes = getattr(next(iter(sets.values())), "classes", None)
    labelled = max(int(pair[1].max()) for pair in pairs.values()) + 1
    names = [str(c) for c in classes] if classes and len(classes) >= labelled else [str(k) for k in range(labelled)]
    return from_arrays(dict(pairs), name, classes=names)


def _targets(data: Any) -> Any:
    """The labels of a torchvision data set, without reading an image."""
    for attribute in ("targets", "labels", "_labels"):
        if hasattr(data, attribute):
            return getattr(data, attribute)
    for attribute in ("samples", "_samples"):
        if hasattr(data, attribute):
            return [label for _, label in getattr(data, attribute)]
    raise AssertionError(f"{type(data).__name__} has no labels under a known name")


class NamedSource(Source):
    """A torchvision data set of image files, whose files are read by our decoder."""

    def __init__(self, name: str, sets: dict[str, Any]) -> None:
        self._rows = [(data, row) for data in sets.values() for row in range(len(data))]
        targets = np.concatenate([np.asarray(_targets(data), np.int64) for data in sets.values()])
        first = next(iter(sets.values()))
        classes = getattr(first, "classes", None) or [str(k) for k in range(int(targets.max()) + 1)]
        paths = [f"{name}/{split or 'all'}/{row:05d}" for split, data in sets.items() for row in range(len(data))]
        splits = np.repeat(np.array(list(sets), "U5"), [len(data) for data in sets.values()])
        super().__init__(Records.of(paths, targets, splits, classes=[_class_name(c) for c in classes]))

    def read(self, row: int) -> bytes:
        """The bytes of the row's file, as torchvision finds it."""
        data, number = self._rows[row]
        return bytes(data[number][0])


def _class_name(name: str | tuple[str, ...]) -> str:
    """A class's name; Imagenette gives all its synonyms."""
    return name if isinstance(name, str) else name[0]
