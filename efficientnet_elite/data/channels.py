"""Whether networks see colours or the brightness of images alone: `DataConfig.channels`."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from efficientnet_elite.config import AUTO_CHANNELS, DataConfig
from efficientnet_elite.errors import UserError

from . import listing
from .decode import UnreadableImage, decode, opened

if TYPE_CHECKING:
    from .parts import ImageData

_MOST_COLOUR = 8
"""Of a grey image, the largest difference of a pixel's channels: JPEG compression makes some. It is
not that of most pixels, because a small spot of colour may be what tells classes apart."""

_SIDE = 128  # pixels, to which images are shrunk for this; spots of colour stay visible
_GREY_MODES = ("1", "L", "LA", "I;16", "I;16B")  # Pillow's names of files without colours


def looked_up(config: DataConfig, images: listing.Listing | None) -> DataConfig:
    """The settings with the number of channels, where it is left to the images.

    It is 1 if all images that can be read are grey. They are looked at up to the first one with
    colours.

    Args:
      config: the settings.
      images: the images; None where they cannot be listed, of which networks see the colours.
    """
    if config.channels != AUTO_CHANNELS:
        return config
    return replace(config, channels="1" if images and _all_grey(images) else "3")


def decided(config: DataConfig, images: ImageData) -> DataConfig:
    """The settings with the number of channels that loading chose, where it was left to it."""
    if config.channels != AUTO_CHANNELS:
        return config
    return replace(config, channels=str(images.channels))


def for_network(config: DataConfig, channels: int) -> DataConfig:
    """The settings with the number of channels that a network takes.

    Raises:
      UserError: they ask for another number.
    """
    if config.channels not in (AUTO_CHANNELS, str(channels)):
        raise UserError(
            f"channels={config.channels} contradicts the network, which takes "
            f"(side, side, {channels}) images: leave it out"
        )
    return replace(config, channels=str(channels))


def _all_grey(images: listing.Listing) -> bool:
    """Whether there are images that can be read, and all of them are grey."""
    numbers = range(len(images.examples))
    known = [_is_grey(images, number) for number in numbers[:1]]  # most sets have colours
    if False in known:
        return False
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for grey in pool.map(lambda number: _is_grey(images, number), numbers[1:]):
            if grey is False:
                pool.shutdown(cancel_futures=True)
                return False
            known.append(grey)
    return True in known


def _is_grey(images: listing.Listing, number: int) -> bool | None:
    """Whether an image is grey; None if it cannot be read."""
    try:
        encoded = images.encoded(number)
        with opened(encoded) as image:
            if image.mode in _GREY_MODES:
                return True
        return bool(np.ptp(decode(encoded, _SIDE), axis=2).max() <= _MOST_COLOUR)
    except UnreadableImage:
        return None
