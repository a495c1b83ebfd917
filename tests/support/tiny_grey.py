"""A small untrained network of grey images as TFLite."""

from __future__ import annotations

import functools

import numpy as np

from efficientnet_elite.export import formats
from efficientnet_elite.export.int8 import convert
from efficientnet_elite.networks.blocks import Classifier, ConvBlock
from efficientnet_elite.networks.build import build
from efficientnet_elite.networks.spec import ArchSpec

SIDE = 32
LABELS = ["dark", "bright"]
SPEC = ArchSpec(
    "grey",
    (SIDE, SIDE, 1),
    (ConvBlock("stem", 8, kernel=3, stride=2), Classifier("predictions", len(LABELS), 0.0)),
)


@functools.cache
def converted() -> dict[formats.Format, bytes]:
    """The float32 file."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, SIDE, SIDE, 1))
    images = (pixels / 128 - 1).astype(np.float32)
    (content,) = convert.to_tflite_formats(build(SPEC), images, [formats.FLOAT32])
    return {formats.FLOAT32: content}
