"""Class folders of small images that look like photographs, and how they are loaded."""

import io

import numpy as np
from PIL import Image

from efficientnet_elite import data as data_lib
from efficientnet_elite.config import DataConfig


def photo(height=40, width=60, seed=0):
    """Smooth colours, so that JPEG keeps them within a few levels."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (4, 6, 3), np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def encoded(image, fmt="JPEG", **options):
    buffer = io.BytesIO()
    image.save(buffer, fmt, **options)
    return buffer.getvalue()


def make_folder(root, classes=("cat", "dog"), images=10, parts=("",)):
    for part in parts:
        for c, name in enumerate(classes):
            folder = root / part / name
            folder.mkdir(parents=True)
            for i in range(images):
                photo(30 + i, 40, seed=100 * c + i).save(folder / f"{i}.jpg", quality=95)
    return root


def load(root, max_side=None, **settings):
    config = DataConfig(dataset=f"folder:{root}", **settings)
    return data_lib.load(config, max_side=max_side, progress=False)
