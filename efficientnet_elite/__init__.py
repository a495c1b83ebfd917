"""efficientnet-elite: Network Candidate Search for tiny image classifiers (arXiv 2009.07409).

Importing this package is cheap: every name is imported when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from efficientnet_elite.errors import UserError
    from efficientnet_elite.job.api import evaluate, export, load, predict, search, train
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
    "predict": ("job.api", "predict"),
    "preprocess_input": ("networks.build", "preprocess_input"),
    "train": ("job.api", "train"),
}
# Packages that can be called, see `callable_rooms`.
_CALLABLE_ROOMS = ("export", "search")

__all__ = [
    "ArchSpec",
    "UserError",
    "build",
    "evaluate",
    "export",
    "list_models",
    "load",
    "predict",
    "preprocess_input",
    "search",
    "train",
]
# Functions that build the published networks, as `networks.names.DISPLAY_NAMES` has them.
_FACTORIES = (*(f"ELite{number}" for number in range(10)), *(f"HF{number}" for number in range(6)))
__all__ += _FACTORIES


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
