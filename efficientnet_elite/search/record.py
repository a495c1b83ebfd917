"""Everything that the ledger of a search holds at one moment, read once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from efficientnet_elite.search.candidates import Candidate
from efficientnet_elite.search.decisions import Decision
from efficientnet_elite.search.elimination import Losses, Scores
from efficientnet_elite.search.ledger import Epoch, Ledger
from efficientnet_elite.search.noise import Noise, Repeat, further_trainings, noise_of
from efficientnet_elite.search.schedule import Schedule, schedule_of
from efficientnet_elite.search.starts import start_of_search
from efficientnet_elite.search.tournament import Halt, Standing, judge_of
from efficientnet_elite.training.outcome import Int8Result


@dataclass(frozen=True)
class SearchRecord:
    """The content of a ledger.

    Attributes:
      meta: settings of the search.
      candidates: in the ledger's order, the one to prefer in a tie first.
      repeats: repeats, which measure the noise of a score.
      epochs: training to its epochs: of a candidate, a repeat, a finalist or a champion.
      int8: candidate, or final training, to its int8 results, by epoch.
      failures: candidate or repeat to the reason of its failure.
      halts: group to what was ended in it because time was up.
      decisions: group to its decisions, by round and rank.
    """

    meta: Mapping[str, Any]
    candidates: Sequence[Candidate]
    repeats: Sequence[Repeat]
    epochs: Mapping[str, list[Epoch]]
    int8: Mapping[str, dict[int, Int8Result]]
    failures: Mapping[str, str]
    halts: Mapping[int, Halt]
    decisions: Mapping[int, list[Decision]]

    @cached_property
    def schedule(self) -> Schedule:
        """The schedule; UserError where the search has not been set up."""
        return schedule_of(self.meta)

    @cached_property
    def from_scratch(self) -> frozenset[str]:
        """Candidates and repeats that the pretrained weights of the search do not fit."""
        start = start_of_search(self.meta)
        names = set(start.from_scratch if start else ())
        return frozenset(names | {r.name for r in self.repeats if r.candidate in names})

    @cached_property
    def further(self) -> list[Repeat]:
        """What each candidate may be trained for as a finalist or champion, besides its own."""
        return further_trainings((c.name for c in self.candidates), self.schedule)

    @cached_property
    def groups(self) -> dict[int, list[Candidate]]:
        """Group number to its candidates in their order, the heaviest group first."""
        return by_group(self.candidates)

    @cached_property
    def scores(self) -> Scores:
        """Candidate or repeat to its validation accuracies of epoch 1, 2, ..."""
        return curves(self.epochs)[0]

    @cached_property
    def losses(self) -> Losses:
        """Candidate or repeat to its training losses of epoch 1, 2, ..."""
        return curves(self.epochs)[1]

    @cached_property
    def noise(self) -> Noise | None:
        """What the repeats show of the noise of a score; None where the search has none."""
        return noise_of(self.repeats, self.scores, self.losses, self.schedule, self.failures)

    def standings(self) -> dict[int, Standing]:
        """Group to where it stands: by the decisions on record, and what follows after them."""
        return self._judged(self.decisions)

    def recomputed_standings(self) -> dict[int, Standing]:
        """Group to where it stands by epochs and failures alone; recorded decisions are ignored.

        For an audit.
        """
        return self._judged({})

    def _judged(self, decisions: Mapping[int, Sequence[Decision]]) -> dict[int, Standing]:
        judge = judge_of(self.meta)
        return {
            number: judge(
                [candidate.name for candidate in group],
                self.scores,
                self.losses,
                self.failures,
                self.int8,
                self.noise,
                self.halts.get(number),
                decisions.get(number, ()),
            )
            for number, group in self.groups.items()
        }


def read_record(ledger: Ledger, groups: Collection[int] | None = None) -> SearchRecord:
    """Reads a ledger, as it is at one moment.

    Args:
      ledger: the ledger.
      groups: numbers of the groups to read, as if there were no others; None for all.
    """
    with ledger.snapshot():
        if groups is not None:
            return _read_groups(ledger, groups)
        return SearchRecord(
            meta=ledger.meta(),
            candidates=ledger.candidates(),
            repeats=ledger.repeats(),
            epochs=ledger.epochs(),
            int8=ledger.int8(),
            failures=ledger.failures(),
            halts=ledger.halts(),
            decisions=ledger.decisions(),
        )


def _read_groups(ledger: Ledger, groups: Collection[int]) -> SearchRecord:
    candidates = ledger.candidates(groups)
    names = {candidate.name for candidate in candidates}
    meta = ledger.meta()
    repeats = [repeat for repeat in ledger.repeats() if repeat.candidate in names]
    further = [*repeats, *further_trainings(sorted(names), schedule_of(meta))]
    return SearchRecord(
        meta=meta,
        candidates=candidates,
        repeats=repeats,
        epochs=ledger.epochs([*sorted(names), *(repeat.name for repeat in further)]),
        int8=ledger.int8(),
        failures=ledger.failures(),
        halts={number: halt for number, halt in ledger.halts().items() if number in groups},
        decisions={number: d for group in groups for number, d in ledger.decisions(group).items()},
    )


def by_group(candidates: Sequence[Candidate]) -> dict[int, list[Candidate]]:
    """Group number to its candidates in their order, the heaviest group first."""
    groups: dict[int, list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault(candidate.group, []).append(candidate)
    return dict(sorted(groups.items()))


def curves(epochs: Mapping[str, Sequence[Epoch]]) -> tuple[Scores, Losses]:
    """Candidate to its validation accuracies, and to its training losses, of epoch 1, 2, ..."""
    return (
        {name: [epoch.validation_accuracy for epoch in done] for name, done in epochs.items()},
        {name: [epoch.train_loss for epoch in done] for name, done in epochs.items()},
    )
