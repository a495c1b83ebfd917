"""Tables of things that are chosen by name: data sources, export targets, runtimes, metrics, ...

A table is a dictionary from names to frozen dataclass entries, in the room where the kind of thing
lives. An entry says in one sentence what it is and names the function that does the work, so that
help texts can be made of a table without importing what the functions need.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any, Protocol, TypeVar


class Entry(Protocol):
    """What all entries of all tables have.

    Attributes:
      name: by which it is chosen.
      description: one sentence without a full stop, for help texts.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def description(self) -> str: ...  # noqa: D102


AnyEntry = TypeVar("AnyEntry", bound=Entry)


def table(*entries: AnyEntry) -> dict[str, AnyEntry]:
    """A table of some entries, in their order."""
    entries_by_name: dict[str, AnyEntry] = {}
    for entry in entries:
        register(entries_by_name, entry)
    return entries_by_name


def register(entries: dict[str, AnyEntry], entry: AnyEntry) -> None:
    """Adds an entry to a table; ValueError where its name is taken."""
    if entry.name in entries:
        raise ValueError(f"there is a {entry.name!r} already")
    entries[entry.name] = entry


def described(entries: Iterable[Entry]) -> str:
    """Names and descriptions in one line, for help texts: ``a: what a is; b: what b is``."""
    return "; ".join(f"{entry.name}: {entry.description}" for entry in entries)


def resolve(function: Callable[..., Any] | str) -> Callable[..., Any]:
    """A function, or the one that ``module:function`` names, imported now.

    Raises:
      ImportError, AttributeError: there is no such module or function.
    """
    if not isinstance(function, str):
        return function
    module, _, name = function.partition(":")
    return getattr(import_module(module), name)
