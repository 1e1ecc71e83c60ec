"""From an encoder or a downstream run to a folder that others open, verified or refused."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from ssl_transfer.downstream.fitted_classifier import FittedClassifier
from ssl_transfer.encoders.config import versions
from ssl_transfer.encoders.folder import load_encoder, save_encoder, sha256
from ssl_transfer.export.base import Input, Options, Target
from ssl_transfer.export.card import without_folders
from ssl_transfer.export.config import write_config
from ssl_transfer.export.place import check_free, check_place, files_of, made
from ssl_transfer.export.subject import Subject, read_subject
from ssl_transfer.export.targets import target_named
from ssl_transfer.export.verify import size_of, verify
from ssl_transfer.files import whole_folder


@dataclass
class Exported:
    """What was written.

    Attributes:
        path: the folder; `files`: its files, relative to it; `bytes`: their size.
        target: the name of the target; `kind`: `Encoder`, `Classifier`, `AnomalyDetector`, …
        differences: the largest absolute difference of each output on the golden images, as a fresh process without
            this package computes it (for `encoder`, as this one does).
        notes: what a user should know of it.
    """

    path: Path
    files: list[str]
    bytes: int
    target: str
    kind: str
    differences: dict[str, float]
    notes: list[str]


def write_export(
    source: str | Path,
    to: str,
    out: str | Path,
    *,
    input: Input = "uint8",
    maps: bool = False,
    license: str | None = None,
    overwrite: bool = False,
) -> Exported:
    """Export an encoder, or a whole downstream run, for a project that does not have this package.

    The folder holds the weights or the graph, `example.py` (the code that the other project needs), `export.json`,
    `README.md`, and golden images with their outputs. Before it appears, its example is run in a fresh process that
    cannot import this package; it is refused if an output differs.

    Args:
        source: an encoder folder, a model folder, the folder of a run that holds one, or an export.
        to: torchvision, timm, onnx, torch_export, torch, huggingface, lightly_train, segmentation, or `encoder` for an
            encoder folder of this package.
        out: the folder to write.
        input: of a graph (onnx, torch_export): images as uint8, or as float32 in [0, 1].
        maps: let an encoder's graph give its feature maps too.
        license: for the model card of huggingface, such as `apache-2.0`.
        overwrite: replace an older export (or, for `encoder`, an encoder folder) at `out`.

    Raises:
        ValueError: no such source or target, a folder in the way, a source that the target cannot hold, a package that
            is missing, or outputs that differ. Nothing is left at `out` then.

    >>> import tempfile
    >>> from ssl_transfer.encoders import build_encoder, save_encoder
    >>> folder = tempfile.mkdtemp()
    >>> encoder = build_encoder("small_resnet", (1, 8, 8), [0.5], [0.5])
    >>> run = save_encoder(encoder, f"{folder}/encoder", objective="none", data={})
    >>> done = write_export(run, to="torch", out=f"{folder}/export")
    >>> done.kind, done.differences["features"] < 1e-5
    ('Encoder', True)
    """
    path = Path(out).expanduser().absolute()
    options = Options(input, maps, license)
    check_place(path)
    if to == "encoder":
        return _back(source, path, options, overwrite)
    target = target_named(to)(options)
    check_free(path, overwrite)
    subject = read_subject(source, maps)
    if subject.held != "Encoder":
        raise ValueError(
            f"{source} is the export of a {subject.held}, of which the encoder alone comes back: export the run itself,"
            " or take --to encoder first"
        )
    target.check(subject)
    with made(path), whole_folder(path) as new:
        differences = _write(target, subject, new, path.name)
        check_free(path, overwrite)  # others may have been there meanwhile
    notes, files = target.notes(subject), files_of(path)
    return Exported(path, files, size_of(path), target.name, subject.kind, differences, notes)


def _write(target: Target, subject: Subject, folder: Path, name: str) -> dict[str, float]:
    """Write the whole export called `name` into a folder, and return how far each output differs."""
    target.write(subject, folder)
    _write_golden(target, subject, folder)
    (folder / "example.py").write_text(target.example(subject), encoding="utf-8")
    differences = verify(target, subject, folder)
    write_config(folder, _config(target, subject, folder, differences))
    (folder / "README.md").write_text(target.readme(subject, differences, name), encoding="utf-8")
    return differences


def _write_golden(target: Target, subject: Subject, folder: Path) -> None:
    golden = {"images": subject.images} | {name: subject.expected[name] for name in target.outputs(subject)}
    if target.golden.endswith(".npz"):
        np.savez(folder / target.golden, **{name: value.numpy() for name, value in golden.items()})  # type: ignore[arg-type]
    else:
        save_file(golden, folder / target.golden)


def _config(target: Target, subject: Subject, folder: Path, differences: dict[str, float]) -> dict[str, Any]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {
        "target": target.name,
        "kind": subject.kind,
        "options": {name: value for name, value in asdict(target.options).items() if name in target.takes},
        "input": {"type": target.options.input, "shape": ["batch", *subject.encoder.shape]},
        "preprocessing": subject.preprocessing,
        "outputs": {
            name: {
                "shape": ["batch", *subject.expected[name].shape[1:]],
                "max_abs_difference": differences[name],
            }
            for name in target.outputs(subject)
        },
        "labels": subject.labels,
        "targets": subject.fitted.targets.describe() if isinstance(subject.fitted, FittedClassifier) else None,
        "threshold": subject.threshold,
        "encoder": _without_folders(subject.config),
        "versions": versions(subject.encoder.spec.name),
        "sha256": {str(file.relative_to(folder)): sha256(file) for file in files},
    }


def _without_folders(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration of an encoder without the paths of the machine that it was trained on."""
    weights = config.get("initial_weights")
    kept = Path(weights).name if isinstance(weights, str) else weights
    return config | {"data": without_folders(config.get("data") or {}), "initial_weights": kept}


def _back(source: str | Path, path: Path, options: Options, overwrite: bool) -> Exported:
    """An encoder folder again, of an export or of a downstream run."""
    if options != Options():
        raise ValueError("target encoder is a folder of this package: leave --input, --maps and --license out")
    if path.exists() and not overwrite and any(path.iterdir() if path.is_dir() else [path]):
        raise ValueError(f"--out {path} exists: choose another folder, or replace an encoder folder with --overwrite")
    subject = read_subject(source)
    config = subject.config
    data, metrics, training = (config.get(key) or {} for key in ("data", "metrics", "training"))
    objective = str(config.get("objective", "unknown"))
    with made(path):
        save_encoder(subject.encoder, path, objective=objective, data=data, metrics=metrics, training=training)
    with torch.inference_mode():
        difference = float((load_encoder(path)(subject.images) - subject.encoder(subject.images)).abs().max())
    return Exported(path, files_of(path), size_of(path), "encoder", "Encoder", {"features": difference}, [])
