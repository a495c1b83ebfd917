"""The whole job and its parts as functions: search, train, evaluate, export, measure, report.

The commands of `efficientnet_elite.cli` turn flags into calls of these functions and print what
they return; `efficientnet_elite.search` and its neighbours take the same names as keyword
arguments. Importing this package imports nothing else; each name is imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .evaluation import Evaluation, evaluate
    from .exporting import ExportResult, export
    from .prediction import Prediction
    from .results import Champion, Search, load
    from .run import ExportError, SearchResult, search
    from .training import Training, train

_HOME = {
    "Champion": "results",
    "Evaluation": "evaluation",
    "ExportError": "run",
    "ExportResult": "exporting",
    "Prediction": "prediction",
    "Search": "results",
    "SearchResult": "run",
    "Training": "training",
    "evaluate": "evaluation",
    "export": "exporting",
    "load": "results",
    "search": "run",
    "train": "training",
}

__all__ = [
    "Champion",
    "Evaluation",
    "ExportError",
    "ExportResult",
    "Prediction",
    "Search",
    "SearchResult",
    "Training",
    "evaluate",
    "export",
    "load",
    "search",
    "train",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
