"""Trains networks, each with one or more seeds, and prints the mean and the standard deviation of
their test accuracy. A single network is then exported to float32 and int8 TFLite, verified and
measured, like a champion of a search. If training is interrupted, the same command continues it.
Results are also written to train.json in --workdir, and report.html shows them.

Arguments are names of networks, and a folder that holds one folder of images for each class (or any
value of --dataset). Without a name, the largest network within the limits is trained.
NAME@PIXELS and NAME@HEIGHTxWIDTH train a network at another input size.

  elite train PHOTOS
  elite train PHOTOS --max_size_kb=1000
  elite train elite9 PHOTOS --input_size=96x128
  elite train elite0 elite9 elite0@38 --seeds=3 --dataset=rendered --base_resolution=64 \\
      --epochs=20 --workdir=runs/rendered
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from absl import flags as absl_flags

from efficientnet_elite import report
from efficientnet_elite.cli import common
from efficientnet_elite.job import request
from efficientnet_elite.job.arguments import split

if TYPE_CHECKING:
    from efficientnet_elite.job import Training

FLAGS = absl_flags.FlagValues()
common.define_optional_workdir(FLAGS)
common.define_config(FLAGS)
common.define_data(FLAGS)
common.define_training(FLAGS)
common.define_limits(FLAGS)
common.define_options(FLAGS, "device", "latency_target")
absl_flags.DEFINE_integer(
    "seeds",
    1,
    "Number of trainings of each network, with the seeds --seed, --seed + 1 and so on.",
    lower_bound=1,
    flag_values=FLAGS,
)
absl_flags.DEFINE_boolean(
    "export",
    None,
    "Export and verify the trained networks. By default this is done where a single network is "
    "trained with one seed.",
    flag_values=FLAGS,
)


def run(flags: Any, arguments: list[str]) -> None:
    """Trains, then prints a line for each network to stdout."""
    from efficientnet_elite.job import training

    networks, dataset = split(arguments, flags.dataset)
    options = {**common.values(flags), "dataset": dataset}
    asked = request.training_request(options, flags.config)
    if asked.message:
        print(asked.message, file=sys.stderr)
    training.check_request(networks, asked, has_data_set=dataset is not None)
    about = {name: v for name, v in options.items() if name not in ("workdir", "export")}
    workdir = common.made_workdir(flags, "train", networks, about)
    common.quiet_tensorflow()
    trainings = training.train(
        networks,
        workdir,
        asked.config,
        given=asked.given,
        automatic=asked.automatic,
        seeds=flags.seeds,
        export=flags.export,
        on_message=lambda text: print(text, file=sys.stderr),
        on_latencies=lambda text: print(text, end=""),
    )
    head = ["network", "pixels", "params", "MACs", f"test {trainings[0].score}"]
    print(common.table([[*head, "deviation", "seeds"], *map(_cells, trainings)]), end="")
    _show_exports(workdir)


def _show_exports(workdir: Path) -> None:
    """Prints a table of the exported networks, and where their files and the report are."""
    from efficientnet_elite.export import beside
    from efficientnet_elite.export import workdir as export_workdir

    if sidecars := export_workdir.read_sidecars(workdir):
        print(common.exported_table(sidecars, "network"), end="")
        print(f"files: {workdir / beside.FOLDER}")
    print(f"report: {workdir / report.REPORT_FILE}")


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
