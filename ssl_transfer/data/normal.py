"""Anomaly detection: which classes are normal, and splits whose train and validation hold normal images only."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ssl_transfer.data.contents import listed
from ssl_transfer.data.records import Records
from ssl_transfer.data.splits import assign_splits, draw_fraction, straddle_keys

TEST_FRACTION = 0.2  # of the normal images, where the source states no test split and the user none either


@dataclass(frozen=True)
class Fractions:
    """Shares of images drawn for a split that the source does not state.

    Args:
        val, test: of the training images; test None is 0.2 where a class is named normal, else 0.
        anomaly_val: of the test split's anomalies, for validation.
    """

    val: float
    test: float | None
    anomaly_val: float


def choose_splits(
    records: Records, normal: str | int | Sequence[str | int] | None, fractions: Fractions, seed: int
) -> tuple[np.ndarray, list[int] | None]:
    """Every row's split `(N,)`, "" for what is left out, and the targets of the normal classes (None: not known).

    Only where `normal` names classes are anomalies kept out of train and val; else the source's splits stand.
    """
    targets = find_normal(normal, records)
    if targets is not None and normal is not None:
        return split_normal(records, targets, fractions, seed), targets
    splits = assign_splits(records, fractions.val, fractions.test or 0.0, seed)
    if targets is None and fractions.anomaly_val:
        raise ValueError(
            f"data.anomaly_val_fraction={fractions.anomaly_val} needs to know which class is normal: "
            "name it by data.normal"
        )
    if targets is not None:
        splits = move_anomalies(records, splits, is_anomaly(records.targets, targets), fractions.anomaly_val, seed)
    return splits, targets


def find_normal(normal: str | int | Sequence[str | int] | None, records: Records) -> list[int] | None:
    """The targets of the normal classes, ascending.

    None where none is named, unless all images outside the stated val and test splits are of one class, as in the
    folders train/good, test/good, test/scratch: then that is it. A class answers to its name, or to what precedes " - "
    in it (MNIST's "7 - seven"). Raises ValueError for unknown names, and without one class label an image.
    """
    labelled = records.classes is not None and records.targets.ndim == 1
    if normal is None:
        present = np.unique(records.targets[np.isin(records.splits, ("", "train"))]) if labelled else np.zeros(0)
        return [int(present[0])] if len(present) == 1 and present[0] >= 0 else None
    if not labelled or records.classes is None:
        raise ValueError(f"data.normal={normal!r} needs one class label an image, and the source has none")
    known = _names(records.classes)
    names = [str(normal)] if isinstance(normal, (str, int)) else [str(name) for name in normal]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise ValueError(
            f"data.normal: no class named {', '.join(map(repr, unknown)) or names}; "
            f"the classes are {listed(records.classes, 30)}"
        )
    return sorted({known[name] for name in names})


def _names(classes: list[str]) -> dict[str, int]:
    """What each class may be called: its name, or the part before " - " where no other has the same.

    >>> _names(["0 - zero", "1 - one"])
    {'0': 0, '1': 1, '0 - zero': 0, '1 - one': 1}
    """
    short = [name.split(" - ")[0] for name in classes]
    unique = {name: target for target, name in enumerate(short) if short.count(name) == 1}
    return unique | {name: target for target, name in enumerate(classes)}


def is_anomaly(targets: np.ndarray, normal: Sequence[int]) -> np.ndarray:
    """Which of some targets `(N,)` are anomalies `(N,)`: labelled, and not as normal.

    >>> is_anomaly(np.array([0, 1, -1]), [0]).tolist()
    [False, True, False]
    """
    return (targets >= 0) & ~np.isin(targets, list(normal))


def split_normal(records: Records, normal: Sequence[int], fractions: Fractions, seed: int) -> np.ndarray:
    """Every row's split `(N,)`: "train" and "val" of normal images, "test" of both, "" for what is left out.

    Where the source states a test split it stands, and anomalies outside are left out; else all anomalies are test,
    with `fractions.test` of the normal images. With `fractions.anomaly_val` above 0, val keeps the anomalies that the
    source states there, or else gets that share of the test split's. Left out too are images without a label, which
    may be either, and normal images outside test whose exact contents are also labelled an anomaly. But where no
    training image has a label and the stated test split has (train/ with images alone beside test/good and test/hole),
    those of train are normal. Warns of all that is left out.
    """
    anomalous = is_anomaly(records.targets, normal)
    stated = np.where(records.splits == "", "train", records.splits).astype("U5")
    splits = _beside_stated_test if (stated == "test").any() else _with_all_anomalies_in_test
    drawn = splits(records, anomalous, stated, fractions, seed)
    drawn[~is_known(records, stated)] = ""
    assert not (anomalous & (drawn == "train")).any()
    _warn_left_out(records.targets, anomalous, drawn)
    return move_anomalies(records, drawn, anomalous, fractions.anomaly_val, seed)


def is_known(records: Records, stated: np.ndarray) -> np.ndarray:
    """Which images `(N,)` are known to be normal or not: those with a label, and all of a train split without any."""
    labelled = records.targets >= 0
    train = stated == "train"
    silent = train.any() and not labelled[train].any() and labelled[stated == "test"].any()
    return labelled | train if silent else labelled


def move_anomalies(
    records: Records, splits: np.ndarray, anomalous: np.ndarray, fraction: float, seed: int
) -> np.ndarray:
    """The `splits` with `fraction` of the test split's anomalies moved to val, unless val has some already.

    What shares contents or a group with an anomaly that is moved goes with it.
    """
    rows = np.flatnonzero(splits == "test")
    candidates = anomalous[rows]
    if not fraction or not candidates.any() or (anomalous & (splits == "val")).any():
        return splits
    keys = straddle_keys(records.hashes[rows], records.groups[rows])
    drawn = keys[candidates][draw_fraction(keys[candidates], fraction, seed, "anomalies")]
    moved = splits.copy()
    moved[rows[np.isin(keys, drawn)]] = "val"
    return moved


def _beside_stated_test(
    records: Records, anomalous: np.ndarray, stated: np.ndarray, fractions: Fractions, seed: int
) -> np.ndarray:
    """Anomalies leave train, and val if it is to have none; val is drawn from what train keeps, if none is stated."""
    tainted = anomalous | np.isin(records.hashes, records.hashes[anomalous])  # equal contents under two labels
    unwanted = tainted & ~anomalous if fractions.anomaly_val else tainted  # in val
    out = tainted & (stated == "train") | unwanted & (stated == "val")
    return _draw(records, np.where(out, "", stated), (fractions.val, 0.0), seed)


def _with_all_anomalies_in_test(
    records: Records, anomalous: np.ndarray, stated: np.ndarray, fractions: Fractions, seed: int
) -> np.ndarray:
    """Anomalies are test, with all of their groups; test and val are drawn from the other normal images."""
    keys = straddle_keys(records.hashes, records.groups)
    splits = np.where(np.isin(keys, keys[anomalous]), "test", stated).astype("U5")
    free = np.where(splits == "test", "", splits)
    share = TEST_FRACTION if fractions.test is None else fractions.test
    drawn = _draw(records, free, (fractions.val, share), seed)
    return np.where(splits == "test", "test", drawn).astype("U5")


def _draw(records: Records, splits: np.ndarray, fractions: tuple[float, float], seed: int) -> np.ndarray:
    """`splits` with val and test drawn from the labelled images of train; what is "" stays so."""
    rows = np.flatnonzero((splits != "") & is_known(records, splits))
    part = records.select(rows)
    part.splits = splits[rows]
    drawn = np.full(len(splits), "", "U5")
    drawn[rows] = assign_splits(part, *fractions, seed)
    return drawn


def _warn_left_out(targets: np.ndarray, anomalous: np.ndarray, splits: np.ndarray) -> None:
    out = splits == ""
    counts = {
        "anomalies outside the test split": (out & anomalous).sum(),
        "images without a label": (out & (targets < 0)).sum(),
        "normal images that are also labelled an anomaly": (out & (targets >= 0) & ~anomalous).sum(),
    }
    said = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
    if said:
        warnings.warn(f"data.normal: {said} are left out of train, val and test", stacklevel=4)
