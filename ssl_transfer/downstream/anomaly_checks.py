"""What an anomaly detector asks of its data before it begins."""

from __future__ import annotations

from typing import Any

import numpy as np

from ssl_transfer.data.normal import is_anomaly


def labelled_anomalies(data: Any, split: str) -> np.ndarray:
    """Which images of a split are labelled as anomalies, bool `(N,)`; none where nothing is said of what is normal."""
    targets = np.asarray(data.table.targets)[data.indices(split)]
    return is_anomaly(targets, data.normal_targets) if data.normal_targets is not None else np.zeros(len(targets), bool)


def check_fit(data: Any, threshold: str) -> None:
    """ValueError unless train has normal images alone, and val what the threshold is chosen by."""
    if data.normal_targets is None and data.classes is not None:
        targets = np.asarray(data.table.targets)[data.indices("train")]
        inside = [name for target, name in enumerate(data.classes) if (targets == target).any()]
        shown = ", ".join(inside[:5]) + (" …" if len(inside) > 5 else "")
        if inside:
            raise ValueError(
                f"data.source {data.source}: the training split has images of {len(inside)} classes ({shown}) and an "
                "AnomalyDetector fits on normal images only: name the normal ones with data.normal"
            )
        raise ValueError(
            f"data.source {data.source}: the training split has no labels, and {', '.join(data.classes[:5])} occur in "
            "others: name the normal class with data.normal"
        )
    train = data.indices("train")
    if len(train) > 1 and len(np.unique(data.table.hashes[train])) == 1:
        raise ValueError(f"data.source {data.source}: the {len(train)} training images are all the same: give others")
    anomalies = int(labelled_anomalies(data, "train").sum())
    if anomalies:
        raise ValueError(
            f"data.source {data.source}: {anomalies} training images are labelled as anomalies, and an AnomalyDetector "
            "fits on normal images only: name the normal classes with data.normal, and the others go to the test split"
        )
    calibrating = ~labelled_anomalies(data, "val")
    if not calibrating.any():
        raise ValueError(
            "an AnomalyDetector calibrates its threshold on held-out normal images, and the validation split has none: "
            "set data.val_fraction above 0"
        )
    if threshold == "f1" and calibrating.all():
        raise ValueError(
            "model.threshold f1 needs labelled anomalies in the validation split, and there are none: set "
            "data.anomaly_val_fraction above 0, or take the conformal threshold"
        )


def check_test(data: Any) -> None:
    """ValueError unless the test split has normal images and anomalies."""
    if data.normal_targets is None:
        raise ValueError(
            f"data.source {data.source} does not say which images are normal: name their classes with data.normal, or "
            "score images without labels by `predict`"
        )
    anomalous = labelled_anomalies(data, "test").any()
    normal = np.isin(np.asarray(data.table.targets)[data.indices("test")], data.normal_targets).any()
    if not (anomalous and normal):
        which = "normal images" if normal else "anomalies" if anomalous else "images without labels"
        raise ValueError(
            f"the test split of {data.source} has {which} only, and AUROC needs both normal images and anomalies: add "
            "some, set data.test_fraction, or score images without labels by `predict`"
        )
