"""Tables of plain values: meanings of columns, and where their values come from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, TypeAlias


@dataclass(frozen=True)
class Table:
    """A table of the report.

    Attributes:
      name: name of the CSV file, without its suffix, and of the table in JSON.
      about: what one row describes.
      columns: name of each column to its meaning.
      rows: values (text, numbers, booleans or None) in the order of the columns.
    """

    name: str
    about: str
    columns: Mapping[str, str]
    rows: Sequence[Sequence[Any]]


Columns: TypeAlias = Mapping[str, tuple[str, str | Callable[[Any], Any]]]
"""Column to its meaning and the source of its value: a path of attributes, or a function."""


def table(name: str, about: str, columns: Columns, items: Iterable[Any]) -> Table:
    """A table with one row for each item."""
    getters = [attrgetter(get) if isinstance(get, str) else get for _, get in columns.values()]
    rows = [[get(item) for get in getters] for item in items]
    return Table(name, about, {column: meaning for column, (meaning, _) in columns.items()}, rows)


def of_epoch(epoch: Callable[[Any], Any] = lambda item: item) -> Columns:
    """The columns of an epoch that all tables of epochs have.

    Args:
      epoch: takes an item of the table to its epoch.
    """
    return {
        "epoch": ("number of the epoch, from 1", lambda item: epoch(item).epoch),
        "validation_accuracy": (
            "validation accuracy of the averaged weights",
            lambda item: epoch(item).validation_accuracy,
        ),
        "train_loss": (
            "mean training loss of the steps of the epoch",
            lambda item: epoch(item).train_loss,
        ),
    }


def joined(field: str) -> Callable[[Any], str]:
    """Several names in one cell, separated by spaces; names contain none."""
    return lambda item: " ".join(getattr(item, field))
