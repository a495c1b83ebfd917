"""Writes report.html (one file, no network needed) and the PNG files beside it again, from what
the work directory holds now. Works at any time of a search. With --format=json all that it shows
goes into report.json, documented within; with --format=csv into a file a table in report/.
"""

from __future__ import annotations

from typing import Any

from absl import flags as absl_flags

from efficientnet_elite import report
from efficientnet_elite.cli import common

FLAGS = absl_flags.FlagValues()
common.define_workdir(FLAGS)
absl_flags.DEFINE_enum(
    "format", "html", ["html", "json", "csv"], "What to write.", flag_values=FLAGS
)


def run(flags: Any, arguments: list[str]) -> None:
    """Prints the paths of what was written."""
    common.no_arguments(arguments)
    workdir = common.workdir(flags)
    if flags.format == "html":
        print(report.write_page(workdir))
    elif flags.format == "json":
        print(report.write_data(workdir))
    else:
        print(*report.write_tables(workdir), sep="\n")
