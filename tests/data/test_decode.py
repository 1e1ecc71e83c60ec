from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps, TiffImagePlugin

from ssl_transfer.data.decode import BadImage, decode, probe
from tests.conftest import encoded, png_header, scene

_EXPECTED = {  # channels, bits, what the note says
    "plain.png": (3, 8, ""),
    "grey.png": (1, 8, ""),
    "deep.png": (1, 16, "16-bit grey"),
    "one_bit.png": (1, 8, "1-bit"),
    "palette.png": (3, 8, "palette"),
    "cmyk.jpg": (3, 8, "CMYK"),
    "turned.jpg": (3, 8, "EXIF orientation"),
    "clear.png": (3, 8, "transparency"),
    "moving.gif": (3, 8, "first of several frames"),
}


def test_every_kind_of_file_gives_the_same_upright_picture(good_files: dict[str, bytes]) -> None:
    reference = np.asarray(scene()).astype(int)
    for name, data in good_files.items():
        channels, bits, note = _EXPECTED[name]
        header, pixels = probe(data, name), decode(data, name)
        assert (header.channels, header.bits) == (channels, bits), name
        assert note in header.note and bool(note) == bool(header.note), name
        assert pixels.shape == (16, 24, channels) == (header.height, header.width, header.channels), name
        assert pixels.dtype == (np.uint16 if bits == 16 else np.uint8), name
        if channels == 3:
            tolerance = 40 if name in ("palette.png", "moving.gif") else 12
            assert np.abs(pixels.astype(int) - reference).mean() < tolerance, name


def test_16_bit_grey_keeps_its_values(good_files: dict[str, bytes]) -> None:
    grey = np.asarray(scene().convert("L")).astype(int)
    assert (decode(good_files["deep.png"], "deep.png")[:, :, 0] == grey * 100 + 1000).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_orientation_agrees_with_pillow(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(scene(), kind, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    assert (decode(data, "a") == expected).all()
    assert ("orientation" in probe(data, "a").note) == (orientation > 1)


def test_transparency_is_composited_over_black() -> None:
    image = Image.new("RGBA", (2, 1), (200, 100, 50, 255))
    image.putpixel((1, 0), (200, 100, 50, 0))
    assert decode(encoded(image, "PNG"), "a")[0].tolist() == [[200, 100, 50], [0, 0, 0]]
    grey = Image.new("LA", (1, 1), (200, 128))
    assert decode(encoded(grey, "PNG"), "a").ravel().tolist() == [100]


def test_bad_files_are_rejected_with_path_and_reason(bad_files: dict[str, tuple[bytes, str]]) -> None:
    for name, (data, reason) in bad_files.items():
        with pytest.raises(BadImage) as caught:
            decode(data, f"folder/{name}")
        assert caught.value.path == f"folder/{name}" and reason in caught.value.reason, name


def test_a_truncated_file_has_a_good_header_and_a_bad_body(bad_files: dict[str, tuple[bytes, str]]) -> None:
    assert probe(bad_files["truncated.jpg"][0], "a").width == 64


def test_the_cap_is_checked_before_decoding() -> None:
    with pytest.raises(BadImage, match="200×100 is above the cap of 19999 pixels"):
        probe(png_header(200, 100), "a", max_pixels=19_999)
    assert probe(png_header(200, 100), "a", max_pixels=20_000).height == 100


def test_16_bit_colour_is_reported() -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(b"\0" + b"\x12\x34" * 6))
    data = b"\x89PNG\r\n\x1a\n" + head + body + chunk(b"IEND", b"")
    assert "16-bit colour" in probe(data, "a").note
    assert decode(data, "a").ravel().tolist() == [0x12] * 6


def test_wide_range_of_16_bit_pgm() -> None:
    data = b"P5 2 1 65535\n" + (7).to_bytes(2, "big") + (65535).to_bytes(2, "big")
    assert decode(data, "a").ravel().tolist() == [7, 65535]


@pytest.mark.parametrize("channels", [4, 5])
def test_tiff_channels_that_pillow_would_drop_are_rejected(channels: int) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in (
        (256, 2),
        (257, 2),
        (259, 1),
        (262, 2),
        (273, 8),
        (277, channels),
        (278, 2),
        (279, 4 * channels),
    ):
        tags[tag] = value
    tags[258] = (8,) * channels
    tags[338] = (0,) * (channels - 3)  # extra samples of no stated meaning
    pixels = bytes(4 * channels)
    data = b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + tags.tobytes(8 + len(pixels))
    with pytest.raises(BadImage, match=f"a TIFF of {channels} channels, of which Pillow reads 3"):
        decode(data, "a")
