"""Prints the accuracy on the test part of a data set, top-1 or for segmentation mIoU, of .npz
checkpoints (with their averaged weights) and of .tflite files that take images as this tool exports
them. With --workdir the images, their split and the crop are those of that search. Without it, a
test part that the network was not trained on needs the same --dataset, --seed and fractions as its
training.

  elite evaluate --workdir=runs/digits runs/digits/export/elite9/elite9.int8.tflite
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from absl import flags as absl_flags

from efficientnet_elite.cli import common
from efficientnet_elite.config import DataConfig

FLAGS = absl_flags.FlagValues()
absl_flags.DEFINE_string(
    "workdir", None, "Take images, split and crop from this search.", flag_values=FLAGS
)
common.define_data(FLAGS)
absl_flags.DEFINE_integer(
    "base_resolution",
    None,
    "Input side in pixels at resolution coefficient 1, which sets the centre crop; by default the "
    "largest model's own.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_integer("seed", None, "Seed of the splits.", flag_values=FLAGS)


def run(flags: Any, arguments: list[str]) -> None:
    """Prints a line for each model to stdout."""
    from efficientnet_elite.job import evaluation

    paths = [Path(argument).expanduser() for argument in arguments]
    evaluation.check_paths(paths)
    common.quiet_tensorflow()
    evaluations = evaluation.evaluate(
        paths,
        workdir=common.workdir(flags) if flags.workdir else None,
        data=common.data_config(flags, DataConfig()),
        base_resolution=flags.base_resolution,
    )
    cells = [["model", "pixels", "test images", evaluations[0].score]]
    for result in evaluations:
        figures = str(result.resolution), str(result.test_images), f"{result.accuracy:.2%}"
        cells.append([str(result.path), *figures])
    print(common.table(cells), end="")
