"""Photographs that lie beside the repository, in ``../shared/data``; tests skip without them."""

from __future__ import annotations

from pathlib import Path

import pytest

_FOLDER = Path(__file__).parents[3] / "shared" / "data"


def folder(name: str) -> Path:
    """A data set's folder; the test is skipped where there is none."""
    path = _FOLDER / name
    if not path.is_dir():
        pytest.skip(f"../shared/data/{name}, which is no part of the repository, is absent")
    return path
