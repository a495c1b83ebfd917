"""Small segmentation networks as TFLite, untrained but with the statistics of images."""

from __future__ import annotations

import functools
from pathlib import Path

import keras
import numpy as np

from efficientnet_elite import data as data_lib
from efficientnet_elite.config import DataConfig
from efficientnet_elite.export import formats
from efficientnet_elite.export.int8 import convert
from efficientnet_elite.export.runtimes import images
from efficientnet_elite.networks.blocks import LRASPP, ConvBlock, MBConv
from efficientnet_elite.networks.build import build
from efficientnet_elite.networks.spec import ArchSpec
from tests.support.networks import normalise

SIDE = 32
DATASET = f"rendered_masks:classes=2,images=120,size={SIDE}"
LABELS = ["background", "one", 'an "other"']
UINT8 = formats.Format("int8", "uint8")
FORMATS = (formats.FLOAT32, formats.INT8, UINT8)
SPEC = ArchSpec(
    "tiny",
    (SIDE, SIDE, 3),
    (
        ConvBlock("stem", 8, 3, 2, "relu"),
        MBConv("low", 8, 16, 3, activation="relu"),
        MBConv("high", 16, 16, 3, 2, activation="relu"),
        LRASPP("head", len(LABELS), low="low", filters=16),
    ),
)


@functools.cache
def scenes() -> tuple[np.ndarray, np.ndarray]:
    """Twelve test images, (N, SIDE, SIDE, 3) float32, and their masks (N, SIDE, SIDE)."""
    data = data_lib.load(DataConfig(dataset=DATASET), progress=False)
    return images.choose(data, size=SIDE, base_resolution=SIDE, count=12, seed=0)


@functools.cache
def converted() -> dict[formats.Format, bytes]:
    """The files that the tests look at, by their format."""
    keras.utils.set_random_seed(1)
    model = build(SPEC)
    seen = scenes()[0]
    normalise(model, seen)
    return dict(zip(FORMATS, convert.to_tflite_formats(model, seen, FORMATS), strict=True))


def model_file(folder: Path, form: formats.Format = formats.INT8) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "labels.txt").write_text("".join(f"{label}\n" for label in LABELS))
    path = folder / f"tiny.{form.name}.tflite"
    path.write_bytes(converted()[form])
    return path
