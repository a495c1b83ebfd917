"""Reads latencies measured on a device from the JSON that ``elite benchmark --json=...`` writes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
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
      path: path of the JSON file.
      specs: the networks to look up.

    Raises:
      UserError: the file cannot be read, or a network has no row or more than one.
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
    try:
        for row in json.loads(path.read_text(encoding="utf-8"))["rows"]:
            key, median = _key(row), row.get("median_ms")
            if median is not None:
                milliseconds.setdefault(key, []).append(_milliseconds(median))
    except OSError as error:
        raise UserError(f"metric table {path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"metric table {path} is not what `elite benchmark --json=...` writes: {error!r}"
        ) from error
    return milliseconds


def _milliseconds(value: Any) -> float:
    number = float(value)
    if not (isfinite(number) and number > 0):
        raise ValueError(f"a median of {value} ms")
    return number


def _wanted(spec: ArchSpec) -> _Key:
    return spec.name, f"{'x'.join(map(str, (1, *spec.input_shape)))} int8"


def _key(row: dict) -> _Key:
    name = PurePosixPath(row["model"]).name.removesuffix(".tflite").removesuffix(".int8")
    return re.sub(r"-\d+px-[0-9a-f]{8}$", "", name), str(row.get("input"))
