"""Which operators of a model a delegate has taken, such as XNNPACK, which LiteRT applies itself.

LiteRT keeps the operators of the file and appends one of the name DELEGATE for each part that a
delegate runs. That an interpreter tells its operators is no documented part of LiteRT; where it
does not, nothing is known.
"""

from __future__ import annotations

from typing import Any

NAME = "XNNPACK"
"""The delegate that LiteRT applies where none is named."""

_NODE = "DELEGATE"


def taken(interpreter: Any) -> set[int] | None:
    """Returns the places of the operators, in the file's order, that delegates run.

    Args:
      interpreter: of LiteRT, after ``allocate_tensors``.

    Returns:
      The places, or None where the interpreter does not tell its operators.
    """
    nodes = operators(interpreter)
    return None if nodes is None else _taken_of(nodes)


def _taken_of(nodes: list[dict[str, Any]]) -> set[int]:
    own = [node for node in nodes if node["op_name"] != _NODE]
    producers = {tensor: place for place, node in enumerate(own) for tensor in node["outputs"]}
    found: set[int] = set()
    for delegate in nodes:
        if delegate["op_name"] != _NODE:
            continue
        # What a delegate reads from outside of its part is among its inputs, and nothing else.
        outside, left = set(map(int, delegate["inputs"])), list(map(int, delegate["outputs"]))
        while left:
            tensor = left.pop()
            place = producers.get(tensor)
            if tensor not in outside and place is not None and place not in found:
                found.add(place)
                left += map(int, own[place]["inputs"])
    return found


def share(interpreter: Any) -> float | None:
    """Returns the fraction (0..1) of the operators that delegates run; None if it is unknown."""
    nodes = operators(interpreter)
    if not nodes:
        return None
    return len(_taken_of(nodes)) / sum(node["op_name"] != _NODE for node in nodes)


def operators(interpreter: Any) -> list[dict[str, Any]] | None:
    """Returns what LiteRT tells of its operators: ``op_name``, ``inputs``, ``outputs``."""
    try:
        found: list[dict[str, Any]] = interpreter._get_ops_details()
    except Exception:  # not documented: a version may lack it, or fail on an absent input
        return None
    return found
