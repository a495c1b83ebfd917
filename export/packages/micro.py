"""Writes microcontroller packages: a network as a C++11 library for TensorFlow Lite Micro (TFLM).

The folder ``src/`` of a package contains the model as an aligned array, a resolver that registers
the model's operators, constants, the steps before and after the network, and the function
``Classify()`` that combines them (``Segment()`` for segmentation networks). The package also
contains the library descriptions for Arduino and PlatformIO, an Arduino sketch, ``labels.txt`` and
a README. TFLM itself measures the size of the arena.
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

from . import labels as labels_file
from . import micro_sources as sources
from . import micro_tasks as tasks

# Width in pixels of the widest image that a package accepts, unless the network's input is wider.
_DEFAULT_MAX_IMAGE_WIDTH = 320

# Operators that MicroMutableOpResolver registers with a method of the regular name: "Add" and the
# capitalised words of the operator's name, such as AddMaxPool2D. Checked against TFLM's header of
# August 2026.
_REGULAR = """
ABS ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEQUANTIZE DIV EXPAND_DIMS
FULLY_CONNECTED HARD_SWISH LEAKY_RELU LOGISTIC MAX_POOL_2D MAXIMUM MEAN MINIMUM MUL PACK PAD PRELU
QUANTIZE RELU RELU6 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR RSQRT SHAPE SLICE SOFTMAX SPLIT
SPLIT_V SQRT SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM TANH TRANSPOSE TRANSPOSE_CONV UNPACK
"""
# Operator to the method that registers it.
METHODS = {
    **{
        name: "Add" + "".join(word if word == "2D" else word.title() for word in name.split("_"))
        for name in _REGULAR.split()
    },
    "BATCH_MATMUL": "AddBatchMatMul",
    "PADV2": "AddPadV2",
}


def write_micro_package(
    model: bytes,
    *,
    name: str,
    labels: Sequence[str],
    out_dir: Path,
    crop_fraction: float = 1.0,
) -> int:
    """Writes the microcontroller package of an int8 model.

    Args:
      model: content of a .tflite file that is int8 from input to output. Its input
        (1, side, side, 3) is pixel - 128. Its output holds logits: (1, classes), or
        (1, side, side, classes) for a segmentation network.
      name: name of the network.
      labels: names of the classes, in the order of the logits.
      out_dir: folder of the package. Existing files of the same names are replaced.
      crop_fraction: side of the centre crop that the network was tested on, as a fraction (0..1)
        of the image's shorter side. The package crops images to it.

    Returns:
      Size of the tensor arena in bytes.

    Raises:
      UserError: TFLM is not installed or cannot run the model, or the model is not int8 throughout
        or has another input or output.
    """
    contents = inspect.read(model)
    masks = inspect.gives_masks(contents)
    inspect.check_pixel_classifier(contents, len(labels), per_pixel=masks)
    task = tasks.SEGMENTATION if masks else tasks.CLASSIFICATION
    # This comes before TFLM measures the arena, because its error names an operator that TFLM
    # lacks, whereas TFLM reports only the operator's number.
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
        "width": max(_DEFAULT_MAX_IMAGE_WIDTH, image.shape[1]),
        **{part: getattr(task, part) for part in ("kind", "call", "parameter", "argument")},
    }
    for part in ("declarations", "call_comment", "postprocessing", "read_result", "usage"):
        values[part] = Template(getattr(task, part)).substitute(values)
    texts = {
        f"src/{net}_config.h": sources.CONFIG,
        f"src/{net}_model.h": sources.MODEL_HEADER,
        f"src/{net}_model.cc": sources.MODEL_SOURCE,
        f"src/{net}_operators.h": sources.OPERATORS,
        f"src/{net}_image.h": sources.IMAGE,
        f"src/{net}.h": sources.HEADER,
        f"src/{net}.cc": sources.SOURCE,
        f"examples/{task.example}/{task.example}.ino": task.sketch,
        "library.properties": sources.ARDUINO,
        "README.md": sources.README,
    }
    texts = {path: Template(text).substitute(values) for path, text in texts.items()}
    texts["library.json"] = json.dumps(_platformio_library(net, name, task.kind), indent=2) + "\n"
    contents_by_path = {Path(out_dir, path): text.encode() for path, text in texts.items()}
    contents_by_path[out_dir / labels_file.FILE_NAME] = labels_file.file_content(labels)
    files.replace_all(contents_by_path)
    return arena


def namespace(name: str) -> str:
    """Returns a C++ namespace for a network's name: ``net_``, then its letters and digits.

    Other characters become underscores, such as in ``net_elite9_relu6``. The package's file names
    begin with the namespace as well.
    """
    return "net_" + re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def c_string(text: str) -> str:
    """Returns a C string literal, in ASCII, for the UTF-8 encoding of a text."""
    # The escapes are octal because these end after three digits, which hexadecimal ones do not.
    # A question mark is escaped because two of them could begin a trigraph.
    escaped = (
        chr(byte) if 32 <= byte < 127 and byte not in b'"\\?' else f"\\{byte:03o}"
        for byte in text.encode()
    )
    return '"' + "".join(escaped) + '"'


def _method(operator: str) -> str:
    if operator not in METHODS:
        raise UserError(
            f"the model has the operator {operator}, which TensorFlow Lite Micro or this program "
            "does not support: build the network from other layers"
        )
    return METHODS[operator]


def _float(value: float) -> str:
    """Returns a C++ float literal that compilers read as the same float32."""
    text = f"{np.float32(value):.9g}"
    return (text if {".", "e"} & set(text) else f"{text}.0") + "f"


def _array(model: bytes) -> str:
    """Returns the elements of a C++ array with the model's bytes, 16 bytes per line."""
    rows = (model[start : start + 16] for start in range(0, len(model), 16))
    return "\n".join("    " + " ".join(f"0x{byte:02x}," for byte in row) for row in rows)


def _platformio_library(net: str, name: str, kind: str) -> dict[str, object]:
    """Returns the content of PlatformIO's ``library.json``."""
    return {
        "name": net,
        "version": "1.0.0",
        "description": f"The {kind} {name} for TensorFlow Lite Micro",
        "frameworks": "*",
        "platforms": "*",
        "headers": f"{net}.h",
        "build": {"srcDir": "src", "includeDir": "src"},
    }
