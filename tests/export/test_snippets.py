"""The reader of an example prepares files exactly as the package does, and does without it."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssl_transfer.data.single import read_images
from ssl_transfer.encoders import build_encoder
from ssl_transfer.export import snippets
from ssl_transfer.export.subject import Subject


def _subject(shape: tuple[int, int, int], **data: object) -> Subject:
    encoder = build_encoder("small_resnet", shape, [0.5] * shape[0], [0.5] * shape[0])
    return Subject(Path("nowhere"), encoder, {"data": data})


def _more() -> dict[str, bytes]:
    """Files that the shared fixtures do not have: transparency of several kinds, 16 bits, other modes."""
    rng = np.random.default_rng(0)
    colour = Image.fromarray(rng.integers(0, 256, (16, 24, 3), dtype=np.uint8))
    alpha = Image.fromarray(rng.integers(0, 256, (16, 24), dtype=np.uint8))
    layered, grey = colour.copy(), colour.convert("L")
    layered.putalpha(alpha)
    grey.putalpha(alpha)
    palette = colour.quantize(16)
    wide = Image.fromarray(rng.integers(0, 65536, (16, 24), dtype=np.uint16))
    plain = {"noise.png": colour, "alpha.png": layered, "grey_alpha.png": grey, "noise_grey.png": colour.convert("L")}
    files = {}
    for name, image in plain.items():
        files[name] = _bytes(image, "PNG")
    files["palette_clear.png"] = _bytes(palette, "PNG", transparency=3)
    files["clear_colour.png"] = _bytes(colour, "PNG", transparency=colour.getpixel((3, 3)))
    files["clear_grey.png"] = _bytes(colour.convert("L"), "PNG", transparency=colour.convert("L").getpixel((3, 3)))
    files["deep_noise.png"] = _bytes(wide, "PNG")
    files["deep.tif"] = _bytes(wide, "TIFF")
    files["cmyk_noise.tif"] = _bytes(colour.convert("CMYK"), "TIFF")
    files["ycbcr.jpg"] = _bytes(colour, "JPEG", quality=90)
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        files[f"turned_{turn}.jpg"] = _bytes(colour, "JPEG", quality=90, exif=exif)
        files[f"turned_{turn}.png"] = _bytes(colour, "PNG", exif=exif)
    return files


def _bytes(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


@pytest.mark.parametrize("resize", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("size", [(16, 24), (8, 8), (32, 24), (40, 13)])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_reader_is_that_of_training(
    good_files: dict[str, bytes], tmp_path: Path, channels: int, size: tuple[int, int], resize: str
) -> None:
    shape = (channels, *size)
    defined: dict[str, object] = {}
    exec(snippets.reader(_subject(shape, resize=resize, value_range=[1000, 20000])), defined)
    for name, content in (good_files | _more()).items():
        path = tmp_path / name
        path.write_bytes(content)
        wanted = read_images([path], shape, resize, (1000, 20000))  # type: ignore[arg-type]
        found = defined["read"](path)  # type: ignore[operator]
        assert found.dtype == np.uint8 and found.shape == (1, *shape)
        np.testing.assert_array_equal(found, wanted, err_msg=name)


def test_files_closes_without_a_warning(tmp_path: Path) -> None:
    Image.new("RGB", (9, 7)).save(tmp_path / "a.png")
    defined: dict[str, object] = {}
    exec(snippets.reader(_subject((3, 8, 8))), defined)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        defined["read"](tmp_path / "a.png")  # type: ignore[operator]


def test_images_of_many_channels_are_given_as_arrays() -> None:
    defined: dict[str, object] = {}
    exec(snippets.reader(_subject((5, 8, 8))), defined)
    with pytest.raises(SystemExit, match="images of 5 channels are given as arrays, not as files"):
        defined["read"]("a.png")  # type: ignore[operator]


def test_constants() -> None:
    subject = _subject((1, 8, 8))
    assert snippets.constants(subject) == ""
    subject.labels, subject.threshold = ["it's", "b"], 0.25
    defined: dict[str, object] = {}
    exec(snippets.constants(subject), defined)
    assert (defined["LABELS"], defined["THRESHOLD"]) == (["it's", "b"], 0.25)
