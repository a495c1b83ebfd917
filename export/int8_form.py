"""A model's int8 form as a function, to be judged without files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from . import convert, inspect
from .capture import captured
from .runtime import Runner

if TYPE_CHECKING:
    import keras

    from efficientnet_elite.training import Infer


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
