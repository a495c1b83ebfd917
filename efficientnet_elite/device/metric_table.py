"""Reads latencies measured on a device, from what ``elite benchmark`` and ``elite boards`` write.

That is JSON with ``rows``, or CSV with a line for each row.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from math import isfinite
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

from efficientnet_elite.errors import UserError
from efficientnet_elite.networks.spec import ArchSpec

_Key: TypeAlias = tuple[str, str]  # a network, and the size and type of its input
_MAX_NAMES = 3  # a message names at most this many missing networks


def latencies(path: Path, specs: Iterable[ArchSpec]) -> dict[str, float]:
    """Median milliseconds of each spec's int8 file on the device, by the spec's name.

    A row belongs to a spec if its file is called ``NAME.int8.tflite`` (for untrained networks
    ``NAME-...px-....int8.tflite``) and its input has the spec's size.

    Args:
      path: path of the JSON or CSV file.
      specs: the networks to look up.

    Raises:
      UserError: the file cannot be read, is about several boards or has instructions in place of
        latencies, or a network has no row or more than one.
    """
    rows = _rows(path)
    wanted = {spec.name: _wanted(spec) for spec in specs}
    missing = [name for name, key in wanted.items() if key not in rows]
    if missing:
        shown = ", ".join(missing[:_MAX_NAMES]) + (", ..." if len(missing) > _MAX_NAMES else "")
        raise UserError(
            f"{path} has no int8 latency for {len(missing)} of {len(wanted)} candidates ({shown}) "
            "at this input size: measure them on the device too"
        )
    for name, key in wanted.items():
        if len(rows[key]) > 1:
            raise UserError(
                f"{path} has {len(rows[key])} int8 latencies of {name}: keep only one row"
            )
    return {name: rows[key][0] for name, key in wanted.items()}


def _rows(path: Path) -> dict[_Key, list[float]]:
    """Network and input to the milliseconds of its rows; rows of failed runs are left out."""
    milliseconds: dict[_Key, list[float]] = {}
    boards, counted = set(), False
    try:
        for row in _read(path.read_text(encoding="utf-8")):
            key, median = _key(row), row.get("median_ms")
            boards.add(row.get("board"))
            counted |= bool(row.get("instructions"))
            if median not in (None, ""):  # which is how CSV writes None
                milliseconds.setdefault(key, []).append(_milliseconds(median))
    except OSError as error:
        raise UserError(f"metric table {path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"metric table {path} is not what `elite benchmark --json=...` writes: {error!r}"
        ) from error
    if len(boards) > 1:
        names = ", ".join(sorted(map(str, boards)))
        raise UserError(f"metric table {path} is about {names}: name the file of one board")
    if counted and not milliseconds:
        raise UserError(f"metric table {path} has instructions, which are no latencies")
    return milliseconds


def _read(text: str) -> Iterator[Mapping[str, Any]]:
    """The rows of a file's text."""
    if text.lstrip()[:1] in ("{", "["):
        yield from json.loads(text)["rows"]
        return
    lines = csv.DictReader(text.splitlines())
    if not {"model", "input", "median_ms"} <= set(lines.fieldnames or ()):
        raise ValueError("neither JSON nor CSV with the columns model, input and median_ms")
    yield from lines


def _milliseconds(value: Any) -> float:
    number = float(value)
    if not (isfinite(number) and number > 0):
        raise ValueError(f"a median of {value} ms")
    return number


def _wanted(spec: ArchSpec) -> _Key:
    return spec.name, f"{'x'.join(map(str, (1, *spec.input_shape)))} int8"


def _key(row: Mapping[str, Any]) -> _Key:
    name = PurePosixPath(row["model"]).name.removesuffix(".tflite").removesuffix(".int8")
    return re.sub(r"-\d+(x\d+)?px-[0-9a-f]{8}$", "", name), str(row.get("input"))
