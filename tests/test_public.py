"""The public names, and that importing the package costs nothing."""

from __future__ import annotations

import subprocess
import sys

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
    source = (ssl_transfer.__file__ and open(ssl_transfer.__file__, encoding="utf-8").read()) or ""  # noqa: PTH123, SIM115
    typed = {
        line.rsplit(" as ", 1)[1] for line in source.splitlines() if line.startswith("    from ") and " as " in line
    }
    assert typed == set(ssl_transfer.__all__)


def test_importing_costs_nothing() -> None:
    code = "import sys, ssl_transfer; print([m for m in ('torch', 'numpy', 'pytorch_lightning', 'PIL') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
