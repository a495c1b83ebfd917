"""Class folders of images on disk.

The layout is ``PATH/<class>/...`` or ``PATH/<part>/<class>/...``. Parts are named train (training,
trn), val (valid, validation) and test (testing, tst), in upper or lower case, also as in
``seg_train`` or ``test_set``. Levels that hold nothing but the next one, such as
``PATH/dataset/<class>/...`` or ``PATH/train/train/<class>/...``, are passed over. Files may be in
subfolders of a class folder, and symbolic links are followed. Every file in a class folder counts
as an image, except hidden files and files that operating systems create.

With ``DataConfig.label_regex`` there are no class folders: names of files say the class.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from unicodedata import normalize

from ..config import DataConfig
from ..errors import UserError
from . import other_tasks
from .decode import read_file
from .listing import PART_NAMES, Example, Listing, first_group

_SYSTEM_FILES = {"thumbs.db", "desktop.ini"}
# Of archives made on macOS, of Synology, Linux and Windows, in lower case.
_SYSTEM_FOLDERS = {"__macosx", "@eadir", "lost+found", "$recycle.bin", "system volume information"}
# Words that people put beside the name of a part.
_BESIDE_PART = {"data", "dataset", "image", "images", "imgs", "seg", "set", "split"}
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jp2"}
_NO_LABEL = "label_regex finds no class in its name"


def list_folder(config: DataConfig, argument: str) -> Listing:
    """Lists a folder; see `choices.Source.listing`."""
    root = Path(argument).expanduser()
    examples, class_names = scan(root, config.label_regex)
    return Listing(class_names, examples, lambda i: read_file(root / examples[i].name), root)


def scan(root: Path, label_regex: str | None = None) -> tuple[list[Example], tuple[str, ...]]:
    """Finds all image files of a data set, sorted by name.

    Args:
      root: the data set's folder.
      label_regex: the first group of this regular expression is the class of a file, see
        `listing.first_group`; None: the class folder is.

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
    if label_regex is not None:
        return _scan_names(root, label_regex)
    top = _unwrapped(root)
    other_tasks.check_folders(top, _folders(top))
    parts = _parts(top)
    parts["train"] = _unwrapped(parts["train"], may_be_part=False)
    class_names = tuple(sorted({_class_name(folder) for folder in _folders(parts["train"])}))
    if not class_names:
        raise UserError(
            f"{parts['train']} has no class folders: put the images of each class into a folder "
            "named after it, or say with --label_regex where file names have the class"
        )
    _check_printable(class_names)
    examples = []
    for part, folder in parts.items():
        classes = _folders(folder)
        if not {_class_name(inner) for inner in classes} & {*class_names}:
            classes = _folders(_unwrapped(folder, may_be_part=False))
        if not classes:
            found = "has images but" if _holds_images(folder) else "has"
            raise UserError(
                f"{folder} {found} no class folders: give each class a folder there, or move it "
                "away"
            )
        other_tasks.check_folders(folder, classes)
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
            other_tasks.check_files(class_folder, files)
            label = class_names.index(name)
            examples += [
                Example(file.relative_to(root).as_posix(), label, part, *size_and_time(file))
                for file in files
            ]
    return examples, class_names


def _scan_names(root: Path, label_regex: str) -> tuple[list[Example], tuple[str, ...]]:
    """Finds all image files whose names say their class."""
    has_parts = any(_part_of(folder) == "train" for folder in _folders(root))
    parts = _parts(root) if has_parts else {"train": root}
    found = []
    for part, folder in parts.items():
        for file in _files(folder):
            name = file.relative_to(root).as_posix()
            found.append((file, name, part, first_group(label_regex, name)))
    class_names = tuple(sorted({normalize("NFC", label) for *_, label in found if label}))
    if not class_names:
        raise UserError(
            f"label_regex={label_regex} matches no file name in {root}"
            + (f", such as {found[0][1]}" if found else ", which is empty")
        )
    _check_printable(class_names)
    examples = [
        Example(
            name,
            class_names.index(normalize("NFC", label)) if label else 0,
            part,
            *size_and_time(file),
            fault="" if label else _NO_LABEL,
        )
        for file, name, part, label in found
    ]
    return examples, class_names


def scan_unlabelled(root: Path, flag: str = "--unlabelled") -> list[Example]:
    """Finds all image files in and below a folder, sorted by name; their labels are all 0.

    Args:
      root: the folder.
      flag: names it, for messages.

    Raises:
      UserError: there is no such folder, or it is empty.
    """
    if not root.is_dir():
        problem = "is not a folder" if root.exists() else "does not exist"
        raise UserError(f"{root} {problem}: give a folder of images for {flag}")
    files = _files(root)
    if not files:
        raise UserError(f"{root} is empty: put images without labels into it")
    return [
        Example(file.relative_to(root).as_posix(), 0, "train", *size_and_time(file))
        for file in files
    ]


def _class_name(folder: Path) -> str:
    """A class's name in Unicode form NFC; archives made on macOS use another form for accents."""
    return normalize("NFC", folder.name)


def _check_printable(class_names: Sequence[str]) -> None:
    for name in class_names:
        if not name.isprintable():  # labels.txt has one line for each class
            raise UserError(
                f"class folder {name!r} has unprintable characters in its name: rename it"
            )


def _unwrapped(folder: Path, *, may_be_part: bool = True) -> Path:
    """The first level below a folder that has several folders, or a part; itself if there is none.

    A folder with images of its own is a class folder and is not passed.
    """
    level = folder
    while len(inner := _folders(level)) == 1 and not _holds_images(inner[0]):
        if may_be_part and _part_of(inner[0]):
            return level
        level = inner[0]
    return level if len(inner) > 1 else folder


def _holds_images(folder: Path) -> bool:
    return any(
        file.suffix.casefold() in _SUFFIXES and _is_image(file.name) for file in folder.iterdir()
    )


def _part_of(folder: Path) -> str | None:
    """The part that a folder's name says, such as ``train`` for ``seg_train``; None for others."""
    words = {*re.split(r"[\W_]+", folder.name.casefold())} - _BESIDE_PART
    return PART_NAMES.get(words.pop()) if len(words) == 1 else None


def _parts(root: Path) -> dict[str, Path]:
    """Name of each part to its folder; without part folders, the root is the part ``train``."""
    named = [folder for folder in _folders(root) if _part_of(folder)]
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
        part = _part_of(folder)
        assert part is not None
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
    return _part_of(folder) == "train" and bool(_folders(folder))


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
    return sorted(f for f in folder.iterdir() if f.is_dir() and _is_visible(f.name))


def _is_visible(folder: str) -> bool:
    return not folder.startswith(".") and folder.casefold() not in _SYSTEM_FOLDERS


def _files(folder: Path) -> list[Path]:
    """All files in and below a class folder; a folder reached through several links counts once."""
    class_files = []
    real = folder.resolve()
    seen = {real, *real.parents}
    for parent, folders, files in os.walk(folder, followlinks=True):
        visible = sorted(name for name in folders if _is_visible(name))
        by_real_path = {Path(parent, name).resolve(): name for name in visible}
        folders[:] = [name for path, name in by_real_path.items() if path not in seen]
        seen |= by_real_path.keys()
        class_files += [Path(parent, name) for name in files if _is_image(name)]
    return sorted(class_files)


def _is_image(name: str) -> bool:
    return not name.startswith(".") and name.casefold() not in _SYSTEM_FILES


def size_and_time(file: Path) -> tuple[int, int]:
    """Bytes and time of the last change in nanoseconds of a file; 0 where there is none."""
    try:
        status = file.stat()
    except OSError:  # for example a broken link, which decoding reports later
        return 0, 0
    return status.st_size, status.st_mtime_ns
