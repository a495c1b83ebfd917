"""Checks whether the decisions of a search follow from its recorded epochs."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import isclose, isnan
from typing import Any

from efficientnet_elite.search.decisions import Decision, decision_text
from efficientnet_elite.search.record import SearchRecord

_TOLERANCE = 1e-9
"""Scores, 0..1, that differ by no more than this count as equal. Sums may differ in their last
bits, and versions before 0.2 recorded scores without rounding them."""


@dataclass(frozen=True)
class Audit:
    """Result of an audit.

    Attributes:
      decisions: number of decisions on record.
      groups: number of cost groups.
      difference: the first difference, in words; None where all agree.
    """

    decisions: int
    groups: int
    difference: str | None


def audit(record: SearchRecord) -> Audit:
    """Computes all decisions again from epochs and failures, and compares them with the record.

    Codes and numbers are compared, not sentences. A decision that the epochs allow but that the
    search had no time to record is not a difference.
    """
    judged = record.recomputed_standings()
    difference = None
    for group in sorted(judged.keys() | record.decisions.keys()):
        expected = judged[group].decisions if group in judged else ()
        for position, decision in enumerate(record.decisions.get(group, ())):
            wanted = expected[position] if position < len(expected) else None
            if wanted is None or not _agree(decision, wanted):
                difference = difference or _difference_text(group, decision, wanted)
    return Audit(sum(map(len, record.decisions.values())), len(judged), difference)


def _agree(recorded: Decision, wanted: Decision) -> bool:
    return all(
        _same(getattr(recorded, field.name), getattr(wanted, field.name))
        for field in fields(Decision)
    )


def _same(recorded: Any, wanted: Any) -> bool:
    """Whether a recorded fact is as expected. Facts that older ledgers left out are None."""
    if recorded is None:
        return True
    if isinstance(recorded, float) and isinstance(wanted, float):
        if isnan(recorded) or isnan(wanted):
            return isnan(recorded) and isnan(wanted)
        return isclose(recorded, wanted, rel_tol=0, abs_tol=_TOLERANCE)
    return bool(recorded == wanted)


def _difference_text(group: int, recorded: Decision, wanted: Decision | None) -> str:
    judged = _text(wanted) if wanted else "nothing"
    return f"group {group}: recorded is {_text(recorded)}; the epochs give {judged}"


def _text(decision: Decision) -> str:
    outcome = "goes on" if decision.survives else "leaves"
    return (
        f"round {decision.round} epoch {decision.epoch} rank {decision.rank}: "
        f"{decision.candidate} {outcome}, score {decision.score!r} ({decision_text(decision)})"
    )
