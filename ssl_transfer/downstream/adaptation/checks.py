"""What goes together in an adaptation, and what a user must know of its labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from ssl_transfer.downstream.adaptation.base import Adaptation
from ssl_transfer.downstream.tuning import AsIs, Tuning
from ssl_transfer.encoders import EncoderSpec
from ssl_transfer.encoders.build import is_folder_name

DOMAINS = ("source", "target")
FEW = 50  # images of a domain, of which figures mean next to nothing


def check_pair(method: Adaptation, tuning: Tuning, solves: bool, has_views: bool) -> None:
    """ValueError for a method and a tuning that do not go together; solves: whether the tuning solves its head."""
    name, how = type(method).__name__, tuning.describe()
    if tuning.unlabelled or isinstance(tuning, AsIs):
        raise ValueError(f"tuning {how} is for a Classifier: of a DomainAdapter take Frozen or Full")
    if tuning.trains_encoder and not method.trains:
        raise ValueError(f"method {name} aligns frozen features and tuning {how} changes them: take Frozen")
    if not tuning.trains_encoder and not (method.aligns and solves):
        cure = "solve=true" if method.aligns else "another tuning, such as Full"
        raise ValueError(f"method {name} does not go with tuning {how} as it is: take {cure}")
    if method.reads_plain and method.views is None and not has_views:
        raise ValueError(
            f"method {name} teaches changed views of target images, and there are none: give --model.views Views, or "
            "--model.method.views"
        )


def check_data(data: Any) -> None:
    """ValueError for data of one domain."""
    if not hasattr(data, "target"):
        raise ValueError("a DomainAdapter learns from two domains: take --data DomainDataModule --data.target …")


def remarks(data: Any) -> list[str]:
    """What a `DomainDataModule` says of its images, and how many labels of the target are not read."""
    found = list(data.remarks)
    if data.hidden_labels:
        found.append(f"{data.hidden_labels:,} labels of data.target are not read, but by a test")
    counts = {name: sum(len(data.domain(s, name == "target")) for s in ("train", "val")) for name in DOMAINS}
    if few := [f"{count} of data.{name}" for name, count in counts.items() if count < FEW]:
        found.append(
            f"there are few images to learn from and to be judged by, {' and '.join(few)}: figures of so few say next "
            "to nothing; give hundreds"
        )
    if shared := same_images(data):
        found.append(
            f"{shared:.0%} of the target's images are among the source's, byte for byte: where the domains are one "
            "there is nothing to adapt to"
        )
    return found


def check_test(data: Any) -> None:
    """ValueError where the target's test images have no label."""
    if not any(bool((batch.targets >= 0).any()) for batch in data.test_dataloader()):
        raise ValueError(
            f"data.target {data.target}: no test image has a label, and a test scores by labels: put labelled images "
            "of the target into class folders, or leave the test out and predict"
        )


def same_images(data: Any) -> float:
    """The share of the target's images whose contents are the source's too; 0 below one in a hundred."""
    own, other = (data.table.hashes[data.is_target == target] for target in (True, False))
    share = float(np.isin(own, other).mean())
    return share if share >= 0.01 else 0.0


def untrained(encoder: EncoderSpec | str | nn.Module) -> bool:
    """Whether an encoder, as a `DomainAdapter` takes it, is a network of ours or torchvision's with random weights.

    >>> untrained("small_resnet"), untrained("oriented_gradients"), untrained("runs/simclr/encoder")
    (True, False, False)
    """
    if isinstance(encoder, str):
        if is_folder_name(encoder):
            return False
        encoder = EncoderSpec(encoder)
    if not isinstance(encoder, EncoderSpec):
        return False
    return encoder.weights is None and "." not in encoder.name and encoder.name != "oriented_gradients"
