"""Weights of classes in the loss, for data sets in which some classes have far fewer images.

A weight multiplies the loss of each image (or pixel) of its class. Weights are scaled so that they
are 1 on average over the training part: the learning rate keeps its meaning.

Oversampling is the other way to the same end: all classes are drawn equally often. Both together
would favour rare classes twice, so that they are values of one setting.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from efficientnet_elite.config.training import BALANCED, NONE, OVERSAMPLE
from efficientnet_elite.errors import UserError

if TYPE_CHECKING:
    from efficientnet_elite.data import ImageData

UNEVEN = 5
"""The largest class has so many times the images of the smallest: users are told of weights."""


def written_out(setting: str) -> str:
    """A value of ``class_weights`` that depends on no file: a file's weights as JSON.

    Raises:
      UserError: the file is missing or no table of names and weights.
    """
    if setting in (NONE, BALANCED, OVERSAMPLE) or setting.startswith("{"):
        return setting
    path = Path(setting).expanduser()
    if not path.is_file():
        raise UserError(
            f"class_weights={setting}: use {BALANCED}, {OVERSAMPLE}, {NONE}, or a JSON or CSV file "
            "with the weight of each class by its name"
        )
    try:
        return json.dumps(_read(path), ensure_ascii=False)
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} holds no weights of classes ({error}): write a JSON object such as "
            '{"rose": 2.5}, or CSV lines such as rose,2.5'
        ) from error


def _read(path: Path) -> dict[str, float]:
    text = path.read_text(encoding="utf-8")
    if path.suffix.lower() == ".json":
        pairs = list(json.loads(text).items())
    else:
        pairs = [row for row in csv.reader(io.StringIO(text)) if row]
        if pairs and len(pairs[0]) == 2 and not _is_number(pairs[0][1]):
            del pairs[0]  # the heads of the columns
    weights = {str(name).strip(): float(weight) for name, weight in pairs}
    if not weights:
        raise ValueError("it is empty")
    for name, weight in weights.items():
        if not 0 <= weight < math.inf:
            raise ValueError(f"the weight of {name} is {weight:g}")
    return weights


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def class_weights(
    setting: str, data: ImageData, pixels: Callable[[], NDArray[np.int64]]
) -> NDArray[np.float32] | None:
    """The weight of each class, (classes,); None where all weigh the same.

    Args:
      setting: a value of `TrainConfig.class_weights`, `written_out`.
      data: the data set.
      pixels: counts the pixels of each class in the training part, (classes,); called where labels
        are masks.

    Raises:
      UserError: a class is unknown, all weights are 0, or images cannot be counted.
    """
    if setting in (NONE, OVERSAMPLE):
        return None
    counts = pixels() if data.masks else data.class_counts("train")
    if setting != BALANCED:
        weights = _by_name(json.loads(setting), data.labels)
        counts = np.ones(len(weights), np.int64) if counts is None else counts
    elif counts is not None:
        weights = 1 / np.maximum(counts, 1)
    else:
        raise UserError(
            f"{data.name} is read as a stream, so that the images of a class are not counted: "
            f"give a file with weights in place of class_weights={BALANCED}"
        )
    mean = (weights * counts).sum() / counts.sum()
    if not mean > 0:
        raise UserError("class_weights: all classes with images have the weight 0")
    return (weights / mean).astype(np.float32)


def as_drawn(setting: str, data: ImageData) -> ImageData:
    """The data set whose training part draws images as a setting says; the same one mostly.

    Raises:
      UserError: images are to be drawn by their class, and have none that is known.
    """
    if setting != OVERSAMPLE:
        return data
    from efficientnet_elite.data.parts import IndexedPart  # TensorFlow, which settings do without

    part = data.parts["train"]
    if data.masks or not isinstance(part, IndexedPart):
        reason = "labels are masks" if data.masks else "it is read as a stream"
        raise UserError(
            f"class_weights={OVERSAMPLE} draws images by their class, which {data.name} does not "
            f"tell ({reason}): use weights"
        )
    return replace(data, parts={**data.parts, "train": part.balanced()})


def _by_name(given: Mapping[str, Any], labels: Sequence[str]) -> NDArray[np.float64]:
    if unknown := given.keys() - set(labels):
        raise UserError(
            f"class_weights names {min(unknown)!r}, which is no class of the data set: its classes "
            f"are {', '.join(labels[:10])}{' ...' if len(labels) > 10 else ''}"
        )
    return np.array([float(given.get(label, 1.0)) for label in labels])


def check(setting: str, data: ImageData) -> str | None:
    """Checks weights before anything is recorded.

    Returns:
      A line for the user where classes are uneven and weigh the same; None otherwise.

    Raises:
      UserError: as `class_weights`.
    """
    as_drawn(setting, data)
    class_weights(setting, data, lambda: np.ones(data.num_classes, np.int64))
    counts = data.class_counts("train")
    if setting != NONE or counts is None:
        return None
    rare, common = int(counts.argmin()), int(counts.argmax())
    if counts[common] < UNEVEN * max(1, counts[rare]):
        return None
    return (
        f"classes are uneven: {counts[rare]:,} training images of {data.labels[rare]}, "
        f"{counts[common]:,} of {data.labels[common]}: --class_weights={BALANCED} lets all classes "
        f"count the same, --class_weights={OVERSAMPLE} shows them equally often"
    )
