"""Writes microcontroller packages: a network as a C++ library for TensorFlow Lite Micro (TFLM).

The folder ``src/`` of a package contains the model as an aligned array, a resolver of the model's
operators with some faster kernels (`micro_kernels`), constants, the steps before and after the
network, and the function ``Classify()`` that combines them (``Segment()`` for segmentation
networks). The files are made of the templates (``string.Template``) in ``micro_files/``, in whose
names NET stands for the package's namespace; what differs between classification and segmentation
is in `micro_tasks`. The C code is that of the C package, with the namespace before its names, so
that two packages can be linked. TFLM itself measures the size of the arena.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

import numpy as np

import efficientnet_elite
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import files, inspect
from efficientnet_elite.export.confidence import UNKNOWN
from efficientnet_elite.export.runtimes import tflm

from . import ethos_u, golden, micro_kernels, micro_npu, scratch
from . import labels as labels_file
from . import micro_tasks as tasks
from .c import graph as graphs
from .c.graph import Graph
from .c.sources import c_float
from .micro_operators import METHODS
from .names import c_string, identifier
from .targets import Source

FILES = Path(__file__).with_name("micro_files")
_KERNELS = Path(__file__).parent / "c/kernels"
# Shorter side in pixels of the largest image that a package accepts, unless the network's input is
# larger: that of QVGA.
_DEFAULT_MAX_IMAGE_SIDE = 240
_VERSION = "1.0.0"  # of a package as a library
# How images are stored that have the channels of the network.
_FORMATS = {
    3: {
        "format": "kRgb888",
        "format_meaning": "three bytes (RGB) per pixel",
        "other_formats": "kGrey, kRgb565",
    },
    1: {
        "format": "kGrey",
        "format_meaning": "one byte of grey per pixel",
        "other_formats": "kRgb888, kRgb565",
    },
}

GOLDEN = """
`golden/selftest.cpp` is a program that runs the network on the images of the header beside it,
compares every byte of the outputs and prints PASS or FAIL.
"""


@dataclass(frozen=True)
class Written:
    """A written package.

    Attributes:
      arena_bytes: size of the tensor arena.
      model_bytes: of the model that it holds.
      npu: Vela's estimates; None for a package without an accelerator.
    """

    arena_bytes: int
    model_bytes: int
    npu: ethos_u.Report | None = None


def write_micro_package(source: Source, images: golden.Golden | None = None) -> Written:
    """Writes the microcontroller package of a model that is int8 from input to output.

    Its input (1, height, width, 3 or 1) is pixel - 128. Its output holds logits, or probabilities
    of a softmax or of sigmoids: (1, classes), or (1, height, width, classes) for a segmentation
    network.

    Args:
      source: the model, and what is known of it. A package for an accelerator has no ``golden/``:
        whether an accelerator gives the same bytes was never tried.
      images: for the folder ``golden/``; None for no such folder.

    Raises:
      UserError: TFLM is not installed or cannot run the model, or the model is not int8 throughout
        or has another input or output; or Vela is not installed or cannot compile it.
    """
    model, name, labels, accuracy = source.content, source.name, source.labels, source.accuracy
    contents = inspect.read(model)
    masks = inspect.gives_masks(contents)
    inspect.check_pixel_classifier(contents, len(labels), per_pixel=masks, exact=False)
    task = tasks.SEGMENTATION if masks else tasks.CLASSIFICATION
    postprocessing = task.postprocessing
    if not masks and inspect.gives_probabilities(contents):
        is_calibrated = source.confidence.temperature != 1
        postprocessing = tasks.CALIBRATED if is_calibrated else tasks.PROBABILITIES
    # This comes before TFLM measures the arena, because its error names an operator that TFLM
    # lacks, whereas TFLM reports only the operator's number.
    methods = [_method(name) for name in contents.operators]
    graph = graphs.read(model)
    npu = None
    if source.accelerator:
        npu = micro_npu.compiled(model, graph, source.accelerator)
    if npu:
        model, operators, images = npu.content, npu.operators, None
        methods = [micro_npu.METHOD, *map(_method, operators)]
        arena, persistent = npu.arena_bytes, npu.persistent_bytes
        accuracy = "not measured on the accelerator."
    else:
        operators, persistent = contents.operators, tflm.allocation(model).tail
        arena = arena_bytes(model, graph)
    registrations = [f"resolver.{method}() == kTfLiteOk" for method in methods]
    (image,), (logits,) = contents.inputs, contents.outputs
    _, height, width, channels = image.shape
    max_side = max(_DEFAULT_MAX_IMAGE_SIDE, min(height, width))
    net = identifier(name)
    values: dict[str, object] = {
        "name": name,
        "net": net,
        "NET": net.upper(),
        "version": _VERSION,
        "height": height,
        "width": width,
        # Sketches for earlier packages name the side of a square.
        "side": "constexpr int kSide = kHeight;\n" if height == width else "",
        "channels": channels,
        **_FORMATS[channels],
        "input_scale": c_float(image.scales[0]),
        "input_zero_point": image.zero_points[0],
        "classes": len(labels),
        "output_elements": int(np.prod(logits.shape)),
        "output_scale": c_float(logits.scales[0]),
        "output_zero_point": logits.zero_points[0],
        "crop_fraction": c_float(source.crop_fraction),
        "arena": arena,
        "persistent": persistent,
        "labels": "\n".join(f"    {c_string(label)}," for label in labels),
        "unknown": c_string(UNKNOWN),
        "temperature": c_float(source.confidence.temperature),
        "threshold": c_float(source.confidence.threshold),
        "model_bytes": len(model),
        "sha256": hashlib.sha256(model).hexdigest(),
        "array": _array(model),
        "operator_count": len(registrations),
        "registrations": " &&\n      ".join(registrations),
        "operators": ", ".join([*operators, *(["the accelerator's"] if npu else [])]),
        "max_side": max_side,
        "image_bytes": image_bytes(max_side, height, width, channels),
        "golden_section": GOLDEN if images else "",
        "npu_section": "",
        "accuracy": accuracy or "not measured with TFLM's arithmetic.",
        **{
            part: getattr(task, part)
            for part in ("kind", "call", "parameter", "argument", "result_argument")
        },
    }
    # Layers that are left to the processor are few: TFLM's own kernels run them.
    values |= _exact_kernels(graph, {} if npu else operators, values)
    if npu:
        about = {**values, **micro_npu.section(npu)}
        values["npu_section"] = Template(micro_npu.SECTION).substitute(about)
    parts = (
        *("answers", "declarations", "call_comment", "read_result", "result_declaration"),
        "result_use",
    )
    values["postprocessing"] = Template(postprocessing).substitute(values)
    for part in parts:
        values[part] = Template(getattr(task, part)).substitute(values)
    texts = {
        str(path.relative_to(FILES)).replace("NET", net): path.read_text(encoding="utf-8")
        for path in sorted(FILES.rglob("*"))
        if path.is_file()
    }
    texts[f"examples/{task.example}/{task.example}.ino"] = task.sketch
    texts = {path: Template(text).substitute(values) for path, text in texts.items()}
    texts["library.json"] = json.dumps(_platformio_library(net, name, task), indent=2) + "\n"
    if images:
        texts[f"golden/{net}_golden.h"] = golden.header(images, name, net)
        texts["golden/selftest.cpp"] = golden.tflm_test(
            name, net, str(values["result_declaration"]), task.result_argument
        )
    texts |= {f"src/{path}": text for path, text in renamed_kernels(net).items()}
    contents_by_path = {Path(source.folder, path): text.encode() for path, text in texts.items()}
    contents_by_path[source.folder / labels_file.FILE_NAME] = labels_file.file_content(labels)
    if npu:  # of an earlier package without an accelerator
        for path in (f"golden/{net}_golden.h", "golden/selftest.cpp"):
            (source.folder / path).unlink(missing_ok=True)
    files.replace_all(contents_by_path)
    return Written(arena, len(model), npu.report if npu else None)


def arena_bytes(model: bytes, graph: Graph) -> int:
    """Size of the tensor arena in bytes that a package has, with memory for CMSIS-NN's kernels.

    Args:
      model: content of a .tflite file.
      graph: what it contains.

    Raises:
      UserError: TFLM is not installed or cannot run the model.
    """
    return tflm.arena_bytes(model) + scratch.cmsis_nn_bytes(graph)


def renamed_kernels(net: str) -> dict[str, str]:
    """The C files that a package contains, with a namespace before all names, by file name."""
    headers = ("nn_arithmetic.h", "nn_kernels.h", "nn_mve.h")
    names = (*headers, "nn_image.c", "nn_elementwise.c", "nn_pool.c")
    renamed = {}
    for name in names:
        text = (_KERNELS / name).read_text(encoding="utf-8")
        text = re.sub(r"\bNN_", f"{net.upper()}_NN_", text)
        renamed[f"{net}_{name}"] = re.sub(r"\bnn_", f"{net}_nn_", text)
    return renamed


def image_bytes(shorter: int, height: int, width: int, channels: int, rows: int = 1) -> int:
    """Bytes of memory for resizing an image, as NN_IMAGE_BYTES in the C code counts them.

    Args:
      shorter: length in pixels of the image's shorter side.
      height, width: of the network's input in pixels.
      channels: of the network's input.
      rows: number of rows of the input whose sums are kept at the same time.
    """
    across = max(shorter, -(-shorter * width // height))
    span = max(across, width)
    return 4 * (channels * rows * (across + 4 * span // width + 4) + 4 * span + 3 * width)


def _method(operator: str) -> str:
    if operator not in METHODS:
        raise UserError(
            f"the model has the operator {operator}, which TensorFlow Lite Micro or this program "
            "does not support: build the network from other layers"
        )
    return METHODS[operator]


def _exact_kernels(
    graph: Graph, operators: Mapping[str, int], values: Mapping[str, object]
) -> dict[str, object]:
    """The values of the templates that the package's own kernels decide."""
    kernels = micro_kernels.of_network(operators)
    headers = ["kernel_util.h", *(kernel.header for kernel in kernels)] if kernels else []
    net = values["net"]
    kinds = ", ".join(kernel.kind for kernel in kernels) or "none"
    sources = "".join(kernel.source for kernel in kernels)
    tables = micro_kernels.logistic_tables(graph)
    return {
        "exact_count": len(kernels),
        "exact_kinds": kinds,
        "exact_sentence": f"Those of {kinds} have kernels of this package." if kernels else "",
        "exact_includes": f'\n#include "{net}_nn_kernels.h"\n'
        + "".join(f'#include "tensorflow/lite/micro/kernels/{header}"\n' for header in headers),
        "exact_kernels": f"namespace {{\n{Template(sources).substitute(values, tables=tables)}\n"
        "}  // namespace\n"
        if kernels
        else "",
        "exact_registrations": "".join(
            f"  exact_[{index}] = *Base::FindOp(tflite::BuiltinOperator_{kernel.kind});\n"
            f"  {kernel.function.lower()} = exact_[{index}].invoke;\n"
            f"  exact_[{index}].invoke = {kernel.function};\n"
            for index, kernel in enumerate(kernels)
        ),
    }


def _array(model: bytes) -> str:
    """Returns the elements of a C++ array with the model's bytes, 16 bytes per line."""
    rows = (model[start : start + 16] for start in range(0, len(model), 16))
    return "\n".join("    " + " ".join(f"0x{byte:02x}," for byte in row) for row in rows)


def _platformio_library(net: str, name: str, task: tasks.TaskSources) -> dict[str, object]:
    """Returns the content of PlatformIO's ``library.json``."""
    return {
        "name": net,
        "version": _VERSION,
        "description": f"The {task.kind} {name} for TensorFlow Lite Micro",
        "keywords": ["tflite", "tinyml", "image", "neural network"],
        "license": "Apache-2.0",
        "authors": [{"name": f"efficientnet-elite {efficientnet_elite.__version__}"}],
        "frameworks": "*",
        "platforms": "*",
        "headers": f"{net}.h",
        "examples": [f"examples/{task.example}/*.ino"],
        "dependencies": {"spaziochirale/Chirale_TensorFLowLite": "^2.0.0"},
        "build": {"srcDir": "src", "includeDir": "src", "flags": ["-std=gnu++17"]},
    }
