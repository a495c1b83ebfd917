"""Bias correction: int8 logits whose mean on the representative data set is that of the float ones.

The rounding errors of all layers do not cancel: they shift each logit by a constant, by which one
class gains and another loses. This module measures the shift and subtracts it from the bias of the
last fully connected layer. File size, memory and time stay the same. It is the empirical bias
correction of Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction"
(arXiv 1906.04721, appendix D), for the last layer only: the layers before it end in activations
that clip, and what they shift reaches the logits anyway.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efficientnet_elite.errors import UserError
from efficientnet_elite.export import inspect, rewrite
from efficientnet_elite.export.runtimes.runtime import Runner

from .rounding import BIAS_TYPES

# Operators behind the classifier that change neither the order nor the number of the logits.
_AFTER = {"QUANTIZE", "DEQUANTIZE", "SOFTMAX", "RESHAPE"}


@dataclass(frozen=True)
class Reference:
    """What a float network computes for the representative data set.

    Attributes:
      images: (N, height, width, channels), float32, pixel / 128 - 1.
      mean_logits: (classes,), the mean over these images.
    """

    images: NDArray[np.float32]
    mean_logits: NDArray[np.float64]


class MeanLogits:
    """Collects the logits of a float32 file, image by image."""

    def __init__(self, contents: inspect.Contents):
        """Finds the classifier; a network that does not end in one has no reference."""
        classifier = _classifier(contents)
        self._name = None if classifier is None else contents.tensors[classifier.outputs[0]].name
        self._logits: list[NDArray[np.float32]] = []

    def add(self, values: Mapping[str, NDArray[np.float32]]) -> None:
        """Adds the activations that an image causes, by the tensor's name."""
        if self._name is not None:
            self._logits.append(values[self._name].ravel())

    def reference(self, images: NDArray[np.float32]) -> Reference | None:
        """What was collected, of these images; None without a classifier."""
        if not self._logits:
            return None
        return Reference(images, np.mean(self._logits, axis=0, dtype=np.float64))


def corrected(model: bytes, expected: Reference | None) -> bytes:
    """Corrects the last bias of a quantized file.

    Args:
      model: the content of an int8 or int16x8 file.
      expected: what `MeanLogits` collected from the float32 file.

    Returns:
      The content of the corrected file, with the same tensors and operators. It is `model` itself
      without a reference, or if the classifier has no bias in integers, for example because that
      layer stayed in float.
    """
    contents = inspect.read(model)
    classifier = _classifier(contents)
    if classifier is None or expected is None:
        return model
    index = classifier.inputs[2]
    bias = contents.tensors[index]
    if bias.type not in BIAS_TYPES or not bias.scales:
        return model
    try:
        shift = _mean_logits(model, classifier, expected.images) - expected.mean_logits
    except UserError:  # LiteRT cannot load the file: whoever runs it next says why
        return model

    tree = rewrite.tree_of(model)
    values = rewrite.constant(tree, index, BIAS_TYPES[bias.type])
    steps = np.rint(shift / np.array(bias.scales)).astype(values.dtype)
    rewrite.set_constant(tree, index, values - steps)
    return rewrite.packed(tree)


def _classifier(contents: inspect.Contents) -> inspect.Step | None:
    """The fully connected layer with a bias that computes the logits; None if there is none."""
    steps = [step for step in contents.steps if step.operator not in _AFTER]
    last = steps[-1] if steps else None
    if last is None or last.operator != "FULLY_CONNECTED" or len(last.inputs) < 3:
        return None
    bias = last.inputs[2]
    return last if bias >= 0 and bias not in inspect.shared(contents) else None


def _mean_logits(
    model: bytes, classifier: inspect.Step, images: NDArray[np.float32]
) -> NDArray[np.float64]:
    """The mean (classes,) of what the last fully connected layer computes."""
    tree: Any = rewrite.tree_of(model)
    tree.subgraphs[0].outputs = list(classifier.outputs)
    tree.signatureDefs = []
    logits = Runner(rewrite.packed(tree)).run(images)
    return logits.mean(axis=0, dtype=np.float64)
