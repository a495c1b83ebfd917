"""How many pixels the images of a data set have, without decoding them."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median_low
from typing import BinaryIO, TypeVar

from PIL import Image

from efficientnet_elite import registry
from efficientnet_elite.config import DataConfig
from efficientnet_elite.data import choices
from efficientnet_elite.data.decode import FORMATS

T = TypeVar("T")

MOST_IMAGES = 64  # that are looked at; their median is within some percent of that of all


def of_data_set(config: DataConfig) -> int | None:
    """The median of the shorter sides of a data set's images, in pixels; None if not known.

    Raises:
      UserError: the data set is unknown or missing.
    """
    source, argument = choices.source(config.dataset)
    side: int | None = registry.resolve(source.side)(config, argument)
    return side


def unknown(config: DataConfig, argument: str) -> None:
    """For sources that do not say it; see `choices.Source.side`."""


def of_listing(config: DataConfig, argument: str) -> int | None:
    """For sources that list their images; see `choices.Source.side`."""
    from efficientnet_elite.data import listing

    del argument
    images = listing.of_data_set(config)
    if images.root is not None:
        return of_files(images.root / example.name for example in spread(images.examples))
    return of_files(io.BytesIO(images.encoded(i)) for i in spread(range(len(images.examples))))


def spread(items: Sequence[T]) -> Sequence[T]:
    """At most `MOST_IMAGES` items, evenly spread over a list."""
    return items[:: -(-len(items) // MOST_IMAGES) or 1]


def of_files(files: Iterable[Path | BinaryIO]) -> int | None:
    """The median of the shorter sides of images; None where none can be read."""
    sides = []
    for file in files:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # large images, odd metadata: only sides matter
                if isinstance(file, Path) and not file.is_file():
                    continue  # opening a pipe might never end
                with Image.open(file, formats=FORMATS) as image:
                    sides.append(min(image.size))
        except Exception:  # Pillow raises almost anything; loading names unreadable images
            continue
    return median_low(sides) if sides else None
