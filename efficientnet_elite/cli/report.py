"""Writes report.html (one file, no network needed) and the PNG files beside it again, from what
the work directory holds now. Works at any time of a search.
"""

from __future__ import annotations

from typing import Any

from absl import flags as absl_flags

from efficientnet_elite import report
from efficientnet_elite.cli import common

FLAGS = absl_flags.FlagValues()
common.define_workdir(FLAGS)


def run(flags: Any, arguments: list[str]) -> None:
    """Prints the path of the report."""
    common.no_arguments(arguments)
    print(report.write(common.workdir(flags)))
