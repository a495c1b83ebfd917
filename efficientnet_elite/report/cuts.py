"""A group's tournament, round by round."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from math import isfinite

from efficientnet_elite.cuts import Decision
from efficientnet_elite.summary import Group


@dataclass(frozen=True)
class Cut:
    """What a round has decided.

    Attributes:
      group: its number.
      round, epoch: from 1, and after which epoch it was decided.
      kept, out: who went on and who left, by rank; who failed is among those who left.
      close: too close to call: what separates the last who went on from the first who left is
        below the noise of a score.
      gap: the score of the last who went on minus that of the first who left; None where nobody
        left, or only by failing.
    """

    group: int
    round: int
    epoch: int
    kept: tuple[Decision, ...]
    out: tuple[Decision, ...]
    gap: float | None
    close: bool

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """Everybody's, by rank."""
        return self.kept + self.out

    def margin(self, decision: Decision) -> float | None:
        """A score minus that of the first who left, or of the last who went on; None as `gap`."""
        if self.gap is None or not isfinite(decision.score):
            return None
        rival = self.out[0] if decision.survives else self.kept[-1]
        return decision.score - rival.score


def cuts(group: Group) -> list[Cut]:
    """The rounds that have been decided, in order."""
    found = []
    for number, decisions in groupby(group.decisions, lambda d: d.round):
        ranked = sorted(decisions, key=lambda d: d.rank)
        kept = tuple(d for d in ranked if d.survives)
        out = tuple(d for d in ranked if not d.survives)
        scored = [d.score for d in out if isfinite(d.score)]
        gap = kept[-1].score - scored[0] if kept and scored else None
        close = any(d.close for d in out)
        found.append(Cut(group.number, number, ranked[0].epoch, kept, out, gap, close))
    return found
