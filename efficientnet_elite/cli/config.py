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
from efficientnet_elite.job import config_file, starts

FLAGS = absl_flags.FlagValues()
common.define_search(FLAGS)
absl_flags.DEFINE_enum(
    "format",
    "toml",
    ["toml", "markdown"],
    "Form of the output. toml: a file of settings; markdown: the page of the documentation that "
    "describes all settings.",
    flag_values=FLAGS,
)


def run(flags: Any, arguments: list[str]) -> None:
    """Prints the file or the page to stdout, and nothing else."""
    common.no_arguments(arguments)
    if flags.format == "markdown":
        print(config_file.as_markdown(), end="")
        return
    asked = common.search_request(flags)
    config = starts.begun(asked.config, asked.given, starts.kinds_of_pool(asked.config.pool))
    if config.train.is_pretrained:
        print(config_file.as_toml(config, {*starts.LENGTHS} - asked.given), end="")
    else:
        print(config_file.as_toml(asked.config), end="")
