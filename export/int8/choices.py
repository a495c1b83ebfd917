"""What can be chosen for an export: methods of calibration, remedies, inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from efficientnet_elite import registry

_CALIBRATION = "efficientnet_elite.export.int8.calibration"
_REMEDIES = "efficientnet_elite.export.int8.remedies"


@dataclass(frozen=True)
class CalibrationMethod:
    """A way to choose an activation's range by its values on the representative data set.

    Attributes:
      name, description: see `registry.Entry`.
      collector: makes a `calibration.Collector` for a number of images; ``module:class`` or itself.
    """

    name: str
    description: str
    collector: Callable[..., Any] | str


@dataclass(frozen=True)
class Remedy:
    """A change to a network or its quantization that wins back accuracy lost in int8.

    Attributes:
      name, description: see `registry.Entry`.
      trials: (best `remedies.Quantization` so far, `remedies.Context`) to pairs of a trial's label
        and its `remedies.Quantization`; ``module:function`` or itself.
      default: whether it is tried where the user names no remedies.
    """

    name: str
    description: str
    trials: Callable[..., Any] | str
    default: bool = False


CALIBRATION_METHODS = registry.table(
    CalibrationMethod(
        "minmax", "from the least to the greatest value over all images", f"{_CALIBRATION}:Extremes"
    ),
    CalibrationMethod(
        "moving_average",
        "moving averages of the least and the greatest value of each image",
        f"{_CALIBRATION}:MovingAverage",
    ),
    CalibrationMethod(
        "percentile",
        "percentiles of all values, so that rare outliers are left out",
        f"{_CALIBRATION}:Percentile",
    ),
)

# In the order in which they are tried: that of their cost on the device and in training.
REMEDIES = registry.table(
    Remedy(
        "calibration",
        "other methods of calibration",
        f"{_REMEDIES}:calibration_trials",
        default=True,
    ),
    Remedy(
        "equalization",
        "channels are scaled so that their activations have similar ranges",
        f"{_REMEDIES}:equalization_trials",
        default=True,
    ),
    Remedy(
        "mixed",
        "some layers stay in float32, which microcontrollers cannot run",
        f"{_REMEDIES}:mixed_trials",
    ),
    Remedy("qat", "quantization-aware training", f"{_REMEDIES}:fine_tuning_trials"),
)

OUTPUTS = ("logits", "softmax")  # what the networks in the files end with

# Inputs that networks from elsewhere take: scale * x + offset, x being pixel / 128 - 1.
INPUTS = {
    "0..255": (128.0, 128.0),
    "0..1": (128 / 255, 128 / 255),
    "-1..1": (128 / 127.5, 128 / 127.5 - 1),
    "elite": (1.0, 0.0),
}


def default_remedies() -> tuple[str, ...]:
    """Names of the remedies that are tried where the user names none."""
    return tuple(name for name, remedy in REMEDIES.items() if remedy.default)
