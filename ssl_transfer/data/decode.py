"""The one decoder: bytes of an image file to an array, by stated rules.

| in the file | out |
| --- | --- |
| grey, 8 bits | `(H, W, 1)` uint8 |
| grey, 16 bits | `(H, W, 1)` uint16, scaled later by a range measured on the training split |
| colour, 8 bits | `(H, W, 3)` uint8 |
| colour, 16 bits | its upper 8 bits |
| 1 bit | grey, 0 or 255 |
| palette, CMYK, YCbCr, Lab, HSV | RGB |
| transparency | composited over black, as padding is black |
| EXIF orientation | applied |
| animated, several pages | the first |
| floats, 32-bit integers beyond 65535, TIFF of other channels than these, anything Pillow cannot read | rejected |

Truncated files and images above the pixel cap are rejected, the cap before anything is decoded.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

MAX_PIXELS = 89_478_485  # Pillow warns of a decompression bomb above

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_GREY = {"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N"}
_COLOUR = {"P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"}
_NOTES = {
    "1": "1-bit to grey",
    "P": "palette to RGB",
    "PA": "palette to RGB",
    "CMYK": "CMYK to RGB",
    "YCbCr": "YCbCr to RGB",
    "LAB": "Lab to RGB",
    "HSV": "HSV to RGB",
    "RGBX": "unused fourth channel dropped",
    "I;16": "16-bit grey, scaled to 8 bits",
    "I": "16-bit grey, scaled to 8 bits",
}


class BadImage(ValueError):
    """An image that cannot be used: which, and why."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


@dataclass(frozen=True)
class Header:
    """What the decoder will give for an image, known without decoding it.

    Args:
        mode: the file's mode in Pillow's words, e.g. "RGB", "I;16", "CMYK".
        height, width: in pixels, after the EXIF orientation.
        channels: of the decoded array, 1 or 3 (N for arrays).
        bits: of the decoded array, 8 or 16.
        note: how the decoder changes the image; empty if it does not.
    """

    mode: str
    height: int
    width: int
    channels: int
    bits: int = 8
    note: str = ""


def probe(data: bytes, path: str, max_pixels: int = MAX_PIXELS) -> Header:
    """Read an image's header. Raises BadImage for what is no image or is too large."""
    with _opened(data, path, max_pixels) as image:
        return _header(image, path)


def decode(data: bytes, path: str, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The image as `(H, W, C)`, uint8 or uint16, by the rules above. Raises BadImage.

    >>> buffer = io.BytesIO()
    >>> Image.new("CMYK", (4, 2)).save(buffer, "JPEG")
    >>> decode(buffer.getvalue(), "a.jpg").shape
    (2, 4, 3)
    """
    with _opened(data, path, max_pixels) as image:
        header = _header(image, path)
        orientation = _orientation(image)
        array = _pixels(_plain(image), path)
        if orientation in _TURNS:
            array = _turn(array, _TURNS[orientation])
        assert array.shape == (header.height, header.width, header.channels), path
        return array


@contextmanager
def _opened(data: bytes, path: str, max_pixels: int) -> Iterator[Image.Image]:
    """Pillow's image, with every complaint of Pillow's turned into a BadImage."""
    if not data:
        raise BadImage(path, "empty file")
    assert not ImageFile.LOAD_TRUNCATED_IMAGES, "someone set LOAD_TRUNCATED_IMAGES: half images would pass as whole"
    try:
        with Image.open(io.BytesIO(data)) as image:
            cap = min(max_pixels, MAX_PIXELS)
            if image.width * image.height > cap:
                raise BadImage(path, f"{image.width}×{image.height} is above the cap of {cap} pixels")
            yield image
    except BadImage:
        raise
    except UnidentifiedImageError as error:
        raise BadImage(path, "not an image that Pillow can read") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadImage(path, f"above the cap on pixels ({error})") from error
    except Exception as error:  # a damaged file makes Pillow's plugins raise anything
        raise BadImage(path, " ".join(str(error).split()) or type(error).__name__) from error


def _header(image: Image.Image, path: str) -> Header:
    mode = image.mode
    if mode not in _GREY | _COLOUR:
        raise BadImage(path, f"mode {mode} (floats?) has no agreed range: save it with 8 or 16 bits")
    samples, bands = _tiff_samples(image), len(image.getbands())
    if samples > bands:
        cure = "put such images in one .npy or .npz of shape (N, H, W, C)"
        raise BadImage(path, f"a TIFF of {samples} channels, of which Pillow reads {bands}: {cure}")
    orientation = _orientation(image)
    height, width = (image.width, image.height) if orientation >= 5 else (image.height, image.width)
    notes = [_NOTES["I;16" if mode.startswith("I;16") else mode]] if mode in _NOTES or mode.startswith("I;16") else []
    if image.has_transparency_data:
        notes.append("transparency over black")
    if any("16" in str(tile[3]) for tile in getattr(image, "tile", [])) and mode in _COLOUR:
        notes.append("16-bit colour to its upper 8 bits")
    if orientation in _TURNS or (image.format == "TIFF" and image.getexif().get(0x0112, 1) != 1):
        notes.append("EXIF orientation applied")
    if getattr(image, "is_animated", False):
        notes.append("first of several frames")
    bits = 16 if mode.startswith("I") else 8
    return Header(mode, height, width, 1 if mode in _GREY else 3, bits, ", ".join(notes))


def _tiff_samples(image: Image.Image) -> int:
    """Channels that a TIFF states; Pillow opens some of many channels and drops the rest."""
    return int(image.tag_v2.get(277, 1)) if hasattr(image, "tag_v2") else 1


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation that is still to be applied, 1 for none."""
    if image.format == "TIFF":
        return 1  # Pillow applies a TIFF's own
    if image.format == "PNG" and not {"exif", "xmp", "Raw profile type exif"} & image.info.keys():
        return 1  # else Pillow decodes the whole file to look for EXIF data after the pixels
    value = image.getexif().get(0x0112, 1)
    return value if value in _TURNS else 1


def _plain(image: Image.Image) -> Image.Image:
    """The first frame in one of the modes L, RGB, I;16 or I."""
    if image.has_transparency_data or image.mode in ("PA", "La", "RGBa"):
        layered = image.convert("LA" if image.mode in ("L", "LA", "La", "1") else "RGBA")
        plain = layered.mode.rstrip("A")
        backdrop = Image.new(plain, layered.size)
        backdrop.paste(layered.convert(plain), mask=layered.getchannel("A"))
        return backdrop
    if image.mode == "1":
        return image.convert("L")
    return image.convert("RGB") if image.mode in _COLOUR and image.mode != "RGB" else image


def _pixels(image: Image.Image, path: str) -> np.ndarray:
    array = np.asarray(image)
    if image.mode == "I":
        if array.min() < 0 or array.max() > 65535:
            raise BadImage(path, "32-bit values beyond 0…65535: save it with 16 bits")
        array = array.astype(np.uint16)
    elif image.mode.startswith("I;16"):
        array = array.astype(np.uint16)
    return array if array.ndim == 3 else array[:, :, None]


def _turn(array: np.ndarray, turn: Image.Transpose) -> np.ndarray:
    """Transpose an `(H, W, C)` array as Pillow does an image."""
    flip, quarter = np.flip, np.rot90
    turned = {
        Image.Transpose.FLIP_LEFT_RIGHT: lambda: flip(array, 1),
        Image.Transpose.FLIP_TOP_BOTTOM: lambda: flip(array, 0),
        Image.Transpose.ROTATE_90: lambda: quarter(array, 1),
        Image.Transpose.ROTATE_180: lambda: quarter(array, 2),
        Image.Transpose.ROTATE_270: lambda: quarter(array, 3),
        Image.Transpose.TRANSPOSE: lambda: array.swapaxes(0, 1),
        Image.Transpose.TRANSVERSE: lambda: quarter(array, 2).swapaxes(0, 1),
    }
    return np.ascontiguousarray(turned[turn]())
