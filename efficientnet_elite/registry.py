"""Tables of what is chosen by name: data sources, export targets, runtimes, metrics and others.

A table is a dictionary from names to entries, which are frozen dataclasses; it stands in the
package that its entries belong to. Each entry has a description and the function that does the
work, or the function's name as ``module:function``. With names, help texts can be made from a table
without importing what the functions need.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any, Protocol, TypeVar


class Entry(Protocol):
    """What the entries of all tables have in common.

    Attributes:
      name: the name by which the entry is chosen.
      description: one sentence without a full stop, for help texts.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def description(self) -> str: ...  # noqa: D102


AnyEntry = TypeVar("AnyEntry", bound=Entry)


def table(*entries: AnyEntry) -> dict[str, AnyEntry]:
    """Makes a table of entries, in the given order; ValueError if two have the same name."""
    entries_by_name: dict[str, AnyEntry] = {}
    for entry in entries:
        register(entries_by_name, entry)
    return entries_by_name


def register(entries: dict[str, AnyEntry], entry: AnyEntry) -> None:
    """Adds an entry to a table; ValueError if the table has an entry of that name already."""
    if entry.name in entries:
        raise ValueError(f"there is a {entry.name!r} already")
    entries[entry.name] = entry


def described(entries: Iterable[Entry]) -> str:
    """Names and descriptions in one line, for help texts: ``a: what a is; b: what b is``."""
    return "; ".join(f"{entry.name}: {entry.description}" for entry in entries)


def resolve(function: Callable[..., Any] | str) -> Callable[..., Any]:
    """Returns a function, or imports the one that ``module:function`` names.

    Raises:
      ImportError, AttributeError: there is no such module or function.
    """
    if not isinstance(function, str):
        return function
    module, _, name = function.partition(":")
    return getattr(import_module(module), name)
