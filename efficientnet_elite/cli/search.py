"""Trains the candidates of a pool in rounds. After each round about half of every cost group is
eliminated. The champion of each group is trained to the end, exported to float32 and int8 TFLite,
verified and benchmarked. Then report.html is written. All files are written to --workdir. If the
search is interrupted, the same command continues it.

The argument is a folder that holds one folder of images for each class, or any value of --dataset.
All settings are then chosen by the images and this machine (--config=auto), and the plan is
printed with the flags that change it.

  elite search PHOTOS
  elite search PHOTOS --max_size_kb=1000 --budget_minutes=60
  elite search PHOTOS --input_size=96x128
  elite search --config=quick --workdir=runs/digits
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any

from absl import flags as absl_flags

from efficientnet_elite.cli import common
from efficientnet_elite.config import EngineConfig
from efficientnet_elite.job import automatic

if TYPE_CHECKING:
    from efficientnet_elite.data import SkippedImage
    from efficientnet_elite.job import SearchResult

FLAGS = absl_flags.FlagValues()
common.define_optional_workdir(FLAGS)
common.define_search(FLAGS)
common.define_engine(FLAGS)
absl_flags.DEFINE_boolean(
    "export",
    True,
    "Export, verify and benchmark the champions and write the report when the search is "
    "finished; --noexport leaves this out.",
    flag_values=FLAGS,
)

_MOST_SKIPPED = 20  # unreadable images that are named on the screen


def _skipped_printer() -> Callable[[SkippedImage], None]:
    """A function that prints the first unreadable images, and then once that there are more."""
    numbers = count(1)

    def show(image: SkippedImage) -> None:
        number = next(numbers)
        if number <= _MOST_SKIPPED:
            print(f"skipped {image.path}: {image.reason}", file=sys.stderr)
        elif number == _MOST_SKIPPED + 1:
            more = "more are skipped: the report's table skipped_images lists them all"
            print(more, file=sys.stderr)

    return show


def run(flags: Any, arguments: list[str]) -> None:
    """Runs the whole job; prints latencies, champions and the report's path."""
    request = common.search_request(flags, arguments)
    if request.message:
        print(request.message, file=sys.stderr)
    engine = EngineConfig(
        flags.engine,
        flags.workers,
        flags.backend,
        flags.ray_address,
        flags.ray_patience,
        flags.memory_gb,
    )
    about = {**common.search_options(flags, arguments), "config": flags.config}
    workdir = common.made_workdir(flags, "search", (), about)
    common.quiet_tensorflow()
    from efficientnet_elite import job

    if engine.name == "local" and engine.workers is None:
        engine = replace(engine, workers=automatic.workers(request.config))
    try:
        result = job.search(
            request.config,
            workdir,
            given=request.given,
            automatic=request.automatic,
            engine=engine,
            export=flags.export,
            on_message=lambda text: print(text, file=sys.stderr),
            on_skipped=_skipped_printer(),
            on_latencies=lambda text: print(text, end=""),
        )
    except job.ExportError as error:
        _show(error.result)
        raise
    _show(result)


def _show(result: SearchResult) -> None:
    """Prints a table of the champions, where they have been exported, and the report's path."""
    if result.report is None:
        return
    from efficientnet_elite.export.workdir import read_sidecars

    if sidecars := read_sidecars(result.workdir):
        print(common.exported_table(sidecars), end="")
    print(f"report: {result.report}")
