"""Trains networks by name, each with one or more seeds, and prints the mean and the standard
deviation of their test accuracy. NAME@PIXELS trains a network at another input size. If training is
interrupted, the same command continues it. Results are also written to train.json in --workdir.

  elite train elite0 elite9 elite0@38 --seeds=3 --dataset=rendered --base_resolution=64 \\
      --epochs=20 --workdir=runs/rendered
"""

from __future__ import annotations

import sys
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from absl import flags as absl_flags

from efficientnet_elite.cli import common
from efficientnet_elite.job import request

if TYPE_CHECKING:
    from efficientnet_elite.job import Training

FLAGS = absl_flags.FlagValues()
common.define_workdir(FLAGS)
common.define_config(FLAGS)
common.define_data(FLAGS)
common.define_training(FLAGS)
absl_flags.DEFINE_integer(
    "seeds",
    1,
    "Number of trainings of each network, with the seeds --seed, --seed + 1 and so on.",
    lower_bound=1,
    flag_values=FLAGS,
)


def run(flags: Any, arguments: list[str]) -> None:
    """Trains, then prints a line for each network to stdout."""
    from efficientnet_elite.job import training

    asked = request.training_request(common.values(flags), flags.config)
    training.check_networks(arguments, asked.config.base_resolution)
    workdir = common.workdir(flags)
    common.quiet_tensorflow()
    trainings = training.train(
        arguments,
        workdir,
        asked.config,
        given=asked.given,
        seeds=flags.seeds,
        on_message=lambda text: print(text, file=sys.stderr),
    )
    head = ["network", "pixels", "params", "MACs", f"test {trainings[0].score}"]
    print(common.table([[*head, "deviation", "seeds"], *map(_cells, trainings)]), end="")


def _cells(training: Training) -> list[str]:
    accuracies = training.test_accuracies
    return [
        training.network,
        str(training.resolution),
        f"{training.params / 1e6:.2f} M",
        f"{training.macs / 1e6:.1f} M",
        f"{fmean(accuracies):.2%}",
        f"{stdev(accuracies):.2%}" if len(accuracies) > 1 else "-",
        str(len(accuracies)),
    ]
