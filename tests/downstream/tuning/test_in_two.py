"""In two processes, too, what is frozen is the same to the bit, and stages join when they should.

The test runs this file as a script, whose fits start a second process by themselves.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.data.views import Views
from ssl_transfer.downstream import Classifier, Gradual, LinearThenFull, LoRA, Partial, Tuning
from ssl_transfer.encoders import EncoderSpec, build_encoder, load_encoder, save_encoder
from ssl_transfer.running import fit as running

SPEC = EncoderSpec(arguments={"widths": [8, 8, 16], "strides": [1, 1, 2]}, pool=2)
OPTIONS: dict[str, Any] = {"accelerator": "cpu", "enable_progress_bar": False, "verbose": False}
TUNINGS: dict[str, Tuning] = {
    "partial": Partial(1),
    "gradual": Gradual(every=1),
    "lora": LoRA(rank=2),
    "linear_then_full": LinearThenFull(batch_norm="frozen"),
}
MOVED = {
    "partial": {"stage2"},
    "gradual": {"stage2"},
    "lora": {"stem", "stage1", "stage2"},
    "linear_then_full": {"stem", "stage1", "stage2"},
}


def fit_all(folder: Path) -> None:
    for name, tuning in TUNINGS.items():
        data = ImageDataModule("digits", batch_size=64, label_budget=20)
        views = None if name == "partial" else Views(horizontal_flip=0.0)
        module = Classifier(str(folder / "encoder"), tuning=tuning, views=views)
        options = {**OPTIONS, "devices": 2, "strategy": "ddp"}
        running.fit(module, data, folder / name, max_epochs=2, **options)


@pytest.fixture(scope="module")
def fitted(run_script: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    torch.manual_seed(0)
    encoder = build_encoder(SPEC, (1, 8, 8), [0.3], [0.4])
    save_encoder(encoder.eval(), folder / "encoder", objective="SimCLR", data={"source": "digits"})
    done = run_script(__file__, folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", TUNINGS)
def test_what_is_frozen_is_the_same_to_the_bit(name: str, fitted: Path) -> None:
    before = load_encoder(fitted / "encoder").state_dict()
    after = load_encoder(fitted / name / "encoder").state_dict()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    stages = {"stem": "network.stem.", "stage1": "network.body.stage1.", "stage2": "network.body.stage2."}
    assert {s for s, start in stages.items() if any(key.startswith(start) for key in changed)} == MOVED[name]
    if name in ("lora", "linear_then_full"):
        assert not any("running" in key for key in changed)


if __name__ == "__main__":
    running.calm(fit_all)(Path(sys.argv[1]))
