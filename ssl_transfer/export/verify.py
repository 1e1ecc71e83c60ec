"""Run an export's own example in a process that does not know this package, and compare what it gives."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from ssl_transfer.downstream.fitted_anomaly import FittedAnomalyDetector
from ssl_transfer.export.base import Target
from ssl_transfer.export.subject import Subject

LEAST = 1e-6  # a scale below which outputs are nothing but rounding
RUN = """\
import runpy, sys
folder, found, *hidden = sys.argv[1:]
for name in hidden:
    sys.modules[name] = None  # importing it fails
example = runpy.run_path(folder + "/example.py")
images = example["golden"]()["images"]
whole, alone = example["predict"](images), example["predict"](images[:1])
for name in hidden:
    del sys.modules[name]
import torch
from safetensors.torch import save_file
outputs = {name: torch.as_tensor(value).contiguous() for name, value in whole.items()}
outputs |= {name + "/alone": torch.as_tensor(value).contiguous() for name, value in alone.items()}
save_file(outputs, found)
"""


def verify(target: Target, subject: Subject, folder: Path) -> dict[str, float]:
    """The largest absolute difference of each output from what this package gives, on the golden images.

    The example is run on all of them and on the first alone.

    Raises:
        ValueError: the example fails, an output is missing, or one differs by more than the target's tolerance.
    """
    found = run_example(folder, ("ssl_transfer", *target.hidden))
    differences: dict[str, float] = {}
    for name in target.outputs(subject):
        expected = subject.expected[name]
        for key, wanted in ((name, expected), (f"{name}/alone", expected[:1])):
            difference = _difference(found.get(key), wanted, f"{target.name} export of {subject.path}: output {name}")
            differences[name] = max(differences.get(name, 0.0), difference)
        limit = target.tolerance * scale_of(name, expected, subject)
        if not differences[name] <= limit:
            raise ValueError(
                f"{target.name} export of {subject.path} is refused: {name} differs by {differences[name]:.2g}, and at "
                f"most {limit:.2g} is allowed; nothing was written; try another target"
            )
    return differences


def scale_of(name: str, expected: Tensor, subject: Subject) -> float:
    """What a difference is measured by: the largest expected value, 1 of shares, and what normal images score."""
    if name in ("probabilities", "p_value", "anomalous", "cluster") or name.endswith("_scores"):
        return max(1.0, _largest(expected))
    usual = LEAST
    if name == "anomaly_score" and isinstance(subject.fitted, FittedAnomalyDetector):
        usual = _largest(torch.as_tensor(subject.fitted.calibration.scores))
    return max(usual, LEAST, _largest(expected))


def run_example(folder: Path, hidden: tuple[str, ...] = ("ssl_transfer",)) -> dict[str, Tensor]:
    """Outputs of `example.py` on the golden images, and on the first alone (`NAME/alone`), from a process of its own.

    Raises ValueError with the last line of what the process said if it fails.
    """
    with tempfile.TemporaryDirectory() as scratch:
        found = Path(scratch) / "found.safetensors"
        command = [sys.executable, "-c", RUN, str(folder), str(found), *hidden]
        quiet = os.environ | {"PYTHONWARNINGS": "ignore", "CUDA_VISIBLE_DEVICES": "", "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, capture_output=True, text=True, cwd=scratch, env=quiet, check=False)
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
            raise ValueError(f"the example of the export does not run ({said}); nothing was written")
        return load_file(found)


def _difference(found: Tensor | None, wanted: Tensor, what: str) -> float:
    if found is None:
        raise ValueError(f"{what} is missing; nothing was written")
    if found.shape != wanted.shape:
        raise ValueError(f"{what} is {tuple(found.shape)} instead of {tuple(wanted.shape)}; nothing was written")
    if not wanted.numel():
        return 0.0
    found, wanted = found.double(), wanted.double()
    same = (found == wanted) | (found.isnan() & wanted.isnan())
    return float((found - wanted).abs().nan_to_num(nan=float("inf"), posinf=float("inf")).masked_fill(same, 0).max())


def _largest(values: Tensor) -> float:
    finite = values.double().abs()[values.double().isfinite()]
    return float(finite.max()) if finite.numel() else 0.0


def size_of(folder: Path) -> int:
    """Bytes of all files of a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
