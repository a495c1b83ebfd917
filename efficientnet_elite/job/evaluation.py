"""Accuracy of trained networks on the test part of a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from efficientnet_elite.config import DataConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.search.ledger import Ledger
from efficientnet_elite.training.scores import score_predictions

if TYPE_CHECKING:
    from efficientnet_elite.data import ImageData

# Images (N, side, side, 3) float32, pixel / 128 - 1, and their classes (N,) or masks.
Batches: TypeAlias = Iterable[tuple[np.ndarray, np.ndarray]]
# Chosen and true classes, batch by batch.
Predict: TypeAlias = Callable[[Batches], Iterator[tuple[np.ndarray, np.ndarray]]]

_PART_BYTES = 128 << 20  # pixels that are handed to a process at once


@dataclass(frozen=True)
class Evaluation:
    """Accuracy of a network.

    Attributes:
      path: of the file that was evaluated.
      resolution: side of its input in pixels.
      test_images: number of images.
      score: what the accuracy is: ``top-1``, or ``mIoU`` of segmentation networks.
      accuracy: on the test part, 0..1.
    """

    path: Path
    resolution: int
    test_images: int
    score: str
    accuracy: float


def check_paths(paths: Sequence[Path]) -> None:
    """UserError where a path names no file that can be evaluated, by its name."""
    if not paths:
        raise UserError("name .npz checkpoints or .tflite files")
    for path in paths:
        if path.suffix not in (".npz", ".tflite"):
            raise UserError(f"{path} is neither a .npz checkpoint nor a .tflite file")
        if not path.is_file():
            raise UserError(f"{path} is missing")


def evaluate(
    paths: Sequence[Path],
    *,
    workdir: Path | None = None,
    data: DataConfig | None = None,
    base_resolution: int | None = None,
    progress: bool = True,
) -> tuple[Evaluation, ...]:
    """Accuracy of .npz checkpoints (their averaged weights) and of .tflite files.

    Args:
      paths: the files.
      workdir: of a search that gives images, split and crop.
      data: images and their split, where no work directory is given.
      base_resolution: input side in pixels at resolution coefficient 1, which sets the centre crop;
        by default the largest network's own.
      progress: whether to show progress bars on stderr.

    Raises:
      UserError: a file is missing, damaged or of a network for other classes.
    """
    from efficientnet_elite import data as data_lib
    from efficientnet_elite.search import run as search_run

    check_paths(paths)
    if base_resolution is not None and base_resolution < 8:
        raise UserError(f"base_resolution={base_resolution}: must be at least 8 pixels")
    networks = [_load(path) for path in paths]
    if workdir is not None:
        with Ledger(workdir) as ledger:
            config, images = search_run.recorded(ledger, progress=progress)
        base_resolution = config.base_resolution
    else:
        # Stored images shrink to what a search at this base resolution would have stored.
        base_resolution = base_resolution or max(network.side for network in networks)
        images = data_lib.load(
            data or DataConfig(), max_side=base_resolution * 3 // 2, progress=progress
        )
    for network in networks:  # all of them, before the first is evaluated
        _check_output(network, images)
    return tuple(_evaluate(network, images, base_resolution) for network in networks)


class _Network(NamedTuple):
    """A network: side of its input in pixels, shape of its output without the batch."""

    path: Path
    side: int
    output: tuple[int, ...]
    predict: Predict


def _evaluate(network: _Network, images: ImageData, base_resolution: int) -> Evaluation:
    from efficientnet_elite import data as data_lib

    batches = data_lib.eval_batches(
        images,
        "test",
        resolution=network.side,
        batch_size=64,
        base_resolution=base_resolution,
    )
    try:
        predictions = list(network.predict((x.numpy(), y.numpy()) for x, y in batches))
    except UserError as error:
        raise UserError(f"{network.path}: {error}") from error
    choices, labels = map(np.concatenate, zip(*predictions, strict=True))
    return Evaluation(
        path=network.path,
        resolution=network.side,
        test_images=images.sizes["test"],
        score="mIoU" if images.masks else "top-1",
        accuracy=float(score_predictions(choices, labels, images.num_classes)),
    )


def _load(path: Path) -> _Network:
    from efficientnet_elite.export import inspect
    from efficientnet_elite.training.trainer import load_averaged

    if path.suffix == ".npz":
        model, spec, _ = load_averaged(path)
        return _Network(path, spec.resolution, model.output_shape[1:], partial(_in_keras, model))
    content = inspect.load(path)
    try:
        contents = inspect.read(content)
        side = inspect.image_side(contents)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return _Network(path, side, contents.outputs[0].shape[1:], partial(_in_litert, content))


def _check_output(network: _Network, images: ImageData) -> None:
    """UserError if a network has other classes, or is for the other task."""
    masks = (network.side, network.side) if images.masks else ()
    wanted = (*masks, images.num_classes)
    if network.output != wanted:
        given, asked = (" x ".join(map(str, shape)) for shape in (network.output, wanted))
        raise UserError(
            f"{network.path} gives {given} values for an image, {images.name} asks for {asked}: "
            "name the images that it was trained for with --dataset or --workdir"
        )


def _in_keras(model: Any, batches: Batches) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    return ((np.argmax(model(images), -1), classes) for images, classes in batches)


def _in_litert(content: bytes, batches: Batches) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Runs in a separate process, since the file may come from an untrusted source."""
    from efficientnet_elite.export.runtimes.runtime import run_isolated

    for pixels, classes in _parts(batches):
        yield run_isolated(content, pixels).argmax(-1), classes


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
