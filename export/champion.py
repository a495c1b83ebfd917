"""A champion's artefacts: converted, verified with the test part, and only then written.

In ``out_dir/NAME/`` lie ``NAME.float32.tflite``, ``NAME.int8.tflite``, ``labels.txt`` (a line a
class, in the order of the logits) and ``NAME.json``, the sidecar with all that is known of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

import efficientnet_elite
from efficientnet_elite.errors import UserError

from . import convert, inspect
from .runtime import Runner

if TYPE_CHECKING:
    import keras

# The float file must agree with Keras to this share of the range of the logits.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Exported:
    """A verified export.

    Attributes:
      name: the champion's.
      float_path, int8_path, sidecar_path, labels_path: the files.
      keras_accuracy, float_accuracy, int8_accuracy: shares of the test images that the Keras
        model, the float file and the int8 file get right.
      agreement: share of the test images for which int8 and float choose the same class.
      test_images: how many images these shares are of.
      max_difference: greatest difference of a logit between the float file and Keras.
      logit_range: Keras' greatest logit minus its least, over all test images.
      float_bytes, int8_bytes: file sizes.
      convert_seconds, verify_seconds: where the time went.
    """

    name: str
    float_path: Path
    int8_path: Path
    sidecar_path: Path
    labels_path: Path
    keras_accuracy: float
    float_accuracy: float
    int8_accuracy: float
    agreement: float
    test_images: int
    max_difference: float
    logit_range: float
    float_bytes: int
    int8_bytes: int
    convert_seconds: float
    verify_seconds: float

    @property
    def seconds(self) -> float:
        """Of the whole export, but for writing the files."""
        return self.convert_seconds + self.verify_seconds


def export_model(
    model: keras.Model,
    *,
    name: str,
    out_dir: Path,
    labels: Sequence[str],
    calibration: np.ndarray,
    test_batches: Iterable[tuple[np.ndarray, np.ndarray]],
    details: dict[str, Any],
) -> Exported:
    """Exports a model as float32 and int8 TFLite and proves both on the test part.

    Nothing is written unless every check holds: the float file agrees with Keras (`TOLERANCE`),
    the int8 file is int8 throughout, takes pixel - 128, has no degenerate ranges, and loads under
    XNNPACK. How much accuracy int8 costs is reported, not judged.

    Args:
      model: float32, images in, logits out, best built for any batch size (the converted files
        have a static batch of one in any case).
      name: of the files; letters, digits and ``._@-``.
      out_dir: gets a folder `name`.
      labels: names of the classes, in the order of the logits.
      calibration: training images (N, height, width, channels), float32, pixel / 128 - 1.
      test_batches: pairs of images like those and their classes (N,), as integers.
      details: anything JSON can express (spec, training, data); goes into the sidecar unchanged.

    Raises:
      UserError: a check failed; the message names the champion and the fault.
    """
    if not re.fullmatch(r"[\w@-][\w.@-]*", name):
        raise ValueError(f"{name!r} cannot name files")
    if len(labels) != model.output_shape[-1]:
        raise ValueError(f"{len(labels)} labels for {model.output_shape[-1]} logits")
    start = time.monotonic()
    try:
        float_model, int8_model = convert.to_tflite_pair(model, calibration)
        int8_contents = inspect.read(int8_model)
        inspect.check_full_int8(int8_contents)
        _check_input(int8_contents.inputs)
        runners = Runner(float_model), Runner(int8_model)
        converted = time.monotonic()
        results = _verify(model, *runners, tqdm(test_batches, f"verify {name}", disable=None))
    except UserError as error:
        raise UserError(f"export of {name} failed: {error}") from error
    verified = time.monotonic()

    folder = Path(out_dir) / name
    exported = Exported(
        name=name,
        float_path=folder / f"{name}.float32.tflite",
        int8_path=folder / f"{name}.int8.tflite",
        sidecar_path=folder / f"{name}.json",
        labels_path=folder / "labels.txt",
        **results,
        float_bytes=len(float_model),
        int8_bytes=len(int8_model),
        convert_seconds=converted - start,
        verify_seconds=verified - converted,
    )
    sidecar = {
        "name": name,
        "labels": list(labels),
        **_interface(inspect.read(float_model), int8_contents),
        "verification": {**results, "tolerance": TOLERANCE},
        "files": {
            "float32": _file(exported.float_path, float_model),
            "int8": _file(exported.int8_path, int8_model),
        },
        "versions": _versions(),
        "details": details,
    }
    _write(
        {
            exported.float_path: float_model,
            exported.int8_path: int8_model,
            exported.labels_path: "".join(f"{label}\n" for label in labels).encode(),
            # Last: its hashes vouch for the others.
            exported.sidecar_path: json.dumps(sidecar, indent=2).encode() + b"\n",
        }
    )
    return exported


def _check_input(inputs: Sequence[inspect.Tensor]) -> None:
    """The int8 input must be pixel - 128, exactly."""
    (image,) = inputs
    if (image.scales, image.zero_points) != ((1 / 128,), (0,)):
        raise UserError(
            f"the int8 input has scale {image.scales} and zero point {image.zero_points} instead "
            "of 1/128 and 0: the model's first operator must take the image as it is"
        )


def _verify(
    model: keras.Model,
    float_runner: Runner,
    int8_runner: Runner,
    test_batches: Iterable[tuple[np.ndarray, np.ndarray]],
) -> dict[str, Any]:
    """Runs the model's three forms on the test part; UserError where float and Keras differ."""
    import keras

    outputs: list[tuple[np.ndarray, ...]] = []
    for images, classes in test_batches:
        images = np.asarray(images, np.float32)
        # Called, not predicted: tracing a function would cost more than the few batches.
        reference = keras.ops.convert_to_numpy(model(images, training=False))
        outputs.append(
            (reference, float_runner.run(images), int8_runner.run(images), np.asarray(classes))
        )
    if not outputs:
        raise UserError("there are no test images to verify it with")
    in_keras, in_float, in_int8, classes = map(np.concatenate, zip(*outputs, strict=True))
    max_difference = float(np.abs(in_float - in_keras).max())
    logit_range = float(np.ptp(in_keras))
    if not max_difference <= TOLERANCE * logit_range:
        raise UserError(
            f"the float32 file's logits differ from Keras' by up to {max_difference:.3g}, more "
            f"than {TOLERANCE:g} of their range {logit_range:.3g} (a network that has barely been "
            "trained can do that: give it more epochs)"
        )
    choices = [logits.argmax(-1) for logits in (in_keras, in_float, in_int8)]
    accuracies = [float((choice == classes).mean()) for choice in choices]
    return {
        "keras_accuracy": accuracies[0],
        "float_accuracy": accuracies[1],
        "int8_accuracy": accuracies[2],
        "agreement": float((choices[1] == choices[2]).mean()),
        "test_images": len(classes),
        "max_difference": max_difference,
        "logit_range": logit_range,
    }


def _interface(float_contents: inspect.Contents, int8_contents: inspect.Contents) -> dict[str, Any]:
    """What a program that uses the files must know of their inputs and outputs."""
    (image,), (logits,) = int8_contents.inputs, int8_contents.outputs
    return {
        "input": {
            "shape": image.shape,
            "layout": "NHWC, RGB",
            "float32": "pixel / 128 - 1",
            "int8": "pixel - 128",
            "int8_scale": image.scales[0],
            "int8_zero_point": image.zero_points[0],
        },
        "output": {
            "shape": logits.shape,
            "meaning": "logits; softmax of the dequantized values gives probabilities",
            "int8_scale": logits.scales[0],
            "int8_zero_point": logits.zero_points[0],
        },
        "operators": {"float32": float_contents.operators, "int8": int8_contents.operators},
    }


def _file(path: Path, content: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    return {"file": path.name, "bytes": len(content), "sha256": digest}


def _versions() -> dict[str, str]:
    import keras
    import tensorflow as tf

    return {
        "efficientnet-elite": efficientnet_elite.__version__,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "ai-edge-litert": version("ai-edge-litert"),
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def _write(files: dict[Path, bytes]) -> None:
    """Writes all contents beside their places before the first takes its place."""
    parts = {path: path.with_name(f".{path.name}.part") for path in files}
    try:
        for path, content in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            parts[path].write_bytes(content)
        for path, part in parts.items():
            part.replace(path)
    finally:
        for part in parts.values():
            with contextlib.suppress(FileNotFoundError):
                part.unlink()
