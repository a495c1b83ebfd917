"""Which layers to keep in float so that an int8 file holds: those that int8 alone harms most.

Every layer is put into int8 by itself, with all others in float, and what the logits then lose is
its harm. The report of `layers`, which compares tensor by tensor in the finished file, cannot tell:
where one wide channel leaves the others no steps, the tensor's energy, and so its signal to noise,
is that of the wide channel.
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
from .quantizer import CalibratedNetwork, quantize

_FLOAT_LOGITS = Format("int8", "float32")


def layer_operators(calibrated: CalibratedNetwork) -> dict[str, frozenset[str]]:
    """The operators of each layer, as `quantizer.quantize` names them, in the order of execution.

    A layer can have several: swish is a LOGISTIC and a MUL.
    """
    found: dict[str, frozenset[str]] = {}
    for operator in calibrated.operators:
        layer = layer_of(operator)
        found[layer] = found.get(layer, frozenset()) | {operator}
    return found


def harms(
    calibrated: CalibratedNetwork, ranges: Mapping[str, Range], images: np.ndarray
) -> dict[str, float]:
    """What int8 in each layer alone adds to the logits: noise as a share of their variance.

    Args:
      calibrated: the network.
      ranges: see `quantizer.quantize`.
      images: (N, height, width, channels) float32, pixel / 128 - 1.

    Returns:
      Every layer's, the most harmful first.
    """
    operators = layer_operators(calibrated)
    everything = frozenset().union(*operators.values())
    expected = Runner(calibrated.content).run(images)
    found = {}
    for layer, own in tqdm(operators.items(), "layers in int8", disable=None):
        content = quantize(
            calibrated, ranges=ranges, keep_float=everything - own, form=_FLOAT_LOGITS
        )
        try:
            noise = np.square(Runner(content).run(images) - expected).mean()
        except UserError:  # a file that does not load: int8 harms this layer beyond measure
            noise = np.inf
        found[layer] = float(noise / expected.var())
    return dict(sorted(found.items(), key=lambda entry: -entry[1]))


def choices(ranked: Mapping[str, float]) -> Iterator[tuple[str, ...]]:
    """The first 1, 2, 4, ... of the layers, and lastly the first half."""
    names, count = tuple(ranked), 1
    while count < len(names) // 2:
        yield names[:count]
        count *= 2
    yield names[: len(names) // 2]
