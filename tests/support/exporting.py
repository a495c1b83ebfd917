"""Networks to export, and the export itself, for several test files."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits

from efficientnet_elite.export import champion
from efficientnet_elite.networks.blocks import Classifier, ConvBlock, MBConv
from efficientnet_elite.networks.spec import ArchSpec

LABELS = [f"digit {value}" for value in range(10)]
DETAILS = {"spec": {"name": "short"}, "training": {"seed": 3, "epochs": [1, 2]}, "note": None}


def digits(side: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """The handwritten digits as RGB images in a network's input range, and their classes."""
    data = load_digits()
    pixels = np.rint(np.kron(data.images, np.ones((1, side // 8, side // 8))) * 255 / 16)
    return (pixels[..., None].repeat(3, -1) / 128 - 1).astype(np.float32), data.target


SPEC = ArchSpec(
    "short",
    (32, 32, 3),
    (
        ConvBlock("stem", 16, kernel=3, stride=2),
        MBConv("first", filters=16, expanded=None, kernel=3, stride=1, squeeze=4, drop_path=0.0),
        MBConv("second", filters=24, expanded=64, kernel=5, stride=2, squeeze=4, drop_path=0.0),
        MBConv("third", filters=24, expanded=96, kernel=3, stride=1, squeeze=6, drop_path=0.1),
        ConvBlock("top", 96),
        Classifier("predictions", 10, 0.1),
    ),
)


def export(model: keras.Model, out_dir: Path, name: str = "tiny", **options) -> champion.Exported:
    images, classes = digits(model.input_shape[1])
    given = {
        "labels": LABELS,
        "calibration_images": images[:100],
        "test_batches": [(images[i : i + 64], classes[i : i + 64]) for i in (1400, 1464, 1528)],
        "details": DETAILS,
    }
    return champion.export_model(model, name=name, out_dir=out_dir, **{**given, **options})


def tiny(middle=None, seed: int = 0) -> keras.Model:
    """A 16-pixel network with `middle` (a function of a Keras tensor) between two layers."""
    keras.utils.set_random_seed(seed)
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(image)
    x = middle(x) if middle else x
    return keras.Model(image, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def operation(name: str):
    return layers.Lambda(getattr(keras.ops, name))


def dead_branch(x):
    """A ReLU that never opens, which makes XNNPACK refuse the model."""
    convolution = layers.Conv2D(
        4, 1, activation="relu", bias_initializer=keras.initializers.Constant(-100)
    )
    return layers.Concatenate()([x, layers.Conv2D(4, 1)(convolution(x))])


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
