"""The folder of a run: what lies where, who may write into it, and the figures it keeps."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

from ssl_transfer.files import whole_file

MARK = "# config.yaml of a run of ssl_transfer"


class RunFolder:
    """A run's folder.

    >>> RunFolder("runs/a").last.as_posix()
    'runs/a/checkpoints/last.ckpt'
    """

    PRECIOUS = ("checkpoints", "encoder", "model", "metrics.json")
    OTHERS = (
        "logs",
        "config.yaml",
        "summary.html",
        "predictions.parquet",
        "gallery.html",
        "heat_maps",
        "clusters.html",
    )

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self.checkpoints = self.path / "checkpoints"
        self.last = self.checkpoints / "last.ckpt"
        self.best = self.checkpoints / "best.ckpt"
        self.encoder = self.path / "encoder"
        self.model = self.path / "model"
        self.logs = self.path / "logs"
        self.config = self.path / "config.yaml"
        self.summary = self.path / "summary.html"
        self.predictions = self.path / "predictions.parquet"
        self.gallery = self.path / "gallery.html"
        self.clusters = self.path / "clusters.html"
        self.heat_maps = self.path / "heat_maps"
        self.metrics_file = self.path / "metrics.json"
        self.replaced = self.path / ".replaced"

    def used(self) -> list[str]:
        """The names of a run's results that exist here. The traces of a fit that failed early do not count."""
        return [name for name in self.PRECIOUS if (self.path / name).exists()]

    def claim(self, overwrite: bool = False, resume: bool = False) -> Path | None:
        """Make the folder ready for a fit; returns the checkpoint to go on from, if any.

        What an earlier run left is kept aside until `settle`, so that a fit that fails at once costs nothing.
        Raises ValueError if another run's outputs are here and neither `overwrite` nor `resume` is given.
        """
        if not self.used():
            self.settle()  # the run that a fit killed at once was about to replace
        if resume and self.last.exists():
            return self.last
        used = self.used()
        if used and not overwrite and not (resume and "metrics.json" not in used):
            raise ValueError(
                f"{self.path} already holds a run ({', '.join(used)}): choose another --trainer.default_root_dir, "
                "or add --overwrite to replace it or --ckpt_path last to go on with it"
            )
        if not used and self.config.exists() and not self.config.read_text(encoding="utf-8").startswith(MARK):
            raise ValueError(
                f"{self.config} was not written by a run, and a fit would replace it: choose another "
                "--trainer.default_root_dir"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        if used:
            self._move(self.path, self.replaced)
        return None

    def write_config(self, text: str) -> None:
        """Write config.yaml, marked as ours."""
        self.config.write_text(f"{MARK}\n{text}", encoding="utf-8")

    def settle(self) -> None:
        """Part with the run that was replaced; if the new one has left no result, put the old one back instead."""
        if self.replaced.exists() and not self.used():
            self._move(self.replaced, self.path)
        shutil.rmtree(self.replaced, ignore_errors=True)

    def _move(self, source: Path, target: Path) -> None:
        """Move everything of a run, over what is there."""
        for name in (*self.PRECIOUS, *self.OTHERS):
            _remove(target / name)
            if (source / name).exists():
                target.mkdir(exist_ok=True)
                (source / name).rename(target / name)

    def metrics(self) -> dict[str, Any]:
        """What metrics.json holds; empty without one."""
        if not self.metrics_file.exists():
            return {}
        loaded: dict[str, Any] = json.loads(self.metrics_file.read_text(encoding="utf-8"))
        return loaded

    def record(self, figures: dict[str, Any], forget: str | None = None) -> None:
        """Add figures to metrics.json, atomically; null stands for what is not finite.

        forget: a prefix, such as "test/", of older figures that hold no more.
        """
        kept = {k: v for k, v in self.metrics().items() if forget is None or not k.startswith(forget)}
        merged = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in (kept | figures).items()}
        with whole_file(self.metrics_file) as temporary:
            temporary.write_text(json.dumps(merged, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    def fitted_checkpoint(self) -> Path:
        """The checkpoint that the finished fit named. Raises ValueError without one: fresh weights are never scored."""
        name = self.metrics().get("checkpoint")
        if name is None:
            raise ValueError(
                f"{self.path} holds no finished fit (no checkpoint in metrics.json): run `ssl-transfer fit` with "
                "the same --trainer.default_root_dir first"
            )
        path = self.path / name
        if not path.exists():
            raise ValueError(f"{path}, named by {self.metrics_file}, is missing: fit again with --overwrite")
        return path


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
