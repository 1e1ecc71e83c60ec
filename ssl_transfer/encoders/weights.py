"""Pretrained weights from a local file, loaded strictly but for the head."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

HEADS = {"fc", "_fc", "head", "heads", "classifier", "aux1", "aux2", "AuxLogits"}
State = dict[str, Tensor]
SUFFIXES = {".safetensors", ".pt", ".pth", ".bin"}


def is_file_name(weights: str) -> bool:
    """Whether `weights` means a file, not the name of torchvision weights."""
    return Path(weights).suffix in SUFFIXES or "/" in weights


def load_weights(network: nn.Module, weights: str, suited: Callable[[State], State] | None = None) -> None:
    """Load a local file of weights. Every key must match in name and shape; those of a head are left out.

    Args:
        suited: brings the weights to the size of the network's images.

    Raises:
        ValueError: no such file, not a file of tensors, or keys that differ.
    """
    path = _find(weights)
    tensors = _read(path)
    if suited is not None:
        with suppress(KeyError, ValueError, RuntimeError):  # of another network: what differs is told below
            tensors = suited(tensors)
    expected = network.state_dict()
    missing = [key for key in expected if key not in tensors and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in tensors if key not in expected and key.split(".")[0] not in HEADS]
    shapes = [key for key in expected if key in tensors and tensors[key].shape != expected[key].shape]
    if missing or unexpected or shapes:
        raise ValueError(
            f"weights {path} do not fit {type(network).__name__}: missing {_some(missing)}; unexpected "
            f"{_some(unexpected)}; of another shape {_some(shapes)}; give the file of this very architecture"
        )
    network.load_state_dict({key: tensors[key] for key in expected if key in tensors}, strict=False)


def _find(weights: str) -> Path:
    path = Path(weights).expanduser()
    package, colon, inside = weights.partition(":")
    if colon and not path.exists() and package.isidentifier():
        found = find_spec(package)
        if found is None or not found.submodule_search_locations:
            raise ValueError(f"encoder.weights {weights!r}: package {package!r} is not installed; install it")
        path = Path(found.submodule_search_locations[0]) / inside
    if not path.is_file():
        raise ValueError(f"encoder.weights {weights!r}: no such file {path}; give a local .safetensors, .pt or .pth")
    return path


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, KeyError) as error:
        raise ValueError(
            f"weights {path} are not a file of tensors ({type(error).__name__}): save a state dict"
        ) from error
    except Exception as error:  # SafetensorError derives from Exception directly
        raise ValueError(f"weights {path} are damaged ({error}): fetch the file again") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"weights {path} hold no state dict: save module.state_dict()")
    return {key.removeprefix("module."): value for key, value in content.items()}


def _some(keys: Iterable[str]) -> str:
    listed = list(keys)
    return (", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")) or "none"
