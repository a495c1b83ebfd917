"""Where int8 loses precision: compares each operator's output in the int8 and the float32 file.

The module also names the Keras layer behind a tensor (`layer_of`) and runs a file so that every
tensor can be read (`activations`, `Tracer`), which calibration needs too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from . import inspect
from .runtimes import runtime

# Greatest signal-to-noise ratio in decibels; without any error it would be infinite.
MAX_SNR_DB = 100.0


@dataclass(frozen=True)
class LayerError:
    """The error of one operator's output in the int8 file.

    Attributes:
      layer: the Keras layer that the operator comes from; if several layers were fused into it, the
        last of them.
      operator: its name in the TFLite schema, such as ``CONV_2D``.
      snr_db: signal-to-noise ratio in decibels: energy of the output over energy of its error,
        which includes the error of the operator's inputs.
      added_noise: noise as a share of the output's energy, minus the same share of its noisiest
        input; at least 0.
    """

    layer: str
    operator: str
    snr_db: float
    added_noise: float


def errors(float_model: bytes, int8_model: bytes, images: np.ndarray) -> list[LayerError]:
    """Measures the error of every operator's output in an int8 file.

    Args:
      float_model, int8_model: contents of files converted from the same network.
      images: (N, height, width, channels) float32, pixel / 128 - 1.

    Returns:
      One entry for each operator that both files have, in the order of execution.
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
            dequantized = (integers - tensor.zero_points[0]) * tensor.scales[0]
            signal[i] += float(np.square(expected).sum())
            noise[i] += float(np.square(dequantized - expected).sum())
    snr = {i: _decibels(signal[i], noise[i]) for i in pairs}
    layer_errors = []
    for step in contents.steps:
        input_snr = min((snr[i] for i in step.inputs if i in snr), default=MAX_SNR_DB)
        for i in step.outputs:
            if i in snr:
                layer = layer_of(contents.tensors[i].name)
                added_noise = max(10 ** (-snr[i] / 10) - 10 ** (-input_snr / 10), 0.0)
                layer_errors.append(LayerError(layer, step.operator, snr[i], added_noise))
    return layer_errors


def worst(layer_errors: Sequence[LayerError], count: int) -> list[LayerError]:
    """The `count` operators that add most noise, the worst first."""
    return sorted(layer_errors, key=lambda error: -error.added_noise)[:count]


def activations(model: bytes, images: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
    """Computes the activations of a float32 file, image by image.

    Args:
      model: the file's content.
      images: (N, height, width, channels) float32, pixel / 128 - 1.

    Yields:
      For each image, the outputs of all operators, (1, ...) float32, by the tensor's name.
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
    """A LiteRT interpreter in which the values of all tensors can be read after an inference."""

    def __init__(self, model: bytes):
        """Loads the content of a file; its operators run on LiteRT's built-in kernels."""
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        self._interpreter = Interpreter(
            model_content=model,
            # The tensors inside a delegate such as XNNPACK could not be read.
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            experimental_preserve_all_tensors=True,
        )
        self._interpreter.allocate_tensors()
        (detail,) = self._interpreter.get_input_details()
        self._index, self._input = detail["index"], runtime.interface(detail)

    def run(self, image: np.ndarray) -> None:
        """Computes all tensors for an image (height, width, channels), pixel / 128 - 1."""
        values = runtime.quantize_images(image[None], self._input)
        self._interpreter.set_tensor(self._index, values)
        self._interpreter.invoke()

    def tensor(self, index: int) -> np.ndarray:
        """A copy of a tensor's values, by the tensor's index in the file."""
        return self._interpreter.get_tensor(index)


def _decibels(signal: float, noise: float) -> float:
    """Ratio of two energies in decibels, at most `MAX_SNR_DB`; -`MAX_SNR_DB` without signal."""
    if noise <= signal * 10 ** (-MAX_SNR_DB / 10):
        return MAX_SNR_DB
    return 10 * math.log10(signal / noise) if signal else -MAX_SNR_DB


def layer_of(tensor: str) -> str:
    """The Keras layer that a tensor comes from; if several were fused, the last of them.

    For example "stem_bn" for the tensor
    "stem_bn_1/batchnorm/add_1;stem_conv_1/convolution;stem_bn_1/sub1".
    """
    return layers_of(tensor)[-1]


def layers_of(tensor: str) -> list[str]:
    """The names of the Keras layers that a tensor comes from; "output" for the logits.

    They are read from the tensor's name, which the converter composes of all fused operations.
    """
    names = [part.split("/")[0] for part in tensor.rstrip(";").split(";")]
    return [
        "output" if name.startswith("PartitionedCall") else re.sub(r"_\d+$", "", name)
        for name in names
    ]
