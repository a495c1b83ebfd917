"""Prints the settings of a search as a complete TOML file with a comment for each. Edit the file
and give it to `elite search --config=FILE.toml`. Flags change the settings that are printed. Where
networks start from pretrained weights, the recipe that suits these is printed.

  elite config --config=quick --dataset=folder:photos > photos.toml
  elite config --format=markdown > docs/configuration.md
"""

from __future__ import annotations

from typing import Any

from absl import flags as absl_flags

from efficientnet_elite.cli import common
from efficientnet_elite.config import AUTO
from efficientnet_elite.job import automatic, config_file, starts

FLAGS = absl_flags.FlagValues()
common.define_search(FLAGS)
common.define_format(
    FLAGS,
    "Form of the output. toml: a file of settings; markdown: the page of the documentation that "
    "describes all settings.",
    formats=("toml", "markdown"),
)


def run(flags: Any, arguments: list[str]) -> None:
    """Prints the file or the page to stdout, and nothing else."""
    asked = common.search_request(flags, arguments)
    if flags.format == "markdown":
        print(config_file.as_markdown(), end="")
        return
    config = starts.begun(asked.config, asked.given, starts.kinds_of_pool(asked.config.pool))
    undecided = {*starts.LENGTHS} if config.train.is_pretrained else set()
    if asked.automatic:
        undecided |= automatic.CHOSEN
    shown = config if config.train.is_pretrained else asked.config
    base = AUTO if asked.automatic else None
    print(config_file.as_toml(shown, undecided - asked.given, base), end="")
