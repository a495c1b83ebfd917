"""Compares searches and trainings: the settings that differ, test accuracies with their 95 %
intervals, file sizes, and latencies where they were measured. Networks that were tested with the
same images are compared image by image, by McNemar's exact test. Arguments are work directories.

  elite compare runs/none runs/balanced
  elite compare runs/a runs/b runs/c --html=compared.html
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from absl import flags as absl_flags

from efficientnet_elite.cli import common

FLAGS = absl_flags.FlagValues()
common.define_format(FLAGS, "Format of the output; csv has the networks only.")
absl_flags.DEFINE_string(
    "html", None, "File to write a page to that shows the same, with a figure.", flag_values=FLAGS
)


def run(flags: Any, arguments: list[str]) -> None:
    """Prints the comparison to stdout."""
    from efficientnet_elite.report import compare, compare_page, data

    comparison = compare.gather([Path(argument) for argument in arguments])
    for problem in comparison.problems:
        print(problem, file=sys.stderr)
    if flags.html:
        compare_page.write(comparison, Path(flags.html).expanduser())
    networks, pairs, settings = compare.tables(comparison)
    if flags.format == "json":
        content = data.tables_as_json([networks, pairs, settings])
        print(common.as_json(content), end="")
    elif flags.format == "csv":
        print(data.as_csv(networks), end="")
    else:
        _show(comparison)


def _show(comparison: Any) -> None:
    from efficientnet_elite.report import compare_page

    score = compare_page.scores(comparison)
    head = [f"int8 {score} %", "95 % interval", f"float32 {score} %", "int8 kB", "int8 ms",
            "pixels", "params M", "MACs M"]  # fmt: skip
    cells = [[n.title, *compare_page.row(n)] for n in comparison.networks]
    print(common.table([["network", *head], *cells]), end="")
    if comparison.settings:
        values = [
            [name, *map(compare_page.value, each)] for name, each in comparison.settings.items()
        ]
        print("\n" + common.table([["differs", *comparison.runs], *values]), end="")
    if comparison.pairs:
        head = ["same test images", "images", "only first right", "only second right", "p"]
        rows = [
            [
                f"{pair.first} - {pair.second}",
                *map(str, (pair.images, pair.only_first, pair.only_second)),
                compare_page.probability(pair.p),
            ]
            for pair in comparison.pairs
        ]
        print("\n" + common.table([head, *rows]), end="")
