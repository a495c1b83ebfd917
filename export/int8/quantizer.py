"""Quantizes calibrated networks; ranges can be replaced and layers can be left in float.

`calibrate` converts a network to float32 and finds the ranges of its activations on the
representative data set; `quantize` makes int8 or int16x8 files of the result. The slow steps are
done once, so that each further file takes only milliseconds. Without other ranges the file is the
one that `convert.to_tflite` makes.

Training uses `int8_form` to run a model in the form in which it would be exported.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from efficientnet_elite.config import AUTO
from efficientnet_elite.export import inspect
from efficientnet_elite.export.formats import INT8, Format
from efficientnet_elite.export.inspect import DEGENERATE_SCALE
from efficientnet_elite.export.runtimes.runtime import Runner

from . import convert, post_training
from . import ranges as ranges_lib
from .post_training import Range
from .ranges import CalibratedNetwork

if TYPE_CHECKING:
    import keras

    from efficientnet_elite.training.trainer import Infer

# Replaces a range that was empty on the representative data set. The tensor was zero for all images
# and stays zero. Other ranges would do as well, as long as the int32 biases of the operators that
# read the tensor do not overflow.
WIDENED_RANGE: Range = (0.0, 1.0)


def calibrate(
    model: keras.Model, images: np.ndarray, method: str = AUTO, *, others: bool = True
) -> CalibratedNetwork:
    """Converts a model to float32 and finds the ranges of its activations.

    Args:
      model: a model that `convert.to_tflite` accepts.
      images: (N, height, width, channels), float32 within `post_training.INPUT_RANGE`.
      method, others: see `ranges.calibrate`.

    Raises:
      UserError: the converter cannot convert the model.
    """
    convert.check_images(model, images)
    content = convert.to_tflite(model, calibration=None)
    return ranges_lib.calibrate(content, images, method, others=others)


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
      ranges: tensor's name to a range that replaces the calibrated one.
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
    return post_training.quantize_file(content, form, keep_float, calibrated.observed)


def widen_empty_ranges(ranges: Mapping[str, Range]) -> dict[str, Range]:
    """Replaces ranges that are empty, or so narrow that their scales would be degenerate.

    Returns:
      Tensor's name to `WIDENED_RANGE`, for the replaced ranges only.
    """
    return {name: WIDENED_RANGE for name, ends in ranges.items() if _is_degenerate(ends)}


def _is_degenerate(ends: Range) -> bool:
    """Whether the int8 scale of a range is below `inspect.DEGENERATE_SCALE`."""
    low, high = min(ends[0], 0.0), max(ends[1], 0.0)
    return (high - low) / 255 < DEGENERATE_SCALE


def int8_form(model: keras.Model, calibration: NDArray[np.float32]) -> Infer:
    """Converts a model to int8 and returns a function that runs the file.

    This function is a `training.trainer.Quantize`. The file is the one that would be exported;
    LiteRT runs it on one thread.

    Args:
      model: float32, images in, logits out.
      calibration: the representative data set (N, height, width, 3), float32, pixel / 128 - 1.

    Returns:
      A function from images of the same kind to logits: float32 (N, classes), or (N, height, width,
      classes) for segmentation networks.

    Raises:
      UserError: the model cannot be converted, or its int8 file has a fault that
        `inspect.check_pixel_classifier` finds.
    """
    content = convert.to_tflite(model, calibration=calibration)
    *outer, classes = model.output_shape
    inspect.check_pixel_classifier(inspect.read(content), classes, per_pixel=len(outer) > 1)
    return Runner(content).run
