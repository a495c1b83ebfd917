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

Networks that are made from these weights may be subject to that licence.
"""


def file_content(network: str, start: Mapping[str, str]) -> bytes:
    """The content of the file.

    Args:
      network: name of the network.
      start: ``details.start`` of its sidecar: name, origin, sha256 and licence of the weights.
    """
    return _TEXT.format(network=network, **start).encode()
