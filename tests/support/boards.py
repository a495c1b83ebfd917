"""Small models and files of boards, for tests of `elite boards`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.support import random_tflite


def model(path: Path, side: int, filters: int) -> Path:
    """Writes an int8 network of two convolutions, without a converter."""
    network = random_tflite.Network(np.random.default_rng(0), side, side)
    x = network.conv(network.image, filters, (3, 3), (1, 1), random_tflite.SAME)
    x = network.conv(x, filters, (3, 3), (2, 2), random_tflite.SAME)
    path.write_bytes(network.model(network.head(x)))
    return path


def models(folder: Path) -> tuple[Path, Path]:
    """A light network and a heavy one."""
    return (
        model(folder / "light.int8.tflite", 16, 4),
        model(folder / "heavy.int8.tflite", 64, 32),
    )
