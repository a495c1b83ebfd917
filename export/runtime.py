"""Runs TFLite models with LiteRT and its default delegate, XNNPACK."""

from __future__ import annotations

from os import PathLike, fspath

import numpy as np

from efficientnet_elite.errors import UserError


class Runner:
    """A loaded model with one image input and one output of logits.

    Images go through one by one: the files have a static batch of one, and for networks of this
    size one thread and one image at a time is as fast as anything else.
    """

    def __init__(self, model: bytes | str | PathLike[str], threads: int = 1):
        """Loads a model.

        Args:
          model: the file's content or its path.
          threads: threads an inference may use.

        Raises:
          UserError: LiteRT or XNNPACK refuses the model.
        """
        from ai_edge_litert.interpreter import Interpreter

        source = (
            {"model_content": model} if isinstance(model, bytes) else {"model_path": fspath(model)}
        )
        try:
            self._interpreter = Interpreter(**source, num_threads=threads)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"LiteRT with XNNPACK cannot load the model: {reason}") from error
        (self._input,) = self._interpreter.get_input_details()
        (self._output,) = self._interpreter.get_output_details()

    @property
    def side(self) -> int:
        """Height of the input in pixels."""
        return int(self._input["shape"][1])

    def run(self, images: np.ndarray) -> np.ndarray:
        """Logits of images, quantized and dequantized as the model says.

        Args:
          images: (N, height, width, channels) float32, pixel / 128 - 1.

        Returns:
          (N, classes) float32.
        """
        logits = np.empty((len(images), self._output["shape"][-1]), np.float32)
        for index, image in enumerate(_quantized(images, self._input)):
            self._interpreter.set_tensor(self._input["index"], image[None])
            self._interpreter.invoke()
            logits[index] = self._interpreter.get_tensor(self._output["index"])[0]
        scale, zero_point = self._output["quantization"]
        return (logits - zero_point) * np.float32(scale) if scale else logits


def run(model: bytes | str | PathLike[str], images: np.ndarray, *, threads: int = 1) -> np.ndarray:
    """Logits (N, classes) of images (N, height, width, channels); see `Runner`."""
    return Runner(model, threads).run(images)


def _quantized(images: np.ndarray, detail: dict) -> np.ndarray:
    scale, zero_point = detail["quantization"]
    if not scale:
        return np.asarray(images, detail["dtype"])
    limits = np.iinfo(detail["dtype"])
    steps = np.rint(np.asarray(images, np.float32) / np.float32(scale)) + zero_point
    return np.clip(steps, limits.min, limits.max).astype(detail["dtype"])
