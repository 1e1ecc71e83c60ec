"""What an export target is."""

from __future__ import annotations

from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import Tensor

from ssl_transfer.export.card import card
from ssl_transfer.export.subject import Subject

Input = Literal["uint8", "float"]


@dataclass(frozen=True)
class Options:
    """What may be chosen of an export; each target names those that it takes.

    Args:
        input: type of the images that a graph takes: uint8, or float32 in [0, 1].
        maps: whether an encoder's feature maps are an output too.
        license: SPDX identifier for the model card, such as `apache-2.0`.
    """

    input: Input = "uint8"
    maps: bool = False
    license: str | None = None

    def __post_init__(self) -> None:
        if self.input not in ("uint8", "float"):
            raise ValueError(f"--input must be uint8 or float, not {self.input!r}")


class Target:
    """Base of the export targets: how an encoder or a downstream run becomes files that others open.

    A subclass gives `write` and `example`, and what it cannot hold in `check`. The example is the verification: it
    defines `predict(images)`, from uint8 images `(B, C, H, W)` to a dict of outputs by name, and is run in a process
    where this package cannot be imported.

    Attributes:
        name: of the target on the command line.
        takes: the options, by name, that it reads.
        packages: modules that `example.py` imports and this package does not bring, with the extra that brings them.
        golden: the file of golden images and outputs, `.safetensors` or `.npz`.
        tolerance: by how much an output may differ, as a share of its scale (see `verify.scale_of`).
        hidden: modules that the example must do without, beside this package.
    """

    name: ClassVar[str]
    takes: ClassVar[tuple[str, ...]] = ()
    packages: ClassVar[dict[str, str]] = {}
    golden: ClassVar[str] = "golden.safetensors"
    tolerance: ClassVar[float] = 1e-5
    hidden: ClassVar[tuple[str, ...]] = ()

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or Options()
        for option in fields(Options):
            if getattr(self.options, option.name) != option.default and option.name not in self.takes:
                raise ValueError(f"--{option.name} says nothing to target {self.name}: leave it out")
        for module, extra in self.packages.items():
            if find_spec(module) is None:
                raise ValueError(f"target {self.name} needs {module}: pip install 'ssl_transfer[{extra}]'")

    def check(self, subject: Subject) -> None:
        """Raise ValueError, in one line, if this target cannot hold the subject."""

    def outputs(self, subject: Subject) -> list[str]:
        """Names of the expected outputs that the export gives; all of them by default."""
        return list(subject.expected)

    def write(self, subject: Subject, folder: Path) -> None:
        """Write the weights, or the graph, and what else the example reads."""
        raise NotImplementedError

    def example(self, subject: Subject) -> str:
        """The source of `example.py`."""
        raise NotImplementedError

    def notes(self, subject: Subject) -> list[str]:
        """What a user should know of this export, a sentence each, for the README."""
        return []

    def readme(self, subject: Subject, differences: dict[str, float], name: str) -> str:
        """The README.md of the export called `name`; `differences` are the largest by output."""
        return card(self, subject, differences, name)

    def state(self, folder: Path, config: dict[str, Any]) -> dict[str, Tensor]:
        """The weights by the encoder's own keys, to come back; `config` is that of `export.json`."""
        raise ValueError(
            f"export {folder} is a graph of target {self.name} and holds no weights by name: give the encoder folder"
        )
