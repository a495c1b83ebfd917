"""HTML elements, which escape their text, and elements that several sections share."""

from __future__ import annotations

import base64
import io
import shlex
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

# Name to (light, dark). Light values must differ from each other: figures are drawn with them, and
# in the page each is replaced by its variable so that it follows the reader's theme.
PALETTE: dict[str, tuple[str, str]] = {
    "surface": ("#ffffff", "#14181d"),
    "panel": ("#f5f7f9", "#1c2229"),
    "ink": ("#16202b", "#e8edf2"),
    "muted": ("#566472", "#a3b0bd"),
    "faint": ("#98a3ae", "#6d7986"),
    "rule": ("#dbe1e7", "#313a44"),
    "accent": ("#0067a8", "#5ab4f0"),
    "series2": ("#c24e00", "#f08a4b"),
    "series3": ("#00805d", "#35c69c"),
    "series4": ("#a8407d", "#e08fbd"),
    "series5": ("#8a6a00", "#dfb63c"),
    "series6": ("#5b4bb5", "#a99cf0"),
    "alarm": ("#b3261e", "#ff8a80"),
}
LIGHT = {name: light for name, (light, _) in PALETTE.items()}
SERIES = ("accent", "series2", "series3", "series4", "series5", "series6")


def sheet() -> str:
    """The style sheet."""
    light = "".join(f"--{name}:{light};" for name, (light, _) in PALETTE.items())
    dark = "".join(f"--{name}:{dark};" for name, (_, dark) in PALETTE.items())
    return (
        f":root{{color-scheme:light dark;{light}}}\n"
        f"@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n{_RULES}"
    )


_RULES = """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;text-size-adjust:100%}
body{margin:0;background:var(--surface);color:var(--ink);
  font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main,header,footer{max-width:1120px;margin:0 auto;padding:0 24px}
header{padding-top:48px}
h1,h2,h3,p{margin:0}
h1{font-size:34px;line-height:1.15;font-weight:680;letter-spacing:-.015em;overflow-wrap:anywhere}
h2{font-size:22px;line-height:1.25;font-weight:660;letter-spacing:-.01em}
h3{font-size:15px;line-height:1.35;font-weight:640}
section{margin-top:56px}
section>h2+*{margin-top:14px}
.eyebrow{font-size:13px;font-weight:640;color:var(--accent);letter-spacing:.02em;margin-bottom:8px}
.lead{max-width:72ch;color:var(--muted)}
.verdict{max-width:66ch;text-wrap:pretty;font-size:20px;line-height:1.45;margin-top:14px}
.verdict+.lead{margin-top:8px}
.unbroken{white-space:nowrap}
.note{max-width:72ch;color:var(--muted);font-size:14px;margin-top:12px}
.missing{border-left:3px solid var(--faint);background:var(--panel);padding:12px 16px;
  border-radius:0 6px 6px 0;margin-top:14px;overflow-wrap:anywhere}
.missing.alarm{border-color:var(--alarm)}
code{font:.92em/1.4 ui-monospace,"SF Mono",Menlo,Consolas,monospace;overflow-wrap:anywhere;
  display:inline-block;max-width:100%}
.facts{display:flex;flex-wrap:wrap;gap:4px 28px;margin:18px 0 0;padding:0;font-size:14px;
  color:var(--muted);list-style:none}
.facts b{color:var(--ink);font-weight:600}
.meter{height:6px;border-radius:3px;background:var(--rule);margin-top:20px;overflow:hidden}
.meter i{display:block;height:100%;background:var(--accent)}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,250px),1fr));gap:16px;
  margin-top:24px}
.card{border:1px solid var(--rule);border-radius:10px;padding:18px 20px;
  display:flex;flex-direction:column}
.card .file{margin-top:auto;padding-top:12px;font-size:12px;color:var(--muted)}
.card.best{border:2px solid var(--accent);padding:17px 19px}
.card .role{font-size:12.5px;font-weight:640;color:var(--muted)}
.card.best .role{color:var(--accent)}
.card .name{font-size:18px;font-weight:640;margin-top:4px;overflow-wrap:anywhere}
.card .big{font-size:36px;line-height:1.1;font-weight:680;letter-spacing:-.02em;margin-top:12px;
  font-variant-numeric:tabular-nums}
.card .unit{font-size:13px;color:var(--muted)}
.card dl{display:grid;grid-template-columns:auto 1fr;gap:3px 12px;margin:14px 0 0;font-size:14px}
.card dt{color:var(--muted)}
.card dd{margin:0;text-align:right;font-variant-numeric:tabular-nums}
.pair,.grid{display:grid;gap:28px 32px;margin-top:18px}
.pair{grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr))}
.grid{grid-template-columns:repeat(auto-fill,minmax(min(100%,330px),1fr))}
figure{margin:0;max-width:620px;break-inside:avoid}
figure svg{display:block;width:100%;height:auto;margin-top:6px;overflow:visible}
figure svg *{stroke-linejoin:round;stroke-linecap:butt}
figure svg text{font-family:inherit!important;paint-order:stroke;stroke:var(--surface);
  stroke-width:2.5px}
.brackets{display:flex;flex-wrap:wrap;gap:28px 40px;margin-top:18px}
.brackets figure{max-width:100%}
.below{margin-top:28px}
.below h3{margin-bottom:6px}
figcaption{font-size:13px;color:var(--muted);line-height:1.45;margin-top:2px}
.scroll{overflow-x:auto;-webkit-overflow-scrolling:touch}
table{border-collapse:separate;border-spacing:0;width:100%;font-size:14px;line-height:1.4;
  font-variant-numeric:tabular-nums}
th,td{padding:7px 0 7px 16px;text-align:right;vertical-align:baseline;white-space:nowrap;
  border-bottom:1px solid var(--rule)}
th:first-child,td:first-child{padding-left:0;text-align:left;position:sticky;left:0;
  background:var(--surface)}
tbody th:first-child,tbody td:first-child{white-space:normal;min-width:11ch}
thead th{font-weight:600;white-space:normal;color:var(--muted);font-size:13px;vertical-align:bottom;
  border-bottom:1.5px solid var(--faint)}
thead small{display:block;font-size:12px;font-weight:400}
thead tr:not(:last-child) th{border-bottom:0;padding-bottom:0;color:var(--ink)}
thead th>span{display:block;text-align:center;border-bottom:1px solid var(--rule);
  padding-bottom:3px}
.dot{color:var(--accent)}
.words{text-align:left;white-space:normal;min-width:22ch}
tr.group th{padding-top:20px;font-weight:640;font-size:14px;color:var(--ink);white-space:normal}
tr.won td{font-weight:640}
tr.out td{color:var(--muted)}
tr.failed td.words{color:var(--alarm)}
tr.total td{font-weight:640;border-bottom:0}
.bar{min-width:120px;width:50%}
.bar i{display:block;height:10px;border-radius:2px;background:var(--accent);min-width:1px}
.columns{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,330px),1fr));
  gap:32px 48px;align-items:start}
.columns h3{margin-bottom:6px}
.keys{max-width:640px}
.keys td{white-space:normal;overflow-wrap:anywhere}
.keys td,.keys td:first-child{text-align:left;position:static}
.keys td:first-child{color:var(--muted);width:11.5em;max-width:45vw}
.missing ul{margin:8px 0 0;padding-left:1.3em;font-size:14px}
details{margin-top:12px}
summary{cursor:pointer;font-weight:600;font-size:14px}
.skipped{font-size:13px;padding-left:1.4em;overflow-wrap:anywhere}
.skipped span{color:var(--muted)}
.album{display:grid;grid-template-columns:repeat(auto-fill,minmax(132px,1fr));gap:16px 14px}
.album figure{min-width:0}
.album img{display:block;width:100%;max-width:160px;aspect-ratio:1;object-fit:contain;
  background:var(--panel);border-radius:4px}
.album figcaption{font-size:12px;line-height:1.35;margin-top:4px}
.album span{display:block;overflow-wrap:anywhere}
.album .answer{color:var(--ink);font-weight:600}
.album .file{color:var(--faint)}
footer{margin-top:64px;padding-top:16px;padding-bottom:40px;color:var(--muted);font-size:13px}
@media (max-width:560px){
  main,header,footer{padding-left:16px;padding-right:16px}
  header{padding-top:28px}
  h1{font-size:27px}
  section{margin-top:44px}
  .verdict{font-size:18px}
}
@media print{
  body{font-size:11pt}
  header{padding-top:0}
  section{margin-top:28pt}
  .cards,.card,tr{break-inside:avoid}
  h2,h3{break-after:avoid}
  .scroll{overflow:visible}
  .pair{grid-template-columns:1fr 1fr}
  th:first-child,td:first-child{position:static}
  th,td{padding-left:8pt}
  table{font-size:8.5pt}
  td.words{min-width:0}
}
"""


_VOID = ("meta", "br", "img")


class Html(str):
    """A string that is HTML already; every other string is text and is escaped."""

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


def document(title: str, header: Html, sections: Iterable[Html | None], end: Html) -> str:
    """A whole page, which loads no other file: the style sheet is in it and pictures must be."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("title", title),
        tag("style", Html(sheet())),
    )
    body = tag("body", header, tag("main", *sections), end)
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def data_url(picture: np.ndarray) -> str:
    """A picture, uint8 (height, width), (height, width, 1) or (height, width, 3), within a page."""
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(picture.squeeze()).save(content, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()


def command(name: str, workdir: Path, *flags: str) -> Html:
    """How to call a subcommand of `elite` on a work directory."""
    return tag("code", " ".join(["elite", name, f"--workdir={shlex.quote(str(workdir))}", *flags]))


def missing(*content: str, alarm: bool = False) -> Html:
    """A remark on what is missing; with ``alarm`` on what went wrong."""
    return tag("p", *content, class_="missing alarm" if alarm else "missing")


def note(*content: str) -> Html:
    """A paragraph in small print."""
    return tag("p", *content, class_="note")


def listed(names: Iterable[str]) -> Html:
    """Names separated by commas; no line is broken within a name."""
    return Html(", ".join(tag("span", name, class_="unbroken") for name in names))


def titled(score: str) -> str:
    """The name of a score at the beginning of a title."""
    return score if score == "mIoU" else score.capitalize()


def plural(count: int, word: str) -> str:
    """A count with its word, such as ``1,200 images``."""
    return f"{count:,} {word}{'s' * (count != 1)}"
