"""Top-1 accuracy on the test part of a data set, of .npz checkpoints (with their averaged
weights) and of .tflite files whose input is images as this tool exports them. With --workdir the
images, their split and the crop are those of that search; otherwise a test part that the network
was not trained on needs the same --dataset, --seed and fractions as its training.

  elite evaluate --workdir=runs/digits runs/digits/export/elite9/elite9.int8.tflite
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from absl import flags as absl_flags

from efficientnet_elite.cli import common
from efficientnet_elite.config import DataConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.search.ledger import Ledger
from efficientnet_elite.training.scores import score_predictions

if TYPE_CHECKING:
    from efficientnet_elite.data import ImageData

# Images (N, side, side, 3) float32, pixel / 128 - 1, and their classes (N,) or masks.
Batches: TypeAlias = Iterable[tuple[np.ndarray, np.ndarray]]
# Chosen and true classes, batch by batch.
Judge: TypeAlias = Callable[[Batches], Iterator[tuple[np.ndarray, np.ndarray]]]

FLAGS = absl_flags.FlagValues()
absl_flags.DEFINE_string(
    "workdir", None, "Take images, split and crop from this search.", flag_values=FLAGS
)
common.define_data(FLAGS)
absl_flags.DEFINE_integer(
    "base_resolution",
    None,
    "Input side in pixels at resolution coefficient 1, for the centre crop; by default the largest "
    "model's own side.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_integer("seed", None, "Of the splits.", flag_values=FLAGS)


# Pixels that are handed to a process at once.
_PART_BYTES = 128 << 20


def run(flags: Any, arguments: list[str]) -> None:
    """Prints a line a model to stdout."""
    paths = _paths(arguments)
    common.quiet_tensorflow()
    from efficientnet_elite import data as data_lib
    from efficientnet_elite.search import run as search

    found = [_load(path) for path in paths]
    if flags.workdir:
        with Ledger(common.workdir(flags)) as ledger:
            config, data = search.recorded(ledger)
        base = config.base_resolution
    else:
        # Stored images shrink to what a search at this base resolution would have stored.
        base = flags.base_resolution or max(loaded.side for loaded in found)
        data = data_lib.load(common.data_config(flags, DataConfig()), max_side=base * 3 // 2)
    for loaded in found:  # all of them, before the first is judged
        _check_output(loaded, data)
    cells = [["model", "pixels", "test images", "mIoU" if data.masks else "top-1"]]
    for path, side, _, judge in found:
        batches = data_lib.eval_batches(
            data,
            "test",
            resolution=side,
            batch_size=64,
            base_resolution=base,
        )
        try:
            judged = list(judge((x.numpy(), y.numpy()) for x, y in batches))
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
        choices, labels = map(np.concatenate, zip(*judged, strict=True))
        share = score_predictions(choices, labels, data.num_classes)
        cells.append([str(path), str(side), str(data.sizes["test"]), f"{share:.2%}"])
    print(common.table(cells), end="")


def _paths(arguments: list[str]) -> list[Path]:
    """The files to evaluate; UserError before anything that takes seconds."""
    if not arguments:
        raise UserError("name .npz checkpoints or .tflite files")
    paths = [Path(argument).expanduser() for argument in arguments]
    for path in paths:
        if path.suffix not in (".npz", ".tflite"):
            raise UserError(f"{path} is neither a .npz checkpoint nor a .tflite file")
        if not path.is_file():
            raise UserError(f"{path} is missing")
    return paths


class _Loaded(NamedTuple):
    """A network: side of its input in pixels, shape of its output without the batch."""

    path: Path
    side: int
    output: tuple[int, ...]
    judge: Judge


def _load(path: Path) -> _Loaded:
    from efficientnet_elite.export import inspect
    from efficientnet_elite.training.trainer import load_averaged

    if path.suffix == ".npz":
        model, spec, _ = load_averaged(path)
        return _Loaded(path, spec.resolution, model.output_shape[1:], partial(_in_keras, model))
    content = inspect.load(path)
    try:
        contents = inspect.read(content)
        side = inspect.image_side(contents)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return _Loaded(path, side, contents.outputs[0].shape[1:], partial(_in_litert, content))


def _check_output(loaded: _Loaded, data: ImageData) -> None:
    """UserError where a network was made for other classes, or for masks or not."""
    masks = (loaded.side, loaded.side) if data.masks else ()
    wanted = (*masks, data.num_classes)
    if loaded.output != wanted:
        given, asked = (" x ".join(map(str, shape)) for shape in (loaded.output, wanted))
        raise UserError(
            f"{loaded.path} gives {given} values for an image, {data.name} asks for {asked}: name "
            "the images that it was trained for with --dataset or --workdir"
        )


def _in_keras(model: Any, batches: Batches) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    return ((np.argmax(model(images), -1), classes) for images, classes in batches)


def _in_litert(content: bytes, batches: Batches) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """In a process of its own: the file may come from anywhere."""
    from efficientnet_elite.export.runtimes.runtime import run_isolated

    for pixels, classes in _parts(batches):
        yield run_isolated(content, pixels).argmax(-1), classes


def _parts(batches: Batches) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The batches as pixels, many at a time: starting a process takes longer than a batch."""
    kept: list[tuple[np.ndarray, np.ndarray]] = []
    for images, classes in batches:
        kept.append((np.rint((images + 1) * 128).astype(np.uint8), classes))
        if sum(pixels.nbytes for pixels, _ in kept) >= _PART_BYTES:
            yield _joined(kept)
            kept = []
    if kept:
        yield _joined(kept)


def _joined(kept: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    pixels, classes = zip(*kept, strict=True)
    return np.concatenate(pixels), np.concatenate(classes)
