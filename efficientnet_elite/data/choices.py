"""Tables of data sources and augmentations, which are chosen by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from efficientnet_elite import registry
from efficientnet_elite.errors import UserError

_SOURCES = f"{__package__}.sources"


@dataclass(frozen=True)
class Source:
    """A data source, chosen as ``--dataset=NAME`` or ``--dataset=NAME:ARGUMENT``.

    Attributes:
      name, description: see `registry.Entry`.
      load: function from (`DataConfig`, argument, greatest length of an image's shorter side in
        pixels or None, `sources.OpenCache`) to `ImageData`, or its name as ``module:function``.
        `sources.load_indexed` does most of the work for images that can be read by index.
      argument: whether an argument follows the name and a colon.
      usage: how name and argument are written, for help and messages; by default the name alone.
      is_path: whether the argument is a path on this machine.
    """

    name: str
    description: str
    load: Callable[..., Any] | str
    argument: Literal["none", "required", "optional"] = "none"
    usage: str = ""
    is_path: bool = False

    @property
    def spelling(self) -> str:
        """Name and argument as the user writes them."""
        return self.usage or self.name


@dataclass(frozen=True)
class Augmentation:
    """A random change to batches of training images, after crop and flip.

    Attributes:
      name, description: see `registry.Entry`.
      change: function from (uint8 images (batch, side, side, 3), int64 seed (2,)) to images of the
        same type and shape, made of TensorFlow operations; or its name as ``module:function``.
    """

    name: str
    description: str
    change: Callable[..., Any] | str


SOURCES = registry.table(
    Source("digits", "1,797 embedded handwritten digits", f"{_SOURCES}:load_digits"),
    Source(
        "folder",
        "class folders of images, with or without train/val/test subfolders",
        f"{_SOURCES}:load_folder",
        argument="required",
        usage="folder:PATH",
        is_path=True,
    ),
    Source(
        "tfds",
        "a data set that TensorFlow Datasets has prepared",
        f"{__package__}.tfds_source:load_tfds",
        argument="required",
        usage="tfds:NAME",
    ),
    Source(
        "rendered",
        "drawn objects; keys: classes=10, images, size, seed=0",
        f"{_SOURCES}:load_rendered",
        argument="optional",
        usage="rendered[:key=value,...]",
    ),
    Source(
        "rendered_masks",
        "drawn objects for segmentation; keys: classes=4, images, size, seed=0",
        f"{_SOURCES}:load_rendered_masks",
        argument="optional",
        usage="rendered_masks[:key=value,...]",
    ),
)

AUGMENTATIONS: dict[str, Augmentation] = {}  # none is built in; crop and flip are always available


def source(dataset: str) -> tuple[Source, str]:
    """The source of a data set, and its argument.

    Args:
      dataset: a value of `DataConfig.dataset`, such as ``folder:PATH``.

    Raises:
      UserError: there is no such source, or its argument is missing or not allowed.
    """
    name, colon, argument = dataset.partition(":")
    entry = SOURCES.get(name)
    fits = (
        entry is not None
        and {
            "none": not colon,
            "required": bool(argument),
            "optional": True,
        }[entry.argument]
    )
    if entry is None or not fits:
        *others, last = (each.spelling for each in SOURCES.values())
        raise UserError(f"unknown data set '{dataset}': use {', '.join(others)} or {last}")
    return entry, argument


def augmentation(name: str) -> Callable[..., Any]:
    """The function of an augmentation; UserError if there is none of that name."""
    if name not in AUGMENTATIONS:
        known = ", ".join(AUGMENTATIONS) or "none is registered"
        raise UserError(f"there is no augmentation {name!r}: choose from {known}")
    return registry.resolve(AUGMENTATIONS[name].change)
