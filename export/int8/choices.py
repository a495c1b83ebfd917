"""What a user can choose for an export: calibration methods, remedies, inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from efficientnet_elite import registry
from efficientnet_elite.config import AUTO

_CALIBRATION = "efficientnet_elite.export.int8.calibration"
_REMEDIES = "efficientnet_elite.export.int8.remedies"


@dataclass(frozen=True)
class CalibrationMethod:
    """A way to choose the range of an activation from its values on the representative data set.

    Attributes:
      name, description: see `registry.Entry`.
      collector: the class of a `calibration.Collector`, called with the number of images; or its
        name as ``module:class``.
    """

    name: str
    description: str
    collector: Callable[..., Any] | str


@dataclass(frozen=True)
class Remedy:
    """A change to a network or its quantization that wins back accuracy lost in int8.

    Attributes:
      name, description: see `registry.Entry`.
      trials: a function that takes the best `remedies.Quantization` so far and a
        `remedies.Context`, and yields pairs of a trial's label and its `remedies.Quantization`; or
        its name as ``module:function``.
      default: whether it is tried if the user names no remedies.
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

CALIBRATIONS = (AUTO, *CALIBRATION_METHODS)
"""What a user can ask for; ``auto`` is the method that suits the network, see `ranges`."""

# Remedies are tried in this order, which is that of their cost on the device and in training.
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

OUTPUTS = ("logits", "softmax")  # the last layer of exported networks

# Mean and standard deviation of ImageNet's pixels / 255, by which torchvision and timm normalise.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Inputs of networks from other sources: (scale, offset) of scale * x + offset, where x is
# pixel / 128 - 1; one number for all channels, or one for each.
INPUTS: dict[str, tuple[float | tuple[float, ...], float | tuple[float, ...]]] = {
    "0..255": (128.0, 128.0),
    "0..1": (128 / 255, 128 / 255),
    "-1..1": (128 / 127.5, 128 / 127.5 - 1),
    "imagenet": (
        tuple(128 / 255 / deviation for deviation in _DEVIATION),
        tuple(
            (128 / 255 - mean) / deviation
            for mean, deviation in zip(_MEAN, _DEVIATION, strict=True)
        ),
    ),
    "elite": (1.0, 0.0),
}


def default_remedies() -> tuple[str, ...]:
    """Names of the remedies that are tried if the user names none."""
    return tuple(name for name, remedy in REMEDIES.items() if remedy.default)
