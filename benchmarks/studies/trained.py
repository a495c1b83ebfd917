"""Loads trained networks and their images, for the studies of int8 quantization and exports."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from efficientnet_elite.export.runtimes.isolated import Arrays

if TYPE_CHECKING:
    import keras

    from efficientnet_elite.data import ImageData

_BATCH_SIZE = 64


def define_flags(values: flags.FlagValues) -> None:
    """Defines ``--checkpoints`` and the flags that say which images the networks use."""
    flags.DEFINE_list(
        "checkpoints", [], "Checkpoints of trained networks (.ckpt or .npz).", flag_values=values
    )
    flags.DEFINE_string(
        "dataset", "digits", "Data set that the networks were trained on.", flag_values=values
    )
    for name in ("validation", "test_fraction"):
        text = f"The value of --{name} in the networks' training."
        flags.DEFINE_float(name, 0.2, text, flag_values=values)
    flags.DEFINE_integer(
        "base_resolution",
        32,
        "The value of --base_resolution in the networks' training.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "cache_dir", None, "Folder that keeps decoded images for later runs.", flag_values=values
    )
    flags.DEFINE_integer(
        "images", 0, "Number of images to evaluate on, rounded up to batches of 64; 0 uses all.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_integer(
        "calibration_images",
        200,
        "Number of training images that determine the int8 ranges.",
        flag_values=values,
    )


@dataclass(frozen=True)
class TrainedNetwork:
    """A trained network and its images. Images are float32 (N, side, side, 3), pixel / 128 - 1.

    Attributes:
      name: name of the checkpoint's file, without its ending.
      model: the network, with averaged weights.
      data: the data set that it was trained on.
      flags: the flags of `define_flags`, parsed.
    """

    name: str
    model: keras.Model
    data: ImageData
    flags: flags.FlagValues

    def calibration_images(self) -> np.ndarray:
        """Returns ``--calibration_images`` training images, taken from all classes in turn."""
        from efficientnet_elite import data as data_lib

        images, _ = data_lib.calibration_images(
            self.data, **self._sizes, count=self.flags.calibration_images, seed=0
        )
        return images

    def part(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns images of a part of the data as evaluation sees them, and their classes (N,)."""
        from efficientnet_elite import data as data_lib

        batches = data_lib.eval_batches(self.data, name, **self._sizes, batch_size=_BATCH_SIZE)
        if self.flags.images:
            batches = batches.take(-(-self.flags.images // _BATCH_SIZE))  # rounded up
        images, classes = zip(*((x.numpy(), y.numpy()) for x, y in batches), strict=True)
        return np.concatenate(images), np.concatenate(classes)

    @property
    def _sizes(self) -> dict[str, int]:
        return {
            "resolution": self.model.input_shape[1],
            "base_resolution": self.flags.base_resolution,
        }


def networks(values: flags.FlagValues) -> Iterator[TrainedNetwork]:
    """Yields the networks of ``--checkpoints``, one after the other."""
    from efficientnet_elite import data as data_lib
    from efficientnet_elite.config import DataConfig
    from efficientnet_elite.training.loading import load_averaged

    config = DataConfig(
        dataset=values.dataset,
        validation=values.validation,
        test_fraction=values.test_fraction,
    )
    cache = values.cache_dir and Path(values.cache_dir)
    data = data_lib.load(config, cache_dir=cache)
    for path in map(Path, values.checkpoints):
        yield TrainedNetwork(path.stem, load_averaged(path)[0], data, values)


def measured_export(arguments: Arrays) -> Mapping[str, float]:
    """Exports a network and measures what the export takes. Call it in a process of its own.

    Args:
      arguments: ``path`` of a `.keras` file; ``folder`` for the exported files; ``calibration``,
        images (N, side, side, 3); ``images`` and ``classes`` for the accuracies.

    Returns:
      ``seconds``; ``memory``, the process's peak memory in bytes; ``float_bytes``, size of the
      float32 file; ``float_accuracy`` and ``int8_accuracy`` (0..1).
    """
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    from efficientnet_elite.export import champion, keras_file

    model = keras_file.load(Path(str(arguments["path"])))
    images, classes = arguments["images"], arguments["classes"]
    starts = range(0, len(images), _BATCH_SIZE)
    exported = champion.export_model(
        model,
        name="net",
        out_dir=Path(str(arguments["folder"])),
        labels=[str(index) for index in range(model.output_shape[-1])],
        calibration_images=arguments["calibration"],
        test_batches=((images[i : i + _BATCH_SIZE], classes[i : i + _BATCH_SIZE]) for i in starts),
        details={},
    )
    (peak_kib,) = re.findall(
        r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8")
    )
    return {
        "seconds": exported.seconds,
        "memory": int(peak_kib) * 1024,
        "float_bytes": exported.float_bytes,
        "float_accuracy": exported.float_accuracy,
        "int8_accuracy": exported.int8_accuracy,
    }
