"""Mixed precision: chooses the layers that stay in float32 so that a file keeps its accuracy.

The layers that lose most in int8 are found by putting each layer into int8 alone, with all others
in float32, and measuring the error of the logits. The per-tensor comparison of `export.layers`
would not find them: where one wide channel leaves the others almost no steps, nearly all of the
tensor's energy is in the wide channel, and so its signal-to-noise ratio looks good.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from tqdm import tqdm

from efficientnet_elite.errors import UserError
from efficientnet_elite.export.formats import Format
from efficientnet_elite.export.layers import layer_of
from efficientnet_elite.export.runtimes.runtime import Runner

from .post_training import Range
from .quantizer import quantize
from .ranges import CalibratedNetwork

_FLOAT_LOGITS = Format("int8", "float32")


def layer_operators(calibrated: CalibratedNetwork) -> dict[str, frozenset[str]]:
    """The operators of each Keras layer; a layer can have several: swish is a LOGISTIC and a MUL.

    Returns:
      By the layer's name, in the order of execution, the names of its operators' output tensors, as
      `quantizer.quantize` takes them.
    """
    operators: dict[str, frozenset[str]] = {}
    for operator in calibrated.operators:
        layer = layer_of(operator)
        operators[layer] = operators.get(layer, frozenset()) | {operator}
    return operators


def noise_by_layer(
    calibrated: CalibratedNetwork, ranges: Mapping[str, Range], images: np.ndarray
) -> dict[str, float]:
    """Measures the error of the logits that int8 causes in each layer alone.

    Args:
      calibrated: the network.
      ranges: activation ranges that replace the calibrated ones, see `quantizer.quantize`.
      images: (N, height, width, channels) float32, pixel / 128 - 1.

    Returns:
      By the layer's name, the mean squared error of the logits divided by their variance, greatest
      first; infinite where a file with this layer in int8 cannot be loaded.
    """
    calibrated = calibrated.plain  # all of a layer's noise counts
    operators = layer_operators(calibrated)
    all_operators = frozenset().union(*operators.values())
    expected = Runner(calibrated.content).run(images)
    noise_of = {}
    for layer, in_int8 in tqdm(operators.items(), "layers in int8", disable=None):
        content = quantize(
            calibrated, ranges=ranges, keep_float=all_operators - in_int8, form=_FLOAT_LOGITS
        )
        try:
            noise = np.square(Runner(content).run(images) - expected).mean()
        except UserError:
            noise = np.inf
        noise_of[layer] = float(noise / expected.var())
    return dict(sorted(noise_of.items(), key=lambda entry: -entry[1]))


def float_layer_choices(noise_of: Mapping[str, float]) -> Iterator[tuple[str, ...]]:
    """Sets of layers to try in float32, growing: the 1, 2, 4, ... noisiest, and lastly half of all.

    Args:
      noise_of: what `noise_by_layer` returned.
    """
    names, count = tuple(noise_of), 1
    while count < len(names) // 2:
        yield names[:count]
        count *= 2
    yield names[: len(names) // 2]
