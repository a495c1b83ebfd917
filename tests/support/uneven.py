"""Untrained networks whose channels differ in range."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers

from efficientnet_elite.networks.blocks import Classifier, ConvBlock, MBConv
from efficientnet_elite.networks.build import build
from efficientnet_elite.networks.spec import ArchSpec
from tests.support import networks

SIDE = 16


def spec(activation: str, squeeze: int | None = None) -> ArchSpec:
    return ArchSpec(
        f"net-{activation}",
        (SIDE, SIDE, 3),
        (
            ConvBlock("stem", 6, kernel=3, stride=2, activation=activation),
            MBConv("a", 5, expanded=8, kernel=3, squeeze=squeeze, activation=activation),
            MBConv("b", 5, expanded=8, kernel=3, squeeze=squeeze, activation=activation),
            ConvBlock("top", 8, activation=activation),
            Classifier("predictions", 4),
        ),
    )


def wide(net: ArchSpec, spread: float, seed: int = 0) -> tuple[keras.Model, np.ndarray]:
    """An untrained network whose channels differ in range, and images."""
    model, images = build(net, seed=seed), networks.noise(net)
    networks.normalise(model, images)
    random = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.gamma.assign(np.exp(random.normal(0, spread, layer.gamma.shape)))
            layer.beta.assign(random.normal(0, 0.3, layer.gamma.shape))
    return model, images


def logits(model: keras.Model, images: np.ndarray) -> np.ndarray:
    return np.asarray(model(images, training=False))
