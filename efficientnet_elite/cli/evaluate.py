"""Prints the accuracy of networks on the test part of a data set: top-1, or mIoU for segmentation.
Networks are .npz checkpoints, of which the averaged weights are used, and .tflite or .keras files,
also from elsewhere: see --input. With --workdir the images, their split and the
crop are those of that search. Without it, give the same --dataset, --seed and fractions as for
training; otherwise the test part contains images that the network was trained on.

  elite evaluate --workdir=runs/digits runs/digits/export/elite9/elite9.int8.tflite
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from absl import flags as absl_flags

from efficientnet_elite.cli import common
from efficientnet_elite.config import DataConfig
from efficientnet_elite.job import settings

FLAGS = absl_flags.FlagValues()
common.define_images(FLAGS, "largest model")
absl_flags.DEFINE_integer(
    "seed", None, "Random seed of the split into parts; by default 0.", flag_values=FLAGS
)
common.define_input(FLAGS)
common.define_trust(FLAGS)


def run(flags: Any, arguments: list[str]) -> None:
    """Prints a line for each model to stdout."""
    from efficientnet_elite.job import evaluation

    paths = [Path(argument).expanduser() for argument in arguments]
    evaluation.check_paths(paths)
    evaluation.check_images(
        flags.workdir, common.values(flags, *settings.names_of("data"), "base_resolution")
    )
    common.quiet_tensorflow()
    evaluations = evaluation.evaluate(
        paths,
        workdir=common.workdir(flags) if flags.workdir else None,
        data=common.data_config(flags, DataConfig()),
        base_resolution=flags.base_resolution,
        takes=flags.input,
        trusted=flags.trust,
    )
    cells = [["model", "pixels", "test images", evaluations[0].score]]
    for result in evaluations:
        figures = str(result.resolution), str(result.test_images), f"{result.accuracy:.2%}"
        cells.append([str(result.path), *figures])
    print(common.table(cells), end="")
