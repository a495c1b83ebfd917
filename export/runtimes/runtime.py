"""LiteRT and MediaPipe in this process: each runner loads a `.tflite` file and runs images.

- `Runner`: LiteRT's interpreter, with XNNPACK (its default delegate) or one of its own kernels.
- `CompiledRunner`: LiteRT's CompiledModel, which replaces the interpreter in newer releases.
- `MediaPipeRunner`: MediaPipe Tasks, as apps use it.

All have `input`, `output` (`Interface`) and `infer`, which takes one image in the input's type.
`quantize_images` and `dequantize_outputs` convert between real values and these types.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass
from importlib import import_module
from os import PathLike, fspath
from typing import Any

import numpy as np

from efficientnet_elite.errors import UserError
from efficientnet_elite.export import inspect, metadata
from efficientnet_elite.export.packages import android_metadata
from efficientnet_elite.export.pixel_rule import ELITE, PixelRule
from efficientnet_elite.export.runtimes.isolated import captured

REFERENCE_KERNELS = "reference kernels"
# By the name of a set of LiteRT's kernels, the member of `OpResolverType` that chooses it.
KERNELS = {
    "XNNPACK": "BUILTIN",
    "builtin kernels": "BUILTIN_WITHOUT_DEFAULT_DELEGATES",
    REFERENCE_KERNELS: "BUILTIN_REF",
}


@dataclass(frozen=True)
class Interface:
    """An input or output tensor; if quantized, real value = scale * (integer - zero point).

    Attributes:
      shape: the dimensions, the batch of one included.
      dtype: type of the elements.
      scale: 0 if the tensor is not quantized.
      zero_point: the integer that stands for zero.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    scale: float
    zero_point: int


def quantize_images(images: np.ndarray, tensor: Interface) -> np.ndarray:
    """Converts images to the type of an input tensor.

    Args:
      images: (N, height, width, channels) float32, what the network takes for the pixels:
        pixel / 128 - 1 for networks of this project, otherwise see `pixel_rule`.
      tensor: the input tensor.

    Returns:
      (N, height, width, channels), rounded to the tensor's steps and clipped to its range.
    """
    if np.issubdtype(tensor.dtype, np.floating):
        return np.asarray(images, tensor.dtype)
    limits = np.iinfo(tensor.dtype)
    scale = np.float32(tensor.scale or 1)  # integers that are not quantized count for one
    steps = np.rint(np.asarray(images, np.float32) / scale) + tensor.zero_point
    return np.clip(steps, limits.min, limits.max).astype(tensor.dtype)


def dequantize_outputs(values: np.ndarray, tensor: Interface) -> np.ndarray:
    """Converts values of an output tensor to the real values, float32, that they stand for."""
    values = values.astype(np.float32)
    return (values - tensor.zero_point) * np.float32(tensor.scale) if tensor.scale else values


class Runner:
    """A model loaded by LiteRT's interpreter, with one image as input and logits as output.

    Images run one by one: the files have a static batch of one, and for networks of this size more
    threads or larger batches would not be faster.

    Attributes:
      input, output: the model's input and output tensor.
    """

    def __init__(
        self, model: bytes | str | PathLike[str], threads: int = 1, kernels: str = "XNNPACK"
    ):
        """Loads a model.

        Args:
          model: the file's content or its path.
          threads: number of threads that an inference may use.
          kernels: one of `KERNELS`.

        Raises:
          UserError: LiteRT cannot load the model, or it has several inputs or outputs.
        """
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        source = (
            {"model_content": model} if isinstance(model, bytes) else {"model_path": fspath(model)}
        )
        resolver = getattr(OpResolverType, KERNELS[kernels])
        # XNNPACK says that it was loaded, in the middle of what a command prints.
        quietly = captured() if kernels == "XNNPACK" else nullcontext()
        try:
            with quietly:
                self._interpreter = Interpreter(
                    **source,
                    num_threads=threads,
                    experimental_op_resolver_type=resolver,
                    # Otherwise ADD may overwrite its input although another operator still reads it
                    # through a RESHAPE (seen in LiteRT 2.3), and the reference would be wrong.
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

    def infer(self, image: np.ndarray) -> np.ndarray:
        """Runs one image.

        Args:
          image: (height, width, channels) in the type of `input`.

        Returns:
          The output in the type of `output`: (classes,), or (height, width, classes) of
          segmentation networks.
        """
        input_index, output_index = self._indices
        self._interpreter.set_tensor(input_index, image[None])
        self._interpreter.invoke()
        return self._interpreter.get_tensor(output_index)[0]

    def run(self, images: np.ndarray) -> np.ndarray:
        """Computes logits, converting images and logits to and from the model's types.

        Args:
          images: (N, height, width, channels) float32, pixel / 128 - 1.

        Returns:
          (N, classes) float32, or (N, height, width, classes) of segmentation networks.
        """
        outputs = np.empty((len(images), *self.output.shape[1:]), self.output.dtype)
        for index, image in enumerate(quantize_images(images, self.input)):
            outputs[index] = self.infer(image)
        return dequantize_outputs(outputs, self.output)


def run(model: bytes | str | PathLike[str], images: np.ndarray, *, threads: int = 1) -> np.ndarray:
    """Loads a model with `Runner` and computes the logits of images, see `Runner.run`."""
    return Runner(model, threads).run(images)


def interface(detail: dict[str, Any]) -> Interface:
    """An input or output tensor from the details that LiteRT's interpreter gives."""
    scale, zero_point = detail["quantization"]
    shape = tuple(int(size) for size in detail["shape"])
    return Interface(shape, np.dtype(detail["dtype"]), float(scale), int(zero_point))


def interfaces(contents: inspect.Contents) -> tuple[list[Interface], ...]:
    """The input tensors and the output tensors of a parsed file."""
    return tuple(
        [
            Interface(
                tensor.shape,
                np.dtype(tensor.type.lower()),
                tensor.scales[0] if tensor.scales else 0.0,
                tensor.zero_points[0] if tensor.zero_points else 0,
            )
            for tensor in tensors
        ]
        for tensors in (contents.inputs, contents.outputs)
    )


class CompiledRunner:
    """A model loaded by LiteRT's CompiledModel, on the CPU.

    Attributes:
      input, output: the model's input and output tensor.
    """

    def __init__(self, model: bytes):
        """Loads a model from a file's content; UserError if LiteRT cannot."""
        from ai_edge_litert.compiled_model import CompiledModel
        from ai_edge_litert.hardware_accelerator import HardwareAccelerator

        contents = inspect.read(model)
        (self.input,), (self.output,) = interfaces(contents)
        try:
            self._model = CompiledModel.from_buffer(model, HardwareAccelerator.CPU)
            (self._input_buffer,) = self._model.create_input_buffers(0)
            (self._output_buffer,) = self._model.create_output_buffers(0)
        except (ValueError, RuntimeError) as error:
            raise UserError(f"CompiledModel cannot load the model: {error}") from error

    def infer(self, image: np.ndarray) -> np.ndarray:
        """Runs one image, see `Runner.infer`."""
        self._input_buffer.write(image[None])
        self._model.run_by_index(0, [self._input_buffer], [self._output_buffer])
        shape = self.output.shape[1:]
        return self._output_buffer.read(math.prod(shape), self.output.dtype.type).reshape(shape)


class MediaPipeRunner:
    """MediaPipe Tasks: the ImageClassifier, or the ImageSegmenter for segmentation networks.

    Attributes:
      input: the model's input tensor.
      output: logits in float32: MediaPipe dequantizes them itself.
    """

    def __init__(self, model: bytes):
        """Loads a model, which takes pixel / 128 - 1 unless its metadata say something else.

        Raises:
          UserError: MediaPipe cannot load the model.
        """
        self._mediapipe = import_module("mediapipe")
        tasks = import_module("mediapipe.tasks.python")
        contents = inspect.read(model)
        (self.input,), (logits,) = interfaces(contents)
        self.output = Interface(logits.shape, np.dtype(np.float32), 0.0, 0)
        rule = ELITE
        if (normalisation := metadata.normalisation(model)) is not None:
            rule = PixelRule.normalising(*normalisation)
        model = described(model, rule)
        self._mean, self._deviation = np.float32(rule.mean), np.float32(rule.deviation)
        base = tasks.BaseOptions(model_asset_buffer=model)
        self._masks = inspect.gives_masks(contents)
        try:
            self._task = (_segmenter if self._masks else _classifier)(tasks, base)
        except (ValueError, RuntimeError) as error:
            raise UserError(f"MediaPipe cannot load the model: {error}") from error

    def infer(self, image: np.ndarray) -> np.ndarray:
        """Runs one image, see `Runner.infer`."""
        if image.dtype != np.uint8:
            # MediaPipe takes pixels; the metadata tells it how to normalise them.
            image = np.rint(image * self._deviation + self._mean).clip(0, 255).astype(np.uint8)
        picture = self._mediapipe.Image(self._mediapipe.ImageFormat.SRGB, image)
        if self._masks:
            planes = self._task.segment(picture).confidence_masks
            return np.stack([np.squeeze(plane.numpy_view()) for plane in planes], axis=-1)
        logits = np.empty(self.output.shape[-1], np.float32)
        for category in self._task.classify(picture).classifications[0].categories:
            logits[category.index] = category.score
        return logits


def described(model: bytes, rule: PixelRule) -> bytes:
    """A model with the metadata that MediaPipe needs, with numbers as the names of the classes.

    Raises:
      UserError: MediaPipe could not use the model, see `android_metadata.with_metadata`.
    """
    labels = [str(index) for index in range(inspect.read(model).outputs[0].shape[-1])]
    return android_metadata.with_metadata(model, name="model", labels=labels, rule=rule)


def _classifier(tasks: Any, base: Any) -> Any:
    options = tasks.vision.ImageClassifierOptions(base, max_results=-1)
    return tasks.vision.ImageClassifier.create_from_options(options)


def _segmenter(tasks: Any, base: Any) -> Any:
    # The metadata names no activation, so what MediaPipe calls confidences are the logits.
    options = tasks.vision.ImageSegmenterOptions(base, output_confidence_masks=True)
    return tasks.vision.ImageSegmenter.create_from_options(options)
