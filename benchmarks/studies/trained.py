"""Trained networks and their images, for programs that measure exports."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from efficientnet_elite.export.runtimes.isolated import Arrays

if TYPE_CHECKING:
    import keras

    from efficientnet_elite.data import ImageData

_BATCH = 64


def define_flags() -> None:
    """``--checkpoints`` and what tells their images."""
    flags.DEFINE_list("checkpoints", [], "Of trained networks (.ckpt or .npz).")
    flags.DEFINE_string("dataset", "digits", "That they were trained on.")
    flags.DEFINE_float("validation_fraction", 0.2, "As in their training.")
    flags.DEFINE_float("test_fraction", 0.2, "As in their training.")
    flags.DEFINE_integer("base_resolution", 32, "As in their training.")
    flags.DEFINE_string("cache_dir", None, "Keep decoded images here for later runs.")
    flags.DEFINE_integer("images", 0, "Judge by so many images of a part; 0: all.")
    flags.DEFINE_integer("calibration_images", 200, "That set the int8 ranges.")


@dataclass(frozen=True)
class Trained:
    """A network with its images, float32 (N, side, side, 3), pixel / 128 - 1.

    Attributes:
      name: of its checkpoint.
      model: the network, with averaged weights.
      data: the data set.
    """

    name: str
    model: keras.Model
    data: ImageData

    @property
    def calibration(self) -> np.ndarray:
        """Training images, in turn from all classes."""
        from efficientnet_elite import data as data_lib

        values = flags.FLAGS
        images, _ = data_lib.calibration_images(
            self.data, **self._sizes, count=values.calibration_images, seed=0
        )
        return images

    def part(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Images of a part as evaluation sees them, and their classes."""
        from efficientnet_elite import data as data_lib

        batches = data_lib.eval_batches(self.data, name, **self._sizes, batch_size=_BATCH)
        limit = flags.FLAGS.images
        if limit:
            batches = batches.take(-(-limit // _BATCH))
        images, classes = zip(*((x.numpy(), y.numpy()) for x, y in batches), strict=True)
        return np.concatenate(images), np.concatenate(classes)

    @property
    def _sizes(self) -> dict[str, int]:
        base = flags.FLAGS.base_resolution
        return {"resolution": self.model.input_shape[1], "base_resolution": base}


def networks() -> Iterator[Trained]:
    """The networks of ``--checkpoints``, one after the other."""
    from efficientnet_elite import data as data_lib
    from efficientnet_elite.config import DataConfig
    from efficientnet_elite.training.trainer import load_averaged

    values = flags.FLAGS
    config = DataConfig(
        dataset=values.dataset,
        validation_fraction=values.validation_fraction,
        test_fraction=values.test_fraction,
    )
    cache = values.cache_dir and Path(values.cache_dir)
    data = data_lib.load(config, cache_dir=cache)
    for path in map(Path, values.checkpoints):
        yield Trained(path.stem, load_averaged(path)[0], data)


def measured_export(arguments: Arrays) -> Mapping[str, float]:
    """For a process of its own: exports a `.keras` file, and tells what it took."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    from efficientnet_elite.export import champion, keras_file

    model = keras_file.load(Path(str(arguments["path"])))
    images, classes = arguments["images"], arguments["classes"]
    exported = champion.export_model(
        model,
        name="net",
        out_dir=Path(str(arguments["folder"])),
        labels=[str(index) for index in range(model.output_shape[-1])],
        calibration_images=arguments["calibration"],
        test_batches=((images[i : i + 64], classes[i : i + 64]) for i in range(0, len(images), 64)),
        details={},
    )
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return {
        "seconds": exported.seconds,
        "memory": int(peak) * 1024,
        "float_bytes": exported.float_bytes,
        "float_accuracy": exported.float_accuracy,
        "int8_accuracy": exported.int8_accuracy,
    }


def show(rows: Iterable[list[str]]) -> None:
    """Prints a Markdown table, each row as soon as it is known; the first is the head."""
    for number, row in enumerate(rows):
        print(f"| {' | '.join(row)} |", flush=True)
        if number == 0:
            print(f"| {' | '.join(['---'] * len(row))} |")
