"""Keras without what it imports for others.

This module must not import TensorFlow or Keras when it is imported itself.
"""

from __future__ import annotations

import sys

# Keras imports these where they are installed, for functions that nothing here calls.
_FOR_OTHERS = ("matplotlib", "pandas", "sklearn")


def import_keras() -> None:
    """Imports TensorFlow and Keras in little more than half the time that it takes otherwise.

    Meant for the first lines of a program of ours. Keras finds some packages not installed, which
    can be imported as ever afterwards; in this process it then has no plots, no scikit-learn
    wrappers, and takes no pandas tables. Nothing happens where Keras has been imported already.
    """
    hidden = [name for name in _FOR_OTHERS if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # which makes its import fail
    try:
        import keras  # noqa: F401
        import tensorflow  # noqa: F401
    finally:
        for name in hidden:
            del sys.modules[name]
