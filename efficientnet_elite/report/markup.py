"""HTML elements that cannot be written unescaped, and the pieces that sections share."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from html import escape
from pathlib import Path

_VOID = ("meta", "br")


class Html(str):
    """Text that is HTML already; every other string is text and gets escaped."""

    __slots__ = ()


Content = str | None


def tag(name: str, /, *content: Content, **attributes: str | None) -> Html:
    """An element; None among content and attributes is left out.

    An attribute's underscores become hyphens, a trailing one goes (``class_``).
    """
    head = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Html(f"<{name}{head}>")
    return Html(f"<{name}{head}>{join(*content)}</{name}>")


def join(*content: Content) -> Html:
    """Pieces one after the other; a percent sign stays with its number."""
    return Html(
        "".join(
            piece if isinstance(piece, Html) else escape(piece).replace(" %", "\u00a0%")
            for piece in content
            if piece is not None
        )
    )


def command(name: str, workdir: Path, *flags: str) -> Html:
    """How to call a subcommand of `elite` on a work directory."""
    return tag("code", " ".join(["elite", name, f"--workdir={shlex.quote(str(workdir))}", *flags]))


def missing(*content: str, alarm: bool = False) -> Html:
    """A remark on what is not there (with ``alarm``: on what went wrong)."""
    return tag("p", *content, class_="missing alarm" if alarm else "missing")


def note(*content: str) -> Html:
    """Small print."""
    return tag("p", *content, class_="note")


def listed(found: Iterable[str]) -> Html:
    """A list of names that lines do not break in."""
    return Html(", ".join(tag("span", name, class_="unbroken") for name in found))


def titled(score: str) -> str:
    """The name of a score at the beginning of a title."""
    return score if score == "mIoU" else score.capitalize()


def plural(count: int, word: str) -> str:
    """A count with its word, such as ``1,200 images``."""
    return f"{count:,} {word}{'s' * (count != 1)}"
