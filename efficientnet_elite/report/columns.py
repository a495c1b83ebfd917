"""Tables of plain values: what columns mean and where their values are found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, TypeAlias


@dataclass(frozen=True)
class Table:
    """A table of the report.

    Attributes:
      name: of the CSV file, without its ending, and in JSON.
      about: what a row is.
      columns: name to meaning.
      rows: values (text, numbers, booleans or None) in the order of the columns.
    """

    name: str
    about: str
    columns: Mapping[str, str]
    rows: Sequence[Sequence[Any]]


Columns: TypeAlias = Mapping[str, tuple[str, str | Callable[[Any], Any]]]
"""Column to its meaning and where its value is found: a path of attributes, or a function."""


def table(name: str, about: str, columns: Columns, items: Iterable[Any]) -> Table:
    """A row an item."""
    found = [attrgetter(get) if isinstance(get, str) else get for _, get in columns.values()]
    rows = [[get(item) for get in found] for item in items]
    return Table(name, about, {column: told for column, (told, _) in columns.items()}, rows)


def joined(field: str) -> Callable[[Any], str]:
    """Names in one cell, which hold no spaces."""
    return lambda item: " ".join(getattr(item, field))
