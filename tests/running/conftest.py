"""What the tests of runs share: digits, modules that fit in a second, and a run of each kind to look at."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl

from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.downstream import Classifier
from ssl_transfer.encoders import EncoderSpec
from ssl_transfer.pretraining import SimCLR
from ssl_transfer.running.fit import fit
from ssl_transfer.running.folder import RunFolder

QUIET: dict[str, Any] = {"enable_progress_bar": False, "verbose": False}
SPEC = EncoderSpec(arguments={"widths": [8, 16], "strides": [1, 2]}, pool=2)


@pytest.fixture
def simclr() -> Callable[[], SimCLR]:
    return lambda: SimCLR(SPEC, hidden_dim=16, output_dim=8)


@pytest.fixture(scope="session")
def _pretrained(digits: ImageDataModule, tmp_path_factory: pytest.TempPathFactory) -> Path:
    module = SimCLR(SPEC, hidden_dim=16, output_dim=8)
    return fit(module, digits, tmp_path_factory.mktemp("runs") / "pretrained", max_epochs=2, **QUIET).path


@pytest.fixture(scope="session")
def _classified(digits: ImageDataModule, _pretrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    module = Classifier(str(_pretrained / "encoder"))
    return fit(module, digits, tmp_path_factory.mktemp("runs") / "classified", **QUIET).path


@pytest.fixture
def pretrained(_pretrained: Path, tmp_path: Path) -> RunFolder:
    """A finished run of SimCLR on digits, to do with as one likes."""
    return RunFolder(shutil.copytree(_pretrained, tmp_path / "pretrained"))


@pytest.fixture
def classified(_classified: Path, tmp_path: Path) -> RunFolder:
    """A finished run of a frozen Classifier on digits, to do with as one likes."""
    return RunFolder(shutil.copytree(_classified, tmp_path / "classified"))


class Killed(Exception):
    """The process died."""


class Kill(pl.Callback):
    """Ends a fit before a training step, or before the validation of an epoch."""

    def __init__(self, step: int | None = None, epoch: int | None = None) -> None:
        self.step = step
        self.epoch = epoch

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise Killed

    def on_validation_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.current_epoch == self.epoch:
            raise Killed


@pytest.fixture
def die() -> Callable[..., None]:
    """Run a fit that dies at a step, or in the validation of an epoch."""

    def dying_fit(*arguments: Any, step: int | None = None, epoch: int | None = None, **options: Any) -> None:
        with pytest.raises(Killed):
            fit(*arguments, callbacks=[Kill(step, epoch)], **{**QUIET, **options})

    return dying_fit


@pytest.fixture
def contents() -> Callable[[Path], dict[str, bytes]]:
    """Every file below a folder, with its bytes."""

    def read(folder: Path) -> dict[str, bytes]:
        return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}

    return read
