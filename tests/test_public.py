"""The public names, and that importing the package costs nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import ssl_transfer


@pytest.mark.parametrize("name", ssl_transfer.__all__)
def test_every_public_name_imports_and_is_documented(name: str) -> None:
    found = getattr(ssl_transfer, name)
    assert found.__name__ == name and (found.__doc__ or "").strip()


def test_dir_lists_them() -> None:
    assert dir(ssl_transfer) == ssl_transfer.__all__ == sorted(ssl_transfer.__all__)
    assert {"SimCLR", "ImageDataModule", "fit", "load_encoder", "load_model", "Classifier", "Frozen"} <= set(
        dir(ssl_transfer)
    )


def test_unknown_names() -> None:
    with pytest.raises(AttributeError, match="no attribute 'SimCRL'"):
        ssl_transfer.SimCRL  # noqa: B018


def test_the_type_checker_sees_what_is_there() -> None:
    """The imports for type checkers name the same things as the lazy ones."""
    source = Path(ssl_transfer.__file__).read_text(encoding="utf-8")
    typed = re.findall(r"^    from [\w.]+ import \w+ as (\w+)$", source, re.MULTILINE)
    assert sorted(typed) == ssl_transfer.__all__


def test_importing_costs_nothing() -> None:
    heavy = "('torch', 'numpy', 'pytorch_lightning', 'PIL')"
    code = f"import sys, ssl_transfer; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
