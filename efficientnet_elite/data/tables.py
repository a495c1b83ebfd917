"""Images that a file lists: a CSV table of paths and labels, or the arrays of an ``.npz`` file."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from efficientnet_elite.config import DataConfig
from efficientnet_elite.data.decode import read_file
from efficientnet_elite.data.folder import size_and_time
from efficientnet_elite.data.listing import PART_NAMES, Example, Listing
from efficientnet_elite.errors import UserError

_COLUMNS = ("path", "label", "part")
# What else people call them, in lower case.
_CALLED = {
    **dict.fromkeys(("file", "filename", "file_name", "image", "image_path"), "path"),
    **dict.fromkeys(("class", "category", "class_name"), "label"),
    **dict.fromkeys(("split", "subset", "set"), "part"),
}
# What stands before "images" and "labels" in the names of arrays, to their part.
_PREFIXES = {"": "train", "train_": "train", "val_": "validation", "test_": "test"}


# -- CSV -----------------------------------------------------------------------------------------


def list_csv(config: DataConfig, argument: str) -> Listing:
    """Lists a table of images; see `choices.Source.listing`.

    Its columns are path, label and, where wanted, part, in this order or as its first line names
    them. Paths are relative to the table's folder.

    Raises:
      UserError: the table is missing or no UTF-8 text, or a line of it is wrong.
    """
    del config
    table = Path(argument).expanduser()
    rows = list(_rows(table))
    if not rows:
        raise UserError(f"{table} lists no image: give each a line PATH,LABEL")
    class_names = tuple(sorted({label for _, label, _ in rows}))
    numbers = {name: number for number, name in enumerate(class_names)}
    root = table.parent
    examples = [
        Example(path, numbers[label], part, *size_and_time(root / path))
        for path, label, part in rows
    ]
    return Listing(class_names, examples, lambda i: read_file(root / examples[i].name), root)


def _rows(table: Path) -> Iterator[tuple[str, str, str]]:
    """Path, label and part of each image."""
    if not table.is_file():
        raise UserError(
            f"{table} is missing: give a CSV file with a line PATH,LABEL for each image"
        )
    try:
        lines = table.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"{table} is not UTF-8 text: save it in that encoding") from None
    columns: Sequence[str] = _COLUMNS
    for number, cells in enumerate(csv.reader(lines), start=1):
        cells = [cell.strip() for cell in cells]
        names = [_CALLED.get(cell.casefold(), cell.casefold()) for cell in cells]
        if number == 1 and {"path", "label"} <= {*names}:
            columns = names
            continue
        if not any(cells):
            continue
        row = dict(zip(columns, cells, strict=False))
        path, label = row.get("path", ""), normalize("NFC", row.get("label", ""))
        if not path or not label or not label.isprintable():
            raise UserError(
                f"line {number} of {table} has no path and label: write PATH,LABEL or "
                "PATH,LABEL,PART"
            )
        part = row.get("part", "").casefold() or "train"
        if part not in PART_NAMES:
            raise UserError(
                f"line {number} of {table}: part {part!r} is none of train, val, test; if columns "
                "stand in another order, name path, label and part in the first line"
            )
        yield path, label, PART_NAMES[part]


# -- arrays --------------------------------------------------------------------------------------


def list_npz(config: DataConfig, argument: str) -> Listing:
    """Lists the images of arrays; see `choices.Source.listing`.

    The arrays are ``images``, uint8 (n, height, width), (n, height, width, 1) or (n, height, width,
    3), and ``labels``, whole numbers or texts (n,) or (n, 1); with parts ``train_images``,
    ``train_labels``, ``val_images`` and so on.

    Raises:
      UserError: the file is missing or damaged, or has other arrays.
    """
    del config
    path = Path(argument).expanduser()
    arrays = _read(path)
    names: list[str] = []
    parts: list[str] = []
    pixels: list[NDArray[np.uint8]] = []
    labels: list[NDArray[np.generic]] = []
    for prefix, part in _PREFIXES.items():
        if f"{prefix}images" in arrays:
            images, answers = _checked(path, arrays, prefix)
            pixels.extend(images)
            labels.append(answers)
            names += [f"{prefix}images {i}" for i in range(len(images))]
            parts += [part] * len(images)
    if not names:
        raise UserError(
            f"{path} has the arrays {', '.join(arrays) or 'none'}: name them images and labels, or "
            "train_images, train_labels, val_images and so on"
        )
    classes, numbers = np.unique(np.concatenate(labels), return_inverse=True)
    changed = size_and_time(path)
    examples = [
        Example(name, int(label), part, *changed)
        for name, label, part in zip(names, numbers, parts, strict=True)
    ]
    return Listing(tuple(map(str, classes)), examples, lambda i: _as_file(pixels[i]))


def _read(path: Path) -> dict[str, NDArray[np.generic]]:
    if not path.is_file():
        raise UserError(f"{path} is missing: give an .npz file with the arrays images and labels")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read ({error}): save it with numpy.savez") from error


def _checked(
    path: Path, arrays: dict[str, NDArray[np.generic]], prefix: str
) -> tuple[NDArray[np.uint8], NDArray[np.generic]]:
    """The images of a part, (n, height, width, 1 or 3), and their labels (n,)."""
    images, labels = arrays[f"{prefix}images"], arrays.get(f"{prefix}labels", np.empty(0))
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
        raise UserError(
            f"{path}: {prefix}images are {images.dtype} {images.shape}; they must be uint8 "
            "(n, height, width) or (n, height, width, 3)"
        )
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (len(images),) or labels.dtype.kind not in "iuU":
        raise UserError(
            f"{path}: {prefix}labels are {labels.dtype} {labels.shape}; there must be one whole "
            f"number or text for each of {len(images)} images"
        )
    return images.astype(np.uint8, copy=False), labels


def _as_file(pixels: NDArray[np.uint8]) -> bytes:
    """An image as the content of a PPM or PGM file, which is its bytes with a line before them."""
    height, width, channels = pixels.shape
    return b"P%d\n%d %d\n255\n" % (6 if channels == 3 else 5, width, height) + pixels.tobytes()
