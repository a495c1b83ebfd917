"""Tells whether pretrained starts and short trainings rank networks as long trainings do.

    python -m benchmarks.studies.ranks FILE.json

FILE.json is of `benchmarks.studies.transfer`, with several networks from the same starts. For each
start the table gives Spearman's correlation between the validation accuracies after a share of the
epochs and the accuracies at the end, over the networks; after a stroke, the place among all that
the network which is best at the end has by then. An elimination that keeps half of the networks
needs that place to be in the upper half. The last column is the correlation of the accuracies at
the end with those from the first start. Accuracies at the end are those on the further images where
all rows have them, otherwise on the test part; accuracies of several seeds are averaged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from numpy.typing import NDArray
from scipy.stats import spearmanr

from efficientnet_elite.benchmarks.studies import command, tables
from efficientnet_elite.errors import UserError

FLAGS = flags.FlagValues()
command.define_format(FLAGS, tables.FORMATS)

SHARES = (0.1, 0.25, 0.5, 1.0)


def cells(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """The headings and the rows of the table: one for each start.

    Args:
      rows: of the study of starts.

    Raises:
      UserError: the starts have fewer than three networks in common.
    """
    starts = list(dict.fromkeys(row["start"] for row in rows))
    trained = [{row["network"] for row in rows if row["start"] == start} for start in starts]
    networks = sorted(set.intersection(*trained)) if trained else []
    if len(networks) < 3:
        raise UserError("ranks need at least three networks that were trained from every start")
    measure = "further_top1"
    if any(row.get(measure) is None for row in rows):
        measure = "test_top1"

    def means(start: str, value: Any) -> NDArray[Any]:
        return np.array(
            [
                np.mean(
                    [value(r) for r in rows if (r["network"], r["start"]) == (network, start)],
                )
                for network in networks
            ]
        )

    table = []
    at_the_end = [means(start, lambda row: row[measure]) for start in starts]
    for start, final in zip(starts, at_the_end, strict=True):
        line = [start, str(len(networks))]
        for share in SHARES:
            early = means(start, lambda row, share=share: _at(row["curve"], share))
            place = 1 + int((early > early[np.argmax(final)]).sum())
            line.append(f"{_correlation(early, final)} / {place}")
        table.append([*line, _correlation(final, at_the_end[0])])
    heads = ["start", "networks", *(f"{share:.0%} of epochs" for share in SHARES)]
    return [*heads, f"as from {starts[0]}"], table


def _at(curve: Sequence[float], share: float) -> float:
    return curve[max(1, round(share * len(curve))) - 1]


def _correlation(one: NDArray[Any], other: NDArray[Any]) -> str:
    return f"{spearmanr(one, other).statistic:.2f}"


def main(files: list[str]) -> None:
    """Prints the table of a file."""
    if len(files) != 1:
        raise UserError("give one file of benchmarks.studies.transfer")
    try:
        rows = json.loads(Path(files[0]).read_text(encoding="utf-8"))
        table = cells(rows)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{files[0]} cannot be read as rows of benchmarks.studies.transfer with curves: "
            f"{type(error).__name__}: {error}"
        ) from error
    if FLAGS.format == "json":
        print(json.dumps([dict(zip(table[0], line, strict=True)) for line in table[1]], indent=2))
        return
    print(tables.text(FLAGS.format, *table), end="")


if __name__ == "__main__":
    command.run(FLAGS, main, arguments=True)
