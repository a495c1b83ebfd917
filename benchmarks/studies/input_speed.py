"""Measures how fast images become batches (docs/speed.md).

    python -m benchmarks.studies.input_speed --images=FOLDER --resolutions=96,224 --json=FILE

FOLDER holds JPEG images, or folders of them; their names mean nothing here. All paths take turns on
the same images and the same two cores, and are compared with the first:

- decode: `tf.io.decode_jpeg` alone, nothing else done with the pixels;
- cached: training batches from the cache of decoded images;
- cached+augment: the same, with the augmentation that --augment names;
- uncached: training batches of images that are decoded anew each time;
- evaluation: batches of the evaluation, from the cache of evaluation parts;
- keras: `image_dataset_from_directory`, then Keras layers that crop and mirror at random.

It prints images per second of CPU time, of all threads together, and the ratio to decode. On a
shared machine only ratios are reliable.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from absl import flags

from efficientnet_elite.benchmarks.studies import command, tables
from efficientnet_elite.config import DataConfig
from efficientnet_elite.errors import UserError

FLAGS = flags.FlagValues()
flags.DEFINE_string("images", None, "Folder of JPEG images.", required=True, flag_values=FLAGS)
flags.DEFINE_list(
    "resolutions", ["96", "224"], "Sides of the network's input in pixels.", flag_values=FLAGS
)
flags.DEFINE_string("json", None, "File for the results.", flag_values=FLAGS)
flags.DEFINE_integer(
    "most", 400, "The most images of the folder to use.", lower_bound=10, flag_values=FLAGS
)
flags.DEFINE_integer(
    "turns", 3, "Number of measurements of each path.", lower_bound=1, flag_values=FLAGS
)
flags.DEFINE_integer("count", 600, "Images of one measurement.", lower_bound=100, flag_values=FLAGS)
flags.DEFINE_string(
    "augment",
    "autoaugment",
    "Augmentation of the path cached+augment.",
    flag_values=FLAGS,
)

_BATCH, _THREADS = 50, 2
_SUFFIXES = {".jpg", ".jpeg"}

Streams = dict[str, Callable[[], Iterator[Any]]]
"""Name of a path to a function that begins its batches, each a pair: the first is as long as it."""


def main() -> None:
    """Measures all paths at all resolutions and prints the table to stdout."""
    _limit_threads()
    files = _jpeg_files(Path(FLAGS.images), FLAGS.most)
    try:
        resolutions = [int(text) for text in FLAGS.resolutions]
    except ValueError:
        raise UserError(f"--resolutions={','.join(FLAGS.resolutions)} are no numbers") from None
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = _as_class_folders(files, Path(name) / "images")
        for resolution in resolutions:
            streams = _streams(files, folder, Path(name) / f"cache{resolution}", resolution)
            speeds = _measure(streams, FLAGS.count, FLAGS.turns)
            rows += [
                {
                    "path": path,
                    "resolution": resolution,
                    "images_per_cpu_second": round(speed, 1),
                    "ratio": round(speed / speeds["decode"], 3),
                }
                for path, speed in speeds.items()
            ]
    if FLAGS.json is not None:
        Path(FLAGS.json).write_text(json.dumps(rows, indent=1) + "\n")
    cells = [[str(value) for value in row.values()] for row in rows]
    print(tables.aligned(list(rows[0]), cells), end="")


def _jpeg_files(folder: Path, most: int) -> list[Path]:
    """Returns images of a folder that TensorFlow can decode, evenly from all of it."""
    import tensorflow as tf

    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: give a folder of JPEG images with --images")
    files = sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file()
    )
    files = files[:: max(1, -(-len(files) // most))]
    usable = []
    for path in files:
        try:
            tf.io.decode_jpeg(path.read_bytes(), channels=3)
        except tf.errors.OpError:
            continue
        usable.append(path.resolve())
    if len(usable) < 2 * _BATCH:
        raise UserError(
            f"{folder} has {len(usable)} usable JPEG images: at least {2 * _BATCH} are needed"
        )
    return usable


def _limit_threads() -> None:
    import tensorflow as tf

    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[:_THREADS])
    tf.config.threading.set_intra_op_parallelism_threads(_THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(_THREADS)
    tf.config.experimental.enable_op_determinism()  # as in a training


def _as_class_folders(files: Sequence[Path], folder: Path) -> Path:
    for number, path in enumerate(files):
        link = folder / "ab"[number % 2] / f"{number:05d}.jpg"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    return folder


def _streams(files: Sequence[Path], folder: Path, cache: Path, resolution: int) -> Streams:
    from efficientnet_elite import data as data_lib

    config = DataConfig(dataset=f"folder:{folder}", validation=0.25, test_fraction=0.25)
    options: dict[str, Any] = {"max_side": resolution * 3 // 2, "progress": False}
    cached = data_lib.load(config, cache_dir=cache, **options)
    augmented = data_lib.load(replace(config, augment=FLAGS.augment), cache_dir=cache, **options)
    uncached = data_lib.load(replace(config, cache_gb=0.0), **options)

    def train(data: Any) -> Iterator[Any]:
        stream, _ = data_lib.train_batches(data, resolution=resolution, batch_size=_BATCH, seed=0)
        return iter(stream)

    def evaluation() -> Iterator[Any]:
        batches = data_lib.eval_batches(
            cached,
            "validation",
            resolution=resolution,
            batch_size=_BATCH,
            base_resolution=resolution,
        )
        return iter(batches.repeat())

    streams: Streams = {
        "decode": lambda: _decoded(files),
        "cached": lambda: train(cached),
        "cached+augment": lambda: train(augmented),
        "uncached": lambda: train(uncached),
        "evaluation": evaluation,
        "keras": lambda: _keras(folder, resolution),
    }
    return streams


def _decoded(files: Sequence[Path]) -> Iterator[Any]:
    import tensorflow as tf

    def decode(path: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.shape(tf.io.decode_jpeg(tf.io.read_file(path), channels=3)), path

    paths = tf.data.Dataset.from_tensor_slices([str(path) for path in files]).repeat()
    return iter(paths.map(decode, num_parallel_calls=_THREADS).batch(_BATCH))


def _keras(folder: Path, resolution: int) -> Iterator[Any]:
    import keras
    import tensorflow as tf

    side = resolution * 8 // 7  # as usual: 256 pixels for crops of 224
    images = keras.utils.image_dataset_from_directory(
        folder, image_size=(side, side), batch_size=_BATCH, seed=0, verbose=False
    ).repeat()
    crop = keras.layers.RandomCrop(resolution, resolution, seed=0)
    flip = keras.layers.RandomFlip("horizontal", seed=0)

    def augment(batch: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return flip(crop(batch, training=True), training=True), labels

    return iter(images.map(augment, num_parallel_calls=_THREADS).prefetch(tf.data.AUTOTUNE))


def _measure(streams: Streams, count: int, turns: int) -> dict[str, float]:
    """Returns the images per second of CPU time of each path; paths take turns."""
    seconds = dict.fromkeys(streams, 0.0)
    images: Counter[str] = Counter()
    for turn in range(turns):
        for path in list(streams)[:: -1 if turn % 2 else 1]:
            batches = streams[path]()
            for _ in range(3):  # graphs are built, and buffers are filled
                next(batches)
            started, done = time.process_time(), 0
            while done < count:
                done += len(next(batches)[0])
            seconds[path] += time.process_time() - started
            images[path] += done
            del batches
    return {path: images[path] / seconds[path] for path in streams}


if __name__ == "__main__":
    command.run(FLAGS, main)
