"""Prints Table 5 of arXiv 2009.07409 beside the parameters and MACs of the same networks in this
project, and explains the differences. Accuracies and search costs are copied from the paper;
nothing is trained or measured.

  elite table5
  elite table5 --format=markdown --figures=docs > docs/table5.md
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags as absl_flags

from efficientnet_elite.cli import common
from efficientnet_elite.report import table5_rows
from efficientnet_elite.report.table5_rows import Comparison

FLAGS = absl_flags.FlagValues()
common.define_format(FLAGS, formats=("table", "csv", "markdown"))
absl_flags.DEFINE_string(
    "figures",
    None,
    "Folder for the paper's Figures 1 (parameters) and 7 (MACs) as PNG and SVG files. By default "
    "nothing is drawn.",
    flag_values=FLAGS,
)

_TITLES = (
    "network",
    "params M (paper)",
    "MACs M (paper)",
    "top-1 % (paper)",
    "search GPU h (paper)",
    "params (counted)",
    "MACs (counted)",
    "difference",
)
_CONVENTION = (
    "MACs are what the paper calls Flops: multiply-accumulates of convolutions and dense layers. "
    "Counted parameters include the moving statistics of batch normalisation for eLite and HF, as "
    "the paper's do; for all others they are the trainable ones, as in their own papers. "
    'Difference: counted against printed, "none" within one unit of the last printed digit.'
)


def run(flags: Any, arguments: list[str]) -> None:
    """Prints the table to stdout, and nothing else; draws the figures if there is --figures."""
    common.no_arguments(arguments)
    comparisons = table5_rows.compare()
    figures: list[Path] = []
    if flags.figures:
        from efficientnet_elite.report import table5 as drawing

        figures = drawing.write_figures(Path(flags.figures).expanduser(), comparisons)
    if flags.format == "csv":
        print(_csv(comparisons), end="")
    elif flags.format == "markdown":
        print(_markdown(comparisons, figures), end="")
    else:
        print(_table(comparisons), end="")


def _cells(comparison: Comparison, note: str) -> list[str]:
    row = comparison.row
    counts = (comparison.params, comparison.macs)
    return [
        row.title,
        row.params,
        row.macs,
        f"{row.top1:g}",
        "" if row.gpu_hours is None else str(row.gpu_hours),
        *("" if count is None else f"{count:,}" for count in counts),
        f"{comparison.difference or 'not countable'}{note}",
    ]


def _noted(comparisons: Sequence[Comparison]) -> tuple[list[list[str]], list[str]]:
    """The rows' cells with numbers of notes in the last one, and the notes."""
    notes: list[str] = []
    rows = []
    for comparison in comparisons:
        note = comparison.row.note
        if note and note not in notes:
            notes.append(note)
        rows.append(_cells(comparison, f" [{notes.index(note) + 1}]" if note else ""))
    return rows, [f"[{number}] {note}" for number, note in enumerate(notes, start=1)]


def _table(comparisons: Sequence[Comparison]) -> str:
    rows, notes = _noted(comparisons)
    return "\n".join([common.table([list(_TITLES), *rows]), *notes, "", _CONVENTION, ""])


def _markdown(comparisons: Sequence[Comparison], figures: Sequence[Path]) -> str:
    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cells)} |"

    rows, notes = _noted(comparisons)
    parts = [
        "# Table 5 of arXiv 2009.07409, counted again",
        "",
        "Written by `elite table5 --format=markdown --figures=docs > docs/table5.md`. Columns "
        "marked (paper) are as printed there; no accuracy was measured here.",
        "",
        line(_TITLES),
        line(["---", *["---:"] * (len(_TITLES) - 2), "---"]),
        *map(line, rows),
        "",
        _CONVENTION,
        "",
        *(f"- {note}" for note in notes),
        "",
    ]
    for path in figures:
        if path.suffix == ".svg":
            parts += [f"![Accuracy (paper) against counted cost]({path.name})", ""]
    return "\n".join(parts)


def _csv(comparisons: Sequence[Comparison]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        (
            "network",
            "paper_params_millions",
            "paper_macs_millions",
            "paper_top1_percent",
            "paper_search_gpu_hours",
            "counted_params",
            "counted_macs",
            "difference",
            "explanation",
        )
    )
    for c in comparisons:
        row = c.row
        printed = (row.title, row.params, row.macs, row.top1, row.gpu_hours)
        writer.writerow((*printed, c.params, c.macs, c.difference, row.note))
    return out.getvalue()
