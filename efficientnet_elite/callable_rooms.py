"""Packages that can be called like the functions of their names in the Python interface.

`efficientnet_elite.search(...)` runs a search, and `efficientnet_elite.search.ledger` is a module.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inspect import Signature


class CallableRoom(ModuleType):
    """A package that is called as the function of its name in `job.api`.

    It shows that function's signature and description, and is pickled by its name.
    """

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Calls the function of this room's name."""
        return _function(self.__name__)(*arguments, **options)

    @property
    def __signature__(self) -> Signature:
        from inspect import signature

        return signature(_function(self.__name__))

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        from inspect import getdoc, signature

        function = _function(self.__name__)
        call = f"{function.__name__}{signature(function)}"
        return "\n\n".join([vars(self)["__doc__"].strip(), call, getdoc(function) or ""])

    def __reduce__(self) -> tuple[Callable[[str], ModuleType], tuple[str]]:
        return import_module, (self.__name__,)


def _function(room: str) -> Callable[..., Any]:
    return getattr(import_module("efficientnet_elite.job.api"), room.rpartition(".")[2])


def make_callable(room: str) -> None:
    """Lets a package be called; its own first lines ask for that."""
    sys.modules[room].__class__ = CallableRoom
