"""The embedded data set: scikit-learn's 1,797 handwritten digits, from the file it ships."""

from __future__ import annotations

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def read() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images (1797, 8, 8), of 17 levels from 0 to 255, and their classes, 0 to 9."""
    table = _from_file()
    if table is None:
        from sklearn.datasets import load_digits

        table = np.column_stack(load_digits(return_X_y=True))
    grey = np.round(table[:, :64] * (255 / 16)).astype(np.uint8)
    return grey.reshape(-1, 8, 8), table[:, 64].astype(np.int64)


def _from_file() -> NDArray[np.float64] | None:
    """A line an image, its class last; None where scikit-learn keeps its file elsewhere.

    Importing scikit-learn takes a second, in each worker of a search.
    """
    package = find_spec("sklearn")
    if package is None or package.origin is None:
        return None
    path = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if not path.is_file():
        return None
    with gzip.open(path, "rt") as lines:
        return np.loadtxt(lines, delimiter=",")
