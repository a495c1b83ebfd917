"""Tells data sets for object detection and segmentation from folders of classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from efficientnet_elite.data.listing import PART_NAMES
from efficientnet_elite.errors import UserError

# Names of folders, in lower case.
_IMAGES = {"image", "images", "img", "imgs", "jpegimages", *PART_NAMES}
_BOXES = {"label", "labels", "ann", "anns", "annotation", "annotations", "annots", "bboxes", "xmls"}
_MASKS = {"mask", "masks", "segmentationclass", "trimaps"}
_TEXTS = {".txt", ".xml", ".json", ".csv", ".yaml", ".yml"}

_ADVICE = (
    "a classifier takes a folder of images for each class, or names classes by a table (csv:FILE) "
    "or by --label_regex"
)


def check_folders(root: Path, folders: Sequence[Path]) -> None:
    """Refuses folders that are named like images and what belongs to them.

    Args:
      root: the folder that they are in.
      folders: that would be classes or parts.

    Raises:
      UserError: it says what the data set looks like.
    """
    names = {folder.name.casefold(): folder.name for folder in folders}
    images = sorted(_IMAGES & names.keys())
    for task, known in (("object detection", _BOXES), ("segmentation", _MASKS)):
        if images and (beside := sorted(known & names.keys())):
            raise UserError(
                f"{root} looks like a data set for {task} ({names[beside[0]]} beside "
                f"{names[images[0]]}): {_ADVICE}"
            )


def check_files(folder: Path, files: Sequence[Path]) -> None:
    """Refuses a class folder that holds texts alone, such as boxes of object detection.

    Args:
      folder: the class folder.
      files: in and below it.

    Raises:
      UserError: there are files, and all are texts by their names.
    """
    kinds = sorted({file.suffix.casefold() for file in files})
    if kinds and _TEXTS.issuperset(kinds):
        raise UserError(
            f"{folder} holds {', '.join(kinds)} files and no images, as data sets for object "
            f"detection do: {_ADVICE}"
        )
