"""The README.md of an export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_transfer.export.subject import Subject

if TYPE_CHECKING:
    from ssl_transfer.export.base import Target

MEANING = {
    "features": "what the encoder makes of an image",
    "maps": "feature maps",
    "probabilities": "of the labels, in the order below",
    "anomaly_score": "higher is more anomalous",
    "p_value": "share of held-out normal images that score as high",
    "anomalous": "whether the score is above the threshold",
    "anomaly_map": "anomaly score by pixel",
    "coordinates": "the place on the map",
    "cluster": "number of the cluster, −1 for none",
}
HOW = {
    "crop": "cut to the largest centred part of the right shape, then resized",
    "pad": "resized as a whole, centred on black",
    "stretch": "resized as a whole, without regard to its shape",
}


def card(target: Target, subject: Subject, differences: dict[str, float], name: str) -> str:
    """Markdown of the README of the export called `name`."""
    notes = "".join(f"- {note}\n" for note in target.notes(subject))
    return (
        f"# {name}\n\n{what(subject)}, as {target.name}.\n\n"
        f"```bash\npython example.py              # compares with the golden outputs\n"
        f"python example.py picture.png  # reads a file\n```\n\n"
        "`example.py` is the code that another project needs; it was run in a process of its own, without the package "
        "that wrote it, before this folder appeared.\n"
        f"{f'{chr(10)}## To know{chr(10)}{chr(10)}{notes}' if notes else ''}"
        f"\n{facts(target, subject, differences)}"
    )


def facts(target: Target, subject: Subject, differences: dict[str, float]) -> str:
    """The sections that every export states: inputs and outputs, preprocessing, labels, figures, origin."""
    sections = [
        ("Input and outputs", _outputs(target, subject, differences)),
        ("Preprocessing", preprocessing(subject)),
    ]
    if subject.labels:
        sections.append(("Labels", ", ".join(f"{index} {label}" for index, label in enumerate(subject.labels))))
    if subject.threshold is None and "anomalous" in subject.expected:
        none = "None could be set, as too few normal images were held out: `anomalous` is always false."
        sections.append(("Threshold", none))
    if subject.threshold is not None:
        sections.append(("Threshold", f"An anomaly score above {subject.threshold:.6g} is called an anomaly."))
    if subject.config.get("metrics"):
        sections.append(("Figures", table(("figure", "value"), sorted(subject.config["metrics"].items()))))
    sections.append(("Origin", _origin(subject)))
    return "\n\n".join(f"## {title}\n\n{text}" for title, text in sections) + "\n"


def preprocessing(subject: Subject) -> str:
    """How images are prepared, in words."""
    told = subject.preprocessing
    height, width = told["size"]
    words = [
        f"An image is {HOW[told['resize']]}, to {height} × {width} pixels (bilinear, antialiased), with "
        f"{told['channels']} channel{'s' * (told['channels'] > 1)}."
    ]
    if told["value_range"]:
        low, high = told["value_range"]
        words.append(f"16-bit images: {low} becomes 0 and {high} becomes 255.")
    words.append(
        f"`predict` of the example normalises by itself: mean {_numbers(told['mean'])}, standard deviation "
        f"{_numbers(told['std'])}, of values in [0, 1]."
    )
    return " ".join(words)


def table(header: tuple[str, ...], rows: Any) -> str:
    """A Markdown table."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def what(subject: Subject) -> str:
    """What is exported, in words."""
    name = subject.encoder.spec.name
    if subject.fitted is not None:
        return f"{subject.kind} on encoder {name}, tuning {subject.fitted.config.get('tuning', 'unknown')}"
    return f"Encoder {name}, trained by {subject.config.get('objective', 'unknown')}"


def _outputs(target: Target, subject: Subject, differences: dict[str, float]) -> str:
    shape = ", ".join(str(side) for side in subject.encoder.shape)
    rows = [("images", f"(B, {shape})", "uint8; B is free", "")]
    for name in target.outputs(subject):
        sides = "".join(f", {side}" for side in subject.expected[name].shape[1:]) or ","
        meaning = MEANING.get(name, name.replace("_", " "))
        rows.append((f"`{name}`", f"(B{sides})", meaning, f"{differences[name]:.2g}"))
    return table(("name", "shape", "what", "differs at most by"), rows)


def _origin(subject: Subject) -> str:
    config = subject.config
    how = "objective" if subject.fitted is None else "tuning"  # which is what a model's encoder folder calls so
    facts = [("architecture", subject.encoder.spec.name), (how, config.get("objective", "unknown"))]
    data = without_folders(config.get("data") or {})
    facts += [(key, value) for key, value in data.items() if isinstance(value, str | int | float)]
    facts += [(f"{package} when written", version) for package, version in (config.get("versions") or {}).items()]
    return table(("", ""), facts)


def without_folders(data: dict[str, Any]) -> dict[str, Any]:
    """What is told of the data, without the paths of the machine that it lay on.

    >>> without_folders({"source": "/home/somebody/cats", "rejected": [["/home/somebody/cats/x.png", "empty"]]})
    {'source': 'cats', 'rejected': []}
    """
    source = {"source": Path(str(data["source"])).name} if "source" in data else {}
    return data | source | ({"rejected": []} if "rejected" in data else {})


def _numbers(values: list[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _cell(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
