"""Pieces of `example.py` that targets share: how an image file is read, how the example checks itself and is used."""

from __future__ import annotations

from ssl_transfer.downstream.fitted_classifier import FittedClassifier
from ssl_transfer.export.subject import Subject, answers_of


def header(subject: Subject, what: str, needs: str) -> str:
    """The docstring of an example."""
    channels, height, width = subject.encoder.shape
    return (
        f'"""{what}\n\n'
        f"Needs {needs}; to read files numpy and Pillow 10.1 or later.\n"
        f"Images: uint8 (B, {channels}, {height}, {width}).\n"
        f'`python example.py picture.png` reads a file, `python example.py` compares with the golden outputs.\n"""\n'
    )


def constants(subject: Subject) -> str:
    """Labels and threshold, where there are some: a list of labels of one class, else dicts by output.

    `LABELS[output]` are names of which one holds, `TAGS[output]` those of which any may hold.
    """
    lines = [f"LABELS = {subject.labels!r}"] if subject.labels else []
    if isinstance(subject.fitted, FittedClassifier) and not subject.labels:
        for name, kind in (("LABELS", "class"), ("TAGS", "multi_label")):
            told = {output: of.classes for output, of in answers_of(subject.fitted).items() if of.kind == kind}
            lines.append(f"{name} = {told!r}")
    lines += [f"THRESHOLD = {subject.threshold!r}  # of anomaly_score"] if subject.threshold is not None else []
    return "\n".join(lines) + "\n" if lines else ""


def reader(subject: Subject) -> str:
    """The function `read(path)`: an image file as uint8 `(1, C, H, W)` NumPy array, prepared as in training."""
    told = subject.preprocessing
    channels, (height, width) = told["channels"], told["size"]
    if channels not in (1, 3):
        return _NO_READER.format(channels=channels)
    deep = _NOT_DEEP
    if told["value_range"]:
        low, high = told["value_range"]
        deep = _DEEP.format(low=low, span=max(1, high - low))
    boxes = {"crop": _CROP, "pad": _PAD, "stretch": _STRETCH}[told["resize"]]
    resized = boxes.format(height=height, width=width).rstrip("\n")
    return _READER.format(mode="L" if channels == 1 else "RGB", deep=deep.rstrip("\n"), resized=resized)


def tail(arrays: str) -> str:
    """How the example is run; `arrays` is `torch` or `numpy`."""
    return _TOLD + {"torch": _TORCH_TAIL, "numpy": _NUMPY_TAIL}[arrays]


_NO_READER = '''
def read(path):
    """Images of {channels} channels are arrays: give predict a uint8 array (B, {channels}, H, W)."""
    raise SystemExit("images of {channels} channels are given as arrays, not as files")
'''

_READER = '''
def read(path):
    """An image file as a uint8 array (1, C, H, W), prepared as the training images were."""
    import numpy as np
    from PIL import Image, ImageOps

    with Image.open(path) as file:
        image = ImageOps.exif_transpose(file)
    if image.mode == "F":
        raise ValueError(f"{{path}} holds floats, which have no agreed range: save it with 8 bits")
{deep}
    if image.has_transparency_data:  # over black
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image.convert("RGBA"))
    image = image.convert("{mode}")
{resized}
    array = np.asarray(image)
    return np.ascontiguousarray((array[:, :, None] if array.ndim == 2 else array).transpose(2, 0, 1))[None]
'''

_DEEP = """\
    if image.mode.startswith("I"):  # 16 bits, scaled by the range of the training images
        values = (np.asarray(image).astype(np.float32) - {low}) * (255 / {span})
        image = Image.fromarray(np.rint(values.clip(0, 255)).astype(np.uint8))
"""
_NOT_DEEP = """\
    if image.mode.startswith("I"):
        raise ValueError(f"{path} has 16 bits, and the training images had 8: save it with 8")
"""
_CROP = """\
    scale = max({height} / image.height, {width} / image.width)
    left, top = (image.width - {width} / scale) / 2, (image.height - {height} / scale) / 2
    box = (max(0.0, left), max(0.0, top), min(image.width, image.width - left), min(image.height, image.height - top))
    image = image.resize(({width}, {height}), Image.Resampling.BILINEAR, box)
"""
_PAD = """\
    scale = min({height} / image.height, {width} / image.width)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    inner = image.resize(size, Image.Resampling.BILINEAR)
    image = Image.new(inner.mode, ({width}, {height}))
    image.paste(inner, (({width} - inner.width) // 2, ({height} - inner.height) // 2))
"""
_STRETCH = """\
    image = image.resize(({width}, {height}), Image.Resampling.BILINEAR)
"""

_TOLD = '''
def told(name, value):
    """An output in words."""
    labels, tags = globals().get("LABELS", {}), globals().get("TAGS", {})
    labels = {"probabilities": labels} if isinstance(labels, list) else labels
    if name in labels:
        return f"{labels[name][int(value.argmax())]} ({float(value.max()):.3f})"
    if name in tags:
        return [tag for tag, probability in zip(tags[name], value.tolist()) if probability >= 0.5]
    numbers = value.reshape(-1).tolist()
    if len(numbers) == 1:
        return numbers[0]
    first = ", ".join(f"{number:.4g}" for number in numbers[:4])
    return f"{tuple(value.shape)}: {first}{', ...' if len(numbers) > 4 else ''}"

'''

_TORCH_TAIL = """

if __name__ == "__main__":
    if len(sys.argv) == 1:
        wanted = golden()
        for name, value in predict(wanted["images"]).items():
            difference = float((value.double() - wanted[name].double()).abs().max())
            print(f"{name} {tuple(value.shape)}: differs by {difference:.2g} from the golden outputs")
    for path in sys.argv[1:]:
        outputs = predict(torch.from_numpy(read(path)))
        print(path, {name: told(name, value[0]) for name, value in outputs.items()})
"""

_NUMPY_TAIL = """

if __name__ == "__main__":
    if len(sys.argv) == 1:
        wanted = golden()
        for name, value in predict(wanted["images"]).items():
            difference = np.abs(value.astype(np.float64) - wanted[name].astype(np.float64)).max()
            print(f"{name} {value.shape}: differs by {difference:.2g} from the golden outputs")
    for path in sys.argv[1:]:
        print(path, {name: told(name, value[0]) for name, value in predict(read(path)).items()})
"""
