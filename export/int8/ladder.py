"""Tries remedies one after the other, the cheap ones first, until the accuracy suffices.

This module keeps the order, records the trials and decides when to stop. The caller (`remedies`)
supplies the remedies and the function that measures accuracy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from efficientnet_elite.errors import UserError

T = TypeVar("T")
# A remedy takes the best trial so far and gives new trials, each with a label, in order.
Remedy = Callable[[T], Iterable[tuple[str, T]]]


@dataclass(frozen=True)
class Attempt:
    """The result of one trial.

    Attributes:
      remedy: name of the remedy, or ``plain``.
      trial: label of the trial.
      accuracy: share of the images that it classifies correctly; None if it failed.
      gained: percentage points above the best trial before it; None if it failed or is the first
        trial that did not fail.
      fault: why it failed; None if it did not.
      seconds: time that making and scoring the trial took.
    """

    remedy: str
    trial: str
    accuracy: float | None
    gained: float | None
    fault: str | None
    seconds: float


@dataclass(frozen=True)
class LadderResult(Generic[T]):
    """The result of trying remedies.

    Attributes:
      best: the trial with the highest accuracy, the earliest of equals; None if all failed.
      accuracy: accuracy of the best trial; minus infinity if all failed.
      attempts: all trials, in order.
      accurate_enough: whether the accuracy of the best trial is at least the accuracy needed.
    """

    best: T | None
    accuracy: float
    attempts: tuple[Attempt, ...]
    accurate_enough: bool


def try_remedies(
    plain: T,
    remedies: Sequence[tuple[str, Remedy[T]]],
    score: Callable[[T], float],
    needed: float,
) -> LadderResult[T]:
    """Tries `plain`, then the remedies one after the other, until a trial is accurate enough.

    Each remedy starts from the best trial so far, or from `plain` if all trials have failed.

    Args:
      plain: the first trial, without any remedy.
      remedies: pairs of name and remedy, in the order in which they are tried.
      score: returns the accuracy of a trial; raises UserError if the trial fails.
      needed: the accuracy at which the first trial that reaches it ends the search.
    """
    best: T | None = None
    accuracy = float("-inf")
    attempts: list[Attempt] = []
    steps: list[tuple[str, Remedy[T]]] = [("plain", _plain_trial), *remedies]
    for remedy, trials in steps:
        started = time.monotonic()
        try:
            for label, trial in trials(plain if best is None else best):
                try:
                    trial_accuracy = score(trial)
                except UserError as error:
                    attempts.append(_failed(remedy, label, error, started))
                else:
                    gained = None if best is None else 100 * (trial_accuracy - accuracy)
                    seconds = time.monotonic() - started
                    attempts.append(Attempt(remedy, label, trial_accuracy, gained, None, seconds))
                    if trial_accuracy > accuracy:
                        best, accuracy = trial, trial_accuracy
                    # The tolerance is for rounding: one image more or less changes far more.
                    if accuracy >= needed - 1e-9:
                        return LadderResult(best, accuracy, tuple(attempts), True)
                started = time.monotonic()
        except UserError as error:  # the remedy cannot be applied to this network
            attempts.append(_failed(remedy, remedy, error, started))
    return LadderResult(best, accuracy, tuple(attempts), False)


def summary(attempts: Sequence[Attempt]) -> str:
    """One line with the best trial of each remedy and the percentage points that it gained."""
    parts = []
    best_before: float | None = None  # the best accuracy of the earlier remedies
    for remedy in dict.fromkeys(attempt.remedy for attempt in attempts):
        by_accuracy = {
            attempt.accuracy: attempt
            for attempt in reversed(attempts)
            if attempt.remedy == remedy and attempt.accuracy is not None
        }
        if not by_accuracy:
            fault = next(attempt.fault for attempt in attempts if attempt.remedy == remedy)
            parts.append(f"{remedy} failed ({fault})")
            continue
        best = max(by_accuracy)
        gained = "" if best_before is None else f" ({100 * (best - best_before):+.2f} points)"
        parts.append(f"{by_accuracy[best].trial} {best:.2%}{gained}")
        best_before = best if best_before is None else max(best_before, best)
    return ", ".join(parts)


def _plain_trial(plain: T) -> Iterable[tuple[str, T]]:
    """The remedy that does nothing."""
    return [("plain", plain)]


def _failed(remedy: str, trial: str, error: UserError, started: float) -> Attempt:
    """The record of a trial that failed."""
    return Attempt(remedy, trial, None, None, str(error), time.monotonic() - started)
