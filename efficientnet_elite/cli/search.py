"""Trains the candidates of a pool in rounds, eliminates half of each cost group a round, trains
every group's champion to the end, exports the champions to float32 and int8 TFLite, verifies and
benchmarks them, and writes report.html. All of it lies in --workdir; the same command continues a
search that was interrupted at any point.

  elite search --config=quick --workdir=runs/digits
  elite search --dataset=folder:PHOTOS --base_resolution=96 --epochs=60 --workdir=runs/photos
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any

from absl import flags as absl_flags

from efficientnet_elite.cli import common
from efficientnet_elite.config import PRESETS, SELECT, EngineConfig, SearchConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.search import rules

if TYPE_CHECKING:
    from efficientnet_elite.data import SkippedImage

FLAGS = absl_flags.FlagValues()
common.define_workdir(FLAGS)
absl_flags.DEFINE_enum(
    "config",
    "quick",
    list(PRESETS),
    "Settings to start from; every other flag overrides one of them.",
    flag_values=FLAGS,
)
common.define_data(FLAGS)
common.define_pool(FLAGS, "The candidates")
common.define_grouping(FLAGS)
common.define_limits(FLAGS)
for _parameter in rules.PARAMETERS:
    absl_flags.DEFINE_integer(_parameter, None, rules.parameter_help(_parameter), flag_values=FLAGS)
absl_flags.DEFINE_enum(
    "rule",
    None,
    list(rules.RULES),
    f"Rule of elimination: average (the paper's), {rules.RECOMMENDED} (the recommended one) or "
    "another.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_enum(
    "select",
    None,
    list(SELECT),
    "Accuracy that decides the last eliminations of each group: float, or that of the network in "
    "full int8, which is measured then.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_integer(
    "max_candidates",
    None,
    "Train only this many candidates, spread over the groups.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_integer(
    "seeds",
    None,
    "Measure the noise of scores: train one candidate of each group with so many seeds up to the "
    "first elimination. By default noise is estimated from the curves.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_integer(
    "budget_epochs",
    None,
    "Epochs that all candidates together may be trained for: rounds are shortened, then candidates "
    "left out, so that every group still gets its champion.",
    flag_values=FLAGS,
)
absl_flags.DEFINE_float(
    "budget_hours",
    None,
    "The same in hours on --workers of this machine, whose pace is measured first. If it becomes "
    "slower, tournaments and in the end the training of champions are ended early.",
    flag_values=FLAGS,
)
common.define_training(FLAGS)
common.define_engine(FLAGS)
absl_flags.DEFINE_boolean(
    "export",
    True,
    "Export, verify, benchmark and report when the search is done.",
    flag_values=FLAGS,
)


def config_of(flags: Any) -> SearchConfig:
    """The preset with the flags that were set."""
    preset = PRESETS[flags.config]()
    train = replace(preset.train, **common.given(flags, "epochs", "batch_size", "learning_rate"))
    for name in rules.PARAMETERS:
        if getattr(flags, name) is not None:
            rules.check_parameter(flags.rule or preset.rule, name)
    if flags.round_epochs is not None or flags.rule not in (None, preset.rule):
        # The preset's first elimination belongs to its own rule and rounds.
        preset = replace(preset, first_elimination=None)
    names = (
        *rules.PARAMETERS,
        "pool",
        "groups",
        "group_by",
        "group_method",
        "rule",
        "select",
        "max_candidates",
        "seeds",
        "budget_epochs",
        "budget_hours",
        "base_resolution",
        "seed",
        "threads",
    )
    return replace(
        preset,
        data=common.data_config(flags, preset.data),
        train=train,
        limits=common.limits_of(flags),
        metric_table=common.metric_table(flags),
        **common.given(flags, *names),
    )


_NAMED = 20  # unreadable images on the screen


def _name() -> Callable[[SkippedImage], None]:
    """Prints the first unreadable images, and that there are more."""
    numbers = count(1)

    def name(image: SkippedImage) -> None:
        number = next(numbers)
        if number <= _NAMED:
            print(f"skipped {image.path}: {image.reason}", file=sys.stderr)
        elif number == _NAMED + 1:
            more = "more are skipped: the report's table skipped_images lists them all"
            print(more, file=sys.stderr)

    return name


def run(flags: Any, arguments: list[str]) -> None:
    """Search, export, benchmark, report."""
    common.no_arguments(arguments)
    config, workdir = config_of(flags), common.workdir(flags)
    engine = EngineConfig(flags.engine, flags.workers, flags.ray_address)
    common.quiet_tensorflow()
    from efficientnet_elite.benchmarks.latency import cpu_name
    from efficientnet_elite.export.int8.quantizer import int8_form
    from efficientnet_elite.export.measure import Measurer
    from efficientnet_elite.search import run as search

    champions = search.run(
        config,
        workdir,
        engine=engine,
        machine=cpu_name(),
        on_skipped=_name(),
        on_message=lambda text: print(text, file=sys.stderr),
        measure=Measurer(workdir / "metrics", config.metric_table),
        quantize=int8_form,
    )
    if not champions:
        raise UserError(f"no candidate could be trained to the end: see {workdir}/ledger.sqlite")
    if not flags.export:
        return
    from efficientnet_elite import report
    from efficientnet_elite.cli import benchmark
    from efficientnet_elite.export import workdir as export_workdir

    problem = None
    try:
        exported = export_workdir.export_champions(workdir, again=False)
    except UserError as error:  # the champions that passed still get their figures
        problem, exported = error, []
    if list((workdir / "export").glob("*/*.tflite")):
        if exported or problem or not (workdir / "benchmark.json").is_file():
            benchmark.of_champions(workdir)
        print(common.exported_table(export_workdir.read_sidecars(workdir)), end="")
    print(f"report: {report.write_page(workdir)}")
    if problem is not None:
        raise problem
