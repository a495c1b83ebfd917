"""A network between float and int8: its float file and the ranges of its activations.

Ranges can be changed and single operators stay in float; a file then costs milliseconds rather than
a conversion. With nothing changed it is the one that `convert` makes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from efficientnet_elite.export import inspect
from efficientnet_elite.export.formats import INT8, Format
from efficientnet_elite.export.inspect import DEGENERATE_SCALE

from . import convert, post_training
from .calibration import METHODS, activation_ranges
from .post_training import Range

if TYPE_CHECKING:
    import keras
from typing import TYPE_CHECKING

from numpy.typing import NDArray

from efficientnet_elite.export.runtimes.isolated import captured
from efficientnet_elite.export.runtimes.runtime import Runner

if TYPE_CHECKING:
    import keras

    from efficientnet_elite.training.trainer import Infer


def int8_form(model: keras.Model, calibration: NDArray[np.float32]) -> Infer:
    """A `training.Quantize`: the model as it would be exported, run by LiteRT on one thread.

    Args:
      model: float32, images in, logits out.
      calibration: training images (N, height, width, 3), float32, pixel / 128 - 1.

    Returns:
      A function from images like those to logits (N, classes), or (N, height, width, classes) of
      segmentation networks, float32.

    Raises:
      UserError: there is no sound int8 file of the model, see `inspect.check_pixel_classifier`.
    """
    content = convert.to_tflite(model, calibration=calibration)
    *outer, classes = model.output_shape
    inspect.check_pixel_classifier(inspect.read(content), classes, per_pixel=len(outer) > 1)
    with captured():  # LiteRT greets whoever loads a file, in the middle of a progress bar
        return Runner(content).run


# What a range that was empty for all calibration images becomes. Whatever the tensor holds is then
# rounded to zero, which it was; any width does that lets its consumers' int32 biases fit.
DEAD_RANGE: Range = (0.0, 1.0)


@dataclass(frozen=True)
class CalibratedNetwork:
    """A float network and the ranges of its activations on the representative data set.

    Attributes:
      content: of its float32 file.
      ranges_by_method: method of `calibration.METHODS` to tensor's name to range, of the input and
        of each activation.
      operators: the tensor that each operator computes, by name, in the order of execution.
    """

    content: bytes
    ranges_by_method: Mapping[str, Mapping[str, Range]]
    operators: tuple[str, ...]

    @property
    def ranges(self) -> Mapping[str, Range]:
        """The least and the greatest value of each tensor."""
        return self.ranges_by_method["minmax"]


def calibrate(
    model: keras.Model, images: np.ndarray, methods: Sequence[str] = tuple(METHODS)
) -> CalibratedNetwork:
    """Converts a model to float32 and finds the ranges of its activations.

    Args:
      model: as `convert.to_tflite` takes it.
      images: (N, height, width, channels), float32 within `post_training.INPUT_RANGE`.
      methods: ways to choose ranges, of `calibration.METHODS`; ``minmax`` is always among them.

    Raises:
      UserError: the converter cannot convert the model.
    """
    convert.check_images(model, images)
    return calibrate_file(convert.to_tflite(model, calibration=None), images, methods)


def calibrate_file(
    content: bytes, images: np.ndarray, methods: Sequence[str] = tuple(METHODS)
) -> CalibratedNetwork:
    """As `calibrate`, of a float32 file's content."""
    contents = inspect.read(content)
    operators = (contents.tensors[i].name for step in contents.steps for i in step.outputs)
    every = tuple(dict.fromkeys(("minmax", *methods)))
    return CalibratedNetwork(content, activation_ranges(content, images, every), tuple(operators))


def quantize(
    calibrated: CalibratedNetwork,
    *,
    ranges: Mapping[str, Range] | None = None,
    keep_float: Collection[str] = (),
    form: Format = INT8,
) -> bytes:
    """The int8 or int16x8 file that ranges make of a network.

    Args:
      calibrated: the network.
      ranges: other ranges than the extremes, by the tensor's name; those that are not named
        stay.
      keep_float: in int8: names of the tensors whose operators stay in float, between a DEQUANTIZE
        and a QUANTIZE each.
      form: int8 with any interface, or int16x8.

    Returns:
      The file's content.

    Raises:
      UserError: the quantizer cannot quantize the model.
    """
    every = {**calibrated.ranges, **(ranges or {})}
    content = post_training.with_ranges(calibrated.content, every)
    return post_training.quantized(content, form, keep_float)


def revived(ranges: Mapping[str, Range]) -> dict[str, Range]:
    """Those of the ranges that are so narrow that their scales would be degenerate, widened."""
    return {name: DEAD_RANGE for name, both in ranges.items() if _is_dead(both)}


def _is_dead(both: Range) -> bool:
    low, high = min(both[0], 0.0), max(both[1], 0.0)
    return (high - low) / 255 < DEGENERATE_SCALE
