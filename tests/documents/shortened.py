"""The one place that says what is changed of a documented command or block before it is run, so that it takes seconds.

All else is run as it stands: an option or a class that was renamed fails.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from sklearn.decomposition import PCA

import ssl_transfer
from ssl_transfer.commands import demo
from ssl_transfer.export import write_export
from ssl_transfer.running import fit as running

# Commands that are not run, and why.
NOT_RUN = {
    "cd": "the page's folder is where the tests run",
    "embedding-atlas": "is another project's, and serves until it is stopped",
    "git": "fetches the repository",
    "jupyter": "serves until it is stopped",
    "make": "installs, or runs this very suite",
    "mkdocs": "the documentation is built by its own test",
    "pip": "installs",
    "srun": "needs SLURM",
    "tensorboard": "serves until it is stopped",
    "torchrun": "starts several processes, which have tests of their own",
}
# Options of ssl-transfer that are not run but only parsed.
ONLY_PARSED = {"--trainer.strategy": "starts several processes", "--trainer.num_nodes": "needs several machines"}

_QUIET = {"--trainer.enable_progress_bar": "false"}
# By verb: options that are set, in place of what is given.
SET: dict[str, dict[str, str]] = {
    "fit": {**_QUIET, "--trainer.max_epochs": "1"},
    "test": _QUIET,
    "validate": _QUIET,
    "predict": _QUIET,
    "demo": {"--epochs": "1"},
    "advise": {"--minutes": "0.05"},
    "evidence": {"--seeds": "1", "--steps": "3"},
}
# Options whose value is replaced where they are given.
REPLACED = {"--data.num_workers": "0"}
BUDGET = 10  # at most so many labels a class has the scratch folder
SIZE = 96  # images are not larger


def shortened(words: list[str]) -> list[str]:
    """The arguments of ssl-transfer that are run for those that are documented.

    >>> shortened(["fit", "--trainer.max_epochs", "40", "--data.size=224"])
    ['fit', '--data.size', '96', '--trainer.enable_progress_bar', 'false', '--trainer.max_epochs', '1']
    """
    verb, *rest = words
    for name, value in given(rest).items():
        if name == "--budgets":
            kept = [b for b in value.split(",") if not b.isdigit() or int(b) <= BUDGET]
            rest = with_option(rest, name, ",".join(kept))
        elif name in ("--data.size", "--size") and int(value) > SIZE:
            rest = with_option(rest, name, str(SIZE))
        elif name in REPLACED:
            rest = with_option(rest, name, REPLACED[name])
    for name, value in SET.get(verb, {}).items():
        rest = with_option(rest, name, value)
    if "--ckpt_path" in rest and verb == "fit":
        rest = with_option(rest, "--trainer.max_epochs", "2")  # one more than the run that it goes on with
    return [verb, *rest]


def given(words: list[str]) -> dict[str, str]:
    """Options and their values; an option without one has "".

    >>> given(["a", "--seeds", "3", "--size=8", "--overwrite"])
    {'--seeds': '3', '--size': '8', '--overwrite': ''}
    """
    found = {}
    for word, after in pairwise([*words, "--"]):
        if word.startswith("--"):
            name, sign, value = word.partition("=")
            found[name] = value if sign or after.startswith("--") else after
    return found


def with_option(words: list[str], name: str, value: str) -> list[str]:
    """The words with one option set, wherever it was given."""
    kept, skip = [], False
    for word, after in pairwise([*words, "--"]):
        if skip:
            skip = False
        elif word == name:
            skip = not after.startswith("--")
        elif not word.startswith(f"{name}="):
            kept.append(word)
    return [*kept, name, value]


class Folders:
    """Who made the runs and exports of a page. A new one replaces what was prepared or what the other language made.

    For a page tells the same in bash and in Python; but two fits of one language in one folder are a mistake in it.
    """

    def __init__(self) -> None:
        self.made: dict[Path, str] = {}

    def claim(self, folder: str | Path, language: str) -> None:
        path = Path(folder).absolute()
        if path.is_dir() and self.made.get(path) != language:
            shutil.rmtree(path)
        self.made[path] = language


def shorten_python(monkeypatch: pytest.MonkeyPatch, folders: Folders) -> None:
    """One epoch for every `fit`, a short demo, and random weights for those that would be downloaded."""

    def quick(fit: Callable[..., Any]) -> Callable[..., Any]:
        def run(module: Any, data: Any, directory: str | Path, **options: Any) -> Any:
            if not options.get("resume"):
                folders.claim(directory, "python")
            short = {"max_epochs": 1, "enable_progress_bar": False}
            return fit(module, data, directory, **{**options, **short})

        return run

    def export(source: Any, to: str, out: str | Path, **options: Any) -> Any:
        folders.claim(out, "python")
        return write_export(source, to, out, **options)

    monkeypatch.setattr(ssl_transfer, "write_export", export, raising=False)
    monkeypatch.setattr(ssl_transfer, "fit", quick(running.fit), raising=False)
    monkeypatch.setattr(running, "fit", quick(running.fit))
    scratch = demo.from_scratch_accuracy
    monkeypatch.setattr(demo, "DRAWS", range(2))
    monkeypatch.setattr(demo, "from_scratch_accuracy", lambda *a, **k: scratch(*a, **{**k, "epochs": 2}))
    monkeypatch.setattr(demo, "TSNE", lambda **_: PCA(2))
    monkeypatch.setattr(torchvision.models.WeightsEnum, "get_state_dict", _random_weights)


def _random_weights(weights: torchvision.models.WeightsEnum, *_: Any, **__: Any) -> dict[str, torch.Tensor]:
    names = torchvision.models.list_models()
    name = next(name for name in names if torchvision.models.get_model_weights(name) is type(weights))
    return dict(torchvision.models.get_model(name, weights=None).state_dict())
