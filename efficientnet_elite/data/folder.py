"""Class folders of images on disk.

The layout is ``PATH/<class>/...`` or ``PATH/<part>/<class>/...``. Parts are named train (training,
trn), val (valid, validation) and test (testing, tst), in upper or lower case. Files may be in
subfolders of a class folder, and symbolic links are followed. Every file in a class folder counts
as an image, except hidden files and files that operating systems create.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from unicodedata import normalize

from ..errors import UserError
from .assembly import Example

_PART_NAMES = {
    "train": "train",
    "training": "train",
    "trn": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
    "tst": "test",
}
_SYSTEM_FILES = {"thumbs.db", "desktop.ini"}


def scan(root: Path) -> tuple[list[Example], tuple[str, ...]]:
    """Finds all image files of a data set, sorted by name.

    Args:
      root: the data set's folder.

    Returns:
      An example for each file (its name is the path relative to ``root``), and the class names.

    Raises:
      UserError: there is no such folder, there are no class folders, a class is empty, or part
        folders contradict each other or have unknown names.
    """
    if not root.is_dir():
        problem = "is not a folder" if root.exists() else "does not exist"
        raise UserError(
            f"{root} {problem}: give a folder that contains one folder of images for each class"
        )
    parts = _parts(root)
    class_names = tuple(sorted({_class_name(folder) for folder in _folders(parts["train"])}))
    if not class_names:
        raise UserError(
            f"{parts['train']} has no class folders: put the images of each class into a folder "
            "named after it"
        )
    for name in class_names:
        if not name.isprintable():  # labels.txt has one line for each class
            raise UserError(
                f"class folder {name!r} has unprintable characters in its name: rename it"
            )
    examples = []
    for part, folder in parts.items():
        classes = _folders(folder)
        if not classes:
            raise UserError(f"{folder} has no class folders: fill it or remove it")
        for class_folder in classes:
            name = _class_name(class_folder)
            if name not in class_names:
                raise UserError(
                    f"class '{name}' of {folder} has no folder in {parts['train']}: "
                    "add it there or remove it here"
                )
            files = _files(class_folder)
            if not files:
                raise UserError(f"class folder {class_folder} is empty: add images or remove it")
            label = class_names.index(name)
            examples += [
                Example(file.relative_to(root).as_posix(), label, part, *_size_and_time(file))
                for file in files
            ]
    return examples, class_names


def scan_unlabelled(root: Path) -> list[Example]:
    """Finds all image files in and below a folder, sorted by name; their labels are all 0.

    Raises:
      UserError: there is no such folder, or it is empty.
    """
    if not root.is_dir():
        problem = "is not a folder" if root.exists() else "does not exist"
        raise UserError(f"{root} {problem}: give a folder of images for --unlabelled")
    files = _files(root)
    if not files:
        raise UserError(f"{root} is empty: put images without labels into it")
    return [
        Example(file.relative_to(root).as_posix(), 0, "train", *_size_and_time(file))
        for file in files
    ]


def _class_name(folder: Path) -> str:
    """A class's name in Unicode form NFC; archives made on macOS use another form for accents."""
    return normalize("NFC", folder.name)


def _parts(root: Path) -> dict[str, Path]:
    """Name of each part to its folder; without part folders, the root is the part ``train``."""
    named = [folder for folder in _folders(root) if folder.name.casefold() in _PART_NAMES]
    others = [folder.name for folder in _folders(root) if folder not in named]
    if not named or (others and len(named) == 1 and not _is_train_part(named[0])):
        _check_classes(root)
        return {"train": root}  # a single folder "test" among other folders is a class
    if others:
        raise UserError(
            f"{root} mixes part folders ({', '.join(f.name for f in named)}) with other folders "
            f"({', '.join(others)}): move the others away"
        )
    parts: dict[str, Path] = {}
    for folder in named:
        part = _PART_NAMES[folder.name.casefold()]
        if part in parts:
            raise UserError(
                f"{root} has two {part} folders ({parts[part].name}, {folder.name}): keep one"
            )
        parts[part] = folder
    if "train" not in parts:
        raise UserError(
            f"{root} has part folders ({', '.join(f.name for f in named)}) but no train folder: "
            "add one"
        )
    return parts


def _is_train_part(folder: Path) -> bool:
    return _PART_NAMES[folder.name.casefold()] == "train" and bool(_folders(folder))


def _check_classes(root: Path) -> None:
    """Refuses part folders with unknown names, which would otherwise be learned as classes."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for folder in _folders(root):
        inner = tuple(f.name for f in _folders(folder))
        if len(inner) > 1 and not any(_is_image(f.name) for f in folder.iterdir() if f.is_file()):
            alike.setdefault(inner, []).append(folder.name)
    for inner, names in alike.items():
        if len(names) > 1:
            raise UserError(
                f"{_some(names)} of {root} contain the same folders ({_some(inner)}): if they are "
                "parts, call them train, val, test; if classes, put them into a folder train"
            )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names if len(names) < 5 else [*names[:3], "..."])


def _folders(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.is_dir() and not f.name.startswith("."))


def _files(folder: Path) -> list[Path]:
    """All files in and below a class folder; a folder reached through several links counts once."""
    class_files = []
    real = folder.resolve()
    seen = {real, *real.parents}
    for parent, folders, files in os.walk(folder, followlinks=True):
        visible = sorted(name for name in folders if not name.startswith("."))
        by_real_path = {Path(parent, name).resolve(): name for name in visible}
        folders[:] = [name for path, name in by_real_path.items() if path not in seen]
        seen |= by_real_path.keys()
        class_files += [Path(parent, name) for name in files if _is_image(name)]
    return sorted(class_files)


def _is_image(name: str) -> bool:
    return not name.startswith(".") and name.casefold() not in _SYSTEM_FILES


def _size_and_time(file: Path) -> tuple[int, int]:
    try:
        status = file.stat()
    except OSError:  # for example a broken link, which decoding reports later
        return 0, 0
    return status.st_size, status.st_mtime_ns
