"""Predictions: what a trained network says about images."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path

import numpy as np

from efficientnet_elite.data.decode import Pixels, UnreadableImage, read_file
from efficientnet_elite.errors import UserError
from efficientnet_elite.export import beside
from efficientnet_elite.export import classifier as classifiers
from efficientnet_elite.export.classifier import Classifier
from efficientnet_elite.export.confidence import UNKNOWN
from efficientnet_elite.export.int8.choices import INPUTS
from efficientnet_elite.job import camera, drawing, value_types
from efficientnet_elite.search.trainings import networks

_BATCH_BYTES = 64 << 20  # of prepared images that are handed to a process at once
_BATCH_IMAGES = 256


@dataclass(frozen=True)
class ClassScore:
    """A class with its probability.

    Attributes:
      label: name of the class.
      index: its number, from 0: the position in the network's output.
      probability: from 0 to 1. For segmentation networks, the share of the pixels that have this
        class.
    """

    label: str
    index: int
    probability: float


@dataclass(frozen=True)
class Prediction:
    """What a network says about an image.

    Attributes:
      image: path of the image, as it was given or found; ``camera:0#3`` for a camera's frame.
      classes: the most probable classes, the most probable first. For segmentation networks, those
        with the largest shares of the pixels.
      known: whether the network is sure enough; false where the image may show none of the classes
        (`export.confidence`). True where no threshold was chosen.
    """

    image: str
    classes: tuple[ClassScore, ...]
    known: bool = True

    @property
    def label(self) -> str:
        """Name of the most probable class."""
        return self.classes[0].label

    @property
    def answer(self) -> str:
        """Name of the most probable class; ``unknown`` where the network is not sure enough."""
        return self.label if self.known else UNKNOWN

    @property
    def probability(self) -> float:
        """Probability of the most probable class."""
        return self.classes[0].probability


def model_file(model: Path) -> Path:
    """The file that a path means: itself, or that of the network in a folder.

    The folder is that of one export, or a work directory.

    In a search, it is the int8 file of the champion that was best on the validation part; in a
    folder of trainings, that of the first network.

    Raises:
      UserError: there is no such file, or nothing has been exported.
    """
    if not model.is_dir():
        return model
    exported = sorted(model.glob("*.int8.tflite"))
    if len(exported) == 1:  # the folder of an export
        return exported[0]
    if len(files := sorted(model.glob("*.tflite"))) > 1:
        some = ", ".join(file.name for file in files[:3])
        raise UserError(f"{model} holds {len(files)} .tflite files ({some}): name one of them")
    entries = networks(model)
    if not entries:
        raise UserError(f"{model} holds no network that is trained to its end")
    name = max(entries, key=lambda entry: entry.get("validation_accuracy", 0.0))["name"]
    path = model / beside.FOLDER / name / f"{name}.int8.tflite"
    if not path.is_file():
        raise UserError(f"{path} is missing: run `elite export --workdir={model}` first")
    return path


def load(model: Path, *, takes: str | None = None, labels: Path | None = None) -> Classifier:
    """The classifier in a model file or work directory, see `export.classifier.load`."""
    return classifiers.load(model_file(model), takes=checked_input(takes), labels=labels)


def checked_input(takes: str | None) -> str | None:
    """A name of `choices.INPUTS`, or None where none is given; UserError for other values."""
    if takes is not None and takes not in INPUTS:
        raise UserError(f"input={value_types.shorten(takes)}: use {' or '.join(INPUTS)}")
    return takes


def find_images(arguments: Sequence[str]) -> list[str]:
    """The image files that arguments name: files, and those in and below folders, sorted.

    Hidden files and files whose names do not end like an image's are left out of folders.

    Raises:
      UserError: nothing is named, or a path does not exist or holds no image.
    """
    if not arguments:
        raise UserError("name images, a folder of images or a camera, such as camera:0")
    found: list[str] = []
    for argument in arguments:
        path = Path(argument).expanduser()
        if not path.is_dir():
            found.append(str(path))
            continue
        inside = [str(file) for file in _files(path)]
        if not inside:
            raise UserError(f"{path} holds no images (names that end in {', '.join(_SUFFIXES)})")
        found += inside
    return found


_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".heic", ".ppm")


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and name.lower().endswith(_SUFFIXES):
                yield Path(parent, name)


def predict(
    classifier: Classifier,
    images: Sequence[str],
    *,
    top: int = 1,
    save: Path | None = None,
    on_skipped: Callable[[str, str], None],
) -> Iterator[Prediction]:
    """Predictions for images, in their order; those that cannot be read are left out.

    Args:
      classifier: the network.
      images: paths of image files; or a single ``camera:N``, whose frames come until it ends.
      top: number of classes in a prediction.
      save: folder that gets each picture with its answer drawn; None for none.
      on_skipped: called with the path of an image that cannot be read, and the reason.

    Raises:
      UserError: the network cannot be run, or a picture cannot be written.
    """
    if top < 1:
        raise UserError(f"top={top}: must be at least 1")
    names = drawing.Names(save) if save is not None else None
    for batch in _batches(classifier, images, on_skipped):
        views = np.stack([seen for _, seen, _ in batch])
        for (image, seen, picture), scores in zip(
            batch, classifier.probabilities(views), strict=True
        ):
            best = _best(classifier, scores, top)
            sure = classifier.masks or best[0].probability >= classifier.confidence.threshold
            prediction = Prediction(image, best, known=sure)
            if names is not None:
                text = f"{prediction.answer} {prediction.probability:.0%}"
                mask = scores.argmax(-1) if classifier.masks else None
                drawing.save(names.path(image), picture(), seen, text, mask)
            yield prediction


def _best(classifier: Classifier, scores: np.ndarray, top: int) -> tuple[ClassScore, ...]:
    if classifier.masks:
        classes = len(classifier.labels)
        scores = np.bincount(scores.argmax(-1).ravel(), minlength=classes) / scores[..., 0].size
    order = np.argsort(-scores, kind="stable")[:top]
    return tuple(
        ClassScore(classifier.labels[index], int(index), float(scores[index])) for index in order
    )


# An image: its path, what the network sees of it, and its whole picture.
_Image = tuple[str, Pixels, Callable[[], Pixels]]


def _batches(
    classifier: Classifier, images: Sequence[str], on_skipped: Callable[[str, str], None]
) -> Iterator[list[_Image]]:
    if number := camera.number_of(images):
        for count, frame in enumerate(camera.frames(number)):
            yield [(f"{images[0]}#{count}", classifier.crop(frame), partial(_same, frame))]
        return
    size = max(1, min(_BATCH_IMAGES, _BATCH_BYTES // (3 * prod(classifier.size))))
    batch: list[_Image] = []
    for image in images:
        try:
            if not Path(image).is_file():  # a pipe would be waited for
                raise UnreadableImage("not a file" if Path(image).exists() else "is missing")
            seen = classifier.seen(read_file(Path(image)))
        except UnreadableImage as error:
            on_skipped(image, str(error))
            continue
        batch.append((image, seen, partial(drawing.picture, Path(image))))
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _same(frame: Pixels) -> Pixels:
    return frame
