"""A model file as a function from images to probabilities, with what lies beside it.

How pixels become the network's input is never assumed: the sidecar of an export says it, or the
file's metadata, or the user. `.tflite` files need LiteRT, NumPy and Pillow alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from efficientnet_elite.config import InputSize
from efficientnet_elite.data.decode import Pixels, decode, in_channels, pixels_of
from efficientnet_elite.data.geometry import center_box, crop_and_resize
from efficientnet_elite.data.listing import read_labels
from efficientnet_elite.errors import UserError

from . import beside, inspect, keras_file, metadata, pixel_rule
from .confidence import Confidence, calibrated, softmax
from .int8.choices import INPUTS
from .pixel_rule import PixelRule
from .runtimes import isolated
from .runtimes.isolated import Arrays, captured
from .runtimes.runtime import Runner

SUFFIXES = (".tflite", *keras_file.SUFFIXES)


@dataclass(frozen=True)
class Classifier:
    """A network that gives an image, or each of its pixels, a class.

    Attributes:
      path: its file.
      size: height and width of its input in pixels.
      channels: of the images that it takes: 3 for RGB, 1 for grey.
      labels: names of the classes, in the order of the outputs.
      rule: which numbers it takes for pixels.
      crop_fraction: sides of the centred crop that it sees, as a share of the largest one with the
        aspect ratio of its input.
      masks: whether each pixel gets a class.
      activation: what its outputs are: ``logits``, ``softmax`` or ``sigmoid``.
      run: computes the outputs, float32, of what it sees, uint8 (N, height, width, channels). A
        network with one output for two classes has two here: see `inspect.two_classes`.
      confidence: how probabilities are calibrated, and when an answer is unknown.
    """

    path: Path
    size: InputSize
    channels: int
    labels: tuple[str, ...]
    rule: PixelRule
    crop_fraction: float
    masks: bool
    activation: str
    run: Callable[[Pixels], np.ndarray]
    confidence: Confidence = field(default_factory=Confidence)

    def seen(self, encoded: bytes) -> Pixels:
        """What the network sees of an image file's content: uint8 (height, width, channels).

        Raises:
          UnreadableImage: the content cannot be decoded.
        """
        return self.crop(decode(encoded, channels=self.channels))

    def crop(self, pixels: Pixels) -> Pixels:
        """What the network sees of an image, uint8 (height, width, 3 or 1)."""
        pixels = in_channels(pixels, self.channels)
        box = center_box((pixels.shape[0], pixels.shape[1]), self.crop_fraction, self.size)
        return pixels_of(crop_and_resize(pixels, box, self.size))

    def probabilities(self, seen: Pixels) -> np.ndarray:
        """Probabilities of the classes, float32, calibrated where the sidecar says how.

        Args:
          seen: uint8 (N, height, width, channels).

        Returns:
          (N, classes), or (N, height, width, classes) of segmentation networks.
        """
        outputs = self.run(seen)
        if not np.isfinite(outputs).all():
            raise UserError(f"{self.path} gives values that are no numbers for these images")
        if self.activation == "logits":
            outputs = softmax(outputs)
        if self.activation == "sigmoid" or self.confidence.temperature == 1:
            return outputs
        return calibrated(outputs, self.confidence.temperature)


def load(path: Path, *, takes: str | None = None, labels: Path | None = None) -> Classifier:
    """A model file as a classifier.

    Args:
      path: a `.tflite` or `.keras` file.
      takes: the input that the network expects, a name of `choices.INPUTS`; None to read it from
        the sidecar, the file's metadata, or the normalisation layer of a `.keras` file.
      labels: file of the names of the classes; by default the sidecar's, those of ``labels.txt``
        beside the file, or of the metadata.

    Raises:
      UserError: a file is missing, damaged or no classifier, or its input has to be said.
    """
    loaded, sidecar = _opened(path, takes)
    return replace(loaded, labels=_labels(loaded, labels, sidecar))


def with_labels_if_any(path: Path, *, takes: str | None = None) -> Classifier:
    """As `load`, but names that are missing or of another number of classes are empty."""
    loaded, sidecar = _opened(path, takes)
    try:
        labels = _labels(loaded, None, sidecar)
    except UserError:
        return loaded
    return (
        loaded if labels == tuple(map(str, range(len(labels)))) else replace(loaded, labels=labels)
    )


def _opened(path: Path, takes: str | None) -> tuple[Classifier, Mapping[str, Any]]:
    """A classifier without labels, and the sidecar, which is empty where there is none."""
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path} is neither a .tflite nor a .keras or .h5 file")
    content = inspect.load(path)
    sidecar = beside.checked_sidecar(path, content)
    try:
        loaded = (_litert if path.suffix == ".tflite" else _keras)(path, content, takes, sidecar)
    except UserError as error:
        text = str(error)
        raise UserError(text if text.startswith(str(path)) else f"{path}: {text}") from error
    crop, confidence = beside.crop_fraction(path, sidecar), beside.confidence(path, sidecar)
    return replace(loaded, crop_fraction=crop, confidence=confidence), sidecar


def in_this_process(classifier: Classifier) -> Classifier:
    """The same classifier, which runs its `.tflite` file without a process of its own.

    It answers sooner, for a stream of images. Call it once the file has run in a process of its
    own.
    """
    if classifier.path.suffix != ".tflite":
        raise UserError(
            f"{classifier.path}: a camera needs a .tflite file (`elite export` makes it)"
        )
    runner = Runner(inspect.load(classifier.path))
    return replace(
        classifier,
        run=lambda seen: inspect.two_classes(
            runner.run(classifier.rule.values(_images(seen))), classifier.activation == "sigmoid"
        ),
    )


def _litert(
    path: Path, content: bytes, takes: str | None, sidecar: Mapping[str, Any]
) -> Classifier:
    contents = inspect.read(content)
    inspect.check_own_operators(contents)
    height, width, channels = inspect.image_shape(contents)
    masks = inspect.gives_masks(contents)
    shape = contents.outputs[0].shape
    if not masks and len(shape) != 2:
        raise UserError(f"its output has the shape {shape}: expected one value for each class")
    last = inspect.last_operator(contents)
    activation = {"SOFTMAX": "softmax", "LOGISTIC": "sigmoid"}.get(last or "", "logits")
    rule = pixel_rule.of_file(content, contents, takes=takes, exported=bool(sidecar))

    def run(seen: Pixels) -> np.ndarray:
        question = {"model": np.frombuffer(content, np.uint8), **_question(seen, rule)}
        outputs = isolated.call(_run_litert, question)["outputs"]
        return inspect.two_classes(outputs, activation == "sigmoid")

    return Classifier(
        path=path,
        size=InputSize(height, width),
        channels=channels,
        labels=("",) * max(2, shape[-1]),
        rule=rule,
        crop_fraction=1.0,
        masks=masks,
        activation=activation,
        run=run,
    )


def _keras(path: Path, content: bytes, takes: str | None, sidecar: Mapping[str, Any]) -> Classifier:
    """A `.keras` file; it is loaded in a process of its own each time it runs."""
    shape = keras_file.check(path)
    question = {"path": str(path.absolute()), "takes": takes or ("0..255" if sidecar else "")}
    one = isolated.call(_run_keras, {**question, "pixels": np.zeros((1, *shape), np.uint8)})
    activation = str(one["activation"])

    def run(seen: Pixels) -> np.ndarray:
        outputs = isolated.call(_run_keras, {**question, "pixels": seen})["outputs"]
        return inspect.two_classes(outputs, activation == "sigmoid")

    return Classifier(
        path=path,
        size=InputSize(*shape[:2]),
        channels=shape[2],
        labels=("",) * max(2, one["outputs"].shape[-1]),
        rule=PixelRule.named(str(one["takes"])),
        crop_fraction=1.0,
        masks=one["outputs"].ndim == 4,
        activation=activation,
        run=run,
    )


def _labels(model: Classifier, given: Path | None, sidecar: Mapping[str, Any]) -> tuple[str, ...]:
    path = model.path.with_name("labels.txt")
    classes = len(model.labels)
    if given is not None:
        labels, origin = read_labels(given), str(given)
    elif sidecar.get("labels"):
        labels, origin = [str(label) for label in sidecar["labels"]], "the sidecar"
    elif path.is_file():
        labels, origin = read_labels(path), str(path)
    else:
        named = metadata.labels(inspect.load(model.path)) or []
        return tuple(named if len(named) == classes else map(str, range(classes)))
    if len(labels) != classes:
        raise UserError(f"{model.path} has {classes} classes, but {origin} names {len(labels)}")
    return tuple(labels)


def _question(seen: Pixels, rule: PixelRule) -> dict[str, Any]:
    return {"pixels": seen, "scale": rule.scale, "offset": rule.offset}


def _images(pixels: Pixels) -> np.ndarray:
    """Images, float32, pixel / 128 - 1."""
    return pixels.astype(np.float32) / np.float32(128) - 1


def _run_litert(arguments: Arrays) -> Arrays:
    """What the child process does for a `.tflite` file."""
    runner = Runner(arguments["model"].tobytes())
    rule = PixelRule.of(arguments["scale"], arguments["offset"])
    return {"outputs": runner.run(rule.values(_images(arguments["pixels"])))}


_BATCH = 64


def _run_keras(arguments: Arrays) -> Arrays:
    """What the child process does for a `.keras` file."""
    import os

    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    with captured():
        import keras
    from .int8 import convert, fronts

    model = keras_file.load(Path(str(arguments["path"])))
    takes = str(arguments["takes"])
    if not takes:
        if not fronts.normalises(model):
            raise UserError(
                "the network does not begin with a Rescaling or Normalization layer, but with "
                f"{fronts.first_layer(model)}: say which pixel values it takes with "
                f"--input={'|'.join(INPUTS)}"
            )
        takes = "0..255"
    shape = model.output_shape
    if len(model.outputs) != 1 or len(shape) not in (2, 4):
        raise UserError(f"its output has the shape {shape}: expected one value for each class")
    images = fronts.input_of(model, takes).values(_images(arguments["pixels"]))
    batches = [
        keras.ops.convert_to_numpy(model(images[start : start + _BATCH], training=False))
        for start in range(0, len(images), _BATCH)
    ]
    activation = "sigmoid" if convert.ends_in_sigmoid(model) else "logits"
    if convert.ends_in_softmax(model):
        activation = "softmax"
    return {
        "outputs": np.concatenate(batches),
        "activation": np.array(activation),
        "takes": np.array(takes),
    }
