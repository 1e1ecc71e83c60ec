"""Images prepared for an encoder as those it was trained on, and the device it works on: for verbs that read images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from ssl_transfer.data.module import ImageDataModule
    from ssl_transfer.encoders import Encoder


def images_for(
    network: Encoder,
    trained_on: dict[str, Any],
    source: str,
    root: str | None,
    size: int | None,
    resize: str | None,
    pattern: str,
    on_bad_image: str,
    batch_size: int,
    **more: Any,
) -> ImageDataModule:
    """A DataModule of `source` whose images suit `network`; `trained_on`: `data` of its config.json.

    more: further arguments of the DataModule.
    """
    from ssl_transfer.data.module import ImageDataModule

    square = network.shape[-1] if network.shape[-1] == network.shape[-2] else None
    return ImageDataModule(
        source=source,
        root=root,
        size=size or square,
        channels=network.shape[0],
        resize=resize or trained_on.get("resize", "crop"),  # type: ignore[arg-type]
        value_range=trained_on.get("value_range"),
        pattern=pattern,
        on_bad_image=on_bad_image,  # type: ignore[arg-type]
        batch_size=batch_size,
        **more,
    )


def device_of(name: str) -> torch.device:
    """The device of a name: cpu, cuda, mps, or the best for "auto". ValueError for one that is unknown or not there."""
    import torch

    try:
        device = torch.device(_best_device() if name == "auto" else name)
    except RuntimeError as error:
        raise ValueError(f"--device must be cpu, cuda, mps or auto, not {name!r}") from error
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = (str(error).splitlines() or ["it does not answer"])[0]
        raise ValueError(f"--device {name} cannot be used here ({reason}): give cpu or auto") from error
    return device


def _best_device() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
