"""Target `huggingface`: a folder that is ready to upload to the Hugging Face Hub. Nothing is uploaded."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from ssl_transfer.export import card
from ssl_transfer.export.base import Options, Target
from ssl_transfer.export.layered import Layered
from ssl_transfer.export.subject import Subject
from ssl_transfer.export.timm import Timm
from ssl_transfer.export.torch_source import TorchSource

LICENSES = (  # what the Hub knows, https://huggingface.co/docs/hub/repositories-licenses
    *("apache-2.0", "mit", "openrail", "bigscience-openrail-m", "creativeml-openrail-m", "bigcode-openrail-m"),
    *("afl-3.0", "artistic-2.0", "bsl-1.0", "bsd", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "c-uda"),
    *("cc", "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0"),
    *("cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0"),
    *("cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cdla-sharing-1.0", "cdla-permissive-1.0"),
    *("cdla-permissive-2.0", "wtfpl", "ecl-2.0", "epl-1.0", "epl-2.0", "etalab-2.0", "eupl-1.1", "eupl-1.2"),
    *("agpl-3.0", "gfdl", "gpl", "gpl-2.0", "gpl-3.0", "lgpl", "lgpl-2.1", "lgpl-3.0", "isc", "lppl-1.3c", "ms-pl"),
    *("mpl-2.0", "odc-by", "odbl", "openrail++", "osl-3.0", "postgresql", "ofl-1.1", "ncsa", "unlicense", "zlib"),
    *("pddl", "lgpl-lr", "unknown", "other"),
)
TAGS = {
    "AnomalyDetector": ("anomaly-detection",),
    "Reducer": ("dimensionality-reduction",),
    "Clusterer": ("clustering",),
}
SPLITS = {"test/": "test", "val/": "validation"}
NO_FIGURES = ("loss", "threshold", "calibration_images")  # measured on a split, and no result of it


class HuggingFace(Layered):
    """The layout of target timm where timm has the network, else that of target torch, with a model card.

    The card has the front matter of the Hub: license, library, task, tags, and the figures that were measured.
    """

    name = "huggingface"
    takes = ("license", "maps")

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        chosen = self.options.license
        if chosen is not None and chosen not in LICENSES:
            close = get_close_matches(chosen.lower(), LICENSES, n=1)
            hint = f"did you mean {close[0]}?" if close else "give one such as apache-2.0, mit, cc-by-4.0, or other"
            raise ValueError(f"--license {chosen!r} is none that the Hugging Face Hub knows: {hint}")

    def choose(self, subject: Subject) -> Target:
        try:
            return self.of(Timm, subject)
        except ValueError as by_timm:
            try:
                return self.of(TorchSource, subject)
            except ValueError as by_torch:
                raise ValueError(f"{by_torch}; and {by_timm}") from by_torch

    def notes(self, subject: Subject) -> list[str]:
        upload = "Nothing was uploaded: `hf upload you/NAME FOLDER` does it."
        unlicensed = "No license is chosen: write one into the first lines of README.md before you publish it."
        chosen = self.options.license is not None
        return [upload] + ([] if chosen else [unlicensed]) + self.layout.notes(subject)

    def readme(self, subject: Subject, differences: dict[str, float], name: str) -> str:
        front = yaml.safe_dump(self._front(subject, name), sort_keys=False, allow_unicode=True)
        notes = "".join(f"- {note}\n" for note in self.notes(subject))
        return (
            f"---\n{front}---\n\n# {name}\n\n{card.what(subject)}.\n\n## Use\n\n{self._use(subject, name)}\n"
            "`example.py` holds the same and more: it reads picture files as the training images were read, and run "
            f"alone it compares with golden outputs.\n\n## To know\n\n{notes}\n"
            f"{card.facts(self, subject, differences)}\n## Limits\n\n{LIMITS}\n"
        )

    def state(self, folder: Path, config: dict[str, Any]) -> dict[str, Tensor]:
        layout = Timm if (folder / "config.json").is_file() else TorchSource
        return layout().state(folder, config)

    def _front(self, subject: Subject, name: str) -> dict[str, Any]:
        """The front matter of the card, by the Hub's specification."""
        library = "timm" if isinstance(self.layout, Timm) else "pytorch"
        task = "image-classification" if subject.kind == "Classifier" else "image-feature-extraction"
        front: dict[str, Any] = {
            "license": self.options.license or "other",
            "library_name": library,
            "pipeline_tag": task,
            "tags": [task, library, "self-supervised-learning", *TAGS.get(subject.kind, ())],
        }
        results = _results(subject, task)
        return front | ({"model-index": [{"name": name, "results": results}]} if results else {})

    def _use(self, subject: Subject, name: str) -> str:
        shape = ", ".join(map(str, subject.encoder.shape))
        by_file = (
            "```python\nimport runpy\n\nimport torch\nfrom huggingface_hub import snapshot_download\n\n"
            f'example = runpy.run_path(snapshot_download("you/{name}") + "/example.py")\n'
            f'images = torch.zeros(1, {shape}, dtype=torch.uint8)\nprint(example["predict"](images))\n```\n'
        )
        if not isinstance(self.layout, Timm):
            return by_file
        created = f'net = timm.create_model("hf-hub:you/{name}", pretrained=True).eval()'
        return f"```python\nimport timm\n\n{created}\n```\n\nThe whole, from pictures to outputs:\n\n{by_file}"


LIMITS = (
    "It suits images like those it was trained on. Measure it on your own against raw pixels and a random encoder "
    "before you rely on it: what the training images lacked, it may not tell apart."
)


def _results(subject: Subject, task: str) -> list[dict[str, Any]]:
    """The figures that were measured on held-out images, by split, as the Hub's model index has them."""
    source = str((subject.config.get("data") or {}).get("source", "unknown"))
    data = Path(source).name
    results = []
    for prefix, split in SPLITS.items():
        figures = {
            key.removeprefix(prefix): value
            for key, value in sorted((subject.config.get("metrics") or {}).items())
            if key.startswith(prefix) and isinstance(value, int | float) and key.rpartition("/")[2] not in NO_FIGURES
        }
        metrics = [
            {"type": key.rpartition("/")[2], "value": value, "name": prefix + key} for key, value in figures.items()
        ]
        if metrics:
            dataset = {"type": data.lower().replace(" ", "_"), "name": data, "split": split}
            results.append({"task": {"type": task}, "dataset": dataset, "metrics": metrics})
    return results
