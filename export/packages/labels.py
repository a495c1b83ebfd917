"""The file ``labels.txt`` that every package contains: one class name per line, in UTF-8."""

from __future__ import annotations

from collections.abc import Sequence

FILE_NAME = "labels.txt"


def file_content(labels: Sequence[str]) -> bytes:
    """Returns the content of ``labels.txt``; line n names the class with index n.

    Line breaks within a label become spaces, and characters that UTF-8 cannot express, as in names
    of folders in another encoding, question marks.
    """
    return "".join(f"{' '.join(label.splitlines())}\n" for label in labels).encode(
        "utf-8", "replace"
    )
