"""The file ``labels.txt`` that every package contains: one class name per line, in UTF-8."""

from __future__ import annotations

from collections.abc import Sequence

FILE_NAME = "labels.txt"


def file_content(labels: Sequence[str]) -> bytes:
    """Returns the content of ``labels.txt``; line n names the class with index n."""
    return "".join(f"{label}\n" for label in labels).encode()
