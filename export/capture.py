"""What native libraries write to the terminal, caught."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def captured() -> Iterator[Callable[[], str]]:
    """Catches what Python and C++ write to stdout and stderr; yields a reader of it."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        sys.stdout.flush()
        sys.stderr.flush()
        kept = os.dup(1), os.dup(2)
        with log.open("wb") as sink:
            os.dup2(sink.fileno(), 1)
            os.dup2(sink.fileno(), 2)
        try:
            yield lambda: log.read_text(errors="replace")
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for target, original in enumerate(kept, start=1):
                os.dup2(original, target)
                os.close(original)
