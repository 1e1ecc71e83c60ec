"""Which classes an encoder folder may name: it comes from anywhere, so nothing is imported before this check."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from ssl_transfer.encoders.foreign import resolve
from ssl_transfer.encoders.spec import EncoderSpec

PACKAGES = ("ssl_transfer", "torchvision", "timm")
VARIABLE = "SSL_TRANSFER_TRUST"
LOADING = ("weights", "weights_backbone", "checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")


def check_trust(spec: EncoderSpec, trust: Sequence[str], path: Path) -> None:
    """Refuse a spec that would build something other than a network of the packages above or of a trusted one.

    Raises:
        ValueError: the package is not trusted, the name is no network, or an argument would fetch something.
    """
    package = spec.name.partition(".")[0]
    trusted = {*trust, *(name.strip() for name in os.environ.get(VARIABLE, "").split(","))}
    if "." not in spec.name or package in trusted:
        return
    if package not in PACKAGES:
        raise ValueError(
            f'encoder folder {path} names {spec.name}: after reading its code, allow it by trust=["{package}"] or by '
            f"the environment variable {VARIABLE}={package}"
        )
    fetching = [key for key in LOADING if spec.arguments.get(key)]
    if spec.arguments.get("pretrained") or fetching or ":" in str(spec.arguments.get("model_name", "")):
        raise ValueError(f"encoder folder {path} asks {spec.name} to fetch weights: loading never does, so refused")
    if spec.name == "timm.create_model":
        return
    found = resolve(spec.name)
    if not (isinstance(found, type) and issubclass(found, nn.Module) and found.__module__.startswith(f"{package}.")):
        raise ValueError(f"encoder folder {path} names {spec.name}: only network classes of {package} are built")
