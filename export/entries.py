"""What a sidecar says of the files beside it: inputs, outputs, operators, hashes."""

from __future__ import annotations

import hashlib
from typing import Any

from . import inspect
from .formats import Format, file_name

PROBABILITIES = "probabilities"  # what a file gives that ends in softmax


def interface(float_contents: inspect.Contents, int8_contents: inspect.Contents) -> dict[str, Any]:
    """The part of the sidecar that describes inputs, outputs and operators of the files."""
    (image,), (logits,) = int8_contents.inputs, int8_contents.outputs
    return {
        "input": {
            "shape": image.shape,
            "layout": layout(image),
            "float32": "pixel / 128 - 1",
            "int8": "pixel - 128",
            "int8_scale": image.scales[0],
            "int8_zero_point": image.zero_points[0],
        },
        "output": {
            "shape": logits.shape,
            "meaning": output_meaning(float_contents),
            "int8_scale": logits.scales[0],
            "int8_zero_point": logits.zero_points[0],
        },
        "operators": {"float32": float_contents.operators, "int8": int8_contents.operators},
    }


def layout(image: inspect.Tensor) -> str:
    """The order of the axes of an input, and what its channels are."""
    return f"NHWC, {'grey' if image.shape[-1] == 1 else 'RGB'}"


def output_meaning(contents: inspect.Contents) -> str:
    """Describes the numbers that a file outputs, for the sidecar."""
    if inspect.ends_in_softmax(contents):
        return PROBABILITIES
    if inspect.last_operator(contents) == "LOGISTIC":
        return "sigmoid of each class's logit: probabilities that do not add up to 1"
    return "logits; softmax of the dequantized values gives probabilities"


def file_entry(name: str, form: Format, content: bytes) -> dict[str, Any]:
    """A file's entry in the sidecar."""
    contents = inspect.read(content)
    return {
        "file": file_name(name, form),
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "input": _elements(contents.inputs[0]),
        "output": _elements(contents.outputs[0]),
    }


def _elements(tensor: inspect.Tensor) -> dict[str, Any]:
    """Type of a tensor's elements, and scale and zero point: scale * (element - zero_point)."""
    if not tensor.scales:
        return {"type": tensor.type.lower()}
    scale, zero_point = tensor.scales[0], tensor.zero_points[0]
    return {"type": tensor.type.lower(), "scale": scale, "zero_point": zero_point}
