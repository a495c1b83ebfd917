"""Exports `.keras` files and SavedModels from elsewhere, each in a child process.

Only arrays and text pass between the two processes, so that a harmful or damaged file cannot affect
the parent process.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from efficientnet_elite import machine
from efficientnet_elite.config import AUTO
from efficientnet_elite.errors import UserError

from . import keras_file, saved_model
from .formats import FLOAT32, Format
from .patches import request as patch_request
from .runtimes import isolated
from .runtimes.isolated import Arrays, captured

if TYPE_CHECKING:
    import keras

_BATCH = 64
_NOISE_IMAGES = 8


@dataclass(frozen=True)
class Request:
    """How a file is to be exported.

    Attributes:
      name: name of the exported files.
      out_dir: the folder `name` is created in it.
      labels: names of the classes, in the order of the outputs.
      takes: the input that the network expects, a name of `choices.INPUTS`; None if the network
        contains its normalisation.
      output: the last layer, one of `choices.OUTPUTS`.
      formats: further formats besides float32 (and int8, if there are images).
      method: calibration method, one of `choices.CALIBRATIONS`.
      max_accuracy_drop: see `champion.export_model`.
      remedies: see `remedies.RemedyPlan`.
      details: copied into the sidecar.
      patches, max_arena_kb, arena: see `patches.request.request`.
    """

    name: str
    out_dir: str
    labels: tuple[str, ...]
    takes: str | None = None
    output: str = "logits"
    formats: tuple[Format, ...] = ()
    method: str = AUTO
    max_accuracy_drop: float | None = None
    remedies: tuple[str, ...] = ()
    details: dict[str, Any] | None = None
    patches: str = patch_request.NONE
    max_arena_kb: float | None = None
    arena: str = patch_request.TFLM


@dataclass(frozen=True)
class Images:
    """Images for an export: pixels, uint8 (N, side, side, channels), and classes (N,).

    Attributes:
      calibration: the representative data set; ``qat`` also fine-tunes on it.
      validation, validation_classes: images and classes by which a remedy is chosen.
      test, test_classes: images and classes on which the reported accuracy is measured.
    """

    calibration: np.ndarray
    validation: np.ndarray
    validation_classes: np.ndarray
    test: np.ndarray
    test_classes: np.ndarray


def export_file(path: Path, request: Request, images: Images | None) -> dict[str, Any]:
    """Exports a `.keras` file.

    Args:
      path: path of the file.
      request: how to export it.
      images: None allows float formats only; float32 is then compared with Keras on noise.

    Returns:
      The content of the sidecar.

    Raises:
      UserError: the file is unsafe or damaged, cannot be converted, or fails a check.
    """
    keras_file.check(path)
    if images is None and any(form.weights in ("int8", "int16x8") for form in request.formats):
        raise UserError(
            "int8 needs images for calibration: give --dataset, or choose --formats=float32"
        )
    arguments = {"path": str(path.absolute()), "request": json.dumps(asdict(request))}
    arrays = {} if images is None else asdict(images)
    try:
        # There is no time limit because fine-tuning can take hours on large images.
        memory = isolated.MEMORY_BYTES + sum(array.nbytes for array in arrays.values())
        answer = isolated.call(
            _export, {**arguments, **arrays}, timeout=None, memory=memory, quiet=False
        )
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return json.loads(str(answer["sidecar"]))


def _export(arguments: Arrays) -> Arrays:
    """Exports in the child process; see `export_file`."""
    import os

    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    with captured():  # TensorFlow's messages about this machine
        import keras  # noqa: F401
    from . import champion
    from .int8 import absorb, choices, convert, fronts, remedies

    fields = json.loads(str(arguments["request"]))
    fields["formats"] = tuple(Format(**form) for form in fields["formats"])
    request, path = Request(**fields), Path(str(arguments["path"]))
    loaded = keras_file.load(path)
    if loaded.output_shape[-1:] == (1,) and len(request.labels) == 2:
        loaded = convert.with_two_logits(loaded)
    _check_classifier(loaded, request)
    convert.check_float32(loaded)
    original = convert.with_output(loaded, request.output)
    takes = request.takes
    if takes is None:
        if not fronts.normalises(original):
            raise UserError(
                "the network does not begin with a Rescaling or Normalization layer, but with "
                f"{fronts.first_layer(original)}: say with --input which values it expects "
                f"({', '.join(choices.INPUTS)})"
            )
        takes = "0..255"
    pixels = arguments.get("calibration", _noise(original))
    absorbed = absorb.absorb(original, takes)
    difference = _difference(original, absorbed, pixels, takes)
    details = {
        **(request.details or {}),
        "keras_file": {"name": path.name, "sha256": _sha256(path)},
        "normalisation": {"input": takes, "absorbed": absorbed.how, "max_difference": difference},
    }
    if "calibration" not in arguments:
        return {
            "sidecar": np.array(_write_floats(absorbed.model, request, details, _scaled(pixels)))
        }
    plan = remedies.RemedyPlan(
        request.remedies,
        lambda: _batches(arguments["validation"], arguments["validation_classes"]),
        lambda: _training(pixels),
    )
    exported = champion.export_model(
        absorbed.model,
        name=request.name,
        out_dir=Path(request.out_dir),
        labels=request.labels,
        calibration_images=_scaled(pixels),
        test_batches=_batches(arguments["test"], arguments["test_classes"]),
        details=details,
        max_accuracy_drop=request.max_accuracy_drop,
        formats=request.formats,
        plan=plan,
        method=request.method,
        patches=patch_request.request(request.patches, request.max_arena_kb, request.arena),
    )
    return {"sidecar": np.array(exported.sidecar_path.read_text(encoding="utf-8"))}


def _sha256(path: Path) -> str:
    """Of a file, or of a SavedModel folder."""
    if path.is_dir():
        return saved_model.digest(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _check_classifier(model: keras.Model, request: Request) -> None:
    if (len(model.inputs), len(model.outputs)) != (1, 1) or len(model.output_shape) != 2:
        raise UserError(
            f"the model has {len(model.inputs)} inputs, {len(model.outputs)} outputs and the "
            f"output shape {model.output_shape}: expected one image as input and one vector of "
            "logits or probabilities as output"
        )
    if model.output_shape[-1] != len(request.labels):
        raise UserError(
            f"the model has {model.output_shape[-1]} classes, but there are {len(request.labels)} "
            "labels: give one label for each class"
        )


def _difference(original: keras.Model, absorbed: Any, pixels: np.ndarray, takes: str) -> float:
    """Greatest change of the outputs by absorbing; UserError if it is too large."""
    from . import champion
    from .int8 import fronts

    takes_of = fronts.input_of(original, takes)
    differences, ranges = [0.0], [0.0]
    for start in range(0, len(pixels), _BATCH):
        q = _scaled(pixels[start : start + _BATCH])
        expected = np.asarray(original(takes_of.values(q), training=False))
        actual = np.asarray(absorbed.model(q, training=False))
        differences.append(float(np.abs(actual - expected).max()))
        ranges.append(float(np.ptp(expected)))
    if not max(differences) <= champion.TOLERANCE * max(ranges):
        raise UserError(
            f"absorbing the network's normalisation ({absorbed.how}) changes its outputs by up to "
            f"{max(differences):.3g}, which is too much for their range of {max(ranges):.3g}"
        )
    return max(differences)


def _write_floats(
    model: keras.Model, request: Request, details: dict[str, Any], images: np.ndarray
) -> str:
    """Exports in float formats only, after comparing float32 with Keras; returns the sidecar."""
    from . import champion, entries, inspect
    from .int8 import convert
    from .runtimes import runtime

    forms = (FLOAT32, *request.formats)
    contents = dict(zip(forms, convert.to_tflite_formats(model, None, forms), strict=True))
    expected = np.asarray(model(images, training=False))
    difference = float(np.abs(runtime.run(contents[FLOAT32], images) - expected).max())
    if not difference <= champion.TOLERANCE * float(np.ptp(expected)):
        raise UserError(
            f"the outputs of the float32 file differ from Keras by up to {difference:.3g}"
        )
    interface = inspect.read(contents[FLOAT32])
    sidecar = {
        "name": request.name,
        "labels": list(request.labels),
        "input": {
            "shape": interface.inputs[0].shape,
            "layout": entries.layout(interface.inputs[0]),
            "float32": "pixel / 128 - 1",
        },
        "output": {
            "shape": interface.outputs[0].shape,
            "meaning": entries.output_meaning(interface),
        },
        "operators": {"float32": interface.operators},
        "verification": {"noise_images": len(images), "max_difference": difference},
        "files": {
            form.name: entries.file_entry(request.name, form, contents[form]) for form in forms
        },
        "versions": machine.versions(),
        "details": details,
    }
    champion.write_export(Path(request.out_dir, request.name), contents, sidecar)
    return json.dumps(sidecar)


def _noise(model: keras.Model) -> np.ndarray:
    shape = (_NOISE_IMAGES, *model.input_shape[1:])
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def _scaled(pixels: np.ndarray) -> np.ndarray:
    return (pixels / np.float32(128) - 1).astype(np.float32)


def _batches(pixels: np.ndarray, classes: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, len(pixels), _BATCH):
        yield _scaled(pixels[start : start + _BATCH]), classes[start : start + _BATCH]


def _training(pixels: np.ndarray) -> tuple[Iterator[np.ndarray], int]:
    """Repeats the representative data set endlessly in new orders; see `RemedyPlan.training`."""
    random = np.random.default_rng(0)

    def batches() -> Iterator[np.ndarray]:
        while True:
            order = random.permutation(len(pixels))
            for start in range(0, len(pixels), _BATCH):
                yield _scaled(pixels[order[start : start + _BATCH]])

    return batches(), -(-len(pixels) // _BATCH)
