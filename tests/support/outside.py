"""Additions to the package's tables, as a program of a user makes them."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from efficientnet_elite import cli, registry
from efficientnet_elite.data.choices import Augmentation, Source
from efficientnet_elite.device.costs import METRICS, Metric
from efficientnet_elite.export.formats import INT8
from efficientnet_elite.export.packages import targets
from efficientnet_elite.export.runtimes.verify import TOLERANCE, XNNPACK, Runtime
from efficientnet_elite.networks.activations import ActivationFunction
from efficientnet_elite.networks.blocks import Block, Classifier, ConvBlock
from efficientnet_elite.networks.families.base import scaled_down
from efficientnet_elite.networks.pretrained import sources
from efficientnet_elite.networks.scaling import round_filters
from efficientnet_elite.networks.spec import ArchSpec


def plainnet(name: str, width: float, depth: float, resolution: int, classes: int) -> ArchSpec:
    """Convolutions one after the other."""
    blocks: list[Block] = [ConvBlock("stem", round_filters(16, width), kernel=3, stride=2)]
    for number in range(round(3 * depth)):
        blocks.append(ConvBlock(f"conv{number}", round_filters(32, width), kernel=3))
    blocks.append(Classifier("predictions", classes))
    return ArchSpec(name, (resolution, resolution, 3), tuple(blocks))


BACKBONE = scaled_down("plainnet", plainnet, (1, 3, 1))


def tanh_gate(x: Any) -> Any:
    """Of Keras tensors."""
    import keras

    return x * keras.ops.tanh(x)


ACTIVATION = ActivationFunction(
    "tanh_gate",
    "x tanh(x)",
    ("TANH",),
    gates=True,
    variant=True,
    function=f"{__name__}:tanh_gate",
)


def stripes(config: Any, argument: str, max_side: int | None, open_cache: Any) -> Any:
    """So many images of horizontal and vertical stripes."""
    from efficientnet_elite.data.geometry import PipelineConfig
    from efficientnet_elite.data.sources import Example, load_indexed

    images = [np.zeros((16, 16, 3), np.uint8) for _ in range(2)]
    images[0][::2], images[1][:, ::2] = 200, 200
    return load_indexed(
        config,
        ("across", "down"),
        [Example(f"stripes {i}", i % 2) for i in range(int(argument))],
        lambda i: images[i % 2],
        PipelineConfig(),
        open_cache(["stripes", argument]),
    )


SOURCE = Source(
    "stripes", "stripes across or down", stripes, argument="required", usage="stripes:IMAGES"
)


def inverted() -> Any:
    """The negative, whatever is drawn."""
    return lambda image, rng: image.point(lambda level: 255 - level)


AUGMENTATION = Augmentation("inverted", "the negative of each image", inverted, moves_pixels=False)


def write_listing(source: targets.Source) -> targets.Package:
    """A text that names the model and its classes."""
    source.folder.mkdir(parents=True, exist_ok=True)
    (source.folder / "listing.txt").write_text("\n".join([source.name, *source.labels]))
    return targets.Package(source.name, source.folder, len(source.content))


TARGET = targets.Target("listing", "a list of the classes", INT8, write_listing)


class Shifted:
    """LiteRT with a fault: all logits are some steps too great."""

    def __init__(self, model: bytes, steps: str):
        from efficientnet_elite.export.runtimes import runtime

        self._runner, self._steps = runtime.Runner(model), int(steps)
        self.output = self._runner.output

    def infer(self, image: np.ndarray) -> np.ndarray:
        output = self._runner.infer(image)
        return np.clip(output.astype(int) + self._steps, -128, 127).astype(output.dtype)


def shifted(steps: int) -> Runtime:
    return Runtime(
        f"shifted by {steps}",
        "LiteRT with a fault",
        module="ai_edge_litert.interpreter",
        package="ai-edge-litert",
        load=f"{__name__}:Shifted",
        install="pip install ai-edge-litert",
        reference=XNNPACK,
        steps=1,
        tolerance=TOLERANCE,
        options={"steps": str(steps)},
    )


def random_weights() -> Any:
    """Invented, and of one layer only."""
    from efficientnet_elite.networks.names import spec_by_name
    from efficientnet_elite.networks.pretrained.weights import PretrainedWeights

    spec = spec_by_name("mobilenetv1-0.25", classes=2, base_resolution=32)
    arrays = {"stem_conv/kernel": np.ones((3, 3, 3, 8), np.float32)}
    return PretrainedWeights(
        "random", spec, arrays, (1 / 128,) * 3, (-1.0,) * 3, "CC0-1.0", "0" * 64, "a test"
    )


WEIGHTS = sources.Source(
    "random",
    "weights that nothing was learned with",
    "CC0-1.0",
    "mobilenetv1",
    present=lambda: True,
    load=f"{__name__}:random_weights",
)

METRIC = Metric(
    "operations",
    "operations",
    "operations",
    1.0,
    "Operations of the network's graph",
    lambda spec: len(spec.graph.nodes),
    limit="operations",
)


if __name__ == "__main__":
    registry.register(METRICS, METRIC)
    registry.register(targets.TARGETS, TARGET)
    sys.exit(cli.main(sys.argv[1:]))
