"""Writes tables of text cells as aligned columns, CSV or Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence

# The formats that studies print. "json" is left to each study, since it is not made of text cells.
TEXT_FORMATS = ("table", "csv", "markdown")
FORMATS = (*TEXT_FORMATS, "json")

Cells = Sequence[str]


def aligned(heads: Cells, rows: Sequence[Cells]) -> str:
    """Returns a table for the terminal: the first column left-aligned, the others right-aligned."""
    table = [heads, *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for cells in table:
        first, *others = zip(cells, widths, strict=True)
        parts = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        lines.append("  ".join(parts).rstrip())
    return "\n".join(lines) + "\n"


def comma_separated(heads: Cells, rows: Sequence[Cells]) -> str:
    """Returns CSV; the first line contains the column headings."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([heads, *rows])
    return text.getvalue()


def markdown(heads: Cells, rows: Sequence[Cells], left: int = 1) -> str:
    """Returns a Markdown table; all columns but the first `left` ones are right-aligned."""
    rule = ["---"] * left + ["---:"] * (len(heads) - left)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [heads, rule, *rows])


def text(form: str, heads: Cells, rows: Sequence[Cells], left: int = 1) -> str:
    """Returns a table in one of `TEXT_FORMATS`; `left` is that of `markdown`."""
    if form == "markdown":
        return markdown(heads, rows, left)
    return comma_separated(heads, rows) if form == "csv" else aligned(heads, rows)


def print_fields(rows: Sequence[Mapping[str, object]]) -> None:
    """Prints rows with the same keys as aligned columns; a cell of None is empty."""
    cells = [["" if value is None else str(value) for value in row.values()] for row in rows]
    print(aligned([*rows[0]], cells), end="")


def print_markdown(rows: Iterable[Cells]) -> None:
    """Prints a Markdown table row by row, as soon as each row is computed.

    Args:
      rows: the column headings first, then the other rows.
    """
    for number, cells in enumerate(rows):
        print(f"| {' | '.join(cells)} |", flush=True)
        if number == 0:
            print(f"| {' | '.join(['---'] * len(cells))} |")
