"""efficientnet-elite: Network Candidate Search for tiny image classifiers (arXiv 2009.07409).

Importing this package is cheap: every name is imported when it is first asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inspect import Signature

    from efficientnet_elite.errors import UserError
    from efficientnet_elite.job.api import evaluate, export, load, search, train
    from efficientnet_elite.networks.build import preprocess_input
    from efficientnet_elite.networks.factories import build_named as build
    from efficientnet_elite.networks.spec import ArchSpec
    from efficientnet_elite.search.candidates import list_models

__version__ = "0.2.0"

# Public name to its module and its name there.
_LAZY = {
    "ArchSpec": ("networks.spec", "ArchSpec"),
    "UserError": ("errors", "UserError"),
    "build": ("networks.factories", "build_named"),
    "evaluate": ("job.api", "evaluate"),
    "list_models": ("search.candidates", "list_models"),
    "load": ("job.api", "load"),
    "preprocess_input": ("networks.build", "preprocess_input"),
    "train": ("job.api", "train"),
}
# Rooms that can be called: `efficientnet_elite.search(...)` is a function of the Python interface,
# and `efficientnet_elite.search.ledger` a module.
_CALLABLE_ROOMS = ("export", "search")

__all__ = [
    "ArchSpec",
    "UserError",
    "build",
    "evaluate",
    "export",
    "list_models",
    "load",
    "preprocess_input",
    "search",
    "train",
]
# Functions that build the published networks, as `networks.names.DISPLAY_NAMES` has them.
_FACTORIES = (*(f"ELite{number}" for number in range(10)), *(f"HF{number}" for number in range(6)))
__all__ += _FACTORIES


class CallableRoom(ModuleType):
    """A package that is called as the function of its name in `job.api`.

    It shows that function's signature and description, and is pickled by its name.
    """

    def __call__(self, *arguments: Any, **options: Any) -> Any:
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
    return getattr(import_module(f"{__name__}.job.api"), room.rpartition(".")[2])


def make_callable(room: str) -> None:
    """Lets a package of `_CALLABLE_ROOMS` be called; its own first lines ask for that."""
    sys.modules[room].__class__ = CallableRoom


def __getattr__(name: str) -> Any:
    if name in _CALLABLE_ROOMS:
        return import_module(f"{__name__}.{name}")
    if name in _LAZY:
        module, attribute = _LAZY[name]
        return getattr(import_module(f"{__name__}.{module}"), attribute)
    if name in _FACTORIES:
        return getattr(import_module(f"{__name__}.networks.factories"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
