"""Shows groups, survivors, scores and the time left of a search, running or not."""

from __future__ import annotations

import json
from typing import Any

from absl import flags as absl_flags

from efficientnet_elite import summary
from efficientnet_elite.cli import common
from efficientnet_elite.ledger import Ledger

FLAGS = absl_flags.FlagValues()
common.define_workdir(FLAGS)
absl_flags.DEFINE_enum("format", "table", ["table", "json"], "How to print.", flag_values=FLAGS)


def run(flags: Any, arguments: list[str]) -> None:
    """Prints the state of the search to stdout."""
    common.no_arguments(arguments)
    with Ledger(common.workdir(flags)) as ledger:
        state = summary.summarize(ledger)
    if flags.format == "json":
        print(json.dumps(summary.as_dict(state), indent=2))
    else:
        print(summary.as_text(state), end="")
