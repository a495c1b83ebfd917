"""Trains every network of a pool once to compute what a larger pretrained network computes, and
writes the weights to --workdir, one file for each network. `elite search` and `elite train` with
--pretrained=DIR then start each network from its own file. If training is interrupted, the same
command continues it. --max_... and --max_candidates choose networks.

  elite pretrain --pool=elite-relu6-nose --pretrained=lite --dataset=folder:MANY_IMAGES \\
      --base_resolution=96 --workdir=pretrained
  elite search --pool=elite-relu6-nose --pretrained=./pretrained --dataset=folder:PHOTOS \\
      --base_resolution=96 --workdir=runs/photos
"""

from __future__ import annotations

import sys
from typing import Any

from absl import flags as absl_flags

from efficientnet_elite.cli import common
from efficientnet_elite.job import request

FLAGS = absl_flags.FlagValues()
common.define_workdir(FLAGS)
common.define_config(FLAGS)
common.define_pool(FLAGS)
common.define_grouping(FLAGS)
common.define_limits(FLAGS)
common.define_options(FLAGS, "max_candidates")
common.define_data(FLAGS)
common.define_training(FLAGS)
absl_flags.DEFINE_integer(
    "classes",
    10,
    "Number of classes that the networks are to have later. Limits on parameters and sizes "
    "depend on it.",
    lower_bound=1,
    flag_values=FLAGS,
)


def run(flags: Any, arguments: list[str]) -> None:
    """Trains, then prints a line for each network to stdout."""
    common.no_arguments(arguments)
    workdir = common.workdir(flags)
    asked = request.search_request(common.values(flags), flags.config)
    common.quiet_tensorflow()
    from efficientnet_elite.job.pretraining import pretrain

    networks = pretrain(
        asked.config,
        workdir,
        given=asked.given,
        classes=flags.classes,
        on_message=lambda text: print(text, file=sys.stderr),
    )
    cells = [["network", "test accuracy", "weights"]]
    for each in networks:
        trained = each.training
        accuracy = "as the source" if trained is None else f"{trained.test_accuracies[0]:.2%}"
        cells.append([each.network, accuracy, each.file.name])
    print(common.table(cells), end="")
    print(f"use them with --pretrained={workdir.absolute()}")
