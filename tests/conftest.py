"""Fixtures that every part of the suite shares."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

# One thread: the same numbers everywhere, and on small networks faster than two. Subprocesses inherit it.
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_transfer.cli import main
from ssl_transfer.data.module import ImageDataModule

torch.set_num_threads(1)

_REAL = Path(__file__).resolve().parents[1].parent / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images beside the repository (FashionMNIST, cifar10_jpeg, magnetic_tile, …)."""
    if not _REAL.is_dir():
        pytest.skip("the real images are not here: ../shared/data does not exist")
    return _REAL


@pytest.fixture(scope="session")
def digits() -> ImageDataModule:
    """Scikit-learn's digits, ready."""
    data = ImageDataModule("digits", batch_size=128)
    data.setup()
    return data


@pytest.fixture(autouse=True)
def _no_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The seed of one test's run is not that of the next."""
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores on disk go to a folder of the test run, never to the user's cache."""
    monkeypatch.setenv("SSL_TRANSFER_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """An image as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def scene(width: int = 24, height: int = 16, seed: int = 0) -> Image.Image:
    """A smooth RGB picture whose corners differ, so that turning it shows."""
    y, x = np.mgrid[0:height, 0:width]
    red = 255 * x / (width - 1)
    green = 255 * y / (height - 1)
    return Image.fromarray(np.stack([red, green, np.full_like(red, 20 * seed % 256)], axis=2).astype(np.uint8))


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing: a decompression bomb."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


@pytest.fixture
def good_files() -> dict[str, bytes]:
    """Files of every kind that the decoder takes, by name; all show `scene()`, 24×16 once upright."""
    picture = scene()
    upright = Image.Exif()
    upright[0x0112] = 6  # to be turned a quarter clockwise
    deep = (np.asarray(picture.convert("L")).astype(np.uint16) * 100) + 1000
    second = scene(seed=5)
    return {
        "plain.png": encoded(picture, "PNG"),
        "grey.png": encoded(picture.convert("L"), "PNG"),
        "deep.png": encoded(Image.fromarray(deep), "PNG"),
        "one_bit.png": encoded(picture.convert("1"), "PNG"),
        "palette.png": encoded(picture.convert("P"), "PNG"),
        "cmyk.jpg": encoded(picture.convert("CMYK"), "JPEG", quality=95),
        "turned.jpg": encoded(picture.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=upright, quality=95),
        "clear.png": encoded(picture.convert("RGBA"), "PNG"),
        "moving.gif": encoded(picture, "GIF", save_all=True, append_images=[second]),
    }


@pytest.fixture
def bad_files() -> dict[str, tuple[bytes, str]]:
    """Files that the decoder rejects, by name, with words of the reason."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    whole = encoded(noise, "JPEG")
    return {
        "truncated.jpg": (whole[: len(whole) // 2], "truncated"),
        "empty.png": (b"", "empty"),
        "text.png": (b"this is a text file\n", "not an image"),
        "bomb.png": (png_header(30_000, 30_000), "pixels"),
        "floats.tif": (encoded(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF"), "mode F"),
    }


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of two classes with ten different 24×16 pictures each."""
    for label in ("ant", "bee"):
        folder = tmp_path / "photos" / label
        folder.mkdir(parents=True)
        for i in range(10):
            scene(seed=i + (100 if label == "bee" else 0)).save(folder / f"{i}.png")
    return tmp_path / "photos"


@pytest.fixture(scope="session")
def run_script() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a file whose fits start processes of their own; none of them outlives it."""

    def run(file: str, *arguments: object, seconds: int = 900) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, file, *map(str, arguments)]
        talk = {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}  # this machine's name may lead nowhere
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, env={**os.environ, **talk}, start_new_session=True, **pipes) as process:
            try:
                out, error = process.communicate(timeout=seconds)
            finally:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
        return subprocess.CompletedProcess(command, process.returncode, out, error)

    return run


@pytest.fixture
def mistake(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The one line on stderr of a command that must end with status 2."""

    def run(*arguments: str) -> str:
        capsys.readouterr()
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert error.endswith("\n") and error.count("\n") == 1
        for noise in ("usage:", "jsonargparse", "Namespace", "<class", "Union", "Traceback", "NestedArg", "Parser key"):
            assert noise not in error
        assert error.startswith(f"ssl-transfer {arguments[0]}: ")
        return error

    return run
