"""Accuracy of trained networks on the test part of a data set."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from efficientnet_elite.config import DataConfig, InputSize, SizeLike, checked_size
from efficientnet_elite.data.channels import for_network
from efficientnet_elite.errors import UserError
from efficientnet_elite.export.classifier import SUFFIXES
from efficientnet_elite.search.ledger import Ledger
from efficientnet_elite.training.scores import score_predictions

if TYPE_CHECKING:
    from efficientnet_elite.data import ImageData
    from efficientnet_elite.export.classifier import Classifier

# Images (N, height, width, channels) float32, pixel / 128 - 1, and their classes (N,) or masks.
Batches: TypeAlias = Iterable[tuple[np.ndarray, np.ndarray]]
# Chosen and true classes, batch by batch.
Predict: TypeAlias = Callable[[Batches], Iterator[tuple[np.ndarray, np.ndarray]]]

_PART_BYTES = 128 << 20  # pixels that are handed to a process at once


@dataclass(frozen=True)
class Evaluation:
    """Accuracy of a network.

    Attributes:
      path: of the file that was evaluated.
      resolution: side of its input in pixels; a text such as ``96x128`` where it is not square.
      test_images: number of images.
      score: what the accuracy is: ``top-1``, or ``mIoU`` of segmentation networks.
      accuracy: on the test part, 0..1.
    """

    path: Path
    resolution: int | str
    test_images: int
    score: str
    accuracy: float


def check_paths(paths: Sequence[Path]) -> None:
    """UserError where a path names no file that can be evaluated, by its name."""
    if not paths:
        raise UserError("name .npz checkpoints, .tflite or .keras files")
    for path in paths:
        if path.suffix not in (".npz", *SUFFIXES):
            raise UserError(
                f"{path} is neither a .npz checkpoint nor a .tflite, .keras or .h5 file"
            )
        if not path.is_file():
            raise UserError(f"{path} is missing")


def check_images(workdir: object, options: Mapping[str, Any]) -> None:
    """Checks that nothing is asked of the images where a work directory gives them.

    Args:
      workdir: the work directory; None where none is named.
      options: values by the names of flags; None for those that are not given.

    Raises:
      UserError: a value would have no effect.
    """
    given = [name for name, value in options.items() if value is not None]
    if workdir and given:
        raise UserError(
            f"--{given[0]} has no effect with --workdir, which gives the images, their split and "
            "the crop: leave one of them out"
        )


def evaluate(
    paths: Sequence[Path],
    *,
    workdir: Path | None = None,
    data: DataConfig | None = None,
    base_resolution: SizeLike | None = None,
    takes: str | None = None,
    trusted: Collection[str] = (),
    progress: bool = True,
) -> tuple[Evaluation, ...]:
    """Accuracy of .npz checkpoints (their averaged weights), of .tflite and of .keras files.

    Args:
      paths: the files.
      workdir: of a search that gives images, split and crop.
      data: images and their split, where no work directory is given. Its classes are matched by
        name with those beside a file, unless it says their order (`DataConfig.labels`).
      base_resolution: input size in pixels at resolution coefficient 1, which sets the centre crop;
        by default the largest network's own.
      takes: the pixel values that .tflite and .keras files take, a name of `choices.INPUTS`; None
        for what the files say.
      trusted: modules that may be imported where a checkpoint or work directory names them.
      progress: whether to show progress bars on stderr.

    Raises:
      UserError: a file is missing, damaged or of a network for other classes, or the pixel values
        that it takes have to be said.
    """
    from efficientnet_elite import data as data_lib
    from efficientnet_elite.search import run as search_run

    check_paths(paths)
    base = None if base_resolution is None else checked_size(base_resolution, "base_resolution")
    networks = [_load(path, takes, trusted) for path in paths]
    if workdir is not None:
        with Ledger(workdir) as ledger:
            config, images = search_run.recorded(ledger, trusted=trusted, progress=progress)
        base = config.base_size
        images_of = {images.channels: images}
    else:
        # Stored images shrink to what a search at this base resolution would have stored.
        base = base or max((network.size for network in networks), key=prod)
        images_of = {
            channels: data_lib.load(
                for_network(data or DataConfig(), channels),
                max_side=base.stored_side,
                progress=progress,
            )
            for channels in {network.channels for network in networks}
        }
    if data is not None and data.labels is not None:  # the user's order counts
        networks = [network._replace(labels=()) for network in networks]
    for network in networks:  # all of them, before the first is evaluated
        _check(network, images_of)
    return tuple(_evaluate(network, images_of[network.channels], base) for network in networks)


class _Network(NamedTuple):
    """A network: size of its input in pixels, its channels, shape of its output without batch, and
    the names of its classes where they are known."""

    path: Path
    size: InputSize
    channels: int
    output: tuple[int, ...]
    predict: Predict
    labels: tuple[str, ...] = ()


def _labels_of_outputs(network: _Network, images: ImageData) -> np.ndarray:
    """The data set's label of each output: by name where both have the same names of classes."""
    if sorted(network.labels) != sorted(images.labels):
        return np.arange(images.num_classes)
    return np.array([images.labels.index(name) for name in network.labels])


def _evaluate(network: _Network, images: ImageData, base: InputSize) -> Evaluation:
    from efficientnet_elite import data as data_lib

    batches = data_lib.eval_batches(
        images,
        "test",
        resolution=network.size,
        batch_size=64,
        base_resolution=base,
    )
    try:
        predictions = list(network.predict((x.numpy(), y.numpy()) for x, y in batches))
    except UserError as error:
        raise UserError(f"{network.path}: {error}") from error
    choices, labels = map(np.concatenate, zip(*predictions, strict=True))
    return Evaluation(
        path=network.path,
        resolution=network.size.plain,
        test_images=images.sizes["test"],
        score="mIoU" if images.masks else "top-1",
        accuracy=float(
            score_predictions(
                _labels_of_outputs(network, images)[choices], labels, images.num_classes
            )
        ),
    )


def _load(path: Path, takes: str | None, trusted: Collection[str]) -> _Network:
    from efficientnet_elite.export import classifier
    from efficientnet_elite.training.loading import load_averaged

    if path.suffix == ".npz":
        model, spec, _ = load_averaged(path, trusted)
        channels = spec.input_shape[-1]
        return _Network(
            path, spec.size, channels, model.output_shape[1:], partial(_in_keras, model)
        )
    network = classifier.with_labels_if_any(path, takes=takes)
    output = (*network.size * network.masks, len(network.labels))
    run = partial(_in_file, network)
    return _Network(path, network.size, network.channels, output, run, network.labels)


def _check(network: _Network, images_of: Mapping[int, ImageData]) -> None:
    """UserError if a network has other channels or classes, or is for the other task."""
    images = images_of.get(network.channels)
    if images is None:
        (channels,) = images_of
        raise UserError(
            f"{network.path} takes (height, width, {network.channels}) images, and those of the "
            f"work directory are (height, width, {channels}): name the images with --dataset"
        )
    masks = network.size if images.masks else ()
    wanted = (*masks, images.num_classes)
    if network.output != wanted:
        given, asked = (" x ".join(map(str, shape)) for shape in (network.output, wanted))
        raise UserError(
            f"{network.path} gives {given} values for an image, {images.name} asks for {asked}: "
            "name the images that it was trained for with --dataset or --workdir"
        )


def _in_keras(model: Any, batches: Batches) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    return ((np.argmax(model(images), -1), classes) for images, classes in batches)


def _in_file(network: Classifier, batches: Batches) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Runs in a separate process, since the file may come from an untrusted source."""
    for pixels, classes in _parts(batches):
        yield network.run(pixels).argmax(-1), classes


def _parts(batches: Batches) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The batches as pixels, many at a time: starting a process takes longer than a batch."""
    waiting: list[tuple[np.ndarray, np.ndarray]] = []
    for images, classes in batches:
        waiting.append((np.rint((images + 1) * 128).astype(np.uint8), classes))
        if sum(pixels.nbytes for pixels, _ in waiting) >= _PART_BYTES:
            yield _joined(waiting)
            waiting = []
    if waiting:
        yield _joined(waiting)


def _joined(batches: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    pixels, classes = zip(*batches, strict=True)
    return np.concatenate(pixels), np.concatenate(classes)
