"""Exports the champions of a finished search to float32 and int8 TFLite, with labels.txt and a
JSON sidecar, and verifies them on the test part with LiteRT. Arguments name single champions.

  elite export --workdir=runs/digits
  elite export --workdir=runs/digits elite9
"""

from __future__ import annotations

from typing import Any

from absl import flags as absl_flags

from efficientnet_elite.cli import common

FLAGS = absl_flags.FlagValues()
common.define_workdir(FLAGS)


def run(flags: Any, arguments: list[str]) -> None:
    """Exports, then prints a line a champion to stdout."""
    common.quiet_tensorflow()
    from efficientnet_elite.export import workdir as export_workdir

    workdir = common.workdir(flags)
    export_workdir.export_champions(workdir, names=arguments)
    print(common.exported_table(export_workdir.read_sidecars(workdir)), end="")
