"""Runs TFLite models with LiteRT; by default with its default delegate, XNNPACK."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib import import_module
from os import PathLike, fspath
from typing import Any

import numpy as np

from efficientnet_elite.errors import UserError
from efficientnet_elite.export import inspect
from efficientnet_elite.export.packages import android

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


def interfaces(contents: inspect.Contents) -> tuple[list[Interface], ...]:
    """A file's inputs and its outputs as the runners describe theirs."""
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
    """LiteRT's CompiledModel on the CPU."""

    def __init__(self, model: bytes):
        """Loads a model; UserError where LiteRT refuses it."""
        from ai_edge_litert.compiled_model import CompiledModel
        from ai_edge_litert.hardware_accelerator import HardwareAccelerator

        contents = inspect.read(model)
        (self.input,), (self.output,) = interfaces(contents)
        try:
            self._model = CompiledModel.from_buffer(model, HardwareAccelerator.CPU)
            (self._source,) = self._model.create_input_buffers(0)
            (self._target,) = self._model.create_output_buffers(0)
        except (ValueError, RuntimeError) as error:
            raise UserError(f"CompiledModel cannot load the model: {error}") from error

    def infer(self, image: np.ndarray) -> np.ndarray:
        """As `runtime.Runner.infer`."""
        self._source.write(image[None])
        self._model.run_by_index(0, [self._source], [self._target])
        shape = self.output.shape[1:]
        return self._target.read(math.prod(shape), self.output.dtype.type).reshape(shape)


class MediaPipeRunner:
    """MediaPipe Tasks' ImageClassifier, or its ImageSegmenter for networks that give masks."""

    def __init__(self, model: bytes):
        """Loads a model, to which metadata is added; UserError where MediaPipe refuses it."""
        self._mediapipe = import_module("mediapipe")
        tasks = import_module("mediapipe.tasks.python")
        contents = inspect.read(model)
        (self.input,), (logits,) = interfaces(contents)
        # It dequantizes by itself.
        self.output = Interface(logits.shape, np.dtype(np.float32), 0.0, 0)
        labels = [str(index) for index in range(logits.shape[-1])]
        content = android.with_metadata(model, name="model", labels=labels)
        base = tasks.BaseOptions(model_asset_buffer=content)
        self._masks = inspect.gives_masks(contents)
        try:
            self._task = (_segmenter if self._masks else _classifier)(tasks, base)
        except (ValueError, RuntimeError) as error:
            raise UserError(f"MediaPipe cannot load the model: {error}") from error

    def infer(self, image: np.ndarray) -> np.ndarray:
        """As `runtime.Runner.infer`."""
        if image.dtype != np.uint8:
            image = np.rint((image + 1) * 128).astype(np.uint8)  # it normalises by the metadata
        picture = self._mediapipe.Image(self._mediapipe.ImageFormat.SRGB, image)
        if self._masks:
            planes = self._task.segment(picture).confidence_masks
            return np.stack([np.squeeze(plane.numpy_view()) for plane in planes], axis=-1)
        logits = np.empty(self.output.shape[-1], np.float32)
        for category in self._task.classify(picture).classifications[0].categories:
            logits[category.index] = category.score
        return logits


def _classifier(tasks: Any, base: Any) -> Any:
    options = tasks.vision.ImageClassifierOptions(base, max_results=-1)
    return tasks.vision.ImageClassifier.create_from_options(options)


def _segmenter(tasks: Any, base: Any) -> Any:
    # Without an activation in the metadata its "confidences" are the logits.
    options = tasks.vision.ImageSegmenterOptions(base, output_confidence_masks=True)
    return tasks.vision.ImageSegmenter.create_from_options(options)
