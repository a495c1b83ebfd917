"""Quantizes networks whose activation ranges are known, also with other ranges or layers in float.

`calibrate` converts a network to float32 and finds the ranges of its activations on the
representative data set; `quantize` makes int8 or int16x8 files of the result. As the slow steps are
done only once, each further file costs milliseconds. Without changes it is the file that
`convert.to_tflite` makes.

`int8_form` is for training: it runs a model as it would be exported.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from efficientnet_elite.export import inspect
from efficientnet_elite.export.formats import INT8, Format
from efficientnet_elite.export.inspect import DEGENERATE_SCALE
from efficientnet_elite.export.runtimes.isolated import captured
from efficientnet_elite.export.runtimes.runtime import Runner

from . import convert, post_training
from .calibration import METHODS, activation_ranges
from .post_training import Range

if TYPE_CHECKING:
    import keras

    from efficientnet_elite.training.trainer import Infer

# Replaces a range that was empty on the representative data set. The tensor was zero on all images
# and stays zero. Any range would do in which the int32 biases of the operators behind it fit.
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
    """Quantizes a calibrated network.

    Args:
      calibrated: the network.
      ranges: other ranges than the extremes, by the tensor's name; those that are not named
        stay.
      keep_float: names of the output tensors of operators that stay in float32, between a
        DEQUANTIZE and a QUANTIZE; for int8 only.
      form: int8 with any type of input and output, or int16x8.

    Returns:
      The content of the `.tflite` file.

    Raises:
      UserError: the quantizer cannot quantize the model.
    """
    all_ranges = {**calibrated.ranges, **(ranges or {})}
    content = post_training.with_ranges(calibrated.content, all_ranges)
    return post_training.quantize_file(content, form, keep_float)


def revived(ranges: Mapping[str, Range]) -> dict[str, Range]:
    """Widens the ranges that are empty or so narrow that their scales would be degenerate.

    Returns:
      `DEAD_RANGE` by the tensor's name, for these ranges only.
    """
    return {name: DEAD_RANGE for name, ends in ranges.items() if _is_degenerate(ends)}


def _is_degenerate(ends: Range) -> bool:
    """Whether a range gives a scale below `inspect.DEGENERATE_SCALE`."""
    low, high = min(ends[0], 0.0), max(ends[1], 0.0)
    return (high - low) / 255 < DEGENERATE_SCALE


def int8_form(model: keras.Model, calibration: NDArray[np.float32]) -> Infer:
    """Converts a model to int8 and returns a function that runs the file.

    It is a `training.trainer.Quantize`. The file is the one that would be exported; LiteRT runs it
    on one thread.

    Args:
      model: float32, images in, logits out.
      calibration: the representative data set (N, height, width, 3), float32, pixel / 128 - 1.

    Returns:
      A function from images like those to logits, (N, classes) float32, or (N, height, width,
      classes) of segmentation networks.

    Raises:
      UserError: the model cannot be converted, or its int8 file has a fault that
        `inspect.check_pixel_classifier` finds.
    """
    content = convert.to_tflite(model, calibration=calibration)
    *outer, classes = model.output_shape
    inspect.check_pixel_classifier(inspect.read(content), classes, per_pixel=len(outer) > 1)
    with captured():  # LiteRT prints a line on loading, which would disturb a progress bar
        return Runner(content).run
