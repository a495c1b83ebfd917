"""Where int8 loses precision: each operator's output in the int8 file against the float file."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from . import inspect
from .runtimes import runtime

# Where there is no error at all, or next to none.
GREATEST_SNR = 100.0


@dataclass(frozen=True)
class LayerError:
    """What int8 makes of one operator's output.

    Attributes:
      layer: the Keras layer it comes from; the last of those fused into the operator.
      operator: as in the TFLite schema.
      snr_db: signal to noise in decibels: the output's energy over that of its error, which
        includes what came in with its inputs.
      added_noise: share of the output's energy that is noise, less that of its noisiest input.
    """

    layer: str
    operator: str
    snr_db: float
    added_noise: float


def errors(float_model: bytes, int8_model: bytes, images: np.ndarray) -> list[LayerError]:
    """Signal to noise of every operator, in the order of execution.

    Args:
      float_model, int8_model: files converted from the same network.
      images: (N, height, width, channels) float32, pixel / 128 - 1.

    Returns:
      One entry an operator whose output both files have.
    """
    reference, contents = inspect.read(float_model), inspect.read(int8_model)
    indices = {tensor.name: i for i, tensor in enumerate(reference.tensors) if tensor.producer}
    pairs = {
        i: (tensor, indices[tensor.name])
        for i, tensor in enumerate(contents.tensors)
        if tensor.producer and tensor.name in indices and len(tensor.scales) == 1
    }
    signal, noise = dict.fromkeys(pairs, 0.0), dict.fromkeys(pairs, 0.0)
    runners = [Tracer(model) for model in (float_model, int8_model)]
    for image in images:
        for runner in runners:
            runner.run(image)
        for i, (tensor, j) in pairs.items():
            expected = runners[0].tensor(j).astype(np.float64)
            integers = runners[1].tensor(i).astype(np.float64)
            got = (integers - tensor.zero_points[0]) * tensor.scales[0]
            signal[i] += float(np.square(expected).sum())
            noise[i] += float(np.square(got - expected).sum())
    snr = {i: _decibels(signal[i], noise[i]) for i in pairs}
    found = []
    for step in contents.steps:
        source = min((snr[i] for i in step.inputs if i in snr), default=GREATEST_SNR)
        for i in step.outputs:
            if i in snr:
                layer = layer_of(contents.tensors[i].name)
                added = max(10 ** (-snr[i] / 10) - 10 ** (-source / 10), 0.0)
                found.append(LayerError(layer, step.operator, snr[i], added))
    return found


def worst(found: Sequence[LayerError], count: int) -> list[LayerError]:
    """Those that add most noise, the worst first."""
    return sorted(found, key=lambda error: -error.added_noise)[:count]


def activations(model: bytes, images: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
    """What the operators of a float32 file compute, by the tensor's name, image by image.

    Args:
      model: its content.
      images: (N, height, width, channels) float32, pixel / 128 - 1.
    """
    names = {
        index: tensor.name
        for index, tensor in enumerate(inspect.read(model).tensors)
        if tensor.producer and tensor.type == "FLOAT32"
    }
    tracer = Tracer(model)
    for image in images:
        tracer.run(image)
        yield {name: tracer.tensor(index) for index, name in names.items()}


class Tracer:
    """An interpreter that keeps every tensor."""

    def __init__(self, model: bytes):
        """Loads a file's content."""
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        self._interpreter = Interpreter(
            model_content=model,
            # A delegate would keep its tensors to itself.
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            experimental_preserve_all_tensors=True,
        )
        self._interpreter.allocate_tensors()
        (detail,) = self._interpreter.get_input_details()
        self._index, self._input = detail["index"], runtime.interface(detail)

    def run(self, image: np.ndarray) -> None:
        """Computes all tensors for an image (height, width, channels), pixel / 128 - 1."""
        values = runtime.quantized(image[None], self._input)
        self._interpreter.set_tensor(self._index, values)
        self._interpreter.invoke()

    def tensor(self, index: int) -> np.ndarray:
        """A copy of a tensor, by its number."""
        return self._interpreter.get_tensor(index)


def _decibels(signal: float, noise: float) -> float:
    if noise <= signal * 10 ** (-GREATEST_SNR / 10):
        return GREATEST_SNR
    return 10 * math.log10(signal / noise) if signal else -GREATEST_SNR


def layer_of(tensor: str) -> str:
    """The Keras layer of an operator's tensor, the last of those fused into it.

    From "stem_bn_1/batchnorm/add_1;stem_conv_1/convolution;stem_bn_1/sub1" to "stem_bn".
    """
    return layers_of(tensor)[-1]


def layers_of(tensor: str) -> list[str]:
    """The Keras layers that an operator's tensor is named after, "output" for the logits."""
    names = [part.split("/")[0] for part in tensor.rstrip(";").split(";")]
    return [
        "output" if name.startswith("PartitionedCall") else re.sub(r"_\d+$", "", name)
        for name in names
    ]
