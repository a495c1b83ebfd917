"""Remedies tried one after the other, the cheap ones first, until an accuracy holds.

Only the order, the bookkeeping and the verdict: what a remedy does and what is scored is others'.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from efficientnet_elite.errors import UserError

T = TypeVar("T")
# Makes something of the best so far: trials in their order, each with a name.
Remedy = Callable[[T], Iterable[tuple[str, T]]]


@dataclass(frozen=True)
class Attempt:
    """What a trial came to.

    Attributes:
      remedy: one of the ladder's, or ``plain``.
      trial: what exactly was tried.
      accuracy: share of the images that it gets right; None where it could not be made.
      gained: percentage points above the best before; None for the first that could be made.
      fault: why it could not be made.
      seconds: that making and scoring it took.
    """

    remedy: str
    trial: str
    accuracy: float | None
    gained: float | None
    fault: str | None
    seconds: float


@dataclass(frozen=True)
class Climb(Generic[T]):
    """How a climb ended.

    Attributes:
      best: the trial of highest accuracy, the earliest of equals; None where none could be made.
      accuracy: its.
      attempts: all trials, in order.
      holds: whether it is accurate enough.
    """

    best: T | None
    accuracy: float
    attempts: tuple[Attempt, ...]
    holds: bool


def climb(
    plain: T,
    remedies: Sequence[tuple[str, Remedy[T]]],
    score: Callable[[T], float],
    needed: float,
) -> Climb[T]:
    """Tries ``plain``, then the remedies one after the other, until one is good enough.

    Each remedy starts from the best so far, and from ``plain`` while nothing could be made.

    Args:
      plain: what no remedy has touched.
      remedies: by name, in the order in which they are tried.
      score: the accuracy of a trial; UserError where it cannot be made or used.
      needed: the accuracy that is enough.
    """
    best: T | None = None
    accuracy = float("-inf")
    attempts: list[Attempt] = []
    rungs: list[tuple[str, Remedy[T]]] = [("plain", _itself), *remedies]
    for remedy, trials in rungs:
        started = time.monotonic()
        try:
            for name, trial in trials(plain if best is None else best):
                try:
                    found = score(trial)
                except UserError as error:
                    attempts.append(_failed(remedy, name, error, started))
                else:
                    gained = None if best is None else 100 * (found - accuracy)
                    seconds = time.monotonic() - started
                    attempts.append(Attempt(remedy, name, found, gained, None, seconds))
                    if found > accuracy:
                        best, accuracy = trial, found
                    # Shares of the same images: whatever is less than a rounding error is none.
                    if accuracy >= needed - 1e-9:
                        return Climb(best, accuracy, tuple(attempts), True)
                started = time.monotonic()
        except UserError as error:  # the remedy does not suit this network
            attempts.append(_failed(remedy, remedy, error, started))
    return Climb(best, accuracy, tuple(attempts), False)


def summary(attempts: Sequence[Attempt]) -> str:
    """What each remedy came to, in one line: the best trial of each, and what it gained."""
    parts = []
    before: float | None = None  # the best accuracy of the earlier remedies
    for remedy in dict.fromkeys(attempt.remedy for attempt in attempts):
        made = {
            attempt.accuracy: attempt
            for attempt in reversed(attempts)
            if attempt.remedy == remedy and attempt.accuracy is not None
        }
        if not made:
            fault = next(attempt.fault for attempt in attempts if attempt.remedy == remedy)
            parts.append(f"{remedy} failed ({fault})")
            continue
        best = max(made)
        gained = "" if before is None else f" ({100 * (best - before):+.2f} points)"
        parts.append(f"{made[best].trial} {best:.2%}{gained}")
        before = best if before is None else max(before, best)
    return ", ".join(parts)


def _itself(plain: T) -> Iterable[tuple[str, T]]:
    return [("plain", plain)]


def _failed(remedy: str, trial: str, error: UserError, started: float) -> Attempt:
    return Attempt(remedy, trial, None, None, str(error), time.monotonic() - started)
