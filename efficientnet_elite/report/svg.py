"""From matplotlib's SVG file to one that can stand in a page and follow its theme."""

from __future__ import annotations

import re
from collections.abc import Mapping
from xml.etree import ElementTree

_SVG = "http://www.w3.org/2000/svg"
_HREF = "{http://www.w3.org/1999/xlink}href"


def inline(svg: bytes, *, prefix: str, title: str, colors: Mapping[str, str]) -> str:
    """An ``<svg>`` element for HTML.

    Args:
      svg: the file.
      prefix: makes ids differ from those of other figures on the page.
      title: what the figure shows, for those who cannot see it.
      colors: as drawn (``#rrggbb``) to what the page shall use instead.
    """
    root = ElementTree.fromstring(svg)
    for parent in list(root.iter()):
        for child in list(parent):
            if not child.tag.startswith(f"{{{_SVG}}}") or child.tag in (
                f"{{{_SVG}}}metadata",
                f"{{{_SVG}}}style",  # would hold for the whole page
            ):
                parent.remove(child)
    pattern = re.compile("|".join(map(re.escape, colors)))
    for element in root.iter():
        element.tag = element.tag.removeprefix(f"{{{_SVG}}}")
        if "id" in element.attrib:
            element.set("id", f"{prefix}-{element.attrib['id']}")
        if _HREF in element.attrib:
            element.set("href", f"#{prefix}-{element.attrib.pop(_HREF).removeprefix('#')}")
        for key, value in element.attrib.items():
            if key in ("style", "clip-path"):
                value = value.replace("url(#", f"url(#{prefix}-")
                element.set(key, pattern.sub(lambda match: colors[match.group()], value))
    view = root.attrib["viewBox"]
    root.attrib.clear()
    root.attrib.update({"viewBox": view, "role": "img", "aria-label": title})
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)
