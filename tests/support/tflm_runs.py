"""Runs models in TFLM, in arenas of a chosen size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from efficientnet_elite.export.runtimes import isolated, runtime, tflm
from efficientnet_elite.export.runtimes.isolated import Arrays


def run(model: bytes, images: np.ndarray, arena: int) -> np.ndarray:
    """Computes logits in TFLM, in a process of its own.

    Args:
      model: content of a .tflite file.
      images: (N, height, width, channels) float32, pixel / 128 - 1.
      arena: size of the arena in bytes.

    Returns:
      (N, classes) float32, or (N, height, width, classes) of segmentation networks.

    Raises:
      UserError: TFLM cannot load the model.
    """
    arguments = {"model": np.frombuffer(model, np.uint8), "images": images, "arena": arena}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]), prepend=":")
        return isolated.call(_infer, arguments)["logits"]


def _infer(arguments: Arrays) -> Arrays:
    """What the child process does."""
    runner = tflm.Runner(arguments["model"].tobytes(), int(arguments["arena"]))
    images = runtime.quantize_images(arguments["images"], runner.input)
    outputs = np.stack([runner.infer(image) for image in images])
    return {"logits": runtime.dequantize_outputs(outputs, runner.output)}
