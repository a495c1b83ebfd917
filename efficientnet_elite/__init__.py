"""efficientnet-elite: Network Candidate Search for tiny image classifiers (arXiv 2009.07409).

Importing this package is cheap: Keras is imported when a model is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from efficientnet_elite.networks.names import DISPLAY_NAMES as _FACTORIES
from efficientnet_elite.networks.spec import ArchSpec
from efficientnet_elite.search.candidates import list_models

__version__ = "0.1.0"

__all__ = ["ArchSpec", "build", "list_models", "preprocess_input", *_FACTORIES]


def __getattr__(name: str) -> Any:
    if name in _FACTORIES:
        return getattr(import_module("efficientnet_elite.networks.factories"), name)
    if name == "build":
        return import_module("efficientnet_elite.networks.factories").build_named
    if name == "preprocess_input":
        return import_module("efficientnet_elite.networks.build").preprocess_input
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
