"""A microcontroller package: a network as a C++11 library for TensorFlow Lite Micro (TFLM).

``src/`` holds the model as an aligned array, a resolver that registers exactly its operators, its
constants, the steps before and after it, and ``Classify()``, which puts them together; for
networks that give each pixel a class ``Segment()``. Beside it lie what Arduino and PlatformIO want
to know of a library, ``labels.txt`` and a README. The arena size is measured by TFLM itself.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from string import Template

import numpy as np

from efficientnet_elite.errors import UserError
from efficientnet_elite.export import files, inspect
from efficientnet_elite.export.runtimes import tflm

from . import micro_answers as answers
from . import micro_sources as sources

_WIDTH = 320  # of the widest image, where the network's own are no wider

# Operators whose method of MicroMutableOpResolver is "Add" and their words, capitalised ...
_REGULAR = """
ABS ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEQUANTIZE DIV EXPAND_DIMS
FULLY_CONNECTED HARD_SWISH LEAKY_RELU LOGISTIC MAX_POOL_2D MAXIMUM MEAN MINIMUM MUL PACK PAD PRELU
QUANTIZE RELU RELU6 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR RSQRT SHAPE SLICE SOFTMAX SPLIT
SPLIT_V SQRT SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM TANH TRANSPOSE TRANSPOSE_CONV UNPACK
"""
# ... and the others. Checked against TFLM's header of August 2026.
METHODS = {
    **{
        name: "Add" + "".join(word if word == "2D" else word.title() for word in name.split("_"))
        for name in _REGULAR.split()
    },
    "BATCH_MATMUL": "AddBatchMatMul",
    "PADV2": "AddPadV2",
}


def write(
    model: bytes,
    *,
    name: str,
    labels: Sequence[str],
    out_dir: Path,
    crop_fraction: float = 1.0,
) -> int:
    """Writes the package of an int8 model; files of the same names are replaced.

    Args:
      model: content of a .tflite file, int8 from input to output, whose input is pixel - 128 and
        whose output are logits, of the image or of each of its pixels.
      name: of the network.
      labels: names of the classes, in the order of the logits.
      out_dir: gets ``src/`` and the rest.
      crop_fraction: share of an image's shorter side that the network was tested on.

    Returns:
      The size of its tensor arena in bytes.

    Raises:
      UserError: TFLM is not installed or cannot run the model, which may not be int8 throughout.
    """
    contents = inspect.read(model)
    masks = inspect.gives_masks(contents)
    inspect.check_pixel_classifier(contents, len(labels), per_pixel=masks)
    answer = answers.MASK if masks else answers.CLASS
    # Before the arena: it names the operator, TFLM only its number.
    registrations = [f"resolver.{_method(name)}() == kTfLiteOk" for name in contents.operators]
    arena = tflm.arena_bytes(model)
    (image,), (logits,) = contents.inputs, contents.outputs
    net = namespace(name)
    values = {
        "name": name,
        "net": net,
        "NET": net.upper(),
        "side": image.shape[1],
        "input_scale": _float(image.scales[0]),
        "input_zero_point": image.zero_points[0],
        "classes": len(labels),
        "output_scale": _float(logits.scales[0]),
        "output_zero_point": logits.zero_points[0],
        "crop_fraction": _float(crop_fraction),
        "arena": arena,
        "labels": "\n".join(f"    {c_string(label)}," for label in labels),
        "model_bytes": len(model),
        "sha256": hashlib.sha256(model).hexdigest(),
        "array": _array(model),
        "operator_count": len(registrations),
        "registrations": " &&\n         ".join(registrations),
        "operators": ", ".join(contents.operators),
        "width": max(_WIDTH, image.shape[1]),
        **{part: getattr(answer, part) for part in ("kind", "call", "parameter", "argument")},
    }
    for part in ("before", "promise", "after", "read", "usage"):
        values[part] = Template(getattr(answer, part)).substitute(values)
    texts = {
        f"src/{net}_config.h": sources.CONFIG,
        f"src/{net}_model.h": sources.MODEL_HEADER,
        f"src/{net}_model.cc": sources.MODEL_SOURCE,
        f"src/{net}_operators.h": sources.OPERATORS,
        f"src/{net}_image.h": sources.IMAGE,
        f"src/{net}.h": sources.HEADER,
        f"src/{net}.cc": sources.SOURCE,
        f"examples/{answer.example}/{answer.example}.ino": answer.sketch,
        "library.properties": sources.ARDUINO,
        "README.md": sources.README,
    }
    written = {path: Template(text).substitute(values) for path, text in texts.items()}
    written["labels.txt"] = "".join(f"{label}\n" for label in labels)
    written["library.json"] = json.dumps(_platformio(net, name, answer.kind), indent=2) + "\n"
    files.write({Path(out_dir, path): text.encode() for path, text in written.items()})
    return arena


def namespace(name: str) -> str:
    """A C++ namespace and file name for a network: ``net_`` and its letters and digits."""
    return "net_" + re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def c_string(text: str) -> str:
    """A C string literal of a text in UTF-8, itself in ASCII."""
    # Octal escapes end after three digits, hexadecimal ones do not; "?" may begin a trigraph.
    escaped = (
        chr(byte) if 32 <= byte < 127 and byte not in b'"\\?' else f"\\{byte:03o}"
        for byte in text.encode()
    )
    return '"' + "".join(escaped) + '"'


def _method(operator: str) -> str:
    if operator not in METHODS:
        raise UserError(
            f"the model has the operator {operator}, which is none of a microcontroller's "
            "network: build the network from other layers"
        )
    return METHODS[operator]


def _float(value: float) -> str:
    """A C++ float literal that is read back as the same float32."""
    text = f"{np.float32(value):.9g}"
    return (text if {".", "e"} & set(text) else f"{text}.0") + "f"


def _array(model: bytes) -> str:
    rows = (model[start : start + 16] for start in range(0, len(model), 16))
    return "\n".join("    " + " ".join(f"0x{byte:02x}," for byte in row) for row in rows)


def _platformio(net: str, name: str, kind: str) -> dict[str, object]:
    return {
        "name": net,
        "version": "1.0.0",
        "description": f"The {kind} {name} for TensorFlow Lite Micro",
        "frameworks": "*",
        "platforms": "*",
        "headers": f"{net}.h",
        "build": {"srcDir": "src", "includeDir": "src"},
    }
