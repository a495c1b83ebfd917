"""Looks at the images of a data set before anything is trained: numbers and sizes by class, copies
and near duplicates within and across classes and parts, images that cannot be read, and images that
are blurred, dark, without contrast or, unlike the others, without colours. --html writes a page of
contact sheets, also of what training sees.

  elite data PHOTOS --html=data.html
  elite data PHOTOS --json
  elite data labels.csv --json=data.json
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median_low
from typing import TYPE_CHECKING, Any

from absl import flags as absl_flags

from efficientnet_elite.cli import common
from efficientnet_elite.job.arguments import data_set

if TYPE_CHECKING:
    from efficientnet_elite.data.survey import Survey

FLAGS = absl_flags.FlagValues()
common.define_format(
    FLAGS, "Format of the output. csv has a row for each image that something was found on."
)


class _FileOrOutput(absl_flags.ArgumentParser):
    """Parses ``--json=FILE``, and ``--json`` alone as ``-``."""

    def parse(self, argument: Any) -> str | None:
        """The file's name."""
        return {"true": "-", "false": None}.get(argument, argument)


# absl lets only flags that are called boolean stand without a value.
absl_flags.DEFINE_flag(
    absl_flags.Flag(
        _FileOrOutput(),
        None,
        "json",
        None,
        "JSON file to write; --json alone is --format=json.",
        boolean=True,
    ),
    flag_values=FLAGS,
)
absl_flags.DEFINE_string(
    "html", None, "Page to write: one file that works offline.", flag_values=FLAGS
)
absl_flags.DEFINE_integer(
    "sheet",
    24,
    "Number of images in the page as training sees them: cropped, mirrored and augmented. 0: none, "
    "which needs no TensorFlow.",
    lower_bound=0,
    flag_values=FLAGS,
)
common.define_data(FLAGS)
common.define_options(FLAGS, "base_resolution", "input_size", "seed")


def run(flags: Any, arguments: list[str]) -> None:
    """Prints the survey to stdout and writes the files that are asked for."""
    from efficientnet_elite.job import survey
    from efficientnet_elite.report import survey_data
    from efficientnet_elite.search.workdir import write_json

    common.no_arguments(arguments[1:])
    options = common.values(flags, *survey.OPTIONS)
    if arguments:
        if options["dataset"] is not None:
            common.no_arguments(arguments)
        options["dataset"] = data_set(arguments[0])
    if flags.html and flags.sheet:
        common.quiet_tensorflow()
    found = survey.survey_images(
        options, html=Path(flags.html).expanduser() if flags.html else None, sheet=flags.sheet
    )
    if flags.json and flags.json != "-":
        write_json(Path(flags.json).expanduser(), survey_data.as_object(found))
    if flags.format == "json" or flags.json == "-":
        print(json.dumps(survey_data.as_object(found), indent=2))
    elif flags.format == "csv":
        print(common.as_csv(survey_data.as_rows(found), survey_data.ROW), end="")
    else:
        _print(found)


def _print(found: Survey) -> None:
    """The classes, then what is to be looked at, as tables."""
    from efficientnet_elite.report import survey_data
    from efficientnet_elite.report.markup import plural

    counts = found.counts()
    cells = [["class", *counts]]
    for label, name in enumerate(found.listing.class_names):
        cells.append([name, *(f"{number[label]:,}" for number in counts.values())])
    cells.append(["all", *(f"{number.sum():,}" for number in counts.values())])
    print(common.table(cells))
    if sides := found.shorter_sides():
        span = f"{min(sides)} to {max(sides)} px, median {median_low(sides)} px"
        print(f"shorter sides: {span}")
    remarks, rows = survey_data.remarks(found), survey_data.summary(found)
    for remark in remarks:
        print(remark)
    if not rows:
        print("nothing else is suspicious" if remarks else "nothing is suspicious")
        return
    print()
    for title, count, meaning, example in rows:
        print(f"{title}: {plural(count, 'image')} ({meaning}), such as\n  {example}")
