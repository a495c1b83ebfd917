"""Why a runtime cannot run a `.tflite` file or cannot be compared on it, from the file's contents.

Each function returns the reason in a few words, or None if there is none.
"""

from __future__ import annotations

from efficientnet_elite.export import inspect


def unfit_for_tflm(contents: inspect.Contents) -> str | None:
    """TensorFlow Lite Micro has neither hybrid operators nor float16."""
    if inspect.has_hybrid_operators(contents):
        return "it cannot quantize activations during inference: export with --formats=int8"
    if any(tensor.type == "FLOAT16" for tensor in contents.tensors):
        return "it does not support float16: export with --formats=float32"
    return None


def unfit_for_mediapipe(contents: inspect.Contents) -> str | None:
    """MediaPipe's tasks take images of three channels."""
    grey = contents.inputs[0].shape[-1:] == (1,)
    return "it takes RGB images, but this model grey ones" if grey else None


def unfit_for_reference(contents: inspect.Contents) -> str | None:
    """LiteRT's reference kernel of SUM reads int8 as unsigned; TFLM's own kernel is correct."""
    sum_types = {
        contents.tensors[index].type
        for step in contents.steps
        if step.operator == "SUM"
        for index in step.outputs
    }
    if "INT8" in sum_types:
        return "its int8 SUM is wrong (github.com/google-ai-edge/LiteRT/issues/4079)"
    return None
