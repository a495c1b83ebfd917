"""What a summary needs of a ledger: candidates without their networks, curves without their values.

A large search has half a million epochs. Where it stands follows from how many each candidate has;
the accuracies themselves are read only for a round that is not on record yet.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from statistics import median
from typing import Any, overload

from efficientnet_elite.search.decisions import Decision
from efficientnet_elite.search.ledger import Epoch, Ledger
from efficientnet_elite.search.noise import Noise, Repeat, further_trainings, noise_of
from efficientnet_elite.search.rules import average
from efficientnet_elite.search.schedule import Schedule, schedule_of
from efficientnet_elite.search.tournament import Halt, Standing, judge_of


@dataclass(frozen=True)
class Listed:
    """A candidate without its network; for the fields see `summary.Member`."""

    name: str
    group: int
    width: float
    depth: float
    resolution: int | str
    params: int
    macs: int


@dataclass(frozen=True)
class CurveFacts:
    """What is shown of the epochs of a candidate or repeat that has at least one.

    Attributes:
      epochs: how many it has.
      average, last: mean, and latest, validation accuracy.
      seconds: median of an epoch.
    """

    epochs: int
    average: float
    last: float
    seconds: float


class _Curve(Sequence[float]):
    """Values of one curve by epoch, which are read when the first one is asked for."""

    def __init__(self, ledger: Ledger, name: str, length: int, field: str) -> None:
        self._ledger, self._name, self._length, self._field = ledger, name, length, field

    @cached_property
    def _values(self) -> list[float]:
        epochs = self._ledger.epochs([self._name])[self._name]
        return [getattr(epoch, self._field) for epoch in epochs[: self._length]]

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> float: ...

    @overload
    def __getitem__(self, index: slice) -> list[float]: ...

    def __getitem__(self, index: int | slice) -> float | list[float]:
        return self._values[index]

    def __iter__(self) -> Iterator[float]:
        return iter(self._values)


@dataclass(frozen=True)
class Outline:
    """A ledger without networks and curves.

    Attributes:
      meta: settings of the search.
      groups: group number to its candidates in their order, the heaviest group first.
      repeats: repeats, which measure the noise of a score.
      facts: candidate or repeat to what is shown of its epochs; absent where it has none.
      noise: what the repeats show of the noise of a score; None where there are none.
      failures: candidate or repeat to the reason of its failure.
      halts: group to what was ended in it because time was up.
      standings: group to where it stands.
    """

    meta: Mapping[str, Any]
    groups: Mapping[int, Sequence[Listed]]
    repeats: Sequence[Repeat]
    facts: Mapping[str, CurveFacts]
    noise: Noise | None
    failures: Mapping[str, str]
    halts: Mapping[int, Halt]
    standings: Mapping[int, Standing]

    @cached_property
    def schedule(self) -> Schedule:
        """The schedule; UserError where the search has not been set up."""
        return schedule_of(self.meta)

    @cached_property
    def further(self) -> list[Repeat]:
        """What each candidate may be trained for as a finalist or champion, besides its own."""
        names = (listed.name for group in self.groups.values() for listed in group)
        return further_trainings(names, self.schedule)

    def done(self, members: Iterable[str]) -> dict[str, int]:
        """The epochs on record of candidates, and of their further trainings that have any."""
        members = list(members)
        further = [repeat.name for repeat in further_trainings(members, self.schedule)]
        counts = {name: self.facts[name].epochs for name in further if name in self.facts}
        return counts | {n: self.facts[n].epochs if n in self.facts else 0 for n in members}


class OutlineReader:
    """Reads the outline of a ledger again and again; after the first time, only what has changed.

    Epochs and decisions are only ever added to a ledger. A candidate that has as many epochs as
    before therefore has the same ones, and likewise a group its decisions.

    Args:
      ledger: the ledger, which another process may be writing.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._facts: dict[str, CurveFacts] = {}
        self._decisions: dict[int, list[Decision]] = {}
        self._standings: dict[int, tuple[object, Standing]] = {}

    def read(self) -> Outline:
        """The outline now; UserError where the search has not been set up."""
        with self._ledger.snapshot():
            return self._read()

    def _read(self) -> Outline:
        ledger = self._ledger
        meta, repeats, failures = ledger.meta(), ledger.repeats(), ledger.failures()
        schedule_of(meta)
        groups: dict[int, list[Listed]] = {}
        rows = ledger.select(
            "SELECT name, grp, width, depth, resolution, params, macs FROM candidates"
            " ORDER BY grp, position"
        )
        for listed in (Listed(*row) for row in rows):
            groups.setdefault(listed.group, []).append(listed)
        facts = self._update_facts()
        lengths = {name: fact.epochs for name, fact in facts.items()}
        scores, losses = (
            {name: _Curve(ledger, name, count, field) for name, count in lengths.items()}
            for field in ("validation_accuracy", "train_loss")
        )
        noise = noise_of(repeats, scores, losses, schedule_of(meta), failures)
        int8, halts = ledger.int8(), ledger.halts()
        self._update_decisions()
        judge, standings = judge_of(meta), {}
        further_of = partial(further_trainings, schedule=schedule_of(meta))
        for number, members in groups.items():
            names = [member.name for member in members]
            further = [repeat.name for repeat in further_of(names)]
            of_group = {name: int8.get(name, {}) for name in (*names, *further)}
            recorded, halt = self._decisions.get(number, []), halts.get(number)
            state = (
                [lengths.get(name, 0) for name in names],
                [failures.get(name) for name in names],
                [(lengths.get(r.name), failures.get(r.name)) for r in further_of(names)],
                {name: sorted(results) for name, results in of_group.items()},
                noise,
                halt,
                len(recorded),
            )
            before = self._standings.get(number)
            if before is None or before[0] != state:
                found = judge(names, scores, losses, failures, int8, noise, halt, recorded)
                self._standings[number] = before = (state, found)
            standings[number] = before[1]
        return Outline(meta, groups, repeats, facts, noise, failures, halts, standings)

    def _update_facts(self) -> Mapping[str, CurveFacts]:
        """The facts of all curves; those that have become longer are read again."""
        known = self._facts
        counts: Mapping[str, int] = dict(
            self._ledger.select("SELECT candidate, COUNT(*) FROM epochs GROUP BY candidate")
        )
        for name in known.keys() - counts.keys():
            del known[name]
        longer = [n for n, count in counts.items() if n not in known or known[n].epochs != count]
        if len(longer) < len(counts) / 10:
            known |= {n: _facts(epochs) for n, epochs in self._ledger.epochs(longer).items()}
        else:
            known |= self._all_facts()
        return dict(known)

    def _all_facts(self) -> dict[str, CurveFacts]:
        """The facts of all curves, in one pass over the epochs as they lie in the file."""
        curves: dict[str, tuple[array[float], array[float]]] = {}
        odd = set()  # with gaps, or in another order
        rows = self._ledger.select(
            "SELECT candidate, epoch, validation_accuracy, seconds FROM epochs NOT INDEXED"
        )
        for name, epoch, accuracy, seconds in rows:
            if name not in curves:
                curves[name] = array("d"), array("d")
            accuracies, durations = curves[name]
            if epoch != len(accuracies) + 1:
                odd.add(name)
            accuracies.append(accuracy)
            durations.append(seconds)
        found = {
            name: CurveFacts(
                len(accuracies), average(accuracies), accuracies[-1], median(durations)
            )
            for name, (accuracies, durations) in curves.items()
            if name not in odd
        }
        return found | {name: _facts(e) for name, e in self._ledger.epochs(sorted(odd)).items()}

    def _update_decisions(self) -> None:
        """Reads the decisions of the groups that have more of them than before."""
        counts = self._ledger.select("SELECT grp, COUNT(*) FROM decisions GROUP BY grp")
        known = self._decisions
        more = [group for group, count in counts if len(known.get(group, ())) != count]
        if len(more) == 1:
            known |= self._ledger.decisions(more[0])
        elif more:
            known.clear()
            known |= self._ledger.decisions()


def _facts(epochs: Sequence[Epoch]) -> CurveFacts:
    accuracies = [epoch.validation_accuracy for epoch in epochs]
    return CurveFacts(
        len(epochs), average(accuracies), accuracies[-1], median(epoch.seconds for epoch in epochs)
    )
