"""Text for people: durations, counts, percentages, the time, names of signals and data sets."""

from __future__ import annotations

import signal
from datetime import datetime
from pathlib import PureWindowsPath


def duration(seconds: float) -> str:
    """A duration, such as ``7 s``, ``3 min 20 s``, ``5 h 02 min`` or ``3 d 04 h``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    minutes = round(seconds / 60)
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24:02} h"


def quantity(count: float) -> str:
    """A count with three digits and a unit prefix: ``812 k``, ``4.06 M``, ``1.85 G``."""
    for factor, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if count >= factor * 0.9995:
            value = count / factor
            return f"{value:.{max(0, 2 - int(value >= 9.995) - int(value >= 99.95))}f}{unit}"
    return f"{count:.0f}"


def percent(share: float | None, digits: int = 1) -> str:
    """A share from 0 to 1 as a percentage, such as ``97.2 %``; an empty text for None."""
    return "" if share is None else f"{100 * share:.{digits}f} %"


def signal_name(number: int) -> str:
    """Name of a POSIX signal, such as ``SIGTERM``; ``signal 35`` for a signal without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def data_set_name(dataset: str) -> str:
    """A data set's name without the folders above it, where it lies in folders."""
    path = PureWindowsPath(dataset.partition(":")[2])  # which takes slashes, too
    return path.name if path.root and path.name else dataset


def now() -> str:
    """The local time to the minute, with its zone."""
    return datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z").strip()
