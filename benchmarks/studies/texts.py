"""Tables of cells as text: aligned, CSV, Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

FORMATS = ("table", "csv", "markdown", "json")  # the last one is the caller's matter

Cells = Sequence[str]


def aligned(heads: Cells, rows: Sequence[Cells]) -> str:
    """Columns for a terminal: the first to the left, the others to the right."""
    table = [heads, *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for cells in table:
        first, *others = zip(cells, widths, strict=True)
        parts = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        lines.append("  ".join(parts).rstrip())
    return "\n".join(lines) + "\n"


def comma_separated(heads: Cells, rows: Sequence[Cells]) -> str:
    """CSV with a line of headings."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([heads, *rows])
    return text.getvalue()


def markdown(heads: Cells, rows: Sequence[Cells], left: int = 1) -> str:
    """A Markdown table; all columns but the first ``left`` to the right."""
    rule = ["---"] * left + ["---:"] * (len(heads) - left)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [heads, rule, *rows])
