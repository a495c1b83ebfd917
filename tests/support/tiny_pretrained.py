"""Pretrained weights of a small network, and a smaller network that can begin from them."""

from __future__ import annotations

import numpy as np

from efficientnet_elite.networks.blocks import Classifier, ConvBlock, MBConv
from efficientnet_elite.networks.build import build
from efficientnet_elite.networks.pretrained.weights import PretrainedWeights
from efficientnet_elite.networks.spec import ArchSpec
from tests.support.random_weights import pretrained


def network(name: str, width: int, classes: int, side: int = 16, deep: bool = False) -> ArchSpec:
    more = [MBConv("block1b", 2 * width, 4 * width, kernel=3, activation="relu6")] if deep else []
    return ArchSpec(
        name,
        (side, side, 3),
        (
            ConvBlock("stem", width, kernel=3, stride=2, activation="relu6"),
            MBConv("block1a", 2 * width, 3 * width, kernel=3, activation="relu6"),
            *more,
            MBConv("block2a", 3 * width, 4 * width, kernel=3, stride=2, activation="relu6"),
            ConvBlock("top", 6 * width, activation="relu6"),
            Classifier("predictions", classes, dropout=0.1),
        ),
    )


def weights(spec: ArchSpec, name: str = "tiny", seed: int = 5) -> PretrainedWeights:
    """Random weights, with statistics of batch normalisation that are not those of any images."""
    model = build(spec, seed=seed)
    rng = np.random.default_rng(seed)
    arrays = {}
    for variable in model.variables:
        if "seed" in variable.path:
            continue
        array = np.array(variable)
        if variable.path.endswith(("gamma", "variance")):
            array = rng.uniform(0.5, 1.5, array.shape)
        elif variable.path.endswith(("beta", "mean")):
            array = rng.normal(0.3, 0.3, array.shape)
        arrays[variable.path] = array.astype(np.float32)
    return pretrained(name, spec, arrays, sha256=f"{seed:064x}")


SOURCE = weights(network("source", 8, classes=7, side=24, deep=True))
"""For 7 classes, at 24 pixels."""
SAME = network("same", 8, classes=10, deep=True)
"""The network of the source, for 10 classes at 16 pixels."""
SMALLER = network("smaller", 4, classes=10)
"""Half as wide, and a block less."""
