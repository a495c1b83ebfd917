"""Exports one network: converts it, verifies the files on the test part, and only then writes them.

``out_dir/NAME/`` gets ``NAME.float32.tflite``, ``NAME.int8.tflite``, ``labels.txt`` (a line for
each class, in the order of the logits), the sidecar ``NAME.json`` and, for networks that were
trained here, ``NAME.keras`` and, of classifiers, ``predictions.npz``.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from efficientnet_elite import machine
from efficientnet_elite.config import AUTO
from efficientnet_elite.errors import UserError
from efficientnet_elite.training.scores import class_iou, confusion_matrix, score_predictions

from . import confidence, entries, files, inspect, layers, predictions
from .formats import FLOAT32, INT8, Format, all_formats, file_name
from .int8 import convert, ladder, quantizer, ranges, remedies
from .keras_file import KerasFile
from .packages import labels as labels_file
from .patches import patching
from .patches.request import Request as PatchRequest
from .runtimes.runtime import REFERENCE_KERNELS, Runner

if TYPE_CHECKING:
    import keras

# The float32 file may differ from Keras by this share of the range of the logits.
TOLERANCE = 1e-4
# How many images of the representative data set the errors of single layers are measured on.
LAYER_IMAGES = 16
# Test images that are also run with reference kernels, which take many times as long.
REFERENCE_IMAGES = 50


@dataclass(frozen=True)
class Exported:
    """A verified export.

    Attributes:
      name: name of the network.
      float_path, int8_path, sidecar_path, labels_path: the files.
      score: what the accuracies mean: ``top-1``, or ``mIoU`` for segmentation networks.
      keras_accuracy, float_accuracy, int8_accuracy: top-1 accuracy of the Keras model, the float32
        file and the int8 file on the test images, from 0 to 1; mIoU for segmentation networks.
      agreement: share of the test images (or of their pixels) for which the int8 and the float32
        file choose the same class.
      test_images: number of test images.
      max_difference: greatest difference of a logit between the float32 file and Keras.
      logit_range: greatest minus least logit of the Keras model, over all test images.
      float_bytes, int8_bytes: file sizes.
      convert_seconds, verify_seconds: time that conversion and verification took.
      remedy: label of the trial that kept the accuracy drop within its limit; None if plain int8
        did, or if there was no limit.
      int8_class_iou: for segmentation networks: intersection over union of each class with the int8
        file, in the order of the labels; None for a class in no true or predicted mask.
    """

    name: str
    float_path: Path
    int8_path: Path
    sidecar_path: Path
    labels_path: Path
    score: str
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
    remedy: str | None = None
    int8_class_iou: tuple[float | None, ...] | None = None

    @property
    def seconds(self) -> float:
        """Seconds that the whole export took, except for writing the files."""
        return self.convert_seconds + self.verify_seconds


def export_model(
    model: keras.Model,
    *,
    name: str,
    out_dir: Path,
    labels: Sequence[str],
    calibration_images: np.ndarray,
    test_batches: Iterable[tuple[np.ndarray, np.ndarray]],
    details: dict[str, Any],
    max_accuracy_drop: float | None = None,
    formats: Sequence[Format] = (),
    plan: remedies.RemedyPlan | None = None,
    method: str = AUTO,
    keras_file: KerasFile | None = None,
    predicted: predictions.Images | None = None,
    wanted_precision: float | None = None,
    patches: PatchRequest | None = None,
) -> Exported:
    """Exports a model as float32 and int8 TFLite files and verifies both on the test part.

    Nothing is written unless every check holds: the float file agrees with Keras (`TOLERANCE`),
    the int8 file is int8 throughout, takes pixel - 128, has no degenerate ranges, and loads under
    XNNPACK. The accuracy drop of int8 is always reported; it fails the export only if it exceeds
    `max_accuracy_drop`.

    Args:
      model: float32 model from images to logits. It is verified faster if its batch size is not
        fixed; the files have a batch size of one in any case.
      name: name of the files: letters, digits and ``._@-``.
      out_dir: the folder `name` is created in it.
      labels: names of the classes, in the order of the logits.
      calibration_images: the representative data set, training images (N, height, width, channels),
        float32, pixel / 128 - 1.
      test_batches: pairs of images in the same form and their classes (N,), integers, or their
        masks (N, height, width).
      details: anything that JSON can express (spec, training, data); copied into the sidecar.
      max_accuracy_drop: by how many percentage points the int8 accuracy on the test images may be
        below that of Keras; None for no limit.
      formats: further formats besides float32 and int8; the sidecar gets their accuracy too.
      plan: remedies to try if the int8 accuracy on the validation images drops by more than
        `max_accuracy_drop`; the sidecar lists the trials. The result is still checked on the test
        part.
      method: calibration method, one of `choices.CALIBRATIONS`.
      keras_file: the network as a file for Keras, which is written as well.
      predicted: images of a classifier of which the predictions are stored; the sidecar then says
        how sure its answers are. Its test part is that of `test_batches`.
      wanted_precision: share of right answers among those that are not taken for unknown, see
        `confidence.entry`.
      patches: how the first layers of the int8 file run patch by patch; None for whole maps.

    Raises:
      UserError: a check failed; the message names the network and what is wrong.
      ValueError: `name` cannot name files, or the number of labels is not that of the logits.
    """
    if not re.fullmatch(r"[\w@-][\w.@-]*", name):
        raise ValueError(f"{name!r} cannot name files")
    if len(labels) != model.output_shape[-1]:
        raise ValueError(f"{len(labels)} labels for {model.output_shape[-1]} logits")
    start = time.monotonic()
    try:
        formats = (FLOAT32, INT8, *formats)
        # Without remedies nothing asks for the ranges of other methods.
        others = max_accuracy_drop is not None and plan is not None and bool(plan.remedies)
        models, calibrated = _convert(model, calibration_images, formats, method, others=others)
        remedy_result = None
        if plan is not None and max_accuracy_drop is not None:
            context = remedies.Context(calibration_images, plan, method)
            remedy_result = remedies.find_accurate(model, calibrated, context, max_accuracy_drop)
            if not remedy_result.plain:
                int8_forms = [form for form in models if form.weights == "int8"]
                models |= {form: remedy_result.quantization.file(form) for form in int8_forms}
        float_model, whole = models[FLOAT32], models[INT8]
        patching_result = None if patches is None else patching.patched(whole, patches)
        int8_model = whole if patching_result is None else patching_result.content
        models[INT8] = int8_model
        int8_contents = inspect.read(int8_model)
        floats = remedy_result is not None and bool(remedy_result.quantization.float_layers)
        per_pixel = len(model.output_shape) > 2
        inspect.check_pixel_classifier(
            int8_contents, len(labels), floats=floats, per_pixel=per_pixel
        )
        runners = {form: Runner(content) for form, content in models.items()}
        converted = time.monotonic()
        results, shares, tested, reference_kernels = _verify(
            model, runners, tqdm(test_batches, f"verify {name}", disable=None), int8_model
        )
        # A remedy can change the weights, and with them the names of the tensors.
        original = (
            float_model
            if remedy_result is None or remedy_result.plain
            else remedy_result.quantization.calibrated.content
        )
        layer_errors = layers.errors(original, whole, calibration_images[:LAYER_IMAGES])
        _check_accuracy(results, max_accuracy_drop, layer_errors, remedy_result)
    except UserError as error:
        raise UserError(f"export of {name} failed: {error}") from error
    interface = entries.interface(inspect.read(float_model), int8_contents)
    stored = None
    if predicted is not None and not per_pixel:
        stored = predictions.predict(
            predicted,
            {form.name: runners[form] for form in (FLOAT32, INT8)},
            tested,
            int8_sha256=hashlib.sha256(int8_model).hexdigest(),
            probabilities=interface["output"]["meaning"] == entries.PROBABILITIES,
        )
    verified = time.monotonic()

    folder = Path(out_dir) / name
    exported = Exported(
        name=name,
        float_path=folder / file_name(name, FLOAT32),
        int8_path=folder / file_name(name, INT8),
        sidecar_path=folder / f"{name}.json",
        labels_path=folder / "labels.txt",
        **results,
        float_bytes=len(float_model),
        int8_bytes=len(int8_model),
        convert_seconds=converted - start,
        verify_seconds=verified - converted,
        remedy=None
        if remedy_result is None or remedy_result.plain
        else remedy_result.attempts[-1].trial,
    )
    sidecar = {
        "name": name,
        "labels": list(labels),
        **interface,
        "verification": {
            **results,
            "tolerance": TOLERANCE,
            "reference_kernels": reference_kernels,
        },
        "int8_layers": [asdict(error) for error in layer_errors],
        "calibration_method": calibrated.method,  # remedies may have replaced its ranges
        "int8_remedies": remedy_result and remedy_result.record(),
        "patches": patching_result and patching_result.record,
        "confidence": stored and confidence.entry(stored, wanted_precision),
        "files": {
            form.name: entries.file_entry(name, form, content) | {"accuracy": shares[form]}
            for form, content in models.items()
        },
        "keras": keras_file and keras_file.entry(name),
        "versions": machine.versions(),
        "details": details,
    }
    write_export(folder, models, sidecar, keras_file, stored)
    return exported


def _convert(
    model: keras.Model,
    images: np.ndarray,
    formats: Sequence[Format],
    method: str,
    *,
    others: bool,
) -> tuple[dict[Format, bytes], ranges.CalibratedNetwork]:
    """Converts a model to all formats with one trace and one calibration.

    Args:
      model: see `export_model`.
      images: the representative data set.
      formats: formats of the files; float32 must be among them.
      method, others: see `ranges.calibrate`.

    Returns:
      The content of each file, and the calibrated network.
    """
    convert.check_images(model, images)
    converted = [form for form in formats if not form.needs_calibration]
    contents = convert.to_tflite_formats(model, None, converted)
    files_by_format = dict(zip(converted, contents, strict=True))
    calibrated = ranges.calibrate(files_by_format[FLOAT32], images, method, others=others)
    for form in formats:
        if form.needs_calibration:
            files_by_format[form] = quantizer.quantize(calibrated, form=form)
    return {form: files_by_format[form] for form in formats}, calibrated


def write_export(
    folder: Path,
    models: Mapping[Format, bytes],
    sidecar: Mapping[str, Any],
    keras_file: KerasFile | None = None,
    stored: predictions.Predictions | None = None,
) -> None:
    """Writes files, labels, predictions and sidecar; removes the files of an earlier export."""
    name = sidecar["name"]
    paths = {folder / file_name(name, form): content for form, content in models.items()}
    if keras_file is not None:
        paths[folder / keras_file.file_name(name)] = keras_file.content
    if stored is not None:
        paths[folder / predictions.FILE] = predictions.encoded(stored)
    files.replace_all(
        {
            **paths,
            folder / labels_file.FILE_NAME: labels_file.file_content(sidecar["labels"]),
            # The sidecar is written last because it contains the hashes of the others.
            folder / f"{name}.json": json.dumps(sidecar, indent=2).encode() + b"\n",
        }
    )
    for form in set(all_formats()) - models.keys():  # the new sidecar does not name these
        (folder / file_name(name, form)).unlink(missing_ok=True)


def _check_accuracy(
    results: dict[str, Any],
    limit: float | None,
    layer_errors: Sequence[layers.LayerError],
    remedy_result: remedies.RemedyResult | None,
) -> None:
    """UserError, with the worst layers, if the accuracy drop exceeds `limit` percentage points."""
    drop = 100 * (results["keras_accuracy"] - results["int8_accuracy"])
    # 1e-9 allows for rounding errors; one image more or less changes the drop by far more.
    if limit is None or drop <= limit + 1e-9:
        return
    noisy = ", ".join(
        f"{error.layer} ({error.operator})" for error in layers.worst(layer_errors, 3)
    )
    advice = "calibrate with more images, or train a variant with ReLU6"
    if results["score"] == "mIoU":
        advice = "calibrate with more images, or train longer (remedies are for classifiers)"
    if remedy_result is not None:
        trials = ladder.summary(remedy_result.attempts)
        advice += f" (on the validation part the drop was within the limit: {trials})"
    raise UserError(
        f"int8 costs {drop:.2f} points of {results['score']} ({results['keras_accuracy']:.2%} to "
        f"{results['int8_accuracy']:.2%}), more than the {limit:g} allowed; most noise comes from "
        f"{noisy}: {advice}"
    )


def _verify(
    model: keras.Model,
    runners: Mapping[Format, Runner],
    test_batches: Iterable[tuple[np.ndarray, np.ndarray]],
    int8_model: bytes,
) -> tuple[dict[str, Any], dict[Format, float], predictions.Outputs, dict[str, Any]]:
    """Runs the Keras model and its files on the test part; UserError if float32 and Keras differ.

    Returns:
      The fields of `Exported` that compare Keras, float32 and int8; the accuracy per format;
      what the files compute, by the names of their formats; and what `_with_reference_kernels`
      returns.
    """
    import keras

    keras_outputs: list[np.ndarray] = []
    outputs: dict[Format, list[np.ndarray]] = {form: [] for form in runners}
    labels: list[np.ndarray] = []
    first: list[np.ndarray] = []  # images
    for images, classes in test_batches:
        images = np.asarray(images, np.float32)
        first += list(images[: REFERENCE_IMAGES - len(first)])
        # Calling the model is faster than `predict`, which traces a function for so few batches.
        keras_outputs.append(keras.ops.convert_to_numpy(model(images, training=False)))
        for form, runner in runners.items():
            outputs[form].append(runner.run(images))
        labels.append(np.asarray(classes))
    if not labels:
        raise UserError("there are no test images to verify the files with")
    reference, truth = np.concatenate(keras_outputs), np.concatenate(labels)
    values = {form: np.concatenate(each) for form, each in outputs.items()}
    max_difference = float(np.abs(values[FLOAT32] - reference).max())
    logit_range = float(np.ptp(reference))
    if not max_difference <= TOLERANCE * logit_range:
        raise UserError(
            f"the float32 file's logits differ from Keras' by up to {max_difference:.3g}, more "
            f"than {TOLERANCE:g} of their range {logit_range:.3g} (a network that has barely been "
            "trained can cause this: train it for more epochs)"
        )
    choices = {form: each.argmax(-1) for form, each in values.items()}
    classes = reference.shape[-1]
    shares = {form: score_predictions(choice, truth, classes) for form, choice in choices.items()}
    results: dict[str, Any] = {
        "score": "top-1" if truth.ndim == 1 else "mIoU",
        "keras_accuracy": score_predictions(reference.argmax(-1), truth, classes),
        "float_accuracy": shares[FLOAT32],
        "int8_accuracy": shares[INT8],
        "agreement": float((choices[FLOAT32] == choices[INT8]).mean()),
        "test_images": len(truth),
        "max_difference": max_difference,
        "logit_range": logit_range,
    }
    if truth.ndim > 1:
        each = class_iou(confusion_matrix(choices[INT8], truth, classes)).tolist()
        results["int8_class_iou"] = tuple(None if math.isnan(share) else share for share in each)
    named = {form.name: each for form, each in values.items()}
    count = len(first)
    reference_kernels = _with_reference_kernels(
        int8_model, np.stack(first), truth[:count], choices[INT8][:count], classes
    )
    return results, shares, predictions.Outputs(named, truth), reference_kernels


def _with_reference_kernels(
    model: bytes, images: np.ndarray, truth: np.ndarray, xnnpack: np.ndarray, classes: int
) -> dict[str, Any]:
    """The accuracy in the arithmetic of microcontrollers, and that of XNNPACK on the same images.

    Args:
      model: the int8 file.
      images: (N, height, width, channels) float32, pixel / 128 - 1.
      truth: classes (N,) or masks.
      xnnpack: what the file predicts with XNNPACK, in the same form.
      classes: number of classes.
    """
    choices = Runner(model, kernels=REFERENCE_KERNELS).run(images).argmax(-1)
    return {
        "images": len(images),
        "accuracy": score_predictions(choices, truth, classes),
        "xnnpack_accuracy": score_predictions(xnnpack, truth, classes),
        "agreement": float((choices == xnnpack).mean()),
    }
