"""Imports Keras and TensorFlow without the optional packages that Keras would import as well."""

from __future__ import annotations

import os
import sys

# Keras imports these if they are installed, for functions that this project does not call.
_OPTIONAL = ("matplotlib", "pandas", "sklearn")


def environment(backend: str) -> dict[str, str]:
    """The environment variables of a process in which Keras is to have a backend."""
    if backend == "jax":  # several processes may share a GPU: each takes memory as it needs it
        return {"KERAS_BACKEND": backend, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    return {"KERAS_BACKEND": backend}


def import_keras(backend: str | None = None) -> None:
    """Imports TensorFlow and Keras in little more than half of the usual time.

    It belongs at the start of a program. While it runs, some optional packages look as if they were
    not installed; afterwards they can be imported as usual. In this process Keras has then no
    plots and no scikit-learn wrappers, and does not accept pandas tables. If Keras has been
    imported already, this function does nothing.

    Args:
      backend: of Keras, for as long as this process lives; by default the one of Keras' settings.
    """
    if backend is not None:
        os.environ.update(environment(backend))  # which Keras and JAX read once
    hidden = [name for name in _OPTIONAL if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # None makes an import fail
    try:
        import keras  # noqa: F401
        import tensorflow  # noqa: F401
    finally:
        for name in hidden:
            del sys.modules[name]
