"""Activation functions: what Keras computes, and what the int8 TFLite file computes them with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from efficientnet_elite import registry


@dataclass(frozen=True)
class ActivationFunction:
    """A function of every element, named by the field ``activation`` of blocks.

    Attributes:
      name, description: see `registry.Entry`.
      operators: TFLite operators that compute it, each from the output of the one before.
      gates: whether the result is multiplied with the input at the end, as in swish.
      fuses: whether TFLite computes it within the convolution or sum before it.
      variant: whether networks may have it in place of their own (``elite9-NAME``).
      function: of Keras tensors; ``module:function`` or itself. None: Keras knows it by its name.
    """

    name: str
    description: str
    operators: tuple[str, ...]
    gates: bool = False
    fuses: bool = False
    variant: bool = False
    function: Callable[[Any], Any] | str | None = None


ACTIVATIONS = registry.table(
    ActivationFunction("swish", "x sigmoid(x)", ("LOGISTIC",), gates=True, variant=True),
    ActivationFunction("hard_swish", "x relu6(x + 3) / 6", ("HARD_SWISH",), variant=True),
    ActivationFunction("relu6", "min(max(x, 0), 6)", ("RELU6",), fuses=True, variant=True),
    ActivationFunction("relu", "max(x, 0)", ("RELU",), fuses=True, variant=True),
    ActivationFunction("sigmoid", "1 / (1 + exp(-x))", ("LOGISTIC",)),
    ActivationFunction("tanh", "hyperbolic tangent", ("TANH",)),
)


def variants() -> tuple[str, ...]:
    """Names of the activations that networks may have in place of their own."""
    return tuple(name for name, entry in ACTIVATIONS.items() if entry.variant)
