"""Runtimes beside LiteRT's interpreter and TFLM, with the methods of `runtime.Runner`.

The child processes of `verify` import this module: it must not import TensorFlow.
"""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any

import numpy as np

from efficientnet_elite.errors import UserError

from . import android, inspect, runtime


def interfaces(contents: inspect.Contents) -> tuple[list[runtime.Interface], ...]:
    """A file's inputs and its outputs as the runners describe theirs."""
    return tuple(
        [
            runtime.Interface(
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
        self.output = runtime.Interface(logits.shape, np.dtype(np.float32), 0.0, 0)
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
