"""Writes report.html and its PNG files again from the present content of the work directory. The
search or training may be running or finished. The page is one file and works offline. With
--format=json all of its data are written to report.json, with a description of each value; with
--format=csv each table is written as a CSV file in the folder report.
"""

from __future__ import annotations

from typing import Any

from absl import flags as absl_flags

from efficientnet_elite import report
from efficientnet_elite.cli import common

FLAGS = absl_flags.FlagValues()
common.define_workdir(FLAGS)
common.define_format(
    FLAGS,
    "What is written: the page, its data as JSON, or its tables as CSV.",
    formats=("html", "json", "csv"),
)


def run(flags: Any, arguments: list[str]) -> None:
    """Prints the paths of the files that were written."""
    common.no_arguments(arguments)
    workdir = common.workdir(flags)
    if flags.format == "html":
        print(report.write_page(workdir))
    elif flags.format == "json":
        print(report.write_data(workdir))
    else:
        print(*report.write_tables(workdir), sep="\n")
