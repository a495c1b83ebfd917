"""Pictures with the answer of a network drawn on them."""

from __future__ import annotations

import colorsys
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from efficientnet_elite.data.decode import Pixels, decode, read_file
from efficientnet_elite.search.workdir import write_bytes

_MAX_SIDE = 640  # pixels of the shorter side of a picture
_MASK_SIDE = 320  # pixels of the side of a mask's picture


class Names:
    """Names of pictures in a folder; images of the same name get different ones."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._used = folder, set[str]()

    def path(self, image: str) -> Path:
        """Path of the picture of an image."""
        stem = Path(image.replace(":", "-").replace("#", "-")).stem
        name, count = stem, 1
        while name in self._used:
            count += 1
            name = f"{stem}-{count}"
        self._used.add(name)
        return self._folder / f"{name}.png"


def picture(path: Path) -> Pixels:
    """An image in the size of its picture, uint8 (height, width, 3)."""
    return decode(read_file(path), _MAX_SIDE)


def save(path: Path, pixels: Pixels, seen: Pixels, text: str, mask: np.ndarray | None) -> None:
    """Writes a picture as PNG.

    Args:
      path: of the picture.
      pixels: the image, uint8 (height, width, 3).
      seen: what the network saw of it, uint8 (height, width, 3).
      text: the answer, which is written below the image.
      mask: the class of each pixel of that, which is then drawn in colours, in place of the
        image; None for classifiers.
    """
    if mask is not None:
        pixels = _enlarged((seen / 2 + colours(mask) / 2).astype(np.uint8))
    image = Image.fromarray(pixels)
    font = ImageFont.load_default(max(12, image.width // 20))
    # Letters that the font lacks are drawn as boxes, never as an error.
    height = round(font.getbbox("Ag")[3]) + 8
    whole = Image.new("RGB", (image.width, image.height + height), "black")
    whole.paste(image, (0, 0))
    ImageDraw.Draw(whole).text((4, image.height + 2), text, "white", font)
    content = io.BytesIO()
    whole.save(content, "PNG")
    write_bytes(path, content.getvalue())


def colours(mask: np.ndarray) -> Pixels:
    """A colour for each class of a mask: (height, width) to uint8 (height, width, 3).

    Class 0, mostly the background, is black; hues of the others are far apart.
    """
    table = np.zeros((int(mask.max()) + 1, 3))
    for index in range(1, len(table)):
        table[index] = colorsys.hsv_to_rgb(index * 0.618 % 1, 0.85, 1)
    return (table[mask] * 255).astype(np.uint8)


def _enlarged(pixels: Pixels) -> Pixels:
    factor = max(1, _MASK_SIDE // len(pixels))
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)
