"""One small network of the family's blocks as TFLite, converted once for all tests of a process."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import keras
import numpy as np
from sklearn.datasets import load_digits

from efficientnet_elite.config import InputSize
from efficientnet_elite.export import formats, measure
from efficientnet_elite.export.int8 import convert
from efficientnet_elite.networks.blocks import Classifier, ConvBlock, MBConv
from efficientnet_elite.networks.build import build
from efficientnet_elite.networks.spec import ArchSpec

LABELS = [f"digit {value}" for value in range(10)]
SIDE = 32
UINT8 = formats.Format("int8", "uint8")
SPEC = ArchSpec(
    "tiny",
    (SIDE, SIDE, 3),
    (
        ConvBlock("stem", 8, kernel=3, stride=2),
        MBConv("first", filters=8, expanded=16, kernel=3, stride=1, squeeze=4, drop_path=0.0),
        Classifier("predictions", 10, 0.0),
    ),
)


@functools.cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """The handwritten digits as RGB pixels (N, SIDE, SIDE, 3), uint8, and their classes."""
    data = load_digits()
    pixels = np.rint(np.kron(data.images, np.ones((1, SIDE // 8, SIDE // 8))) * 255 / 16)
    return pixels.astype(np.uint8)[..., None].repeat(3, -1), data.target


def normalised(pixels: np.ndarray) -> np.ndarray:
    return (pixels / 128 - 1).astype(np.float32)


@functools.cache
def model() -> keras.Model:
    """Trained for a second: better than chance, with ranges as a network has them."""
    keras.utils.set_random_seed(0)
    pixels, classes = digits()
    network = build(SPEC)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.7  # the training is too short for 0.99
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.Adam(1e-2), loss)
    network.fit(normalised(pixels[:1400]), classes[:1400], batch_size=50, epochs=2, verbose=0)
    return network


@functools.cache
def converted() -> dict[formats.Format, bytes]:
    """The files that the tests look at, by their format."""
    every = (formats.FLOAT32, formats.INT8, UINT8)
    images = normalised(digits()[0][:50])
    return dict(zip(every, convert.to_tflite_formats(model(), images, every), strict=True))


def pair() -> tuple[bytes, bytes]:
    """The float32 and the int8 file."""
    return converted()[formats.FLOAT32], converted()[formats.INT8]


WIDE = InputSize(24, 40)


@functools.cache
def wide() -> bytes:
    """The int8 file of an untrained network whose images are wider than high."""
    blocks = ConvBlock("stem", 8, kernel=3, stride=2), Classifier("predictions", 10, 0.0)
    return measure.int8_bytes(ArchSpec("wide", (*WIDE, 3), blocks))


def keras_file() -> bytes:
    """The same network as a ``.keras`` file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "tiny.keras")
        model().save(path)
        return path.read_bytes()
