"""The file of a package that says from which pretrained weights its network was trained."""

from __future__ import annotations

from collections.abc import Mapping

FILE_NAME = "ORIGIN.txt"

_TEXT = """\
The network {network} was trained further from pretrained weights, with all layers changed:

weights: {name}
read from: {origin}
SHA-256: {sha256}
licence: {licence}
{deviation}
Networks that are made from these weights may be subject to that licence.
"""


def file_content(network: str, start: Mapping[str, str]) -> bytes:
    """The content of the file.

    Args:
      network: name of the network.
      start: ``details.start`` of its sidecar: name, origin, sha256, licence of the weights, and
        in what they differ from their origin.
    """
    text = start.get("deviation")  # earlier versions did not record it
    deviation = f"differs from its origin in: {text}\n" if text else ""
    return _TEXT.format(network=network, **{**start, "deviation": deviation}).encode()
