"""Runs TFLite models with LiteRT; by default with its default delegate, XNNPACK."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike, fspath
from typing import Any

import numpy as np

from efficientnet_elite.errors import UserError

from . import isolated

REFERENCE_KERNELS = "reference kernels"
# LiteRT's kernels by name, and what `OpResolverType` calls them.
KERNELS = {
    "XNNPACK": "BUILTIN",
    "builtin kernels": "BUILTIN_WITHOUT_DEFAULT_DELEGATES",
    REFERENCE_KERNELS: "BUILTIN_REF",
}


@dataclass(frozen=True)
class Interface:
    """An input or output tensor: real value = scale * (integer - zero point).

    Attributes:
      shape: its dimensions.
      dtype: of its elements.
      scale: 0 where it is not quantized.
      zero_point: see above.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    scale: float
    zero_point: int


def quantized(images: np.ndarray, tensor: Interface) -> np.ndarray:
    """Images as the input tensor wants them, rounded to its steps."""
    if not tensor.scale:
        return np.asarray(images, tensor.dtype)
    limits = np.iinfo(tensor.dtype)
    steps = np.rint(np.asarray(images, np.float32) / np.float32(tensor.scale)) + tensor.zero_point
    return np.clip(steps, limits.min, limits.max).astype(tensor.dtype)


def dequantized(values: np.ndarray, tensor: Interface) -> np.ndarray:
    """What the integers of an output tensor stand for, float32."""
    values = values.astype(np.float32)
    return (values - tensor.zero_point) * np.float32(tensor.scale) if tensor.scale else values


class Runner:
    """A loaded model with one image input and one output of logits.

    Images go through one by one: the files have a static batch of one, and for networks of this
    size one thread and one image at a time is as fast as anything else.

    Attributes:
      input, output: the model's interface.
    """

    def __init__(
        self, model: bytes | str | PathLike[str], threads: int = 1, kernels: str = "XNNPACK"
    ):
        """Loads a model.

        Args:
          model: the file's content or its path.
          threads: threads an inference may use.
          kernels: one of `KERNELS`.

        Raises:
          UserError: LiteRT refuses the model.
        """
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        source = (
            {"model_content": model} if isinstance(model, bytes) else {"model_path": fspath(model)}
        )
        resolver = getattr(OpResolverType, KERNELS[kernels])
        try:
            self._interpreter = Interpreter(
                **source,
                num_threads=threads,
                experimental_op_resolver_type=resolver,
                # Without it ADD works in place, even where others still read what it overwrites
                # through a RESHAPE (seen in LiteRT 2.3): no reference to judge others by.
                experimental_preserve_all_tensors=kernels == REFERENCE_KERNELS,
            )
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"LiteRT with {kernels} cannot load the model: {reason}") from error
        inputs, outputs = (
            self._interpreter.get_input_details(),
            self._interpreter.get_output_details(),
        )
        if (len(inputs), len(outputs)) != (1, 1):
            raise UserError(
                f"the model has {len(inputs)} inputs and {len(outputs)} outputs: a classifier has "
                "one image and one vector of logits"
            )
        self._indices = inputs[0]["index"], outputs[0]["index"]
        self.input, self.output = interface(inputs[0]), interface(outputs[0])

    @property
    def side(self) -> int:
        """Height of the input in pixels."""
        return self.input.shape[1]

    def infer(self, image: np.ndarray) -> np.ndarray:
        """The output tensor (classes,) for an image that is quantized already."""
        source, target = self._indices
        self._interpreter.set_tensor(source, image[None])
        self._interpreter.invoke()
        return self._interpreter.get_tensor(target)[0]

    def run(self, images: np.ndarray) -> np.ndarray:
        """Logits of images, quantized and dequantized as the model says.

        Args:
          images: (N, height, width, channels) float32, pixel / 128 - 1.

        Returns:
          (N, classes) float32; (N, height, width, classes) of segmentation networks.
        """
        outputs = np.empty((len(images), *self.output.shape[1:]), self.output.dtype)
        for index, image in enumerate(quantized(images, self.input)):
            outputs[index] = self.infer(image)
        return dequantized(outputs, self.output)


def run(model: bytes | str | PathLike[str], images: np.ndarray, *, threads: int = 1) -> np.ndarray:
    """Logits (N, classes) of images (N, height, width, channels); see `Runner`."""
    return Runner(model, threads).run(images)


def run_isolated(model: bytes, pixels: np.ndarray) -> np.ndarray:
    """As `run`, of a file that is not to be trusted: by a process of its own.

    Args:
      model: the file's content.
      pixels: (N, height, width, channels) uint8.

    Raises:
      UserError: LiteRT refuses the model, or it crashes or takes too long.
    """
    arguments = {"model": np.frombuffer(model, np.uint8), "pixels": pixels}
    return isolated.call(_run, arguments)["logits"]


def _run(arguments: isolated.Arrays) -> isolated.Arrays:
    runner = Runner(arguments["model"].tobytes())
    pixels = arguments["pixels"]
    if pixels.shape[1:] != runner.input.shape[1:]:
        raise UserError(f"the model takes images of shape {runner.input.shape[1:]}")
    images = pixels.astype(np.float32) / np.float32(128) - 1
    return {"logits": runner.run(images)}


def interface(detail: dict[str, Any]) -> Interface:
    """What LiteRT's interpreter tells of an input or output."""
    scale, zero_point = detail["quantization"]
    shape = tuple(int(size) for size in detail["shape"])
    return Interface(shape, np.dtype(detail["dtype"]), float(scale), int(zero_point))
